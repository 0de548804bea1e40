"""Is it the cause? Take it back and see whether the answers recover; bring it about and see whether they fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recorder.bundle.manifest import Frame, Manifest
from recorder.bundle.values import JsonValue
from recorder.cause.vocabulary import AMOUNTS, FITTED, NONE, UNKNOWN
from replay.class_names import ClassNames
from replay.compare.reading import Reading
from replay.probe.finding import Finding, Shown
from replay.probe.rightness import Measure, Seen
from replay.probe.subject import CannotProbe, Subject
from replay.probe.trial import SEED, as_uint8
from replay.probe.undoing import Suspicion, bring_about, can_be_undone, take_back

__all__ = ["confirm", "confirming_runs", "split", "suspected"]

#: Share of frames that have to recover, or to fail, before a cause is called confirmed.
LEAST_SHARE = 0.5
#: Clean frames that are looked at, the last before it began, and frames of the incident.
_MOST_CLEAN, _MOST_BAD = 8, 8
_SHOWN = 3


def suspected(manifest: Manifest, named: str | None) -> tuple[str, dict[str, Any]]:
    """Return the cause to look into and the diagnosis's evidence.

    Raises:
        CannotProbe: the bundle names none, or one that cannot be tested.
        ValueError: ``named`` is no cause that can be tested.
    """
    diagnosis = manifest.incident.cause or {}
    found = diagnosis.get("cause")
    cause = named if named is not None else found
    if cause is None or cause in (NONE, UNKNOWN):
        said = "names no cause" if cause is None else f"says {cause!r}"
        raise CannotProbe(
            f"the bundle {said}: name one with --suspect ({', '.join(FITTED)}), or diagnose it with "
            "`replay diagnose BUNDLE --profile FILE`"
        )
    if named is not None and named not in FITTED:
        raise ValueError(f"--suspect takes no {named[:40]!r}: choose from {', '.join(FITTED)}")
    if cause not in FITTED:
        raise CannotProbe(f"{str(cause)[:40]!r} cannot be taken back or brought about: choose from {', '.join(FITTED)}")
    evidence = diagnosis.get("evidence") if cause == found else None
    return str(cause), evidence if isinstance(evidence, dict) else {}


@dataclass(frozen=True, slots=True)
class _Share:
    count: int
    of: int

    @property
    def value(self) -> float:
        return round(self.count / self.of, 4)

    def __str__(self) -> str:
        return f"{self.count} of {self.of}"


def confirm(
    subject: Subject,
    manifest: Manifest,
    cause: str,
    evidence: dict[str, Any],
    clean_frames: Sequence[Frame],
    bad_frames: Sequence[Frame],
    *,
    truth: str = "ground_truth",
    names: ClassNames | None = None,
) -> Finding:
    """Test a cause by counterfactuals.

    Args:
        subject: answers to changed pictures.
        manifest: of the bundle.
        cause, evidence: from `suspected`.
        clean_frames, bad_frames: from `split`, one of each at least.
        truth: metadata key of the right class.
        names: which class is which, where the truth is a name.
    """
    clean, bad = (_seen(subject, frames) for frames in (clean_frames, bad_frames))
    measure = Measure(manifest, truth, names or ClassNames({}), clean, bad)
    suspicion = _suspicion(cause, evidence, clean)
    frames: list[JsonValue] = []
    pictures: list[Shown] = []
    recovered = _take_back(subject, bad, suspicion, measure, frames, pictures) if can_be_undone(cause) else None
    failed = _bring_about(subject, clean, suspicion, measure, frames, pictures)
    passed, sentence = _judged(cause, recovered, failed, measure)
    return Finding(
        name=f"cause: {cause}",
        passed=passed,
        sentence=sentence,
        threshold=f"half of the frames recover without it, or half of the clean ones fail with it ({measure.by})",
        proves="that the answers change with this cause, on this model and these frames",
        limits="that nothing else is wrong, or that the pictures made are those the camera would have given",
        evidence={
            "cause": cause,
            "recovered": None if recovered is None else recovered.value,
            "brought_about": None if failed is None else failed.value,
            "judged_by": measure.by,
            "frames": frames,
        },
        pictures=tuple(pictures),
    )


def confirming_runs(cause: str, clean: int, bad: int) -> int:
    """How many runs so many clean frames and frames of the incident take: as they are, and changed."""
    return 2 * clean + (2 if can_be_undone(cause) else 1) * bad


def split(manifest: Manifest, frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Clean frames and those of the incident, of the stream it is about; those nearest to its beginning.

    Frames before the onset (else before the trigger) are the clean ones, the others the incident's.

    Raises:
        CannotProbe: there are none of one kind.
    """
    clean, bad = _sides(manifest, frames)
    if not bad:
        raise CannotProbe("no frame of the incident holds a picture; see `replay show`")
    if not clean:
        raise CannotProbe("no frame from before the incident holds a picture to compare with: record more pre_frames")
    return clean[-_MOST_CLEAN:], bad[:_MOST_BAD]


def _sides(manifest: Manifest, frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    trigger = manifest.incident.triggers[0] if manifest.incident.triggers else None
    begins = trigger.frame if trigger is not None else None
    onset = trigger.parameters.get("onset_frame") if trigger is not None else None
    if isinstance(onset, int) and not isinstance(onset, bool):
        begins = onset
    streams = {frame.id: frame.stream for frame in manifest.frames}
    stream = streams.get(trigger.frame) if trigger is not None and trigger.frame is not None else None
    own = [frame for frame in frames if stream is None or frame.stream == stream]
    if begins is None:
        return [], own
    return [frame for frame in own if frame.id < begins], [frame for frame in own if frame.id >= begins]


def _seen(subject: Subject, frames: Sequence[Frame]) -> list[Seen]:
    found = []
    for frame in frames:
        pixels = subject.pixels(frame)
        found.append(Seen(frame, pixels, next(iter(list(subject.ask(frame, [pixels]))), None)))
    shape = found[-1].pixels.shape
    return [each for each in found if each.pixels.shape == shape]


def _suspicion(cause: str, evidence: dict[str, Any], clean: Sequence[Seen]) -> Suspicion:
    """With the strength that the diagnosis found, in the model's own pixels."""
    width = clean[-1].pixels.shape[1]
    recorded = next((image.width for each in clean for image in each.frame.images), width)
    amount = evidence.get("severity")
    if not isinstance(amount, int | float) or isinstance(amount, bool) or not 0 < amount < 1e6:
        amount = None
    elif cause == "camera-shift" and evidence.get("unit") == "px":
        amount = amount / recorded
    elif AMOUNTS[cause].unit == "":
        amount = None
    return Suspicion(
        cause=cause,
        amount=None if amount is None else float(amount),
        scale=max(1.0, recorded / width),
        clean=tuple(each.pixels for each in clean),
    )


def _take_back(
    subject: Subject,
    bad: Sequence[Seen],
    suspicion: Suspicion,
    measure: Measure,
    frames: list[JsonValue],
    pictures: list[Shown],
) -> _Share | None:
    """Those of the incident's wrong frames that are right without the cause; None: none of them was wrong."""
    outcomes: list[bool] = []
    for each in bad:
        undone = take_back(each.pixels, suspicion)
        [reading] = subject.ask(each.frame, [undone])
        before, after = measure.right(each.frame, each.reading), measure.right(each.frame, reading)
        if before is False and after is not None:
            outcomes.append(after)
        frames.append(_told(each, "without the cause", reading, before, after))
        if len(pictures) < 2 * _SHOWN:
            pictures.append(Shown(caption=f"frame {each.frame.id} as recorded", pixels=as_uint8(each.pixels)))
            pictures.append(Shown(caption=f"frame {each.frame.id} without {suspicion.cause}", pixels=as_uint8(undone)))
    return _Share(sum(outcomes), len(outcomes)) if outcomes else None


def _bring_about(
    subject: Subject,
    clean: Sequence[Seen],
    suspicion: Suspicion,
    measure: Measure,
    frames: list[JsonValue],
    pictures: list[Shown],
) -> _Share | None:
    """Those of the right clean frames that are wrong with the cause; None: none of them was right."""
    outcomes: list[bool] = []
    for number, each in enumerate(clean):
        made = bring_about(each.pixels, suspicion, SEED + number)
        [reading] = subject.ask(each.frame, [made])
        before = measure.right(each.frame, each.reading, each.reading)
        after = measure.right(each.frame, reading, each.reading)
        if before and after is not None:
            outcomes.append(not after)
        frames.append(_told(each, "with the cause", reading, before, after))
        if number < _SHOWN:
            pictures.append(Shown(caption=f"clean frame {each.frame.id} with {suspicion.cause}", pixels=as_uint8(made)))
    return _Share(sum(outcomes), len(outcomes)) if outcomes else None


def _told(each: Seen, change: str, reading: Reading | None, before: bool | None, after: bool | None) -> JsonValue:
    return {
        "frame": each.frame.id,
        "change": change,
        "before": "" if each.reading is None else each.reading.label,
        "after": "" if reading is None else reading.label,
        "confidence_before": None if each.reading is None else each.reading.confidence,
        "confidence_after": None if reading is None else reading.confidence,
        "right_before": before,
        "right_after": after,
    }


def _judged(cause: str, recovered: _Share | None, failed: _Share | None, measure: Measure) -> tuple[bool | None, str]:
    parts = []
    if recovered is not None:
        parts.append(f"{recovered} wrong frames are right with it taken back")
    elif not can_be_undone(cause):
        parts.append("it cannot be taken back")
    if failed is not None:
        parts.append(f"{failed} right clean frames fail with it brought about")
    if not measure.by or (recovered is None and failed is None):
        return None, f"{cause} can be neither confirmed nor ruled out: nothing says which answers are wrong"
    confirmed = max(each.value for each in (recovered, failed) if each is not None) >= LEAST_SHARE
    return confirmed, f"{cause} is {'confirmed' if confirmed else 'not confirmed'}: {'; '.join(parts)}"
