"""What a sink is: the place sealed bundles go to, and the one place that knows how to keep it tidy."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recorder.sinks.claims import Claims

__all__ = ["BundleListing", "Sink", "SinkUnavailable", "check_name"]

#: Letters every file system and object store takes, no leading dot or dash, and room for a suffix within 255 bytes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.zst(?:\.age)?")


class SinkUnavailable(Exception):
    """A sink could not be reached, written or listed. ``str(error)`` is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class BundleListing:
    """A bundle in a sink, as far as a listing tells without opening it."""

    location: str  #: what other commands take
    name: str
    size_bytes: int
    modified: float  #: seconds since the Unix epoch


class Sink(ABC):
    """Where bundles are published. Several processes may use one at the same time."""

    @abstractmethod
    def check(self) -> None:
        """Find out early whether bundles could be published here; SinkUnavailable when not."""

    @abstractmethod
    def publish(self, local_file: Path, name: str) -> str:
        """Move a finished bundle here, all of it or nothing, and return its location.

        ``name`` is a plain file name ending in ``.zst``, or ``.zst.age`` of an encrypted one (ValueError otherwise);
        when it is taken the bundle gets a suffix, since nothing is ever overwritten. The local file is gone afterwards,
        and untouched when SinkUnavailable is raised. FileNotFoundError when there is none.
        """

    @abstractmethod
    def sweep(self) -> tuple[str, ...]:
        """Delete what retention no longer allows, oldest first, and return the locations of what went.

        Only bundles are ever deleted, and never the newest for its size.
        """

    @abstractmethod
    def bundles(self) -> Iterator[BundleListing]:
        """The bundles here, oldest first; SinkUnavailable when they cannot be listed."""

    @abstractmethod
    def models_directory(self) -> Path | None:
        """The directory of content-addressed model files beside the bundles; None where that is no local directory."""

    def state_directory(self) -> Path | None:
        """Where the sealer may keep a small hidden file of its own between its runs; None: nowhere."""
        return None

    def claims(self) -> Claims | None:
        """Records that one writer makes among all that use this sink; None: there are none here."""
        return None


def check_name(name: str) -> None:
    """ValueError unless ``name`` may name a bundle in a sink."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a bundle: use letters, digits, dots and dashes, then .zst or .zst.age.")
