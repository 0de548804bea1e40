"""What a sink is: the place sealed bundles go to, and the one place that knows how to keep it tidy."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
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
        """Move a finished bundle here, all of it or nothing, and return its location, where it may arrive later.

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

    #: Whether a bundle arrives some time after `publish`, which is then said by `start`'s ``arrived``.
    arrives_later = False

    def start(self, arrived: Callable[[str], None], fault: Callable[[str, str], None]) -> None:  # noqa: B027  # optional
        """Begin with what an earlier process left on its way, before anything is published.

        ``arrived`` is told the location of each bundle that has arrived, at least once; ``fault`` a reason, by which it
        is counted, and a sentence. Both are called in a thread of the sink, only where ``arrives_later``.
        """

    def apart(self) -> Sink:
        """This sink for a process that must stay small: what takes much memory runs in another. By default as it is."""
        return self

    def variables(self) -> dict[str, str]:
        """What another process needs in its environment to find here what `publish` has located."""
        return {}

    def find(self, name: str) -> str | None:
        """The location of the bundle of that name; None where there is none. SinkUnavailable when nobody can tell."""
        return next((listing.location for listing in self.bundles() if listing.name == name), None)

    def waiting(self) -> tuple[str, ...]:
        """What was published and has not arrived yet."""
        return ()

    def is_busy(self) -> bool:
        """Whether something is on its way that there is hope for; the sealer does not end while that is so."""
        return False

    def close(self) -> None:  # noqa: B027  # optional
        """Let go of threads and connections; what is on its way goes on with the next `start`."""

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
