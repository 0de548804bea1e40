"""What is probed: recorded frames as pixels, and whatever answers to changed pixels, a model or a whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from recorder.bundle import Bundle
from recorder.bundle.manifest import Frame
from recorder.bundle.tensors import size_in_bytes, to_array
from recorder.bundle.values import MappingValue, TensorValue, Value, has_removed, map_tensors, tensors_of
from replay.batch import batch_size
from replay.compare.comparison import Answer
from replay.compare.layout import Array, logical_bits
from replay.compare.reading import Reading, read_answer
from replay.exchange import recorded_answer
from replay.pipeline.run import PipelineRunner
from replay.probe.tensor_image import Normalisation, TensorImage, is_image_shape
from replay.session import Failed, Job, Outcome, Raised, Returned, Session

__all__ = ["MAPS_RUNS", "CannotProbe", "ModelSubject", "PipelineSubject", "Subject", "model_frames"]

#: What the maps of one frame take, in runs: 66 passes forward and backward (`replay.worker.attributing`), the latter at
#: twice the former.
MAPS_RUNS = 200

_FLOATS = ("float32", "float64", "float16", "uint8")


class CannotProbe(Exception):
    """There is nothing to probe; the message is one sentence with the remedy."""


class Subject(Protocol):
    """Frames as pixels, and their answers. Pixels are (H, W) or (H, W, C), uint8 or uint16."""

    @property
    def frames(self) -> Sequence[Frame]:
        """Those that can be probed."""

    def pixels(self, frame: Frame) -> Array:
        """What the subject sees of a frame."""

    def ask(self, frame: Frame, variants: Sequence[Array]) -> Iterator[Reading | None]:
        """Answer to other pixels in the frame's place, in order; None where it raised or decided nothing."""

    def recorded(self, frame: Frame) -> Reading | None:
        """The decision as it was recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a frame's picture goes into its model."""

    job: Job
    path: str  #: of the tensor in the arguments
    tensor: TensorValue
    row: int


def model_frames(jobs: Sequence[Job], frames: Sequence[Frame]) -> dict[int, _Place]:
    """Find each frame's picture in its last outermost call that takes one and returned.

    Args:
        jobs: of the frames.
        frames: to look at.
    """
    places: dict[int, _Place] = {}
    for job in jobs:
        if job.call.status != "returned":
            continue
        found = next(
            (
                (path, tensor)
                for path, tensor in tensors_of(job.call.args)
                if is_image_shape(tensor.shape) and tensor.dtype in _FLOATS
            ),
            None,
        )
        if found is None:
            continue
        for frame in frames:
            if job.call.id in frame.calls:
                row = job.call.frames.index(frame.id) if frame.id in job.call.frames else 0
                places[frame.id] = _Place(job=job, path=found[0], tensor=found[1], row=row)
    return places


class ModelSubject:
    """Recorded calls of a model, run again with another picture in the frame's place of the batch."""

    def __init__(
        self,
        bundle: Bundle,
        places: Mapping[int, _Place],
        new_session: Callable[[Callable[[TensorValue], bytes]], Session],
        *,
        task: str | None,
        normalisation: Normalisation | None,
        asked: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Start nothing yet.

        Args:
            bundle: open; it is only read.
            places: from `model_frames`.
            new_session: makes the session, given what reads tensors.
            task: see `replay.compare.reading.read_answer`.
            normalisation: of the model's input; None: guessed.
            asked: called with how many runs were made, after them.
        """
        self._bundle = bundle
        self._places = places
        self.frames = tuple(frame for frame in bundle.manifest.frames if frame.id in places)
        self._task = task
        self._normalisation = normalisation
        self._asked = asked
        self._planted: dict[str, bytes] = {}
        self._number = 0
        self.session = new_session(self._read)

    def __enter__(self) -> ModelSubject:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.__exit__(*error)

    def models(self, frames: Sequence[Frame]) -> str:
        """The names of the models that are asked about some frames: of several calls in a frame, its last is."""
        names = {self._places[frame.id].job.model.name for frame in frames}
        return ", ".join(sorted(names))

    def image_of(self, frame: Frame) -> tuple[Array, TensorImage, int]:
        """The frame's input tensor, how it is seen as a picture, and the frame's item of it."""
        place = self._places[frame.id]
        tensor = place.tensor
        bits = logical_bits(self._bundle.tensor_bytes(tensor), tensor.dtype, tensor.shape, tensor.strides)
        array = to_array(np.ascontiguousarray(bits).tobytes(), tensor.dtype, tensor.shape)
        return array, TensorImage(array, self._normalisation), place.row

    def job_of(self, frame: Frame) -> Job:
        """The recorded call."""
        return self._places[frame.id].job

    def pixels(self, frame: Frame) -> Array:
        """What the model sees of a frame, uint16."""
        array, image, row = self.image_of(frame)
        return image.pixels(array, row)

    def recorded(self, frame: Frame) -> Reading | None:
        """The decision as it was recorded."""
        place = self._places[frame.id]
        if place.job.call.output is None:
            return None
        return read_answer(recorded_answer(place.job.call.output, self._bundle.tensor_bytes), place.row, self._task)

    def ask(self, frame: Frame, variants: Sequence[Array]) -> Iterator[Reading | None]:
        """Answer to other pixels in the frame's place."""
        array, image, row = self.image_of(frame)
        return self.ask_tensors(frame, (image.tensor(array, row, each) for each in variants), row)

    def ask_tensors(self, frame: Frame, tensors: Iterator[Array], row: int) -> Iterator[Reading | None]:
        """Answer to other input tensors of the recorded dtype; their batch may have another size."""
        jobs = (self._planted_job(self._places[frame.id], tensor) for tensor in tensors)
        for _, outcome in self.session.run(jobs):
            self._asked(1)
            yield self._read_outcome(outcome, row)

    def _read_outcome(self, outcome: Outcome, row: int) -> Reading | None:
        self._planted.pop(next(iter(self._planted), ""), None)
        match outcome:
            case Returned(answer=answer):
                return read_answer(answer, row, self._task)
            case Raised(cannot=None):
                return None
            case Raised(cannot=reason):
                raise CannotProbe(f"the model cannot be run here: {reason}")
        raise CannotProbe(outcome.reason)

    def _planted_job(self, place: _Place, array: Array) -> Job:
        """The recorded call with another tensor; the bytes are found under a name of their own."""
        self._number += 1
        name = f"probe:{self._number}"
        data = np.ascontiguousarray(array.astype(to_array(b"", place.tensor.dtype, (0,)).dtype)).tobytes()
        self._planted[name] = data
        strides = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        planted = replace(
            place.tensor,
            sha256=name,
            shape=array.shape,
            strides=strides,
            size_bytes=size_in_bytes(place.tensor.dtype, array.shape),
        )
        path = iter(path for path, _ in tensors_of(place.job.call.args))

        def changed(tensor: TensorValue) -> Value:
            return planted if next(path) == place.path else tensor

        return replace(place.job, call=replace(place.job.call, args=map_tensors(place.job.call.args, changed)))

    def _read(self, tensor: TensorValue) -> bytes:
        if tensor.sha256 in self._planted:
            return self._planted[tensor.sha256]
        return self._bundle.tensor_bytes(tensor)

    def attributions(self, frame: Frame, target: int) -> dict[str, Array]:
        """Maps (H, W) of what moves the score of a class, by method; see `replay.worker.attributing`.

        Raises:
            CannotProbe: there are none; the message says why.
        """
        place = self._places[frame.id]
        position = next(
            (number for number in range(len(place.job.call.args.items)) if place.path == f"[{number}]"), None
        )
        if position is None or len(place.tensor.shape) != 4:
            raise CannotProbe("the picture is no positional argument with a batch of its own")
        _, image, row = self.image_of(frame)
        asked = {"argument": position, "row": row, "target": target, "channels": image.channel_axis_of_item}
        for _, outcome in self.session.run([replace(place.job, attribute=asked)]):
            self._asked(MAPS_RUNS)
            match outcome:
                case Returned(answer=Answer(value=MappingValue(items=items), tensors=tensors)):
                    return {
                        str(name): to_array(tensors[f"[{name!r}]"], tensor.dtype, tensor.shape)
                        for name, tensor in items
                        if isinstance(tensor, TensorValue)
                    }
                case Raised(message=message, cannot=cannot):
                    raise CannotProbe(cannot or message)
                case Failed(reason=reason):
                    raise CannotProbe(reason)
        raise CannotProbe("the worker gave no map")

    def batch_of(self, frame: Frame) -> int | None:
        """How many items the frame's call has; None where its arguments are no batch."""
        return batch_size(self._places[frame.id].job.call.args)


class PipelineSubject:
    """The user's own pipeline, from the recorded picture to the service's answer."""

    def __init__(
        self,
        bundle: Bundle,
        runner: PipelineRunner,
        *,
        task: str | None,
        asked: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Start nothing yet; the runner's worker starts with the first question."""
        self._bundle = bundle
        self._runner = runner
        self._task = task
        self._asked = asked
        self.frames = tuple(frame for frame in bundle.manifest.frames if frame.images)

    def pixels(self, frame: Frame) -> Array:
        """The frame's first picture as the service got it."""
        return np.asarray(self._bundle.pixels(frame.images[0]))

    def recorded(self, frame: Frame) -> Reading | None:
        """The decision that the frame's own output recorded, or its last call's."""
        if frame.output is not None and not has_removed(frame.output):
            reading = read_answer(recorded_answer(frame.output, self._bundle.tensor_bytes), None, self._task)
            if reading is not None:
                return reading
        calls = [call for call in self._bundle.manifest.calls if call.id in frame.calls and call.parent is None]
        if not calls or calls[-1].output is None or has_removed(calls[-1].output):
            return None
        row = calls[-1].frames.index(frame.id) if frame.id in calls[-1].frames else None
        return read_answer(recorded_answer(calls[-1].output, self._bundle.tensor_bytes), row, self._task)

    def ask(self, frame: Frame, variants: Sequence[Array]) -> Iterator[Reading | None]:
        """Answer to other pixels in place of the frame's first picture."""
        for pixels in variants:
            ran = self._runner.run(frame, pixels=pixels)
            self._asked(1)
            if ran.failed is not None:
                raise CannotProbe(ran.failed)
            yield None if ran.raised is not None else self._read(ran.answer, [call.output for call in ran.calls])

    def _read(self, answer: Answer | None, outputs: Sequence[Answer | None]) -> Reading | None:
        """The service's answer where it can be read, else the last model's."""
        for each in (answer, *reversed(outputs)):
            reading = read_answer(each, None, self._task)
            if reading is not None:
                return reading
        return None
