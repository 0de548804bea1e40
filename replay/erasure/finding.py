"""What is found in a sink and in spools, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from recorder.bundle.custody import custody
from recorder.bundle.errors import BundleError
from recorder.bundle.reader import Bundle
from recorder.sinks.s3.address import S3Address
from replay.erasure.conditions import Where
from replay.erasure.frames import without_frames

__all__ = ["Erasure", "Found", "Place", "Places", "find"]

Place = Path | S3Address
OpenBundle = Callable[[str], Bundle]


class Places(Protocol):
    """Where bundles are, on disks or in a bucket."""

    def bundles(self) -> Iterator[Place]:
        """Yield each bundle once."""

    def unfinished(self) -> Iterator[tuple[Place, str]]:
        """Yield what may become a bundle or hold what is meant, and what is to be done about it."""

    def remove(self, place: Place) -> None:
        """Delete a bundle for good.

        Raises:
            OSError, BundleError: it could not be; the message is a sentence.
        """

    def rewrite(self, place: Place, write: Callable[[Path], None]) -> None:
        """Put what ``write`` makes of a bundle in its place, in one step.

        Raises:
            OSError, BundleError: it could not be; the old one stands.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A bundle that holds frames which are meant."""

    path: Place
    bundle: str
    frames: tuple[int, ...]  #: that are meant
    whole: bool  #: the bundle goes, not only these frames
    problem: str | None = None  #: why it cannot be done


@dataclass(slots=True, kw_only=True)
class Erasure:
    """What was found, and what came of it."""

    found: list[Found] = field(default_factory=list)
    untouched: int = 0  #: bundles that hold nothing of it
    unreadable: list[tuple[Place, str]] = field(default_factory=list)  #: may hold some of it, and why that is not known
    descendants: list[tuple[Place, str]] = field(default_factory=list)  #: made from one that was found, without a match

    @property
    def is_complete(self) -> bool:
        """Whether nothing else can hold what is meant, as far as can be seen here."""
        return not (self.unreadable or self.descendants or any(each.problem for each in self.found))

    def carry_out(self, open_bundle: OpenBundle, where: Where, places: Places) -> None:
        """Do it, bundle by bundle: a new one is durable before the old one goes, in one step under the same name.

        What fails is noted as the bundle's problem, and the others are done all the same.
        """
        for number, each in enumerate(self.found):
            if each.problem is not None:
                continue
            try:
                if each.whole:
                    places.remove(each.path)
                else:
                    places.rewrite(each.path, self._writer(each, open_bundle, where))
            except (BundleError, OSError) as error:
                self.found[number] = replace(each, problem=str(error))

    def _writer(self, found: Found, open_bundle: OpenBundle, where: Where) -> Callable[[Path], None]:
        def write(out: Path) -> None:
            with open_bundle(str(found.path)) as bundle:
                without_frames(bundle, out, found.frames, where)

        return write


def find(places: Places, where: Where, open_bundle: OpenBundle, *, whole: bool = False) -> Erasure:
    """Look through places; nothing is changed.

    Args:
        places: where bundles are.
        where: which frames are meant.
        open_bundle: opens a bundle; what it raises makes the bundle unreadable.
        whole: whether a bundle goes although only some of its frames match.

    Raises:
        OSError: a directory cannot be read.
        BundleUnavailable: a bucket cannot be listed.
    """
    erasure = Erasure()
    others: list[tuple[Place, tuple[str, ...]]] = []
    erasure.unreadable.extend(places.unfinished())
    for path in places.bundles():
        try:
            with open_bundle(str(path)) as bundle:
                frames = bundle.manifest.frames
                meant = tuple(frame.id for frame in frames if where.matches(frame.metadata))
                problems = bundle.verify() if meant and not (whole or len(meant) == len(frames)) else []
                bundle_id, chain = bundle.id, tuple(parent.bundle for parent in custody(bundle.manifest))
        except BundleError as error:
            erasure.unreadable.append((path, str(error)))
            continue
        if not meant:
            erasure.untouched += 1
            others.append((path, chain))
            continue
        goes = whole or len(meant) == len(frames)
        problem = None
        if not goes and str(path).endswith(".age"):
            problem = "it is encrypted, so it can only go as a whole: --whole, or decrypt it first"
        elif problems:
            problem = f"it is damaged, so it can only go as a whole: --whole ({problems[0]})"
        erasure.found.append(Found(path=path, bundle=bundle_id, frames=meant, whole=goes, problem=problem))
    gone = {each.bundle for each in erasure.found}
    erasure.descendants = [(path, next(b for b in chain if b in gone)) for path, chain in others if gone & {*chain}]
    return erasure
