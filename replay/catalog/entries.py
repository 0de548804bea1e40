"""What the catalogue keeps of one incident."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from recorder.bundle.manifest import Manifest
from recorder.limits import signature_of
from replay.catalog.embedding import Vector
from replay.show.text import inert

__all__ = ["LABELS", "UNNAMED", "Entry", "entry_of", "is_sound"]

#: What people add to an incident. ``consent``: "yes" lets its frames into a validation set.
LABELS = ("root-cause", "fix", "owner", "ticket", "consent")

#: Diagnoses that name no cause.
UNNAMED = ("", "none", "unknown")

_BUNDLE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One incident. Strings are inert already: nothing in them acts on a terminal."""

    bundle: str  #: bundle id
    path: str  #: where it was last seen
    size_bytes: int
    modified: float  #: seconds since the Unix epoch, of the file
    opened_ns: int
    stream: str
    kind: str  #: of the first trigger
    reason: str
    signature: str  #: names the defect
    cause: str  #: the diagnosis, "" where there is none
    frames: int
    models: str
    recurrences: int  #: suppressed since an incident last had its signature
    vector: Vector | None = None
    group: int = 0  #: incidents alike: same signature, vectors close; the number of the first of them
    labels: dict[str, str] = field(default_factory=dict)


def is_sound(entry: Entry) -> bool:
    """Whether an entry that was read holds what it declares: a catalogue may come from anyone."""
    texts = (entry.path, entry.stream, entry.kind, entry.reason, entry.signature, entry.cause, entry.models)
    numbers = (entry.size_bytes, entry.opened_ns, entry.frames, entry.recurrences, entry.group)
    return (
        isinstance(entry.bundle, str)
        and _BUNDLE.fullmatch(entry.bundle) is not None
        and all(isinstance(each, str) for each in texts)
        and all(isinstance(each, int) for each in numbers)
        and isinstance(entry.modified, float | int)
    )


def entry_of(
    manifest: Manifest, *, bundle: str, path: str, size_bytes: int, modified: float, vector: Vector | None = None
) -> Entry:
    """Take from a manifest what is looked for later."""
    incident = manifest.incident
    trigger = incident.triggers[0] if incident.triggers else None
    cause = incident.cause.get("cause") if incident.cause else None
    signature = incident.signature or (signature_of(trigger) if trigger is not None else "")
    return Entry(
        bundle=bundle,
        path=path,
        size_bytes=size_bytes,
        modified=modified,
        opened_ns=incident.opened_ns,
        stream=inert(incident.stream, 100),
        kind=inert(trigger.kind if trigger else "", 60),
        reason=inert(trigger.reason if trigger else "", 200),
        signature=inert(signature, 64),
        cause=inert(cause or "", 60),
        frames=len(manifest.frames),
        models=inert(", ".join(model.name for model in manifest.models[:8]), 200),
        recurrences=incident.recurrences_since_last,
        vector=vector,
    )
