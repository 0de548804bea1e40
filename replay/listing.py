"""The incidents of a directory or bucket: which there are, and what each says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recorder.bundle.errors import BundleError, BundleUnavailable
from recorder.bundle.manifest import Incident, Manifest
from recorder.sinks import SinkUnavailable, list_bundles
from recorder.sinks.s3.address import is_s3
from replay.opening import Opening

__all__ = ["Entry", "Place", "places_of", "read_entry"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bundle lies."""

    location: str
    modified: float  #: seconds since 1970


@dataclass(frozen=True, slots=True)
class Entry:
    """A bundle that could be read."""

    path: str
    bundle: str  #: its id
    size_bytes: int
    manifest: Manifest

    @property
    def incident(self) -> Incident:
        """What happened."""
        return self.manifest.incident


def places_of(sink: str, since_ns: int | None = None) -> list[Place]:
    """Return the bundles of a sink, unread.

    Args:
        sink: a directory or s3://bucket/prefix.
        since_ns: objects written before cannot hold an incident that is wanted; of a directory all are returned.

    Raises:
        BundleUnavailable: it is none, or cannot be listed.
    """
    if "://" in sink and not is_s3(sink):
        raise BundleUnavailable(f"{sink}: only directories and s3:// addresses can be listed; fetch the bundles first")
    if not is_s3(sink) and Path(sink).is_file():
        raise BundleUnavailable(f"{sink} is a file: `replay show` shows one bundle, `replay ls` lists a directory")
    try:
        # An object is written after its incident was opened, so an older one need not be looked into.
        oldest = since_ns / 1e9 if since_ns is not None and is_s3(sink) else 0.0
        found = list_bundles(sink if is_s3(sink) else Path(sink))
        return [Place(str(each.location), each.modified) for each in found if each.modified >= oldest]
    except SinkUnavailable as error:
        raise BundleUnavailable(str(error).rstrip(".") if is_s3(sink) else str(error)) from error


def read_entry(asked: Opening, path: str) -> Entry | BundleError:
    """Read a bundle's manifest, or return why it cannot be read."""
    try:
        with asked.open(path) as opened:
            return Entry(path, opened.id, opened.size_bytes, opened.manifest)
    except BundleError as error:
        return error
