"""What every export is made of: frames with their pictures and what was decided about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from recorder.bundle import Bundle
from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Call, Frame, Image, was_redacted
from recorder.bundle.values import Value, has_removed
from replay.class_names import ClassNames
from replay.compare.boxes import LEAST_SCORE
from replay.compare.reading import Reading, read_answer, reading_of_boxes
from replay.exchange import recorded_answer
from replay.export.names import plain_name, sample_name
from replay.export.plain_boxes import plain_boxes
from replay.placing import input_size
from replay.show.text import inert

__all__ = ["BOXES_IN", "CannotExport", "Exported", "Options", "Shot", "Source"]

#: Coordinates in which a model may give boxes, besides that nothing is said.
BOXES_IN = ("image", "input-stretched", "input-letterboxed", "input-padded", "fractions")

#: Fields whose redaction is counted frame by frame, or that no export holds.
_COUNTED_ELSEWHERE = ("image", "model_input", "model_output", "output", "thumbnails")


class CannotExport(Exception):
    """The export cannot be made; the message is one sentence with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How frames are read."""

    truth: str = "ground_truth"  #: metadata key of what is right
    by: str = "truth"  #: labels are "truth" (else the prediction), "truth-only" or "prediction"
    boxes_in: str | None = None  #: one of BOXES_IN; None: only what is known to be right is taken
    least_score: float = LEAST_SCORE  #: boxes below are no labels and are not drawn
    names: ClassNames = field(default_factory=lambda: ClassNames({}))


@dataclass(slots=True, kw_only=True)
class Exported:
    """What an export holds, and what it does not."""

    frames: int = 0
    images: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  #: what is not in it, by reason
    changed: Counter[str] = field(default_factory=Counter)  #: what is in it otherwise than it was recorded, by reason
    labels: Counter[str] = field(
        default_factory=Counter
    )  #: frames by where their label is from: truth, prediction, none


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A frame of the export."""

    source: Source
    frame: Frame
    reading: Reading | None  #: what was decided, where its form is known
    by_service: bool = False  #: whether the service said so, in coordinates of its picture; else its model
    input_size: tuple[int, int] | None = None  #: width and height of the picture that the model was given

    @property
    def images(self) -> tuple[Image, ...]:
        """Its pictures; what was decided is about the first."""
        return self.frame.images

    @property
    def stream(self) -> str:
        """The stream as a part of a path."""
        return plain_name(self.frame.stream, ()) if self.frame.stream else "frames"

    def name(self, number: int) -> str:
        """A name for its first, second … picture."""
        return sample_name(self.source.bundle.id, self.frame.id, number)


class Source:
    """The frames of a bundle that are wanted."""

    def __init__(
        self,
        bundle: Bundle,
        exported: Exported,
        *,
        location: str = "",
        wanted: frozenset[int] | None = None,
        options: Options | None = None,
        progress: Callable[[], None] | None = None,
    ) -> None:
        """Args:
        bundle: open as long as this is used.
        exported: counts what is left out.
        location: of the bundle, beside which the result of a replay may stand.
        wanted: ids of frames; None: all.
        options: how frames are read.
        progress: called after each frame.
        """
        self.bundle = bundle
        self.exported = exported
        self.location = location
        self.options = options or Options()
        self._progress = progress
        self._calls = {call.id: call for call in bundle.manifest.calls}
        thinning = bundle.manifest.incident.thinning
        self._thinned = frozenset(thinning.frames) if thinning is not None else frozenset[int]()
        self.frames = [frame for frame in bundle.manifest.frames if wanted is None or frame.id in wanted]

    @property
    def began_ns(self) -> int:
        """When its first frame was."""
        return min((frame.time_ns for frame in self.frames), default=0)

    def shots(self) -> Iterator[Shot]:
        """Yield every wanted frame, and count what it lacks."""
        self._count_redactions()
        for frame in self.frames:
            self._count_pictures(frame)
            self.exported.frames += 1
            yield self._shot(frame)
            if self._progress is not None:
                self._progress()

    @cached_property
    def redacted(self) -> frozenset[str]:
        """Names of pictures that are not as they were recorded."""
        names = {image.name for frame in self.frames for image in frame.images}
        return frozenset(name for name in names if was_redacted(self.bundle.manifest, name))

    def _count_pictures(self, frame: Frame) -> None:
        left_out = self.exported.left_out
        unsaid = "thinned" if frame.id in self._thinned else "too large or too fast"
        for each in frame.images_left_out:
            left_out[f"picture not in the bundle: {inert(each.reason, 40) or unsaid}"] += 1
        if not frame.images and not frame.images_left_out:
            left_out["frame without a picture"] += 1
        for image in frame.images:
            if image.name in self.redacted:
                self.exported.changed["picture redacted for privacy"] += 1

    def _count_redactions(self) -> None:
        """Of what is exported besides pictures and answers; the manifest counts them over the whole incident."""
        for each in self.bundle.manifest.redactions:
            if each.field.partition(".")[0] in _COUNTED_ELSEWHERE:
                continue
            removed = each.level == "digest-only" or each.method == "removed"
            told = self.exported.left_out if removed else self.exported.changed
            told[f"{inert(each.field, 60)} {'removed' if removed else 'redacted'} for privacy"] += each.count

    def _shot(self, frame: Frame) -> Shot:
        """The service's answer where it can be read, else that of the frame's last outermost call that can be."""
        removed = False
        candidates: list[tuple[Value | None, Call | None]] = [(frame.output, None)]
        calls = (self._calls.get(number) for number in reversed(frame.calls))
        candidates += [(call.output, call) for call in calls if call is not None and call.parent is None]
        for value, call in candidates:
            removed = removed or has_removed(value)
            row = call.frames.index(frame.id) if call is not None and frame.id in call.frames else None
            reading = self._reading(value, row, call is None)
            if reading is not None:
                size = None if call is None else input_size(call, row)
                return Shot(source=self, frame=frame, reading=reading, by_service=call is None, input_size=size)
        if removed:
            self.exported.left_out["answer removed for privacy"] += 1
        elif any(value is not None for value, _ in candidates):
            self.exported.left_out["answer without a class, boxes or a mask"] += 1
        return Shot(source=self, frame=frame, reading=None)

    def _reading(self, value: Value | None, row: int | None, by_service: bool) -> Reading | None:
        if value is None or has_removed(value):
            return None
        try:
            boxes = plain_boxes(value, self.bundle.tensor_bytes, self.options.names.number) if by_service else None
            if boxes is not None:
                return reading_of_boxes(boxes)
            return read_answer(recorded_answer(value, self.bundle.tensor_bytes), row)
        except (ValueError, BundleError):
            self.exported.left_out["answer that cannot be read"] += 1
            return None
