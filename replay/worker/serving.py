"""What a replay worker does: restore settings, load a model, run a call. Imports torch; only workers import this."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from recorder.bundle.codec import to_json
from recorder.bundle.manifest import Environment
from recorder.capture import describe
from recorder.environment import capture_environment
from recorder.torch_settings import write_settings
from replay.graph.arguments import GraphRefused
from replay.show.text import inert
from replay.worker.arguments import NotRebuildable, Placing, rebuild
from replay.worker.attributing import NoAttribution, attributed
from replay.worker.comparing import compare
from replay.worker.loading import Loaded, LoadFailed, load_model
from replay.worker.pipeline import Pipelines
from replay.worker.sandbox import Forbidden, limit_cpu_seconds, limit_memory, lock_down, refusals
from replay.worker.watching import Watcher

__all__ = ["Server"]

_AUTOCAST_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

_MAX_MESSAGE_CHARS = 2000
#: How torch and onnxruntime say it, whose exceptions for it are those of any failure.
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|bad_alloc|bad allocation|Failed to allocate memory")
#: What an operator says of tensors on two devices, those of the CPU and of the meta device included.
_TWO_DEVICES = re.compile(r"tensors to be on the same device|is not on the expected device")

Answer = tuple[dict[str, Any], Sequence[bytes | bytearray]]


class Server:
    """Answers the requests of one parent."""

    def __init__(self, kept: dict[str, str]) -> None:
        """``kept`` is what `replay.worker.sandbox.isolate` returned."""
        self._kept = kept
        self._models: dict[int, Loaded] = {}
        self._pipelines = Pipelines()
        self._device = "cpu"
        self._cpu_seconds: float | None = None

    def answer(self, request: dict[str, Any], payload: bytearray) -> Answer:
        """Answer one request; whatever goes wrong becomes part of the reply."""
        match request["op"]:
            case "start":
                return self._start(request), ()
            case "settings":
                return self._settings(request), ()
            case "load":
                return self._load(request, payload), ()
            case "run":
                return self._run(request, payload)
            case "compare":
                return compare(request, payload), ()
            case "pipeline":
                self._limit_time()
                return self._pipelines.run(request, payload)
        return {"status": "refused", "reason": "the worker does not know this request"}, ()

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        self._device = request["device"]
        self._cpu_seconds = request["cpu_seconds"]
        reply = self._settings(request)
        if self._device != "cpu":
            try:
                torch.zeros(1, device=self._device)  # the GPUs' names are known once they are used
            except (RuntimeError, AssertionError) as error:
                return {"status": "refused", "reason": f"device {self._device} cannot be used: {_first_line(error)}"}
            reply |= self._environment()
        lock_down()
        if request["memory_bytes"] is not None and self._device == "cpu":
            limit_memory(request["memory_bytes"])
        return reply

    def _settings(self, request: dict[str, Any]) -> dict[str, Any]:
        write_settings(torch, request["settings"])
        return {"status": "ok", "kept": self._kept, **self._environment()}

    def _environment(self) -> dict[str, Any]:
        environment: Environment = capture_environment(packages=False)
        return {"environment": to_json(environment)}

    def _load(self, request: dict[str, Any], payload: bytearray) -> dict[str, Any]:
        if "pipeline" in request:
            self._limit_time()
            return self._pipelines.load(request)
        for key in (request["model"], *request["drop"]):  # the old ones go before the new one needs their memory
            self._models.pop(key, None)
        self._limit_time()
        try:
            loaded = load_model(request, bytes(payload), request["device"])
        except LoadFailed as failed:
            return {"status": "refused", "reason": str(failed), "refused": refusals()}
        except MemoryError:
            return {"status": "refused", "reason": "the model does not fit in the worker's memory", "refused": []}
        self._models[request["model"]] = loaded
        return {"status": "ok", "notes": loaded.notes, "refused": refusals()}

    def _run(self, request: dict[str, Any], payload: bytearray) -> Answer:
        model = self._models[request["model"]]
        placing = Placing(device=request["device"], from_cpu=request["recorded_device"] == "cpu")
        try:
            view = memoryview(payload)
            args = rebuild(request["args"], view, where="args", placing=placing)
            kwargs = rebuild(request["kwargs"], view, where="kwargs", placing=placing)
            if request["state"] is not None:
                model.put_state(rebuild(request["state"], view, where="state", placing=placing))
        except (NotRebuildable, LoadFailed) as lacking:
            return {"status": "refused", "reason": str(lacking)}, ()
        settings = request["settings"]
        settings["autocast"] = _on_device(settings["autocast"], request["recorded_device"], request["device"])
        model.set_training(settings["training"])
        self._limit_time()
        not_restored = [*_restore_generator(request["rng"], view), *_unknown_modes(settings)]
        watcher = Watcher(request["watch"], view) if "watch" in request else None
        started = time.perf_counter()
        try:
            if "attribute" in request:
                with torch.enable_grad():
                    output: Any = attributed(model, request["attribute"], args, kwargs)
            else:
                with _calling(settings), watcher.watching(model) if watcher else contextlib.nullcontext():
                    output = model.call(*args, **kwargs)
            if request["device"].startswith("cuda"):
                torch.cuda.synchronize()
        except BaseException as error:  # noqa: BLE001 - whatever the model raises is its answer
            moved = request["recorded_device"] != request["device"]
            return self._raised(error, moved), ()
        seconds = time.perf_counter() - started
        described = describe(output)
        if described.size_bytes > request["max_answer_bytes"]:
            return {"status": "refused", "reason": f"the answer of {described.size_bytes} bytes is too large"}, ()
        answer = bytearray(described.size_bytes)
        described.copy_to(np.frombuffer(answer, np.uint8).ctypes.data if answer else 0)
        reply = {
            "status": "returned",
            "answer": described.tagged,
            "seconds": seconds,
            "refused": refusals(),
            "lacking": not_restored,
        }
        if watcher is None:
            return reply, (answer,)
        seen, parts = watcher.reply()
        return reply | {"seen": seen, "seen_from": len(answer)}, (answer, *parts)

    def _raised(self, error: BaseException, moved: bool) -> dict[str, Any]:
        kind = type(error)
        return {
            "status": "raised",
            "type": f"{kind.__module__}.{kind.__qualname__}"[:200],
            "message": str(error)[:_MAX_MESSAGE_CHARS],
            "cannot": _why_it_cannot_run_here(error, moved),
            "refused": refusals(),
        }

    def _limit_time(self) -> None:
        if self._cpu_seconds is not None:
            limit_cpu_seconds(self._cpu_seconds)


def _why_it_cannot_run_here(error: BaseException, moved: bool) -> str | None:
    """A reason where an exception tells of this machine or worker and not of the model; else None."""
    text = _first_line(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _OUT_OF_MEMORY.search(text):
        return "it needs more memory than the worker has"
    if isinstance(error, Forbidden | GraphRefused | NoAttribution):
        return text
    if moved and _TWO_DEVICES.search(text):
        return f"a part of it stays on another device than asked for (its own code names one?): {text}"
    if isinstance(error, ImportError):
        return f"it needs a module that is not installed here: {text}"
    if isinstance(error, NotImplementedError):
        return f"it needs an operator that this torch does not have here: {text}"
    return None


def _on_device(autocast: dict[str, str], recorded: str, here: str) -> dict[str, str]:
    """The autocast modes of a call that is run on another device: what was on for that one is on for this one."""
    kinds = {recorded.partition(":")[0]: here.partition(":")[0]}
    return {kinds.get(kind, kind): dtype for kind, dtype in sorted(autocast.items(), key=lambda mode: mode[0] in kinds)}


@contextlib.contextmanager
def _calling(settings: dict[str, Any]) -> Iterator[None]:
    """The thread-local modes that the call was recorded in."""
    with contextlib.ExitStack() as stack:
        if settings["inference_mode"]:
            stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.set_grad_enabled(settings["grad_enabled"]))
        for device, dtype in settings["autocast"].items():
            if device in ("cpu", "cuda") and dtype in _AUTOCAST_DTYPES:
                stack.enter_context(torch.autocast(device, dtype=_AUTOCAST_DTYPES[dtype]))
        yield


def _restore_generator(tagged: dict[str, Any] | None, payload: memoryview) -> list[str]:
    """Set torch's CPU generator to the recorded state; say so where this torch does not take it."""
    if tagged is None:
        return []
    try:
        torch.set_rng_state(rebuild(tagged, payload, where="rng"))
    except (NotRebuildable, RuntimeError, TypeError):
        return ["torch's generator: this torch does not take the recorded state, so other numbers are drawn"]
    return []


def _unknown_modes(settings: dict[str, Any]) -> list[str]:
    """What `_calling` cannot enter."""
    return [
        f"autocast to {inert(dtype, 40)} on {inert(device, 40)} is not one that replay knows"
        for device, dtype in settings["autocast"].items()
        if device not in ("cpu", "cuda") or dtype not in _AUTOCAST_DTYPES
    ]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
