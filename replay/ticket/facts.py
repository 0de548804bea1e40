"""What a ticket says of an incident: from the bundle, and from a replay's saved result beside it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle import strictjson
from recorder.bundle.errors import BundleError, BundleInvalid
from recorder.bundle.manifest import Image, Manifest, Model
from recorder.bundle.reader import Bundle
from recorder.bundle.schema import validate
from replay.load import ModelLocations, ModelMissing
from replay.result import result_path
from replay.show.text import size, utc
from replay.ticket.document import Claim, Document, Fact, Line, Picture, claim

__all__ = ["Verdict", "command_for", "describe", "first_bad_picture", "recurrence", "saved_verdict"]

#: A result of a thousand frames takes some hundred kilobytes.
_MAX_RESULT_BYTES = 16 * 2**20
_MODELS_SAID = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a saved replay result says, as far as it can be believed: that somebody wrote it."""

    line: Line
    level: str | None = None  #: of the ladder; None when there is no usable result
    problem: str = ""  #: why a result that is there was not used


def saved_verdict(location: str, bundle_id: str) -> Verdict:
    """Read ``BUNDLE.replay.json`` and check it: form, size, and that it is about this bundle."""
    none = ("not replayed yet: no result is saved beside the bundle (`replay run --save`)",)
    if "://" in location:
        return Verdict(line=("not known here: results are read beside local bundles",))
    path = result_path(location)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_RESULT_BYTES + 1)
    except (OSError, ValueError):
        return Verdict(line=none)
    try:
        if len(data) > _MAX_RESULT_BYTES:
            raise BundleInvalid("it is too large")
        result = strictjson.loads(data, "the result")
        validate(result, "replay")
    except BundleInvalid:
        return Verdict(line=none, problem=f"{path.name} is not a valid replay result and was left out; save a new one")
    if result["bundle"] != bundle_id:
        return Verdict(line=none, problem=f"{path.name} is of another bundle and was left out; save a new one")
    if result["verdict"] is None:  # findings of locate, bisect or probe alone
        return Verdict(line=none)
    return Verdict(line=_verdict_line(result), level=result["verdict"])


def _verdict_line(result: dict[str, Any]) -> Line:
    reproduced = "reproduced" if result["reproduced"] else "not reproduced"
    failure = {True: ", the failure shows again", False: ", the failure does not show again", None: ""}
    partly = ", ended early" if result.get("interrupted") else ""
    head = f"{result['verdict']} ({reproduced}{failure[result['failure_reproduced']]}{partly}), numerics "
    return (head + result["numerics"] + ": ", claim(result["conclusion"], 600))


def describe(bundle: Bundle, verdict: Verdict, models: ModelLocations, beside: Path | None) -> Document:
    """Return all that does not depend on where the ticket is: no command, and no word of where the bundle is.

    Args:
        bundle: the incident.
        verdict: of `saved_verdict`.
        models: where models are looked for.
        beside: directory of the bundle, whose ``models/`` is called by that name only.
    """
    manifest = bundle.manifest
    incident = manifest.incident
    facts = [
        Fact("Verdict", verdict.line),
        *_triggers(manifest),
        Fact("Cause", _cause(manifest)),
        Fact(
            "When",
            (
                f"{utc(incident.opened_ns)}, stream ",
                claim(incident.stream or "(none)", 60),
                ", severity ",
                claim(incident.severity, 20),
                f"; {len(manifest.frames)} frames",
                "" if manifest.complete else "; salvaged and incomplete",
            ),
        ),
        *(Fact("Model", _model(model, manifest, models, beside)) for model in manifest.models[:_MODELS_SAID]),
    ]
    if len(manifest.models) > _MODELS_SAID:
        facts.append(Fact("Models", (f"{len(manifest.models) - _MODELS_SAID} more",)))
    if incident.recurrences_since_last:
        facts.append(Fact("Recurred", (f"{incident.recurrences_since_last} further triggers were not sealed",)))
    facts.append(Fact("Bundle", (f"{bundle.id}, {size(bundle.size_bytes)}",)))
    return Document(id=bundle.id, title=_title(manifest), facts=tuple(facts))


def _title(manifest: Manifest) -> Line:
    if not manifest.incident.triggers:
        return ("Incident without a trigger",)
    first = manifest.incident.triggers[0]
    at = "" if first.frame is None else f" at frame {first.frame}"
    return ("Incident: ", claim(first.kind, 40), at)


def _triggers(manifest: Manifest) -> list[Fact]:
    facts = []
    for trigger in manifest.incident.triggers[:3]:
        measured: Line = ()
        if trigger.value is not None and trigger.threshold is not None:
            measured = (f" (value {trigger.value:.4g}, threshold {trigger.threshold:.4g})",)
        facts.append(Fact("Trigger", (claim(trigger.kind, 40), ": ", claim(trigger.reason, 200), *measured)))
    return facts


def _cause(manifest: Manifest) -> Line:
    cause = manifest.incident.cause
    if not cause:
        return ("not diagnosed",)
    confidence = cause.get("confidence")
    sure = f", confidence {confidence:.2f}" if isinstance(confidence, int | float) else ""
    return (claim(cause.get("cause", "unknown"), 40), sure)


def _model(model: Model, manifest: Manifest, models: ModelLocations, beside: Path | None) -> Line:
    name: Line = (claim(model.name, 60), ": ")
    if model.weights is None:
        return (*name, "weights unknown; it replays only with its code (`--model`)")
    digest = model.weights.digest
    onnx = model.framework == "onnxruntime"
    said = f"sha256 {digest}, {size(model.weights.size_bytes)}, "
    file = f"models/{digest}.{'onnx' if onnx else 'safetensors'}"
    if any(member.path == file for member in manifest.members):
        return (*name, said + "held in the bundle itself")
    try:
        held = (models.onnx(digest) if onnx else models.weights(digest)).parent
    except ModelMissing:
        stored = "was stored when it was recorded" if model.weights.stored else "was not stored when it was recorded"
        return (*name, f"{said}in no store of this machine; it {stored}")
    if beside is not None and held == beside / "models":
        return (*name, said + "held in models/ beside the bundle")
    return (*name, said + "held in the store ", claim(held, 200))


def first_bad_picture(bundle: Bundle) -> Picture | None:
    """Return the trigger's frame as a small JPEG, decoded and encoded anew; None where there is no picture."""
    manifest = bundle.manifest
    frame_id = manifest.incident.triggers[0].frame if manifest.incident.triggers else None
    frame = next((frame for frame in manifest.frames if frame.id == frame_id), None)
    image = next((image for image in frame.images if image.thumbnail), None) if frame is not None else None
    data = _small_jpeg(bundle, image) if image is not None else None
    return Picture(f"incident-{bundle.id[:12]}-frame-{frame_id}.jpg", data) if data else None


def _small_jpeg(bundle: Bundle, image: Image) -> bytes | None:
    from recorder.bundle import images

    try:
        return images.thumbnail(images.decode_file(bundle.read(image.thumbnail or ""), "jpeg"))
    except (BundleError, KeyError, *images.DECODER_ERRORS):
        return None  # a ticket without a picture is a ticket


def command_for(bundle: str) -> str:
    """Return the line that replays a bundle, its name quoted; where it has what no line should show, a placeholder.

    The name is what the user typed, or one of our own for an attachment: nothing here comes out of a bundle.
    """
    if not bundle.isprintable() or "`" in bundle or len(bundle) > 1000:
        return "replay BUNDLE"
    return f"replay {shlex.quote(bundle)}" if not bundle.startswith("-") else f"replay {shlex.quote('./' + bundle)}"


def recurrence(
    document_id: str, first: tuple[int, str, Claim], seen: list[tuple[int, str, Claim]], total: int
) -> Document:
    """Return what is said when an incident of a filed signature comes again.

    Args:
        document_id: of this document.
        first: time, bundle id and location of the incident that was, or was to be, filed.
        seen: the same of the latest ones.
        total: how many there were.
    """
    facts = tuple(
        Fact(utc(opened_ns), (f"{which}bundle {bundle[:12]}, at ", location))
        for which, (opened_ns, bundle, location) in [("first of all ", first), *(("", each) for each in seen)]
    )
    times = "once" if total == 1 else f"{total} times"
    return Document(
        id=document_id,
        title=(f"The same incident was recorded {times} more within the hour",),
        facts=facts,
        parent=first[1],
    )
