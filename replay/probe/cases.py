"""Which frames are probed, where the object is on them, and what their recorded answers say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recorder.bundle.manifest import Frame, Manifest
from replay.class_names import ClassNames, is_class
from replay.compare.layout import Array
from replay.compare.reading import Reading, same
from replay.jobs import chosen_frames
from replay.probe.calibration import Sure
from replay.probe.subject import CannotProbe, Subject
from replay.probe.trial import Case

__all__ = ["NO_TIME", "Chosen", "Region", "cases_of", "probed_frames", "sureness_of"]

#: Left, top, right, bottom, as shares of the picture.
Region = tuple[float, float, float, float]

#: Frames probed unless the user names others: the trigger's and some spread evenly over the rest.
_MOST_FRAMES = 8

#: The object, where nothing says where it is: this share of either side, in the middle.
_MIDDLE = 0.6

#: Boxes or a mask that cover more than this tell nothing of where the object is.
_MOST_COVERED = 0.9

#: Why a frame is not probed.
NO_TIME = "for which the budget has no time"
_OTHER = "whose recorded decision does not come back"
_UNDECIDED = "whose answer is no decision"
_EMPTY = "on which nothing was found"


def probed_frames(manifest: Manifest, wanted: frozenset[int] | None) -> list[Frame]:
    """Those the user named, else the trigger's and some others spread evenly; the trigger's come first."""
    frames = chosen_frames(manifest, wanted)
    triggers = {trigger.frame for trigger in manifest.incident.triggers}
    first = [frame for frame in frames if frame.id in triggers]
    if wanted is None and len(frames) > _MOST_FRAMES:
        first = first[:2]
        rest = [frame for frame in frames if frame not in first]
        places = np.linspace(0, len(rest) - 1, _MOST_FRAMES - len(first)).round().astype(int)
        return [*first, *(rest[place] for place in places)]
    return [*first, *(frame for frame in frames if frame not in first)]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The frames that are probed."""

    cases: list[Case]  #: by frame id, one at least
    left_out: dict[str, int]  #: how many frames are not, by reason


def cases_of(subject: Subject, frames: Sequence[Frame], region: Region | None, is_enough: Callable[[], bool]) -> Chosen:
    """Run frames as they are, and keep those that give the recorded decision.

    Args:
        subject: answers.
        frames: those wanted most come first.
        region: where the object is; None: seen from the answer.
        is_enough: asked after every frame; once it is true, and there is a case, no other frame is tried.

    Raises:
        CannotProbe: there is no case; one sentence with the remedy.
    """
    left_out: Counter[str] = Counter()
    found: list[Case] = []
    for number, frame in enumerate(frames):
        if found and is_enough():
            left_out[NO_TIME] = len(frames) - number
            break
        pixels = subject.pixels(frame)
        reading = list(subject.ask(frame, [pixels, pixels]))[-1]  # twice: the first run loads, and tells no time
        recorded = subject.recorded(frame)
        if reading is None:
            left_out[_UNDECIDED] += 1
            continue
        if recorded is not None and not same(recorded, reading):
            left_out[_OTHER] += 1
            continue
        if _found_nothing(reading):
            left_out[_EMPTY] += 1
            continue
        place, source = _region(pixels, reading, region)
        found.append(Case(frame=frame, pixels=pixels, reading=reading, region=place, region_from=source))
    if found:
        return Chosen(sorted(found, key=lambda case: case.frame.id), dict(left_out))
    if left_out[_EMPTY]:
        raise CannotProbe(
            f"nothing was found on any of {left_out[_EMPTY]} frames, and that is what noise gives too: choose frames "
            "with something on them by --frames"
        )
    if left_out[_UNDECIDED]:
        raise CannotProbe("no answer is a class, boxes or a mask of finite numbers; say what it is with --task")
    raise CannotProbe(
        f"the recorded decision does not come back here on any of {left_out[_OTHER]} frames: `replay run` says why; "
        "where the input is no ordinary picture, state --mean and --std"
    )


def _found_nothing(reading: Reading) -> bool:
    """No box, or one class all over: it rests on no part of the picture, and stays whatever is hidden."""
    if reading.boxes is not None:
        return not len(reading.boxes)
    return reading.mask is not None and len(np.unique(reading.mask)) < 2


def _region(pixels: Array, reading: Reading, given: Region | None) -> tuple[Array, str]:
    """Where the object is, (H, W), and who says so."""
    height, width = pixels.shape[:2]
    region = np.zeros((height, width), bool)
    if given is not None:
        left, top, right, bottom = given
        region[_span(top, bottom, height), _span(left, right, width)] = True
        return region, "the region given"
    if reading.boxes is not None and len(reading.boxes):
        corners = reading.boxes.corners
        scale = np.asarray([width, height] * 2) if float(np.abs(corners).max()) <= 1.5 else np.ones(4)
        for left, top, right, bottom in (corners * scale).tolist():
            region[_span(top / height, bottom / height, height), _span(left / width, right / width, width)] = True
        if 0 < region.mean() < _MOST_COVERED:
            return region, "the boxes that were found"
    if reading.mask is not None and reading.mask.shape == (height, width):
        classes, counts = np.unique(reading.mask, return_counts=True)
        region = np.asarray(reading.mask != classes[int(counts.argmax())])
        if 0 < region.mean() < _MOST_COVERED:
            return region, "the mask, its largest class left out"
    region[...] = False
    edge = (1 - _MIDDLE) / 2
    region[_span(edge, 1 - edge, height), _span(edge, 1 - edge, width)] = True
    return region, "taken to be in the middle"


def _span(low: float, high: float, size: int) -> slice:
    start = int(np.clip(round(low * size), 0, size - 1))
    return slice(start, int(np.clip(round(high * size), start + 1, size)))


def sureness_of(subject: Subject, truth: str, names: ClassNames) -> Iterator[Sure]:
    """The recorded confidence of every frame, those that are not probed too."""
    for frame in subject.frames:
        reading = subject.recorded(frame)
        if reading is None or reading.confidence is None:
            continue
        known, right = frame.metadata.get(truth), None
        if reading.winner is not None and is_class(known):
            right = names.says({str(reading.winner)}, known)
        yield Sure(reading.confidence, right, nameless=right is None and is_class(known))
