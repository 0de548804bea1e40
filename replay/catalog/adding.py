"""Look into the bundles of a sink that are new; what cannot be read is counted and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from recorder.bundle import Bundle
from recorder.bundle.errors import BundleError
from recorder.sinks import BundleListing
from replay.catalog.database import Catalog
from replay.catalog.embedding import embedding_of
from replay.catalog.entries import Entry, entry_of
from replay.listing import read_each
from replay.opening import Opening
from replay.show.text import inert

__all__ = ["AddedBundles", "add_listed"]

#: Written together; an interrupted run keeps those that were.
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedBundles:
    """What one look at a sink gave."""

    listed: int
    new: int
    known: int  #: not looked into again: same size and time
    problems: tuple[tuple[str, str], ...]  #: path and why, of those looked into


def add_listed(
    catalog: Catalog,
    listed: Sequence[BundleListing],
    opening: Opening,
    progress: Callable[[int, int], None] | None = None,
) -> AddedBundles:
    """Add the incidents of a directory or bucket that the catalogue does not know.

    Args:
        catalog: open.
        listed: the bundles there.
        opening: how they are opened.
        progress: called with (looked into, to look into).

    Raises:
        CatalogInvalid: the catalogue cannot be written.
    """
    known = catalog.known()
    fresh = [each for each in listed if known.get(_plain(each.location)) != (each.size_bytes, each.modified)]
    new, problems = 0, []
    for start in range(0, len(fresh), _BATCH):
        some = fresh[start : start + _BATCH]
        entries: list[Entry] = []
        failed: list[tuple[str, int, float, str]] = []
        for listing, found in zip(some, read_each(some, opening, _read), strict=True):
            path = _plain(listing.location)
            if isinstance(found, Entry) and path != listing.location:
                found = BundleError("its name is no UTF-8, and could not be found again by it; rename it")
            if isinstance(found, BundleError):
                failed.append((path, listing.size_bytes, listing.modified, inert(found, 400)))
            else:
                entries.append(_placed(found, listing))
        new += catalog.add(entries, failed)
        problems += [(path, why) for path, _, _, why in failed]
        if progress is not None:
            progress(min(start + _BATCH, len(fresh)), len(fresh))
    return AddedBundles(listed=len(listed), new=new, known=len(listed) - len(fresh), problems=tuple(problems))


def _plain(location: str) -> str:
    """A location as the database can hold it: Python has names that are no UTF-8 as lone surrogates."""
    return location.encode("utf-8", "backslashreplace").decode("utf-8")


def _read(bundle: Bundle) -> Entry:
    try:
        vector = embedding_of(bundle)
        return entry_of(bundle.manifest, bundle=bundle.id, path="", size_bytes=0, modified=0, vector=vector)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BundleError(f"{what[:200]}; this is an error of replay itself") from error


def _placed(entry: Entry, listing: BundleListing) -> Entry:
    return replace(entry, path=listing.location, size_bytes=listing.size_bytes, modified=listing.modified)
