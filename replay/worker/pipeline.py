"""The user's own pipeline in a worker: run it on a recorded image, and see what goes into and out of the model.

The function is code the user named on the command line. What it calls is seen from outside: torch's global module
hooks, and onnxruntime's ``run``. The recorder itself is switched off in it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.modules import module as torch_module

from recorder.capture import describe
from recorder.models import WeightsUnreadable, stream_weights, tensors_of_module
from replay.show.text import inert
from replay.worker.sandbox import Forbidden, refusals

__all__ = ["Pipelines"]

#: Calls of models kept of one run; a cascade makes dozens.
_MAX_CALLS = 256

_MAX_MESSAGE_CHARS = 2000

Reply = tuple[dict[str, Any], Sequence[bytes | bytearray]]


class _Missing(Exception):
    """The function cannot be had here; the message is one sentence."""


@dataclass(slots=True)
class Snapshot:
    """A value as it was at one moment: tagged form, and the bytes of its tensors."""

    tagged: dict[str, Any]
    data: bytearray

    @classmethod
    def of(cls, value: Any) -> Snapshot:
        """Copy a value now: a model may work in place on its arguments."""
        described = describe(value)
        data = bytearray(described.size_bytes)
        described.copy_to(np.frombuffer(data, np.uint8).ctypes.data if data else 0)
        return cls(described.tagged, data)


@dataclass(slots=True)
class Seen:
    """One outermost call of a model."""

    type: str
    args: Snapshot
    kwargs: Snapshot
    output: Snapshot | None = None
    module: torch.nn.Module | None = None


@dataclass(slots=True)
class _Calls:
    """The calls of one run. Types of a ``wanted`` name are seen wherever they are called; others as the outermost.

    Names are compared without their module: what production ran as ``__main__`` is imported by another name here.
    """

    wanted: frozenset[str]
    of_wanted: list[Seen] = field(default_factory=list)
    outermost: list[Seen] = field(default_factory=list)
    local: threading.local = field(default_factory=threading.local)

    def before(self, callee: Any, args: Any) -> None:
        kind = type(callee)
        stack: list[Seen | None] = self.local.__dict__.setdefault("stack", [])
        inside_wanted = any(seen is not None and _name(seen.type) in self.wanted for seen in stack)
        take = not stack or (kind.__name__ in self.wanted and not inside_wanted)
        seen = None
        if take and len(self.of_wanted) + len(self.outermost) < _MAX_CALLS:
            seen = Seen(f"{kind.__module__}.{kind.__qualname__}", Snapshot.of(args), Snapshot.of({}))
            seen.module = callee if isinstance(callee, torch.nn.Module) else None
            (self.of_wanted if kind.__name__ in self.wanted else self.outermost).append(seen)
        stack.append(seen)

    def after(self, kwargs: dict[str, Any], output: Any) -> None:
        stack: list[Seen | None] = self.local.__dict__.setdefault("stack", [])
        seen = stack.pop() if stack else None
        if seen is not None:
            seen.kwargs = Snapshot.of(kwargs)
            if output is not None:
                seen.output = Snapshot.of(output)

    @property
    def found(self) -> list[Seen]:
        return self.of_wanted or self.outermost


class Pipelines:
    """The pipeline of a worker: at most one, named by its parent."""

    def __init__(self) -> None:
        self._pipeline: _Pipeline | None = None
        self._digests: dict[int, tuple[torch.nn.Module, str | None]] = {}

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Import the function of ``pipeline`` ("pkg.mod:predict"), from ``add_path`` too."""
        try:
            self._pipeline = _Pipeline(request["pipeline"], request["add_path"])
        except _Missing as missing:
            return {"status": "refused", "reason": str(missing), "refused": refusals()}
        return {"status": "ok", "notes": [], "refused": refusals()}

    def run(self, request: dict[str, Any], payload: bytearray) -> Reply:
        """Run it on the ``images`` of one frame; the reply's parts are the bytes of everything it saw."""
        if self._pipeline is None:
            return {"status": "refused", "reason": "no pipeline is loaded"}, ()
        answer, calls, error = self._pipeline.run(
            request["images"], memoryview(payload), request["metadata"], frozenset(request["wanted"])
        )
        parts: list[bytearray] = []

        def add(snapshot: Snapshot | None) -> dict[str, Any] | None:
            if snapshot is None:
                return None
            offset = sum(map(len, parts))
            parts.append(snapshot.data)
            return {"tagged": snapshot.tagged, "offset": offset, "size_bytes": len(snapshot.data)}

        seen = [
            {
                "type": call.type,
                "args": add(call.args),
                "kwargs": add(call.kwargs),
                "output": add(call.output),
                "weights": self._digest(call.module),
            }
            for call in calls
        ]
        reply: dict[str, Any] = {"status": "returned", "answer": add(answer), "calls": seen, "refused": refusals()}
        if sum(map(len, parts)) > request["max_answer_bytes"]:
            return {"status": "refused", "reason": "what the pipeline made of the frame is too large to compare"}, ()
        if error is not None:
            kind = type(error)
            reply |= {
                "status": "raised",
                "type": f"{kind.__module__}.{kind.__qualname__}"[:200],
                "message": str(error)[:_MAX_MESSAGE_CHARS],
                "cannot": _why_not_here(error),
            }
        return reply, parts

    def _digest(self, module: torch.nn.Module | None) -> str | None:
        """The digest of a model's weights, taken once: None of what has none or cannot be read."""
        if module is None:
            return None
        if id(module) not in self._digests:
            digest = None
            with contextlib.suppress(WeightsUnreadable):
                digest = stream_weights(tensors_of_module(module)).digest
            self._digests[id(module)] = (module, digest)  # with the module, so that its id is not given again
        return self._digests[id(module)][1]


class _Pipeline:
    """A function from an image to an answer, named by the user."""

    def __init__(self, name: str, add_path: str | None) -> None:
        """Import the function.

        Raises:
            _Missing: it cannot be imported, or is none.
        """
        os.environ["FLIGHT_RECORDER_DISABLED"] = "1"
        if add_path is not None and add_path not in sys.path:
            sys.path.append(add_path)  # last, so that nothing there can pose as a library
        module_name, _, function = name.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
            for part in function.split("."):
                found = getattr(found, part)
        except Forbidden as forbidden:
            raise _Missing(f"the pipeline {name} cannot be imported: {forbidden}") from None
        except BaseException as error:
            raise _Missing(
                f"the pipeline {name} cannot be imported: {type(error).__name__}: {inert(error, 300)}"
            ) from error
        if not callable(found):
            raise _Missing(f"the pipeline {name} is no function")
        self._function: Callable[..., Any] = found
        self._takes_metadata = _takes(found, "metadata")

    def run(
        self, images: Sequence[dict[str, Any]], payload: memoryview, metadata: dict[str, Any], wanted: frozenset[str]
    ) -> tuple[Snapshot | None, list[Seen], BaseException | None]:
        """Run the function on one frame.

        Args:
            images: "name", "source" ("array", "pil", "encoded", "path"), and of an array "dtype", "shape", "offset",
                "size_bytes"; of a file "offset", "size_bytes", or its "path".
            payload: their bytes.
            metadata: the frame's, given as ``metadata=`` where the function takes it.
            wanted: class names of the recorded models, without their modules.

        Returns:
            Answer, calls of models, and what it raised.
        """
        given = {image["name"]: _image(image, payload) for image in images}
        argument = next(iter(given.values())) if len(given) == 1 else given
        keywords = {"metadata": metadata} if self._takes_metadata else {}
        calls = _Calls(wanted)
        try:
            with _watching(calls):
                answer = self._function(argument, **keywords)
        except BaseException as error:  # noqa: BLE001 - whatever it raises is its answer
            return None, calls.found, error
        return Snapshot.of(answer), calls.found, None


def _why_not_here(error: BaseException) -> str | None:
    """A reason where an exception tells of this worker and not of the pipeline; else None."""
    if isinstance(error, Forbidden):
        return f"{error}; let it load what it needs when it is imported, from files that are there"
    if isinstance(error, ImportError):
        return f"it needs a module that is not installed here: {inert(error, 200)}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "it needs more memory than the worker has"
    return None


def _name(type_name: str) -> str:
    return type_name.rpartition(".")[2]


def _takes(function: Callable[..., Any], name: str) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        return name in inspect.signature(function).parameters
    return False


def _image(image: dict[str, Any], payload: memoryview) -> Any:
    if image["source"] == "path":
        return image["path"]
    data = payload[image["offset"] : image["offset"] + image["size_bytes"]]
    if image["source"] == "encoded":
        return bytes(data)
    pixels: NDArray[Any] = np.frombuffer(bytearray(data), np.dtype(image["dtype"])).reshape(image["shape"])
    return _picture(pixels) if image["source"] == "pil" else pixels


def _picture(pixels: NDArray[Any]) -> Image.Image:
    """A PIL image as the recorder took it apart; by way of a file, so that it has no format of an array's."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    picture = Image.open(file)
    picture.load()
    return picture


@contextlib.contextmanager
def _watching(calls: _Calls) -> Iterator[None]:
    def after(module: torch.nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.after(kwargs, output)

    handles = [
        torch_module.register_module_forward_pre_hook(calls.before),
        torch_module.register_module_forward_hook(after, with_kwargs=True, always_call=True),
    ]
    try:
        with _watching_onnx(calls):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _watching_onnx(calls: _Calls) -> Iterator[None]:
    runtime = sys.modules.get("onnxruntime")
    if runtime is None:
        yield
        return
    session_class: Any = runtime.InferenceSession
    plain = session_class.run

    def run(session: Any, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
        calls.before(session, (output_names, input_feed))
        output = None
        try:
            output = plain(session, output_names, input_feed, run_options)
        finally:
            calls.after({}, output)
        return output

    session_class.run = run
    try:
        yield
    finally:
        session_class.run = plain
