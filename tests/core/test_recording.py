"""What a service records is what the bundle holds."""

from __future__ import annotations

import dataclasses
import io
import json
import platform
import threading
from collections import namedtuple
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from recorder import triggers
from recorder.bundle.codec import to_json
from recorder.bundle.values import MappingValue, OpaqueValue, RecordValue, ScalarValue, SequenceValue, TensorValue

SIZED = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_manual_trigger_seals_the_frames_before_it_with_images_inputs_outputs_and_answer(
    make_recorder: Any, bundles: Any, net: Any
) -> None:
    recorder = make_recorder(pre_frames=3)
    recorder.attach(net, name="tiny", store=False)
    images = [np.full((6, 5, 3), number, dtype=np.uint8) for number in range(6)]
    outputs = []
    for number, image in enumerate(images):
        with recorder.frame(image=image, camera="line-3", number=number) as frame:
            outputs.append(net(SIZED + number))
            frame.output = {"label": number}
            frame["checked"] = True
    incident = recorder.trigger("operator: wrong label", severity="high").wait(120)

    assert incident.state == "sealed"
    [bundle] = bundles()
    assert incident.path == str(next(iter(sorted(bundle_paths(recorder)))))
    manifest = bundle.manifest
    assert manifest.incident.severity == "high"
    assert manifest.incident.triggers[0].kind == "manual"
    assert manifest.incident.triggers[0].reason == "operator: wrong label"
    assert manifest.incident.triggers[0].frame == manifest.frames[-1].id
    assert [frame.metadata["number"] for frame in manifest.frames] == [2, 3, 4, 5]
    for frame, number in zip(manifest.frames, (2, 3, 4, 5), strict=True):
        assert frame.status == "complete" and frame.stream == "line-3" and frame.metadata["checked"] is True
        assert np.array_equal(bundle.pixels(frame.images[0]), images[number])
        assert frame.output == MappingValue(items=(("label", ScalarValue(value=number)),))
        call = next(call for call in manifest.calls if call.id == frame.calls[0])
        assert np.array_equal(bundle.array(call.args.items[0]), (SIZED + number).numpy())
        assert np.array_equal(bundle.array(call.output), outputs[number].detach().numpy())
        assert call.status == "returned" and call.latency_seconds > 0 and not call.settings.training
    assert bundle.verify() == []


def bundle_paths(recorder: Any) -> list[Any]:
    from pathlib import Path

    return sorted(Path(recorder._settings.sealer.sink).glob("*.zst"))


def test_an_encoded_image_is_kept_byte_for_byte(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder()
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(buffer, "JPEG")
    with recorder.frame(image=buffer.getvalue()):
        pass
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    image = bundle.manifest.frames[0].images[0]
    assert image.encoding == "jpeg" and image.source == "encoded"
    assert bundle.read(image.member) == buffer.getvalue()


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8),
        np.random.default_rng(0).integers(0, 256, (7, 9, 4), dtype=np.uint8)[:, ::-1, ::2],
        np.random.default_rng(0).integers(0, 2**16, (7, 9, 3), dtype=np.uint16),
        PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)),
    ],
    ids=["gray", "strided", "16-bit", "pil"],
)
def test_every_kind_of_image_comes_back_pixel_for_pixel(make_recorder: Any, bundles: Any, image: Any) -> None:
    recorder = make_recorder()
    with recorder.frame(image=image):
        pass
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert np.array_equal(bundle.pixels(bundle.manifest.frames[0].images[0]), np.asarray(image))


def test_several_images_and_a_path_belong_to_one_frame(make_recorder: Any, bundles: Any, tmp_path: Any) -> None:
    recorder = make_recorder()
    PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / "left.png")
    with recorder.frame(images={"left": tmp_path / "left.png", "right": np.zeros((4, 4), np.uint8)}, time=12.5):
        pass
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    assert [(image.name, image.source) for image in frame.images] == [("left", "path"), ("right", "array")]
    assert frame.sensor_time == 12.5


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Detections:
    boxes: torch.Tensor
    labels: list[str]


class Nested(torch.nn.Module):
    def forward(self, item: Any, *, scale: float) -> Any:
        return {
            "found": Detections(item["a"][0] * scale, ["cat"]),
            "point": Point(1, item["a"][1]),
            7: (None, True, float("nan"), object()),
        }


def test_nested_arguments_and_outputs_keep_their_structure(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(Nested(), store=False)
    half = torch.ones(3, dtype=torch.bfloat16)
    model({"a": (torch.arange(6.0).reshape(2, 3).t(), half)}, scale=2.0)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [call] = bundle.manifest.calls
    [argument] = call.args.items
    assert argument.items[0][0] == "a" and argument.items[0][1].form == "tuple"
    assert call.kwargs.items == (("scale", ScalarValue(value=2.0)),)
    transposed, bf16 = argument.items[0][1].items
    assert transposed.strides == (1, 3) and np.array_equal(bundle.array(transposed), np.arange(6).reshape(2, 3).T)
    assert bf16.dtype == "bfloat16" and bundle.tensor_bytes(bf16) == half.view(torch.uint8).numpy().tobytes()
    output = dict(call.output.items)
    assert isinstance(output["found"], RecordValue) and output["found"].form == "dataclass"
    assert isinstance(output["found"].fields[0][1], TensorValue)
    assert output["point"].form == "namedtuple" and output["point"].fields[0] == ("x", ScalarValue(value=1))
    assert isinstance(output[7], SequenceValue) and isinstance(output[7].items[3], OpaqueValue)
    assert bundle.manifest.incident.lost["output-unsupported"] == 1


def test_only_the_outermost_of_nested_attached_models_has_no_parent(make_recorder: Any, bundles: Any, net: Any) -> None:
    class Outer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) + self.inner(x)

    recorder = make_recorder(triggers=[])
    outer = recorder.attach(Outer(), store=False)
    recorder.attach(net, store=False)
    outer(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    first, *others = bundle.manifest.calls
    assert frame.calls == tuple(call.id for call in bundle.manifest.calls) and len(others) == 2
    assert first.parent is None and {call.parent for call in others} == {first.id}
    assert {model.name for model in bundle.manifest.models} == {"Outer", "TinyNet"}


def test_a_batch_is_one_call_that_serves_one_frame_per_item(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    images = [np.full((4, 4), number, np.uint8) for number in range(3)]
    with recorder.frames(images=images, metadata=[{"camera": "same", "n": n} for n in range(3)]) as batch:
        out = net(SIZED.expand(3, 1, 4, 4))
        for frame, row in zip(batch, out, strict=True):
            frame.output = int(row.argmax())
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [call] = bundle.manifest.calls
    assert call.frames == tuple(frame.id for frame in bundle.manifest.frames) and len(call.frames) == 3
    assert all(frame.calls == (call.id,) for frame in bundle.manifest.frames)
    assert [frame.metadata["n"] for frame in bundle.manifest.frames] == [0, 1, 2]


def test_watch_records_image_and_result_of_a_predict_function(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])

    @recorder.watch
    def predict(image: Any, threshold: float = 0.5) -> dict[str, Any]:
        """Docstring kept."""
        return {"mean": float(image.mean())}

    assert predict.__doc__ == "Docstring kept."
    assert predict(np.full((3, 3), 9, np.uint8)) == {"mean": 9.0}
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    assert frame.images[0].height == 3
    assert frame.output == MappingValue(items=(("mean", ScalarValue(value=9.0)),))


def test_a_changed_weight_begins_a_new_model_with_another_digest(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    net(SIZED)
    assert recorder.flush(120)
    with torch.no_grad():
        net.body.bias.add_(1.0)
    net(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    first, second = bundle.manifest.models
    assert first.name == second.name and first.id != second.id
    assert first.weights.digest != second.weights.digest
    assert [call.model for call in bundle.manifest.calls] == [first.id, second.id]


def test_weights_changed_before_they_were_read_get_no_digest_rather_than_a_wrong_one(
    make_recorder: Any, bundles: Any, net: Any
) -> None:
    recorder = make_recorder(triggers=[])
    blocked = threading.Event()
    recorder._session.jobs.submit(lambda: blocked.wait(120) and None)
    recorder.attach(net, store=False)
    net(SIZED)
    with torch.no_grad():
        net.body.bias.add_(1.0)
    blocked.set()
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [model] = bundle.manifest.models
    assert model.weights is None and "changed before" in model.problems[0]


def test_a_changed_flag_begins_a_new_context(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    net(SIZED)
    torch.backends.mkldnn.set_flags(False)
    try:
        net(SIZED)
    finally:
        torch.backends.mkldnn.set_flags(True)
    net(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    contexts = {context.id: context.environment.settings for context in bundle.manifest.contexts}
    assert [contexts[call.context]["torch.mkldnn.enabled"] for call in bundle.manifest.calls] == [True, False, True]
    assert bundle.manifest.calls[0].context == bundle.manifest.calls[2].context


def test_environment_names_versions_and_no_host(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    net(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [environment] = [context.environment for context in bundle.manifest.contexts][-1:]
    assert environment.packages["torch"].startswith("2.") and environment.libraries["torch.version"]
    assert platform.node() not in json.dumps(to_json(bundle.manifest)).split('"')


def test_dropout_in_training_mode_has_its_random_state_recorded(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(torch.nn.Sequential(torch.nn.Dropout(0.5)).train(), store=False)
    model(SIZED)
    model.eval()
    model(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    drawing, quiet = bundle.manifest.calls
    assert drawing.rng is not None and quiet.rng is None
    assert drawing.settings.training and not quiet.settings.training


def test_several_models_may_be_attached_and_keep_names_apart(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[triggers.exception()])
    other = type(net)()
    recorder.attach(net, store=False)
    recorder.attach(other, store=False)
    with recorder.frame():
        net(SIZED)
        other(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert [model.name for model in bundle.manifest.models] == ["TinyNet", "TinyNet-2"]
    assert len(bundle.manifest.frames[0].calls) == 2
