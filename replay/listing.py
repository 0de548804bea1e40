"""The bundles of a directory or bucket, each opened by ranges: only its manifest is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from recorder.bundle.errors import BundleError, BundleUnavailable
from recorder.bundle.reader import Bundle
from recorder.sinks import BundleListing, SinkUnavailable, list_bundles
from recorder.sinks.s3.address import is_s3
from replay.opening import Opening

__all__ = ["bundles_of", "read_each"]

T = TypeVar("T")

#: As many connections as the S3 client keeps.
_REQUESTS = 8


def bundles_of(sink: str, since_ns: int | None = None) -> list[BundleListing]:
    """List a sink, oldest first.

    Args:
        sink: a directory or ``s3://bucket/prefix``.
        since_ns: of a bucket, objects older than this are left out.

    Raises:
        BundleUnavailable: it is neither, or cannot be listed.
    """
    if "://" in sink and not is_s3(sink):
        raise BundleUnavailable(f"{sink}: only directories and s3:// addresses can be listed; fetch the bundles first")
    if not is_s3(sink) and Path(sink).is_file():
        raise BundleUnavailable(f"{sink} is a file: `replay show` shows one bundle, a sink is a directory")
    try:
        # An object is written after its incident was opened, so an older one need not be looked into.
        oldest = since_ns / 1e9 if since_ns is not None and is_s3(sink) else 0.0
        found = list_bundles(sink if is_s3(sink) else Path(sink))
        return [listing for listing in found if listing.modified >= oldest]
    except SinkUnavailable as error:
        raise BundleUnavailable(str(error).rstrip(".") if is_s3(sink) else str(error)) from error


def read_each(
    listings: Sequence[BundleListing], opening: Opening, read: Callable[[Bundle], T]
) -> Iterator[T | BundleError]:
    """Open every bundle in turn and give what ``read`` makes of it, or why it cannot be read, in their order."""

    def one(listing: BundleListing) -> T | BundleError:
        try:
            with opening.open(listing.location) as opened:
                return read(opened)
        except BundleError as error:
            return error

    # A bucket answers many at a time; of a disk, one after the other is quickest.
    remote = bool(listings) and is_s3(listings[0].location)
    with ThreadPoolExecutor(_REQUESTS if remote else 1) as readers:
        yield from readers.map(one, listings)
