"""LitServe: every prediction of a worker is a frame, of a batch one frame per request.

    @recorded(lambda: FlightRecorder(sink="incidents/"))
    class Api(litserve.LitAPI):
        def setup(self, device):
            self.model = self.recorder.attach(load_model().to(device))

A LitAPI is sent to its worker processes, a recorder belongs to one: so it is made in the worker, before ``setup``.
Needs no package at import: the decorated class is all it knows of LitServe.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from recorder.batch import Batch
    from recorder.flight_recorder import FlightRecorder

__all__ = ["recorded"]

Api = TypeVar("Api", bound=type)


def recorded(
    make_recorder: Callable[[], FlightRecorder],
    *,
    context: Iterable[str] = ("request_id",),
    image: Callable[[Any], Any] | None = None,
) -> Callable[[Api], Api]:
    """Decorate a LitAPI class whose ``predict`` is a plain or an async function.

    In ``setup`` and later the recorder is ``self.recorder``. A ``predict`` that yields (streaming) is left as it is:
    its model calls make frames of their own.

    Args:
        make_recorder: makes the recorder, in each worker.
        context: keys of the request's context (which ``decode_request`` may fill) that become metadata.
        image: gives the image of one decoded request; default: the request itself where it is a picture.
    """
    keys = tuple(context)
    picture = image or _image

    def decorate(api: Api) -> Api:
        kind: Any = api
        kind.setup = _setup(kind.setup, make_recorder)
        predict = kind.predict
        if inspect.iscoroutinefunction(predict):
            kind.predict = _predict_async(predict, keys, picture)
        elif not (inspect.isgeneratorfunction(predict) or inspect.isasyncgenfunction(predict)):
            kind.predict = _predict(predict, keys, picture)
        return api

    return decorate


def _setup(setup: Callable[..., Any], make_recorder: Callable[[], FlightRecorder]) -> Callable[..., Any]:
    @functools.wraps(setup)
    def recording_setup(self: Any, device: Any) -> Any:
        self.recorder = make_recorder()
        return setup(self, device)

    return recording_setup


def _predict(predict: Callable[..., Any], keys: Sequence[str], image: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(predict)
    def recording_predict(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        with _open(self, x, kwargs.get("context"), keys, image) as frames:
            return _answer(frames, self, predict(self, x, *args, **kwargs))

    return recording_predict


def _predict_async(predict: Callable[..., Any], keys: Sequence[str], image: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(predict)
    async def recording_predict(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        with _open(self, x, kwargs.get("context"), keys, image) as frames:
            return _answer(frames, self, await predict(self, x, *args, **kwargs))

    return recording_predict


def _open(api: Any, x: Any, context: Any, keys: Sequence[str], image: Callable[[Any], Any]) -> Batch:
    recorder: FlightRecorder = api.recorder
    try:
        batched = getattr(api, "max_batch_size", 1) > 1
        items = list(x) if batched else [x]
        contexts = context if batched and isinstance(context, list) else [context] * len(items)
        images = [image(item) for item in items]
        return recorder.frames(images=images, metadata=[_chosen(item, keys) for item in contexts])
    except Exception as error:  # noqa: BLE001  # a batch of a form of its own must not fail for our sake
        return recorder.frames(images=[None], metadata=[{"adapter_error": type(error).__name__}])


def _answer(frames: Batch, api: Any, output: Any) -> Any:
    batched = getattr(api, "max_batch_size", 1) > 1
    if not batched:
        frames[0].output = output
    elif hasattr(output, "__getitem__") and hasattr(output, "__len__") and len(output) == len(frames):
        for number, frame in enumerate(frames):
            frame.output = output[number]
    return output


def _chosen(context: Any, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(context, Mapping):
        return {}
    return {key: context[key] for key in keys if key in context}


def _image(x: Any) -> Any:
    from recorder.capture import looks_like_image

    return x if looks_like_image(x) else None
