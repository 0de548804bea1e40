"""The parent's side of a pipeline: hand a recorded frame to the worker, take what its stages gave."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recorder.bundle import Bundle, png
from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Frame, Image, was_redacted
from replay.compare.comparison import Answer
from replay.exchange import answer_from_wire
from replay.numerics.settings import WorkerPlan
from replay.pipeline.edits import Edit, Pixels, apply_edits
from replay.process import Limits, ModelRefused, Worker, WorkerDied
from replay.protocol import ProtocolError
from replay.show.text import inert

__all__ = ["ModelCall", "PipelineRunner", "Ran"]

#: Everything one frame's run may send back.
_MAX_ANSWER_BYTES = 2**30

#: After so many workers have died of it, the rest is not tried any more.
_MAX_DEATHS = 3

_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """What went into a model within the pipeline, and what came out."""

    type: str  #: qualified class name, as the worker saw it
    args: Answer
    kwargs: Answer
    output: Answer | None  #: None: it raised
    weights: str | None  #: digest of its weights; None of what is no torch module


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One frame through the pipeline."""

    answer: Answer | None = None
    calls: tuple[ModelCall, ...] = ()
    raised: str | None = None  #: qualified name of the exception
    message: str = ""
    failed: str | None = None  #: why it could not be run, with the remedy


class PipelineRunner:
    """Runs a pipeline on frames, in a worker set up as the frames' contexts ask. A context manager."""

    def __init__(
        self,
        bundle: Bundle,
        plans: Mapping[int, WorkerPlan],
        name: str,
        directory: str | None,
        *,
        device: str | None,
        limits: Limits,
        edits: Sequence[Edit] = (),
    ) -> None:
        """Start nothing yet.

        Args:
            bundle: open; it is only read.
            plans: by id of the context.
            name: "pkg.mod:predict", typed by the user.
            directory: where it may be imported from besides the installed packages.
            device: "cpu" or "cuda:n"; None: the CPU.
            limits: of the worker, for one frame.
            edits: done to every image before it is handed over.
        """
        self._bundle = bundle
        self._plans = plans
        self._request = {"pipeline": name, "add_path": directory}
        self._device = device or "cpu"
        self._limits = limits
        self._edits = tuple(edits)
        self._wanted = sorted({model.type.rpartition(".")[2] for model in bundle.manifest.models})
        self._worker: Worker | None = None
        self._plan: WorkerPlan | None = None
        self._deaths = 0
        self._refused = ""
        self._scratch = contextlib.ExitStack()
        self._directory: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._scratch.close()

    def restart(self) -> None:
        """Begin the next frame in a fresh process: what a pass left behind in the pipeline is gone."""
        self._stop()

    def run(self, frame: Frame, edits: Sequence[Edit] | None = None, *, pixels: Pixels | None = None) -> Ran:
        """Run one frame.

        Args:
            frame: of the bundle.
            edits: what to change in its images, in place of the runner's own edits.
            pixels: instead of its first image, of the same dtype; None: as recorded.

        Raises:
            BundleInvalid, BundleUnavailable: its images are not what the manifest says.
        """
        if self._refused:
            return Ran(failed=self._refused)
        if not frame.images:
            left = " (its images were not recorded)" if frame.images_left_out else ""
            return Ran(failed=f"the frame holds no image for the pipeline{left}; record one: frame(image=…)")
        changed = [image.name for image in frame.images if was_redacted(self._bundle.manifest, image.name)]
        if changed:
            return Ran(
                failed=f"image {inert(changed[0], 60)!r} was redacted for privacy: the pipeline would see another one "
                "than the service did"
            )
        try:
            images, parts = self._images(frame.images, self._edits if edits is None else tuple(edits), pixels)
        except (ValueError, BundleError) as error:
            return Ran(failed=inert(error, 300))
        try:
            worker = self._settled(frame.context)
            request = {
                "images": images,
                "metadata": frame.metadata,
                "wanted": self._wanted,
                "max_answer_bytes": _MAX_ANSWER_BYTES,
            }
            header, payload = worker.run_pipeline(request, parts)
            return _ran(header, payload)
        except ModelRefused as refused:
            self._refused = str(refused)
        except (WorkerDied, ProtocolError) as death:
            self._stop()
            self._deaths += 1
            if self._deaths >= _MAX_DEATHS:
                self._refused = f"not tried: {self._deaths} replay workers died before it"
            return Ran(failed=str(death))
        return Ran(failed=self._refused)

    def _settled(self, context: int) -> Worker:
        plan = self._plans[context]
        if self._worker is not None and self._plan is not None and self._plan.needs_another_process(plan):
            self._stop()
        if self._worker is None:
            self._worker = Worker(plan, device=self._device, limits=self._limits)
            self._worker.load(self._request)
        elif self._plan != plan:
            self._worker.switch(plan)
        self._plan = plan
        return self._worker

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _images(
        self, images: Sequence[Image], edits: tuple[Edit, ...], first: Pixels | None
    ) -> tuple[list[dict[str, Any]], list[bytes]]:
        """The images as the host gave them, for the wire, perhaps changed, the first one perhaps replaced."""

        def changed(image: Image) -> Pixels:
            return apply_edits(self._bundle.pixels(image) if first is None or image is not images[0] else first, edits)

        described: list[dict[str, Any]] = []
        parts: list[bytes] = []
        offset = 0
        for image in images:
            item: dict[str, Any] = {"name": image.name, "source": image.source}
            data = b""
            if image.source in ("array", "pil"):
                pixels = changed(image)
                data = pixels.tobytes()
                item |= {"dtype": pixels.dtype.name, "shape": list(pixels.shape)}
            else:
                suffix = _SUFFIXES.get(image.encoding, ".bin")
                data = self._bundle.read(image.member)
                if edits or (first is not None and image is images[0]):
                    data, suffix = png.encode(changed(image)), ".png"
                if image.source == "path":
                    item["path"], data = self._file(data, len(parts), suffix), b""
            described.append(item | {"offset": offset, "size_bytes": len(data)})
            parts.append(data)
            offset += len(data)
        return described, parts

    def _file(self, data: bytes, number: int, suffix: str) -> str:
        """A file for a pipeline that takes a path; its name is ours, and it is gone with the runner."""
        if self._directory is None:
            self._directory = Path(self._scratch.enter_context(tempfile.TemporaryDirectory(prefix="replay-")))
        path = self._directory / f"image-{number}{suffix}"
        path.write_bytes(data)
        return str(path)


def _ran(header: dict[str, Any], payload: bytearray) -> Ran:
    match header:
        case {"status": "refused", "reason": str() as reason}:
            return Ran(failed=inert(reason, 400))
        case {"status": "returned" | "raised" as status, "calls": list() as calls, "answer": answer}:
            seen = tuple(_call(call, payload) for call in calls)
            if status == "raised" and isinstance(header.get("cannot"), str):
                return Ran(failed=inert(header["cannot"], 400))
            if status == "raised":
                return Ran(calls=seen, raised=inert(header.get("type"), 200), message=inert(header.get("message"), 400))
            return Ran(calls=seen, answer=_answer(answer, payload))
    raise ProtocolError("an answer of an unknown kind")


def _call(call: Any, payload: bytearray) -> ModelCall:
    match call:
        case {"type": str() as kind, "args": args, "kwargs": kwargs, "output": output, "weights": weights}:
            return ModelCall(
                type=inert(kind, 200),
                args=_answer(args, payload),
                kwargs=_answer(kwargs, payload),
                output=None if output is None else _answer(output, payload),
                weights=weights if isinstance(weights, str) else None,
            )
    raise ProtocolError("a call of an unknown kind")


def _answer(part: Any, payload: bytearray) -> Answer:
    match part:
        case {"tagged": tagged, "offset": int() as offset, "size_bytes": int() as size}:
            if not 0 <= offset <= offset + size <= len(payload):
                raise ProtocolError("an answer outside its bytes")
            return answer_from_wire(tagged, payload[offset : offset + size])
    raise ProtocolError("an answer of an unknown kind")
