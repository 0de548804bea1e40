"""The slices that carry an incident's shift, for the first screen."""

from __future__ import annotations

from collections.abc import Iterable

from recorder.bundle.manifest import Manifest
from recorder.bundle.track import TrackTable
from replay.show.text import inert
from replay.slices import MOST_SAID, Sliced, sentences

__all__ = ["affected_slices"]


def affected_slices(manifest: Manifest, tables: Iterable[TrackTable]) -> list[str]:
    """Return a sentence for each slice that moved more than the others, beyond chance; mostly there is none."""
    incident = Sliced()
    incident.add(manifest, tables)
    return [inert(sentences(each)[0], 300) for each in incident.ranking().slices[:MOST_SAID] if each.carries]
