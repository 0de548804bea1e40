"""A stored graph over stored weights gives the model's own answer, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recorder.export_child import ExportRefused
from recorder.graph_format import GraphUnwritable
from replay.graph.document import GraphRefused
from tests.models.networks import Oddities, ResNet, Segmenter, Stateful, ViT, seeded
from tests.models.support import exported, same_bits, stored

IMAGE = (torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)),)
VECTOR = (torch.rand(3, 8, generator=torch.Generator().manual_seed(1)),)


@pytest.mark.parametrize("grad_enabled", [False, True])
@pytest.mark.parametrize("kind", [ResNet, ViT, Segmenter])
def test_graph_answers_with_the_models_bits(kind: type[nn.Module], grad_enabled: bool, tmp_path: Path) -> None:
    """Whether the host ran with gradients or without."""
    model = seeded(kind)
    graph = stored(model, exported(model, IMAGE, {}, grad_enabled=grad_enabled), tmp_path)
    with torch.set_grad_enabled(grad_enabled):
        assert same_bits(model(*IMAGE), graph(*IMAGE))


def test_keyword_arguments_regions_and_every_kind_of_weight_are_kept(tmp_path: Path) -> None:
    """Tied, non-persistent and plain tensors, no_grad and autocast regions, an in-place write, nested kwargs."""
    model, extra = seeded(Oddities), {"extra": {"offset": torch.ones(8)}}
    document = exported(model, VECTOR, extra, grad_enabled=True)
    assert b"wrap_with_set_grad_enabled" in document and b"wrap_with_autocast" in document
    assert same_bits(model(*VECTOR, **extra), stored(model, document, tmp_path)(*VECTOR, **extra))


def test_channels_last_weights_are_restored_with_their_strides(tmp_path: Path) -> None:
    """And so are the bits, which depend on the memory format."""
    model = seeded(ResNet).to(memory_format=torch.channels_last)
    image = (IMAGE[0].contiguous(memory_format=torch.channels_last),)
    graph = stored(model, exported(model, image, {}), tmp_path)
    with torch.no_grad():
        assert same_bits(model(*image), graph(*image))


def test_bfloat16_models_are_kept(tmp_path: Path) -> None:
    """Dtypes that numpy lacks travel as bytes."""
    model = seeded(ViT).to(torch.bfloat16)
    image = (IMAGE[0].to(torch.bfloat16),)
    with torch.no_grad():
        assert same_bits(model(*image), stored(model, exported(model, image, {}), tmp_path)(*image))


def test_autocast_around_the_call_is_the_threads_own(tmp_path: Path) -> None:
    """A graph exported under autocast is run under it, as the recorded settings say."""
    model = seeded(ViT)
    graph = stored(model, exported(model, IMAGE, {}, autocast={"cpu": "bfloat16"}), tmp_path)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert same_bits(model(*IMAGE), graph(*IMAGE))


def test_dropout_in_training_mode_draws_from_the_restored_generator(tmp_path: Path) -> None:
    """Training flags travel with the skeleton, each module's own."""
    model = seeded(ViT)
    model.mlp.train()
    graph = stored(model, exported(model, IMAGE, {}), tmp_path)
    with torch.no_grad():
        torch.manual_seed(7)
        answer = model(*IMAGE)
        torch.manual_seed(7)
        assert same_bits(answer, graph(*IMAGE))


@pytest.mark.parametrize("grad_enabled", [False, True])
def test_fused_attention_layers_are_exported_as_the_host_runs_them(grad_enabled: bool, tmp_path: Path) -> None:
    """Without gradients torch takes another path, with other bits, which tracing avoids unless it is made not to."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    sequence = torch.rand(2, 5, 16)
    document = exported(model, (sequence,), {}, grad_enabled=grad_enabled)
    assert (b"_transformer_encoder_layer_fwd" in document) is not grad_enabled
    with torch.set_grad_enabled(grad_enabled):
        assert same_bits(stored(model, document, tmp_path)(sequence), model(sequence))


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_is_kept(need_weights: bool, tmp_path: Path) -> None:
    """The layer of torchvision's ViT."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            return self.layer(x, x, x, need_weights=need_weights)

    model, sequence = seeded(Attention), torch.rand(2, 5, 16)
    with torch.no_grad():
        assert same_bits(stored(model, exported(model, (sequence,), {}), tmp_path)(sequence), model(sequence))


def test_a_state_kept_in_a_buffer_moves_on_from_call_to_call(tmp_path: Path) -> None:
    """The second answer depends on the first."""
    model = seeded(Stateful)
    inputs = torch.rand(1, 4)
    graph = stored(model, exported(model, (inputs,), {}), tmp_path)
    with torch.no_grad():
        for _ in range(3):
            assert same_bits(model(inputs), graph(inputs))


def test_batch_norm_in_training_mode_updates_the_loaded_statistics(tmp_path: Path) -> None:
    """As the model's own were updated."""
    model = seeded(ResNet).train()
    graph = stored(model, exported(model, IMAGE, {}), tmp_path)
    with torch.no_grad():
        for _ in range(2):
            assert same_bits(model(*IMAGE), graph(*IMAGE))


@pytest.mark.parametrize(
    ("args", "kwargs", "part"),
    [
        ((torch.rand(1, 3, 32, 32),), {}, "Input 0"),
        ((torch.rand(2, 3, 32, 32, dtype=torch.float64),), {}, "Input 0"),
        ((3,), {}, "Input 0"),
        ((), {}, "args"),
        (IMAGE, {"scale": 2.0}, "kwargs"),
    ],
)
def test_a_call_of_another_signature_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], part: str, tmp_path: Path
) -> None:
    """With a sentence that says what differs."""
    model = seeded(Segmenter)
    graph = stored(model, exported(model, IMAGE, {}), tmp_path)
    with pytest.raises(GraphRefused, match=part):
        graph(*args, **kwargs)


def test_plain_arguments_are_part_of_what_a_graph_serves(tmp_path: Path) -> None:
    """They were folded into it."""
    model = seeded(Segmenter)
    graph = stored(model, exported(model, IMAGE, {"scale": 0.5}), tmp_path)
    with torch.no_grad():
        assert same_bits(model(*IMAGE, scale=0.5), graph(*IMAGE, scale=0.5))
    with pytest.raises(GraphRefused, match=r"kwargs\['scale'\]"):
        graph(*IMAGE, scale=0.25)


def test_no_path_name_or_trace_of_the_source_is_in_a_graph() -> None:
    """Only weights' names, numbers and operators."""
    document = exported(seeded(Oddities), VECTOR, {})
    for word in (b".py", b"Oddities", b"forward", b"/", b"stack"):
        assert word not in document.replace(b"vision-flight-recorder/graph", b"").replace(b'"data":"', b""), word


def test_export_is_the_same_bytes_every_time() -> None:
    """So that a store holds one graph for one model."""
    model = seeded(ViT)
    assert exported(model, IMAGE, {}) == exported(model, IMAGE, {})


def test_a_large_constant_that_is_not_a_weight_is_refused() -> None:
    """It is data: the weights' digest would not cover it."""

    class Lookup(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.tensor([[0.5] * 8] * 1024).sum(0)

    with pytest.raises(GraphUnwritable, match="not one of the module's weights"):
        exported(Lookup().eval(), VECTOR, {})


def test_control_flow_that_depends_on_values_is_refused() -> None:
    """A graph would stand for one branch alone."""

    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportRefused, match="cannot trace the model"):
        exported(Branch().eval(), VECTOR, {})


def test_document_is_plain_json_of_one_version() -> None:
    """Readable by anything."""
    document = json.loads(exported(seeded(ViT), IMAGE, {}))
    assert document["format"] == "vision-flight-recorder/graph" and document["version"] == 1
    assert document["inputs"] == [{"dtype": "float32", "shape": [2, 3, 32, 32]}]


def test_nodes_name_the_module_they_are_part_of() -> None:
    """A path of the model's own, so that a difference can be located in it."""
    module = seeded(ViT)
    paths = [node.get("module", "") for node in json.loads(exported(module, IMAGE, {}))["nodes"]]
    assert any(paths) and set(paths) <= set(dict(module.named_modules()))
