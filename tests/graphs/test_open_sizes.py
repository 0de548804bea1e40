"""A graph that leaves sizes open answers with the model's bits for every size that it says it serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recorder import export_child
from recorder.graph_sizes import OpenSizes, with_fixed_sizes
from replay.graph.document import GraphRefused
from tests.graphs.networks import Padded, Pair, Pyramid
from tests.models.networks import ResNet, ViT, seeded
from tests.models.support import exported, same_bits, stored, tagged

Shape = tuple[int, ...]


def general(module: nn.Module, *shape: int, grad_enabled: bool = False) -> bytes:
    return exported(module, (torch.rand(shape),), {}, any_size=True, grad_enabled=grad_enabled)


def serves(document: bytes, *shape: int) -> bool:
    sizes = OpenSizes.of(document)
    return sizes is not None and sizes.serve(tagged((torch.rand(shape),)), tagged({}))


@pytest.mark.parametrize(
    ("kind", "example", "served", "refused"),
    [
        (Pyramid, (1, 3, 20, 24), [(1, 3, 12, 12), (1, 3, 33, 47)], [(1, 3, 2, 9), (2, 3, 20, 24), (1, 4, 20, 24)]),
        (ResNet, (2, 3, 32, 32), [(2, 3, 32, 32), (5, 3, 48, 40)], [(1, 3, 32, 32), (2, 3, 2, 2)]),
        # The positions are fixed: sixteen patches, however many images.
        (ViT, (2, 3, 32, 32), [(7, 3, 32, 32), (2, 3, 16, 64)], [(2, 3, 40, 40), (2, 3, 32, 16)]),
        (Padded, (2, 3, 17, 12), [(3, 3, 18, 9)], [(2, 3, 16, 12)]),
    ],
)
def test_one_graph_serves_many_sizes(
    kind: type[nn.Module], example: Shape, served: list[Shape], refused: list[Shape], tmp_path: Path
) -> None:
    """And those that its trace does not hold for are refused, by what it says of itself and when it is run."""
    model = seeded(kind)
    document = general(model, *example)
    graph = stored(model, document, tmp_path)
    with torch.no_grad():
        for shape in (example, *served):
            image = torch.rand(shape)
            assert serves(document, *shape) and same_bits(graph(image), model(image)), shape
        for shape in refused:
            assert not serves(document, *shape)
            with pytest.raises(GraphRefused, match="serve"):
                graph(torch.rand(shape))


def test_regions_are_given_sizes(tmp_path: Path) -> None:
    """A part of the pass without gradients computes with them too."""
    model = seeded(Padded)
    document = general(model, 2, 3, 17, 12, grad_enabled=True)
    assert b"wrap_with_set_grad_enabled" in document and serves(document, 3, 3, 19, 8)
    image = torch.rand(3, 3, 19, 8)
    assert same_bits(stored(model, document, tmp_path)(image), model(image))


def test_inputs_whose_sizes_have_to_agree(tmp_path: Path) -> None:
    """Of which one is an item of a keyword argument."""
    model = seeded(Pair)

    def call(rows: int, left: int, right: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (torch.rand(rows, left),), {"other": {"y": torch.rand(rows, right)}}

    args, kwargs = call(3, 4, 5)
    document = exported(model, args, kwargs, any_size=True)
    sizes, graph = OpenSizes.of(document), stored(model, document, tmp_path)
    assert sizes is not None
    args, kwargs = call(6, 2, 7)
    assert sizes.serve(tagged(args), tagged(kwargs)) and same_bits(graph(*args, **kwargs), model(*args, **kwargs))
    kwargs["other"]["y"] = torch.rand(5, 7)
    assert not sizes.serve(tagged(args), tagged(kwargs))
    with pytest.raises(GraphRefused):
        graph(*args, **kwargs)


def test_what_a_graph_comes_down_to_at_one_size_is_the_graph_of_that_size() -> None:
    """So that the two are known to give the same bits before either has run."""
    model = seeded(ViT)
    image = (torch.rand(2, 3, 32, 32),)
    exact = json.loads(exported(model, image, {}))
    fixed = with_fixed_sizes(json.loads(general(model, 2, 3, 32, 32)), [(2, 3, 32, 32)])
    assert fixed == with_fixed_sizes(exact, [(2, 3, 32, 32)]) and fixed is not None and fixed["version"] == 1
    assert with_fixed_sizes(json.loads(general(model, 2, 3, 32, 32)), [(2, 3, 40, 40)]) is None


def test_a_graph_that_comes_out_otherwise_with_open_sizes_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of this size alone is, whose operators are those that ran."""

    class Fickle(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x if isinstance(x.shape[0], int) else x**2

    model, image = Fickle().eval(), (torch.rand(3, 4),)
    exact = exported(model, image, {})
    assert general(model, 3, 4) == exact
    monkeypatch.setattr(export_child, "_is_the_same", lambda *_: True)
    assert b"pow" in general(model, 3, 4)


def test_what_cannot_be_traced_with_open_sizes_is_served_size_by_size() -> None:
    """No graph is lost by the attempt."""

    class Rounded(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[: int(x.shape[0] * 0.7)]

    document = json.loads(general(Rounded().eval(), 8, 4))
    assert document["version"] == 1 and document["inputs"][0]["shape"] == [8, 4]
