"""Recorded sessions of onnxruntime run again from the stored file: bit-exact, in the sandbox, or a reason why not."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from recorder.bundle import Bundle
from replay.load import UserConfig
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level, ReplayResult
from replay.whatif import parse_changes
from replay.worker.onnx import OnnxRefused, open_onnx
from tests.bundle.forge import Forgery
from tests.hooks.conftest import bundles, make_recorder, tiny_model
from tests.models.test_onnx_file import external_tensor

__all__ = ["bundles", "make_recorder"]

CHANCE = np.random.default_rng(1)


def network() -> onnx.ModelProto:
    """A convolution, a pooling and a linear layer: what a classifier is made of."""
    weights = [
        numpy_helper.from_array(CHANCE.normal(size=(8, 3, 3, 3)).astype(np.float32), "kernel"),
        numpy_helper.from_array(CHANCE.normal(size=(8, 5)).astype(np.float32), "linear"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "linear"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "network", [image], [logits], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def session_of(model: onnx.ModelProto, **options: Any) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


@pytest.fixture
def recorded(make_recorder: Any, bundles: Callable[[], Any], tmp_path: Path) -> Callable[..., Path]:
    """Attach a session, have a function use it, and return the path of the sealed bundle."""

    def record(session: Any, use: Callable[[Any], object]) -> Path:
        recorder = make_recorder(triggers=[])
        use(recorder.attach(session, name="classifier"))
        recorder.trigger("look").wait(120)
        recorder.close()
        [path] = (tmp_path / "incidents").glob("*.zst")
        return Path(path)

    return record


def replayed(path: Path, **options: Any) -> ReplayResult:
    with Bundle.open(path) as bundle:
        return replay_bundle(bundle, ReplayOptions(**{"bundle_path": path, "config": UserConfig(), **options}))


def reason_of(result: ReplayResult) -> str:
    return result.frames[0].calls[0].reason


def once(session: Any) -> None:
    session.run(None, {"image": CHANCE.normal(size=(1, 3, 16, 16)).astype(np.float32)})


#: Of the session, and each can change an answer.
OPTIONS = {
    "graph_optimization_level": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "execution_mode": onnxruntime.ExecutionMode.ORT_PARALLEL,
    "intra_op_num_threads": 1,
    "inter_op_num_threads": 2,
}


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["default", "options"])
def test_every_call_is_bit_exact_however_its_input_lay_in_memory(recorded: Any, options: dict[str, Any]) -> None:
    """Contiguous, sliced, reversed, Fortran order, off a cache line; wanted outputs by name or all."""

    def use(session: Any) -> None:
        image = CHANCE.normal(size=(4, 3, 16, 20)).astype(np.float32)
        room = np.zeros(image.nbytes + 64, np.uint8)
        odd = room[4 : 4 + image.nbytes].view(np.float32).reshape(image.shape)
        odd[...] = image
        for each in (image, image[::2], image[..., ::-1], np.asfortranarray(image), odd):
            session.run(None, {"image": each})
        session.run(["logits"], {"image": image[:1]})

    result = replayed(recorded(session_of(network(), **options), use))
    assert result.verdict is Level.BIT_EXACT, result.frames
    assert len(result.frames) == 6 and result.not_restored == () and result.exit_code == 0


def test_a_torch_module_and_a_session_in_one_frame_run_in_call_order(
    make_recorder: Any, bundles: Any, tmp_path: Path
) -> None:
    """As a detector and a classifier of its crops do."""
    recorder = make_recorder(triggers=[])
    torch.manual_seed(0)
    stem = recorder.attach(torch.nn.Conv2d(3, 3, 3, padding=1).eval(), name="stem")
    head = recorder.attach(session_of(network()), name="head")
    for _ in range(3):
        with recorder.frame(camera="line-1"), torch.no_grad():
            features = stem(torch.rand(1, 3, 12, 12)).numpy()
            for _ in range(2):
                features = features + head.run(None, {"image": features})[0].mean()
            stem(torch.from_numpy(features))
    recorder.flush(120)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    path = next((tmp_path / "incidents").glob("*.zst"))
    result = replay_bundle(bundle, ReplayOptions(bundle_path=path, config=UserConfig()))
    assert [[call.model for call in frame.calls] for frame in result.frames] == [["stem", "head", "head", "stem"]] * 3
    assert result.verdict is Level.BIT_EXACT, result.frames


def test_an_error_of_the_session_is_reproduced(recorded: Any) -> None:
    def use(session: Any) -> None:
        with pytest.raises(Exception, match="Got invalid dimensions"):
            session.run(None, {"image": np.zeros((1, 4, 8, 8), np.float32)})

    result = replayed(recorded(session_of(network()), use))
    assert result.verdict is Level.BIT_EXACT, result.frames


def test_a_missing_file_is_named_with_the_remedy(recorded: Any) -> None:
    path = recorded(session_of(network()), once)
    [stored] = (path.parent / "models").glob("*.onnx")
    stored.unlink()
    result = replayed(path)
    assert result.exit_code == 3
    assert "the ONNX model" in reason_of(result) and "--models LOCATION" in reason_of(result)


def test_a_file_of_another_digest_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(network().SerializeToString())
    with pytest.raises(OnnxRefused, match="has the digest"):
        open_onnx(path, "0" * 64, {}, "faithful")


def test_recorded_options_are_restored_by_the_faithful_profile(tmp_path: Path) -> None:
    """The portable one takes one thread, and says that it cannot choose the kernels; `here` takes what it finds."""
    content = network().SerializeToString()
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    recorded = {name: value if isinstance(value, int) else value.name for name, value in OPTIONS.items()}
    recorded |= {"onnxruntime": onnxruntime.__version__, "providers": ["CPUExecutionProvider"]}
    threads, notes = {}, {}
    for profile in ("faithful", "portable", "here"):
        run, notes[profile] = open_onnx(path, digest, recorded, profile)
        options = run.__self__.get_session_options()
        parallel = options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
        assert parallel == (profile != "portable")  # with one thread onnxruntime itself falls back to one after another
        assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        threads[profile] = options.intra_op_num_threads, options.inter_op_num_threads
    assert threads == {"faithful": (1, 2), "portable": (1, 1), "here": (0, 0)}
    assert notes["faithful"] == notes["here"] == [] and "kernels by the CPU" in notes["portable"][0]


def test_a_model_that_was_not_stored_says_why(recorded: Any, tmp_path: Path) -> None:
    file = tmp_path / "external.onnx"
    onnx.save_model(network(), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    result = replayed(recorded(session, once))
    assert result.exit_code == 3
    assert "files beside the model file" in reason_of(result) and "--model" in reason_of(result)


def _external() -> onnx.ModelProto:
    model = tiny_model()
    model.graph.initializer.append(external_tensor())
    return model


def _address_of_memory() -> onnx.ModelProto:
    """onnxruntime's marker for data that lies in its own process."""
    model = _external()
    model.graph.initializer[-1].external_data[0].value = "*/_ORT_MEM_ADDR_/*"
    return model


def _hidden_in_a_function() -> onnx.ModelProto:
    model = tiny_model("my.ops")
    body = [helper.make_node("Identity", ["a"], ["b"])]
    function = helper.make_function("my.ops", "Foreign", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("far", external_tensor()))
    model.functions.append(function)
    return model


def _endless_sizes() -> onnx.ModelProto:
    model = tiny_model()
    model.graph.initializer[0].dims[:] = [2**31, 2**31]
    return model


@pytest.mark.parametrize(
    ("hostile", "sentence"),
    [
        (lambda: _external().SerializeToString(), "files beside the model file"),
        (lambda: _address_of_memory().SerializeToString(), "files beside the model file"),
        (lambda: _hidden_in_a_function().SerializeToString(), "files beside the model file"),
        (lambda: tiny_model("evil.ops").SerializeToString(), "library of the host's"),
        (lambda: _endless_sizes().SerializeToString(), "does not load the model"),
        (lambda: b"\x08\x00\x00\x00ORTM" + bytes(64), "cannot be checked"),
        (lambda: tiny_model().SerializeToString()[:-7], "cannot be checked"),
        (lambda: b"", "cannot be checked"),
    ],
)
def test_a_hostile_file_is_refused_in_one_sentence(tmp_path: Path, hostile: Callable[[], bytes], sentence: str) -> None:
    """Whoever writes the bundle writes the digest too: the file is checked, not believed."""
    content = hostile()
    path = tmp_path / "hostile.onnx"
    path.write_bytes(content)
    with pytest.raises(OnnxRefused, match=sentence) as refused:
        open_onnx(path, hashlib.sha256(content).hexdigest(), {}, "faithful")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500
    assert list(tmp_path.iterdir()) == [path]


def _changed(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A bundle whose one model is described otherwise."""
    forgery = Forgery.of(path.read_bytes())
    change(forgery.manifest["models"][0])
    changed = path.parent / "changed.zst"
    changed.write_bytes(forgery.build())
    return changed


def test_a_bundle_that_names_a_hostile_file_is_not_replayable(recorded: Any) -> None:
    """Through the worker, as a user meets it."""
    content = _external().SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    path = _changed(recorded(session_of(network()), once), lambda model: model["weights"].update(digest=digest))
    (path.parent / "models" / f"{digest}.onnx").write_bytes(content)
    result = replayed(path)
    assert result.exit_code == 3 and "files beside the model file" in reason_of(result)


def test_another_version_provider_or_odd_option_is_listed(recorded: Any) -> None:
    """It runs all the same, on the CPU, and says what is not as it was."""
    odd = {
        "onnxruntime": "1.2.3",
        "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "graph_optimization_level": "__class__",
        "intra_op_num_threads": 2**40,
    }
    path = _changed(recorded(session_of(network()), once), lambda model: model["options"].update(odd))
    result = replayed(path)
    assert result.exit_code == 0
    assert result.not_restored == (
        "onnxruntime: the recorded graph_optimization_level __class__ is not one that replay restores",
        f"onnxruntime: the recorded intra_op_num_threads {2**40} is not one that replay restores",
        f"onnxruntime: version 1.2.3 was recorded, {onnxruntime.__version__} runs here",
        "onnxruntime: recorded on CUDAExecutionProvider, run on CPUExecutionProvider",
    )


def test_without_onnxruntime_the_remedy_is_named(
    recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch models of the same bundle would still run."""
    path = recorded(session_of(network()), once)
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "onnxruntime.py").write_text("raise ModuleNotFoundError('onnxruntime')")
    monkeypatch.setattr(sys, "path", [str(lacking), *sys.path])
    result = replayed(path)
    assert result.exit_code == 3
    assert "pip install 'vision-flight-recorder[onnx]'" in reason_of(result)


def test_another_file_can_be_tried_in_its_place(recorded: Any, tmp_path: Path) -> None:
    """What if the retrained model had run: `--weights retrained.onnx`."""
    path = recorded(session_of(network()), once)
    retrained = tmp_path / "retrained.onnx"
    retrained.write_bytes(network().SerializeToString())
    result = replayed(path, changes=parse_changes([], str(retrained)))
    [call] = result.frames[0].calls
    assert call.level in (Level.DIVERGED, Level.SAME_DECISION)
