"""An attached onnxruntime session answers as before, and its calls are in the bundle."""

from __future__ import annotations

import copy
import gc
import hashlib
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from recorder.bundle import Bundle
from tests.hooks.conftest import tiny_model

X = np.arange(8, dtype=np.float32).reshape(2, 4) / 7


def test_the_same_session_gives_the_same_bits(make_recorder: Any, open_session: Any) -> None:
    plain = open_session().run(None, {"x": X})
    session = open_session()
    assert make_recorder().attach(session) is session
    assert isinstance(session, onnxruntime.InferenceSession)
    assert type(session).__qualname__ == "InferenceSession"
    recorded = session.run(None, {"x": X})
    assert [answer.tobytes() for answer in recorded] == [answer.tobytes() for answer in plain]


def test_a_bundle_holds_inputs_outputs_and_what_the_session_was_made_of(
    make_recorder: Any, open_session: Any, onnx_file: Path, bundles: Any, tmp_path: Path
) -> None:
    recorder = make_recorder(triggers=[])
    session = recorder.attach(open_session(), name="classifier")
    with recorder.frame(answer="named"):
        scores, logits = session.run(["scores", "logits"], {"x": X})
    session.run(output_names=None, input_feed={"x": X[:1]})
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    named, every = bundle.manifest.calls
    assert [item.value for item in named.args.items[0].items] == ["scores", "logits"]
    [(key, tensor)] = named.args.items[1].items
    assert key == "x" and tensor.container == "numpy" and bundle.array(tensor).tobytes() == X.tobytes()
    assert bundle.array(named.output.items[0]).tobytes() == scores.tobytes()
    assert bundle.array(named.output.items[1]).tobytes() == logits.tobytes()
    assert every.args.items[0].value is None and len(every.output.items) == 2
    [model] = bundle.manifest.models
    digest = hashlib.sha256(onnx_file.read_bytes()).hexdigest()
    assert (model.name, model.framework, model.problems) == ("classifier", "onnxruntime", ())
    assert model.weights.digest == digest and model.weights.stored
    assert (tmp_path / "incidents" / "models" / f"{digest}.onnx").read_bytes() == onnx_file.read_bytes()
    assert model.options["providers"] == ["CPUExecutionProvider"]
    assert model.options["graph_optimization_level"] == "ORT_ENABLE_ALL"


def test_an_error_of_the_session_reaches_the_host_unchanged_and_is_recorded(
    make_recorder: Any, open_session: Any, bundles: Any
) -> None:
    with pytest.raises(Exception) as plain:
        open_session().run(None, {"x": X[:, :2]})
    recorder = make_recorder()
    session = recorder.attach(open_session())
    with pytest.raises(Exception) as recorded:
        session.run(None, {"x": X[:, :2]})
    assert type(recorded.value) is type(plain.value)
    with pytest.raises(ValueError, match="missing from input feed"):
        session.run(None, {})
    with pytest.raises(TypeError):
        session.run()
    recorder.flush(120)
    assert any(call.status == "raised" for call in bundles()[0].manifest.calls)


def test_ways_to_run_that_are_not_recorded_work_and_are_counted(make_recorder: Any, open_session: Any) -> None:
    recorder = make_recorder(triggers=[])
    session = recorder.attach(open_session())
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("scores")
    session.run_with_iobinding(binding)
    assert binding.copy_outputs_to_cpu()[0].shape == (2, 3)
    assert recorder.stats().frames_lost == {"onnx-run-with-iobinding": 1}


def test_a_detached_session_has_its_own_class_again(make_recorder: Any, open_session: Any) -> None:
    recorder = make_recorder()
    session = open_session()
    recorder.attach(session)
    recorder.attach(session)
    recorder.disable()
    assert type(session) is onnxruntime.InferenceSession
    session.run(None, {"x": X})


def test_a_session_is_freed_as_soon_as_the_host_drops_it(make_recorder: Any, open_session: Any) -> None:
    recorder = make_recorder(triggers=[])
    session = recorder.attach(open_session())
    session.run(None, {"x": X})
    recorder.flush(120)
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(session)
        del session
        assert gone() is None
    finally:
        gc.enable()


class Pickled(onnxruntime.InferenceSession):
    """The usual way to make a session that can be pickled."""

    def __init__(self, path: str) -> None:
        super().__init__(path, providers=["CPUExecutionProvider"])
        self.path = path

    def __reduce__(self) -> Any:
        return (type(self), (self.path,))


def test_a_copied_or_pickled_session_is_an_ordinary_one(make_recorder: Any, onnx_file: Path) -> None:
    recorder = make_recorder(triggers=[])
    session = recorder.attach(Pickled(str(onnx_file)))
    for twin in (pickle.loads(pickle.dumps(session)), copy.copy(session)):
        assert type(twin) is Pickled
        before = recorder.stats().frames_recorded
        twin.run(None, {"x": X})
        assert recorder.stats().frames_recorded == before


def test_a_session_made_of_bytes_is_identified_by_them(make_recorder: Any, onnx_file: Path, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])
    session = onnxruntime.InferenceSession(onnx_file.read_bytes(), providers=["CPUExecutionProvider"])
    recorder.attach(session, store=False).run(None, {"x": X})
    recorder.trigger("look").wait(120)
    [model] = bundles()[0].manifest.models
    assert model.weights.digest == hashlib.sha256(onnx_file.read_bytes()).hexdigest() and not model.weights.stored


def test_a_model_whose_weights_stand_beside_it_is_named_and_not_stored(
    make_recorder: Any, tmp_path: Path, bundles: Any
) -> None:
    path = tmp_path / "external.onnx"
    onnx.save_model(tiny_model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    recorder = make_recorder(triggers=[])
    session = recorder.attach(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
    session.run(None, {"x": X})
    recorder.trigger("look").wait(120)
    [model] = bundles()[0].manifest.models
    assert model.weights.digest == hashlib.sha256(path.read_bytes()).hexdigest() and not model.weights.stored
    assert "beside the model file" in model.problems[0]
    assert not list((tmp_path / "incidents" / "models").iterdir())


def test_a_model_file_that_is_gone_is_said_to_be(
    make_recorder: Any, open_session: Any, onnx_file: Path, bundles: Any
) -> None:
    recorder = make_recorder(triggers=[])
    session = open_session()
    onnx_file.unlink()
    recorder.attach(session).run(None, {"x": X})
    recorder.trigger("look").wait(120)
    with Bundle.open(next((Path(recorder._settings.sealer.sink)).glob("*.zst"))) as bundle:
        [model] = bundle.manifest.models
    assert model.weights is None and "could not be read" in model.problems[0]
