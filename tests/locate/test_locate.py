"""Where two replays of a recorded call part, found in worker processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from replay.verdict import Level
from tests.locate import models_for_tests as models
from tests.locate.conftest import EXAMPLES, MODELS
from tests.replay.test_graphs import _store_graph

FAULTY = "features.9.conv.1.0"


@pytest.fixture(scope="session")
def mobilenet() -> nn.Module:
    """The example's network with its own weights."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import mobilenet
    finally:
        sys.path.remove(str(EXAMPLES))
    return mobilenet.load()


def faulty_weights(module: nn.Module, path: Path) -> Path:
    """A copy of a model's weights in which one channel of one layer is off by a percent."""
    from safetensors.torch import save_file

    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    weights[f"{FAULTY}.weight"][17] *= 1.01
    save_file(weights, path)
    return path


def recorded(recording: Any, module: Any, shape: tuple[int, ...] = (2, 8), **more: Any) -> Path:
    call = recording.attach(module, **more)
    with torch.inference_mode():
        call(torch.rand(shape, generator=torch.Generator().manual_seed(1)))
    return recording.write()


def test_a_fault_of_one_percent_in_one_channel_is_located_in_its_layer(
    recording: Any, located: Any, mobilenet: nn.Module, tmp_path: Path
) -> None:
    """With a factory: the layer, its operator, its weights; no other layer has an error of its own."""
    path = recorded(recording, mobilenet, (1, 3, 64, 64))
    weights = faulty_weights(mobilenet, tmp_path / "faulty.safetensors")
    result = located(path, model=("mobilenet:MobileNetV2",), against_weights=weights)
    [found] = result.located
    assert found.root.key == (FAULTY, "", 0) and found.operator == (FAULTY, "aten.conv2d.default", 0)
    assert [name for name, _ in found.root.weights] == ["weight"]
    assert {key for key, alone in found.alone.items() if alone.rel_l2} == {(FAULTY, "", 0)}
    exact = found.alone[FAULTY, "", 0].rel_l2
    assert exact / 3 < found.root.rel_l2 < exact * 3
    assert result.exit_code == 1 and FAULTY in result.conclusion


def test_the_same_fault_is_located_in_a_stored_graph_and_between_a_graph_and_a_factory(
    recording: Any, located: Any, mobilenet: nn.Module, tmp_path: Path
) -> None:
    """By the node and the path of the module it came from."""
    recorded(recording, mobilenet, (1, 3, 64, 64))
    _store_graph(recording, mobilenet)
    path = recording.write("graph.zst")
    weights = faulty_weights(mobilenet, tmp_path / "faulty.safetensors")
    [found] = located(path, against_weights=weights).located
    assert found.root.key == (FAULTY, "aten.conv2d.default", 0)
    assert {key[0] for key, alone in found.alone.items() if alone.rel_l2} == {FAULTY}
    [mixed] = located(path, against_model="mobilenet:MobileNetV2", against_weights=weights).located
    assert mixed.root.key == (FAULTY, "", 0) and mixed.parting.structure is None


def test_another_instruction_set_is_located_in_the_layers_that_use_it(
    recording: Any, located: Any, mobilenet: nn.Module
) -> None:
    """torch's plain kernels round its batch normalisation otherwise, and nothing else in this network."""
    path = recorded(recording, mobilenet, (1, 3, 64, 64))
    [found] = located(path, "default-isa", model=("mobilenet:MobileNetV2",)).located
    assert found.root.key == ("features.0.1", "", 0) and found.root.kind == "BatchNorm2d"
    assert found.operator[1] == "aten.batch_norm.default"
    kinds = {layer.key: layer.kind for layer in found.parting.layers}
    assert {kinds[key] for key, alone in found.alone.items() if alone.rel_l2} == {"BatchNorm2d"}


def test_two_equal_sides_have_no_difference(recording: Any, located: Any) -> None:
    """Exit code 0, every layer the same."""
    path = recorded(recording, models.steady())
    result = located(path, "itself", model=(f"{MODELS}:steady",))
    assert result.exit_code == 0 and not result.located[0].differs
    assert "every layer of 1 calls gives the same" in result.conclusion


def test_a_layer_that_never_gives_the_same_is_named(recording: Any, located: Any) -> None:
    """Against itself, the model loaded anew in between."""
    path = recorded(recording, models.jittery())
    [found] = located(path, "itself", model=(f"{MODELS}:jittery",)).located
    assert found.root.key == ("1.0", "", 0) and found.root.kind == "Jitter"
    assert found.operator == ("1.0", "aten.mul.Tensor", 0)


def test_a_replay_that_disagrees_with_itself_names_the_layer(recording: Any, replayed: Any) -> None:
    """In the verdict's first difference and in the conclusion, without being asked."""
    path = recorded(recording, models.jittery())
    result = replayed(path, model=(f"{MODELS}:jittery",), repeat=2)
    assert result.verdict is Level.NONDETERMINISTIC and result.exit_code == 5
    layer = result.frames[0].first_difference.layer
    assert (layer.path, layer.kind, layer.operator) == ("1.0", "Jitter", "aten.mul.Tensor")
    assert "it begins in 1.0 (Jitter)" in result.conclusion


def test_another_architecture_is_a_structural_finding(recording: Any, located: Any) -> None:
    """Named with what either side calls."""
    path = recorded(recording, models.steady())
    result = located(path, model=(f"{MODELS}:steady",), against_model=f"{MODELS}:longer")
    [found] = result.located
    assert found.root is None and found.differs
    assert "after 1.1 (Linear) one calls 2 (Linear), the other 1.2 (Tanh)" in result.conclusion


def test_what_a_module_computes_between_its_layers_is_located_in_it(recording: Any, located: Any) -> None:
    """The module, the operator, and the layer that first got it."""
    path = recorded(recording, models.plain_operations())
    path = recording.write()
    result = located(path, model=(f"{MODELS}:plain_operations",), against_model=f"{MODELS}:scaled_operations")
    [found] = result.located
    assert found.root.key == ("", "", 0) and found.parting.before == ("second", "", 0)
    assert found.operator == ("", "aten.mul.Tensor", 0)
    assert "in what it computes itself before second" in result.conclusion


def test_each_call_of_a_layer_is_a_record_of_its_own(recording: Any, located: Any) -> None:
    """A layer called twice appears twice, by factory and by graph alike."""
    module = models.twice()
    recorded(recording, module)
    _store_graph(recording, module)
    path = recording.write()
    for options in ({"model": (f"{MODELS}:twice",)}, {}):
        [found] = located(path, "itself", **options).located
        assert {layer.key[2] for layer in found.parting.layers if layer.key[0] == "layer"} == {0, 1}


def test_a_plain_function_is_watched_by_operators(recording: Any, located: Any) -> None:
    """It has no modules."""
    path = recorded(recording, models.function())
    [found] = located(path, model=(f"{MODELS}:function",), against_model=f"{MODELS}:jittery_function").located
    assert found.differs and "call other layers" in found.parting.structure
    [found] = located(path, "itself", model=(f"{MODELS}:jittery_function",)).located
    assert found.root.key == ("", "aten.mul.Tensor", 0)


def test_watching_leaves_a_model_on_its_fused_path(recording: Any, located: Any, replayed: Any) -> None:
    """torch's encoder layer takes another path when hooks are on it; watched, it gives the recorded bits."""
    path = recorded(recording, models.encoder(), (2, 5, 16))
    assert replayed(path, model=(f"{MODELS}:encoder",)).verdict is Level.BIT_EXACT
    [found] = located(path, "itself", model=(f"{MODELS}:encoder",)).located
    assert [layer.key[0] for layer in found.parting.layers] == [""], "nothing inside is called on the fused path"


def test_the_first_frame_that_differs_is_enough_unless_frames_are_named(recording: Any, located: Any) -> None:
    """The incident's own frame comes first."""
    call = recording.attach(models.steady())
    for seed in range(3):
        call(torch.rand(2, 8, generator=torch.Generator().manual_seed(seed)))
    path = recording.write()
    options = {"model": (f"{MODELS}:steady",), "against_model": f"{MODELS}:longer"}
    assert [each.job.call.id for each in located(path, **options).located] == [0]
    named = located(path, frames=frozenset({2, 3}), **options)
    assert [each.job.call.id for each in named.located] == [1, 2]


def test_a_side_that_cannot_run_says_which_and_why(recording: Any, located: Any) -> None:
    """Exit code 3, no difference claimed."""
    path = recorded(recording, models.steady())
    result = located(path, model=(f"{MODELS}:steady",), against_model=f"{MODELS}:missing")
    assert result.exit_code == 3 and result.first is None
    assert "the factory tests.locate.models_for_tests:missing failed" in result.conclusion
