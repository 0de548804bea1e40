"""What a bundle says happened, as sections for people: the same content for a terminal and for a ticket.

Every string of the bundle goes through ``say`` on its way in, so a section holds nothing that could act on a terminal
or in a page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from recorder.bundle.custody import custody
from recorder.bundle.manifest import Frame, Image, Manifest, Model, Thinning, Trigger
from recorder.bundle.values import JsonValue
from replay.show.cause import cause_details, cause_headline
from replay.show.provenance import custody_sentences
from replay.show.text import Say, duration, id_ranges, size, utc

__all__ = ["Section", "headline", "near_trigger", "tell"]

#: Frames shown around the trigger; the JSON form has all of them.
_FRAMES_SHOWN = 40

_METADATA_SHOWN = 12

#: The first ones tell; a hostile bundle has thousands.
_TRIGGERS_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, sentences below it, and perhaps a table."""

    title: str
    sentences: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def headline(manifest: Manifest, say: Say) -> str:
    """Return what happened in one sentence."""
    incident = manifest.incident
    if not incident.triggers:
        return "a recording without a trigger"
    first = incident.triggers[0]
    at = "" if first.frame is None else f" at frame {first.frame}"
    return f"{say(first.kind, 40)}{at}: {say(first.reason, 160)}"


def tell(manifest: Manifest, answers: dict[int, str], say: Say) -> list[Section]:
    """Return the sections of a bundle, most important first.

    Args:
        manifest: of the bundle.
        answers: what the model answered, by frame id, where that can be said in a few words; already safe.
        say: makes a string of the bundle safe to show.
    """
    sections = (
        _what_happened(manifest, say),
        _frames(manifest, answers, say),
        _trigger_frame(manifest, say),
        _models(manifest, say),
        _environment(manifest, say),
        _lost(manifest, say),
        _privacy(manifest, say),
    )
    return [section for section in sections if section is not None]


def _what_happened(manifest: Manifest, say: Say) -> Section:
    incident, window = manifest.incident, manifest.incident.window
    rows = tuple(_trigger_row(trigger, say) for trigger in incident.triggers[:_TRIGGERS_SHOWN])
    asked = f"{window.pre_frames} frames before, {window.post_frames} or {duration(window.post_seconds)} after"
    sentences = [
        f"Opened {utc(incident.opened_ns)}, sealed {utc(manifest.created_ns)} by {say(manifest.producer, 60)}.",
        f"Stream {say(incident.stream, 60) if incident.stream else '(none)'}, severity {say(incident.severity, 20)}, "
        f"host {say(incident.host, 20)}.",
        f"Window: {asked}; closed by {say(window.closed_by, 20)}.",
        f"Cause: {'; '.join([cause_headline(incident.cause, say), *cause_details(incident.cause, say)])}.",
    ]
    if len(incident.triggers) > _TRIGGERS_SHOWN:
        sentences.append(f"{len(incident.triggers) - _TRIGGERS_SHOWN} more triggers: --json lists all.")
    if incident.recurrences_since_last:
        count = incident.recurrences_since_last
        sentences.append(f"Recurred: {count} further trigger{'s' * (count > 1)} of this signature were not sealed.")
    if incident.thinning is not None:
        sentences.append(_thinned(incident.thinning, say))
    if not manifest.complete:
        sentences.append("Salvaged and incomplete: parts of the recording are missing.")
    sentences += custody_sentences(custody(manifest), say)
    return Section(
        title="What happened",
        sentences=tuple(sentences),
        header=("trigger", "frame", "value", "threshold", "reason"),
        rows=rows,
    )


def _thinned(thinning: Thinning, say: Say) -> str:
    limit = f"to {size(thinning.max_bundle_bytes)}, by the rule {say(thinning.rule, 40)}"
    if not thinning.frames:
        return f"Thinning {limit} was asked for, and there was nothing to leave out."
    return (
        f"Thinned {limit}: images and large tensors of frames {id_ranges(thinning.frames)} are not here, "
        "so these frames cannot be replayed."
    )


def _trigger_row(trigger: Trigger, say: Say) -> tuple[str, ...]:
    numbers = ["" if number is None else f"{number:.4g}" for number in (trigger.value, trigger.threshold)]
    frame = "" if trigger.frame is None else str(trigger.frame)
    return (say(trigger.kind, 20), frame, *numbers, say(trigger.reason, 120))


def _frames(manifest: Manifest, answers: dict[int, str], say: Say) -> Section:
    shown = near_trigger(manifest)
    left_out = len(manifest.frames) - len(shown)
    zero = _zero_ns(manifest)
    triggered = {trigger.frame for trigger in manifest.incident.triggers}
    thinned = manifest.incident.thinning.frames if manifest.incident.thinning is not None else ()
    rows = tuple(
        (
            ">" if frame.id in triggered else "",
            str(frame.id),
            f"{(frame.time_ns - zero) / 1e9:+.3f} s",
            _status(frame, say) + (" (thinned)" if frame.id in thinned else ""),
            duration(frame.latency_seconds),
            ", ".join(_image(image) for image in frame.images[:2]),
            answers.get(frame.id, ""),
        )
        for frame in shown
    )
    sentences = [f"{left_out} more frames further from the trigger: --json lists all."] if left_out else []
    return Section(
        title=f"Frames ({len(manifest.frames)})",
        sentences=tuple(sentences),
        header=("", "id", "offset", "status", "latency", "image", "answer"),
        rows=rows,
    )


def near_trigger(manifest: Manifest) -> Sequence[Frame]:
    """Return the frames that are shown: all of a usual window, of a longer one those about the trigger."""
    frames = manifest.frames
    if len(frames) <= _FRAMES_SHOWN:
        return frames
    zero = _zero_ns(manifest)
    nearest = sorted(frames, key=lambda frame: abs(frame.time_ns - zero))[:_FRAMES_SHOWN]
    return sorted(nearest, key=lambda frame: frame.id)


def _zero_ns(manifest: Manifest) -> int:
    """The time that offsets count from: the frame that triggered, else the moment the incident was opened."""
    first = manifest.incident.triggers[0].frame if manifest.incident.triggers else None
    return next((frame.time_ns for frame in manifest.frames if frame.id == first), manifest.incident.opened_ns)


def _status(frame: Frame, say: Say) -> str:
    status = say(frame.status, 10)
    if frame.exception is not None:
        status = say(frame.exception.type.rpartition(".")[2], 18)
    return status + (" (parts lost)" if frame.lost else "")


def _image(image: Image) -> str:
    encoding = {"jpeg": " jpeg", "webp": " webp"}.get(image.encoding, "")
    return f"{image.width}x{image.height}{encoding}"


def _trigger_frame(manifest: Manifest, say: Say) -> Section | None:
    first = manifest.incident.triggers[0].frame if manifest.incident.triggers else None
    frame = next((frame for frame in manifest.frames if frame.id == first), None)
    if frame is None or not (frame.metadata or frame.exception):
        return None
    rows = [(say(key, 24), say(_plain(value), 160)) for key, value in list(frame.metadata.items())[:_METADATA_SHOWN]]
    left_out = len(frame.metadata) - len(rows)
    sentences = [f"{left_out} more entries: --json lists all."] if left_out > 0 else []
    if frame.exception is not None:
        raised = frame.exception
        sentences.insert(
            0, f"Raised in the {say(raised.stage, 10)}: {say(raised.type, 80)}: {say(raised.message, 300)}"
        )
        rows += [("at", say(place, 160)) for place in raised.traceback[-3:]]
    return Section(title=f"Frame {frame.id}", sentences=tuple(sentences), header=("", ""), rows=tuple(rows))


def _plain(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _models(manifest: Manifest, say: Say) -> Section:
    rows = tuple(
        (say(model.name, 24), say(model.type.rpartition(".")[2], 24), _digest(model), _stored(model))
        for model in manifest.models
    )
    problems = tuple(
        f"{say(model.name, 24)}: {say(problem, 200)}" for model in manifest.models for problem in model.problems[:3]
    )
    return Section(title="Models", sentences=problems, header=("name", "type", "weights", "stored"), rows=rows)


def _digest(model: Model) -> str:
    return "unknown" if model.weights is None else model.weights.digest[:12]


def _stored(model: Model) -> str:
    if model.weights is None or not model.weights.stored:
        return "no"
    graphs = len(model.graphs)
    return f"yes, {size(model.weights.size_bytes)}, {graphs} graph{'' if graphs == 1 else 's'}"


def _environment(manifest: Manifest, say: Say) -> Section | None:
    if not manifest.contexts:
        return None
    environment = manifest.contexts[0].environment
    libraries, settings, cpu = environment.libraries, environment.settings, environment.cpu
    torch = libraries.get("torch.version") or environment.packages.get("torch")
    facts = [
        ("python", environment.python),
        ("torch", torch),
        ("platform", environment.platform),
        ("cpu", cpu.get("model")),
        ("cpu capability", libraries.get("torch.cpu_capability")),
        ("threads", settings.get("torch.num_threads")),
        ("gpu", ", ".join(str(gpu.get("name")) for gpu in environment.gpus[:4])),
        ("variables", " ".join(f"{name}={value}" for name, value in list(environment.variables.items())[:12])),
        ("git commit", f"{environment.git_commit}{' (dirty)' if environment.git_dirty else ''}"),
    ]
    rows = tuple((name, say(value, 160)) for name, value in facts if value not in (None, "", "None"))
    changes = len(manifest.contexts) - 1
    sentences = (f"It changed {changes} time{'' if changes == 1 else 's'} within the window.",) if changes else ()
    return Section(title="Environment", sentences=sentences, header=("", ""), rows=rows)


def _lost(manifest: Manifest, say: Say) -> Section:
    lost = manifest.incident.lost
    rows = tuple((say(reason, 60), str(count)) for reason, count in lost.items())
    partial = [frame.id for frame in manifest.frames if frame.lost]
    left_out = manifest.incident.thinning is not None and manifest.incident.thinning.frames
    # A salvaged recording does not tell what it lacks.
    sentences = [] if lost or partial or not manifest.complete else ["Nothing was lost."]
    if sentences and left_out:
        sentences = ["Nothing was lost besides what thinning left out."]
    if partial:
        reasons = sorted({say(reason, 60) for frame in manifest.frames for reason in list(frame.lost)[:8]})[:8]
        sentences.append(f"Frames with missing parts: {id_ranges(partial)} ({', '.join(reasons)}).")
    return Section(title="Lost", sentences=tuple(sentences), header=("reason", "count"), rows=rows)


def _privacy(manifest: Manifest, say: Say) -> Section | None:
    if not manifest.redactions:
        return None
    rows = tuple(
        (
            say(each.field, 60) + (f" (from {say(each.derived_from[-1], 40)})" if each.derived_from else ""),
            each.level,
            say(each.method, 40),
            str(each.count),
        )
        for each in manifest.redactions
    )
    header = ("field", "level", "method", "values")
    return Section(title="Removed for privacy", sentences=(), header=header, rows=rows)
