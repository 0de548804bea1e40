"""Plain functions as recorded calls."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

SIZED = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def scale(image: Any, by: float = 2.0) -> Any:
    """Multiply."""
    return image * by


def test_an_attached_function_keeps_its_name_and_its_answers(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorded = recorder.attach(scale)
    assert recorded.__name__ == "scale" and recorded.__doc__ == "Multiply." and recorded.__wrapped__ is scale
    assert recorder.attach(scale) is recorded and recorder.attach(recorded) is recorded
    image = np.arange(4, dtype=np.float32)
    with recorder.frame():
        assert np.array_equal(recorded(image, by=3.0), image * 3)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [call] = bundle.manifest.calls
    [model] = bundle.manifest.models
    assert model.framework == "callable" and model.name == "scale" and model.type.endswith("test_functions.scale")
    assert bundle.array(call.args.items[0]).tobytes() == image.tobytes()
    assert [(key, value.value) for key, value in call.kwargs.items] == [("by", 3.0)]
    assert bundle.array(call.output).tolist() == [0.0, 3.0, 6.0, 9.0]


def test_methods_partials_and_builtins_can_be_attached(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    assert recorder.attach(functools.partial(scale, by=4))(2) == 8
    assert recorder.attach("a b".split)() == ["a", "b"]
    assert recorder.attach(len)([1, 2]) == 2
    assert recorder.stats().frames_recorded == 3 and recorder.stats().errors == {}


@pytest.mark.parametrize("thing", [int, object(), (item for item in ()), 5])
def test_what_a_function_cannot_stand_for_is_returned_as_it_is(make_recorder: Any, thing: object) -> None:
    recorder = make_recorder(triggers=[])
    assert recorder.attach(thing) is thing
    assert recorder.stats().errors == {"unsupported-model": 1}


def test_models_called_in_a_function_are_its_children(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    recorder.attach(lambda image: net(image).argmax(1), name="pipeline")(SIZED)
    net(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    outer, inner, alone = bundle.manifest.calls
    assert (outer.parent, inner.parent, alone.parent) == (None, outer.id, None)
    assert len(bundle.manifest.frames) == 2


def test_an_exception_passes_unchanged_and_is_the_calls(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder()
    error = ValueError("no such class")

    def fail(_image: Any) -> None:
        raise error

    recorded = recorder.attach(fail)
    with pytest.raises(ValueError) as caught:
        recorded(SIZED)
    assert caught.value is error
    recorder.flush(120)
    [call] = bundles()[0].manifest.calls
    assert call.status == "raised" and call.exception.message == "no such class" and call.exception.stage == "model"


def test_coroutines_that_take_turns_are_calls_of_their_own(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[], pre_frames=50)
    recorder.attach(net, store=False)

    async def predict(number: float) -> float:
        await asyncio.sleep(0.001)
        net(torch.full((1, 1, 4, 4), number))
        await asyncio.sleep(0.001)
        return number

    recorded = recorder.attach(predict)

    async def serve() -> list[float]:
        return await asyncio.gather(*(recorded(float(number)) for number in range(8)))

    assert asyncio.run(serve()) == [float(number) for number in range(8)]
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert len(bundle.manifest.frames) == 8 and len(bundle.manifest.calls) == 16
    models = {model.id: model.framework for model in bundle.manifest.models}
    calls = {call.id: call for call in bundle.manifest.calls}
    for frame in bundle.manifest.frames:
        by_kind = {models[calls[number].model]: calls[number] for number in frame.calls}
        assert bundle.array(by_kind["torch"].args.items[0])[0, 0, 0, 0] == by_kind["callable"].output.value


def test_a_call_that_was_interrupted_stays_open(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorder.attach(interrupted)()
    recorder.trigger("look").wait(120)
    [call] = bundles()[0].manifest.calls
    assert call.status == "open"


def test_arguments_are_freed_when_the_call_is_over(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])

    class Image(np.ndarray[Any, Any]):
        """An array that can be watched."""

    gc.collect()
    gc.disable()
    try:
        image = np.zeros(4, np.float32).view(Image)
        recorder.attach(lambda given: float(given.sum()))(image)
        recorder.attach(scale, name="again")(image)
        gone = weakref.ref(image)
        del image
        assert gone() is None
    finally:
        gc.enable()


def test_after_disable_the_function_is_called_alone(make_recorder: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorded = recorder.attach(scale)
    recorder.disable()
    assert recorded(2) == 4
    assert recorder.stats().frames_recorded == 0
