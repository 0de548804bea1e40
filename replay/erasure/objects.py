"""Bundles in a bucket."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recorder.bundle.errors import BundleUnavailable
from recorder.sinks.s3.address import S3Address
from recorder.sinks.s3.client import is_status, sentence_of
from recorder.sinks.s3.source import reading_client
from replay.erasure.files import BUNDLE_SUFFIXES, Directories
from replay.erasure.finding import Place

__all__ = ["Bucket"]

#: What S3 takes in one conditional request; uploads in parts cannot replace one version and no other.
_MOST_BYTES = 5 * 2**30
_CHUNK_BYTES = 2**20
#: What a store answers that keeps no versions, or says nothing of them.
_NO_VERSIONS = (404, 405, 501)


class Bucket:
    """The bundles below a prefix, older versions of them included, and spools on this machine."""

    def __init__(self, address: S3Address, spools: Directories) -> None:
        """Connect to nothing yet."""
        self._address = S3Address(address.bucket, address.key.strip("/"))
        self._spools = spools

    def bundles(self) -> Iterator[Place]:
        """Yield the objects that are bundles, then the spools'."""
        for found in self._pages("list_objects_v2", "Contents"):
            if found["Key"].endswith(BUNDLE_SUFFIXES):
                yield S3Address(self._address.bucket, found["Key"])
        yield from self._spools.bundles()

    def unfinished(self) -> Iterator[tuple[Place, str]]:
        """Yield uploads in parts, and what the spools hold."""
        for found in self._pages("list_multipart_uploads", "Uploads", missing=_NO_VERSIONS):
            if found["Key"].endswith(BUNDLE_SUFFIXES):
                advice = "an upload that was not finished; abort it with the store's tools, or let it finish"
                yield S3Address(self._address.bucket, found["Key"]), advice
        yield from self._spools.unfinished()

    def remove(self, place: Place) -> None:
        """Delete the object and every version of it."""
        if not isinstance(place, S3Address):
            self._spools.remove(place)
            return
        try:
            reading_client().delete_object(Bucket=place.bucket, Key=place.key)
        except Exception as error:
            raise BundleUnavailable(sentence_of(error, place)) from error
        self._forget_versions(place, latest_too=True)

    def rewrite(self, place: Place, write: Callable[[Path], None]) -> None:
        """Replace the object that was read, and no other, with its tags, metadata and encryption; older versions go."""
        if not isinstance(place, S3Address):
            self._spools.rewrite(place, write)
            return
        client = reading_client()
        try:
            head = client.head_object(Bucket=place.bucket, Key=place.key)
            with tempfile.TemporaryDirectory(prefix="replay-") as scratch:
                out = Path(scratch) / "bundle.zst"
                write(out)
                size, digest = out.stat().st_size, _sha256(out)
                if size > _MOST_BYTES:
                    raise BundleUnavailable(f"{place}: larger than one request takes; erase it as a whole: --whole")
                with out.open("rb") as body:
                    client.put_object(
                        Bucket=place.bucket,
                        Key=place.key,
                        Body=body,
                        ContentLength=size,
                        ChecksumSHA256=base64.b64encode(digest).decode("ascii"),
                        IfMatch=head["ETag"],
                        Metadata={**head.get("Metadata", {}), "sha256": digest.hex()},
                        ContentType=head.get("ContentType", "application/octet-stream"),
                        **_kept(client, place, head),
                    )
        except (BundleUnavailable, OSError):
            raise
        except Exception as error:
            raise BundleUnavailable(sentence_of(error, place)) from error
        self._forget_versions(place, latest_too=False)

    def _forget_versions(self, place: S3Address, *, latest_too: bool) -> None:
        client = reading_client()
        try:
            pages = client.get_paginator("list_object_versions").paginate(Bucket=place.bucket, Prefix=place.key)
            for page in pages:
                for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    if each["Key"] == place.key and (latest_too or not each["IsLatest"]):
                        client.delete_object(Bucket=place.bucket, Key=place.key, VersionId=each["VersionId"])
        except Exception as error:
            if not is_status(error, *_NO_VERSIONS):
                said = sentence_of(error, place)
                raise BundleUnavailable(f"{said}: it is done, but older versions of the object may be left") from error

    def _pages(self, operation: str, part: str, missing: tuple[int, ...] = ()) -> Iterator[dict[str, Any]]:
        prefix = f"{self._address.key}/" if self._address.key else ""
        try:
            paginator = reading_client().get_paginator(operation)
            for page in paginator.paginate(Bucket=self._address.bucket, Prefix=prefix):
                yield from page.get(part, ())
        except Exception as error:
            if not is_status(error, *missing):
                raise BundleUnavailable(sentence_of(error, self._address)) from error


def _kept(client: Any, place: S3Address, head: dict[str, Any]) -> dict[str, str]:
    """Encryption and tags as the old object has them."""
    kept = {name: head[name] for name in ("ServerSideEncryption", "SSEKMSKeyId") if head.get(name)}
    from urllib.parse import urlencode

    tags = client.get_object_tagging(Bucket=place.bucket, Key=place.key).get("TagSet", ())
    return kept | ({"Tagging": urlencode({tag["Key"]: tag["Value"] for tag in tags})} if tags else {})


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()
