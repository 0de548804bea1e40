"""What the page shows of each frame, of the moment it went wrong and of what changed; the template draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Call, Frame, Manifest
from recorder.bundle.reader import Bundle
from recorder.bundle.track import TrackTable
from replay.diff.files import compare_bundles
from replay.diff.finding import Finding, changed
from replay.report.drawings import Drawing, drawing
from replay.report.pictures import Picture, picture
from replay.report.plots import Plot, time_plot
from replay.show.answers import short_answers
from replay.show.history import series
from replay.show.text import duration, inert

__all__ = ["MAX_FRAMES", "Moment", "Shown", "frames_shown", "history_plots", "moment", "what_changed"]

#: Frames on a page, those about the trigger: more are no timeline one can look at.
MAX_FRAMES = 160

#: All large pictures together, and a sixth of it for masks; as base64 they take four thirds, thumbnails and boxes come
#: to 2 MB at most, and the page has to stay below 8 MB.
_PICTURES_BYTES = 3_600_000
_PICTURE_BYTES = 120_000
_THUMBNAIL_BYTES = 4_000
_THUMBNAIL_SIDE = 96

#: Signals of the track that stand over the whole history, where there are such.
_HISTORY = ("luminance", "sharpness_x", "difference", "confidence", "latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One frame on the page."""

    frame: Frame
    offset: str  #: from the trigger
    status: str
    answer: str
    is_bad: bool  #: it triggered, raised, or its value stands beyond the threshold
    level: str | None  #: of the replay
    difference: str
    picture: Picture | None
    thumbnail: Picture | None
    without: str  #: why there is no picture
    drawing: Drawing
    size: tuple[int, int]  #: width and height that the drawing's coordinates are in


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When it went wrong."""

    last_good: Shown | None
    first_bad: Shown | None
    onset: str  #: a sentence; empty where nothing tells


def frames_shown(
    bundle: Bundle, result: Mapping[str, Any] | None, count: Callable[[int, int], None] | None = None
) -> list[Shown]:
    """Return the frames about the trigger, decoded and encoded again, by id.

    Args:
        bundle: to read.
        result: of its replay, validated.
        count: told how many of how many frames are done.
    """
    manifest = bundle.manifest
    zero = _zero_ns(manifest)
    nearest = sorted(manifest.frames, key=lambda frame: abs(frame.time_ns - zero))[:MAX_FRAMES]
    frames = sorted(nearest, key=lambda frame: frame.id)
    answers = short_answers(bundle, frames)
    calls = {call.id: call for call in manifest.calls}
    verdicts = {each["id"]: each for each in (result or {}).get("frames", [])}
    each_bytes = min(_PICTURE_BYTES, _PICTURES_BYTES // max(1, len(frames)))
    triggered = {trigger.frame for trigger in manifest.incident.triggers}
    shown = []
    for number, frame in enumerate(frames):
        shown.append(_shown(bundle, frame, calls, answers, verdicts.get(frame.id), each_bytes, zero, triggered))
        if count is not None:
            count(number + 1, len(frames))
    return shown


def _shown(
    bundle: Bundle,
    frame: Frame,
    calls: Mapping[int, Call],
    answers: Mapping[int, str],
    verdict: Mapping[str, Any] | None,
    each_bytes: int,
    zero: int,
    triggered: set[int | None],
) -> Shown:
    large = small = None
    without, size = "no image was recorded", (0, 0)
    if frame.images:
        image = frame.images[0]
        size = (image.width, image.height)
        try:
            pixels = bundle.pixels(image)
            large, small = picture(pixels, each_bytes), picture(pixels, _THUMBNAIL_BYTES, _THUMBNAIL_SIDE)
            without = "" if large is not None else "the image cannot be shown as a picture"
        except BundleError as error:
            without = inert(error, 200)
    elif frame.images_left_out:
        thinning = bundle.manifest.incident.thinning
        thinned = thinning is not None and frame.id in thinning.frames
        unsaid = "thinned, to keep the bundle within its size" if thinned else "too large, or it came too fast"
        without = "the image was left out: " + (inert(frame.images_left_out[0].reason, 60) or unsaid)
    exception = "" if frame.exception is None else inert(frame.exception.type.rpartition(".")[2], 60)
    difference = (verdict or {}).get("first_difference")
    return Shown(
        frame=frame,
        offset=f"{(frame.time_ns - zero) / 1e9:+.3f} s",
        status=exception or inert(frame.status, 10),
        answer=answers.get(frame.id, ""),
        is_bad=frame.id in triggered or frame.exception is not None,
        level=verdict["level"] if verdict else None,
        difference=f"{inert(difference['where'], 200)}: {inert(difference['what'], 300)}" if difference else "",
        picture=large,
        thumbnail=small,
        without=without,
        drawing=drawing(bundle, frame, calls, each_bytes // 6),
        size=size,
    )


def _zero_ns(manifest: Manifest) -> int:
    first = manifest.incident.triggers[0].frame if manifest.incident.triggers else None
    return next((frame.time_ns for frame in manifest.frames if frame.id == first), manifest.incident.opened_ns)


def moment(manifest: Manifest, shown: Sequence[Shown]) -> Moment:
    """Return the last good and the first bad frame, and how long before the alarm it began.

    A low confidence is measured on every frame, so its onset is the first of the frames below the threshold that lead
    up to the alarm without a gap. Other triggers say nothing of the frames before.
    """
    first = manifest.incident.triggers[0] if manifest.incident.triggers else None
    places = {each.frame.id: index for index, each in enumerate(shown)}
    alarm = places.get(first.frame) if first is not None and first.frame is not None else None
    if first is None or alarm is None:
        return Moment(last_good=None, first_bad=next((each for each in shown if each.is_bad), None), onset="")
    begin, sentence = alarm, ""
    own = [index for index in range(alarm, -1, -1) if shown[index].frame.stream == shown[alarm].frame.stream]
    if first.kind == "low_confidence" and first.threshold is not None:
        for index in own:
            confidence = shown[index].drawing.confidence
            if index != alarm and (confidence is None or not confidence < first.threshold):
                break
            begin = index
        early = (shown[alarm].frame.time_ns - shown[begin].frame.time_ns) / 1e9
        sentence = (
            "The frame before the alarm was still above the threshold: it began with the alarm."
            if begin == alarm
            else f"It began at frame {shown[begin].frame.id}, {duration(early)} before the alarm."
        )
    good = next((shown[index] for index in own if index < begin and not shown[index].is_bad), None)
    return Moment(last_good=good, first_bad=shown[begin], onset=sentence)


def history_plots(manifest: Manifest, tables: Sequence[TrackTable]) -> list[Plot]:
    """Return the whole track of the incident's stream, as far back as it goes."""
    if manifest.track is None:
        return []
    own = [table for table in tables if table.level.stream == manifest.incident.stream]
    units = {signal.name: signal.unit for signal in manifest.track.signals}
    plots = [time_plot(name, inert(units[name], 20), series(own, name)) for name in _HISTORY if name in units]
    return [each for each in plots if each is not None]


def what_changed(manifest: Manifest, against: Manifest | None) -> list[Finding]:
    """Return what is different: to a reference where there is one, and from context to context within the window."""
    found = []
    if against is not None:
        subjects = (each for each in compare_bundles(against, manifest) if each.name not in ("frames", "trigger"))
        found = [each for each in subjects if not each.passed]
    parts = ("packages", "settings", "variables", "libraries")
    for before, after in pairwise(manifest.contexts):
        for part in parts:
            one, two = (getattr(context.environment, part) for context in (before, after))
            finding = changed(f"{part}, within the window", one, two)
            found += [] if finding.passed else [finding]
    weights: dict[str, str | None] = {}
    for model in manifest.models:
        digest = model.weights.digest if model.weights else None
        if model.name in weights and weights[model.name] != digest:
            name = f"weights of {model.name}, within the window"
            found.append(changed(name, {"sha256": weights[model.name]}, {"sha256": digest}))
        weights[model.name] = digest
    return found
