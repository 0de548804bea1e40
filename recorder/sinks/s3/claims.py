"""Claims in a bucket: each is a conditional write, so that one writer makes it."""

from __future__ import annotations

from typing import Any

from recorder.sinks.base import SinkUnavailable
from recorder.sinks.claims import Claims, check_claim_name
from recorder.sinks.s3.address import S3Address
from recorder.sinks.s3.client import is_status, sentence_of

__all__ = ["S3Claims"]

#: As of a claim in a directory.
_READ_BYTES = 2**16


class S3Claims(Claims):
    """Objects under ``.claims/`` below the sink's prefix; the bucket's lifecycle rules say how long they stay."""

    def __init__(self, client: Any, address: S3Address) -> None:
        self._client = client
        self._address = address.within(".claims")

    def take(self, name: str, content: bytes) -> bool:
        """Write the object unless there is one."""
        check_claim_name(name)
        where = self._address.within(name)
        try:
            self._client.put_object(Bucket=where.bucket, Key=where.key, Body=content, IfNoneMatch="*")
        except Exception as error:
            if is_status(error, 412):
                # An attempt of ours whose answer was lost may have made it.
                return self.read(name) == content
            raise self._unavailable(error) from error
        return True

    def read(self, name: str) -> bytes | None:
        """Read the object."""
        check_claim_name(name)
        where = self._address.within(name)
        try:
            answer = self._client.get_object(Bucket=where.bucket, Key=where.key)
            content: bytes = answer["Body"].read(_READ_BYTES)
        except Exception as error:
            if is_status(error, 404):
                return None
            raise self._unavailable(error) from error
        return content

    def names(self, prefix: str) -> list[str]:
        """List the objects."""
        check_claim_name(prefix)
        start = len(self._address.key) + 1
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._address.bucket, Prefix=self._address.within(prefix).key
            )
            return sorted(found["Key"][start:] for page in pages for found in page.get("Contents", ()))
        except Exception as error:
            raise self._unavailable(error) from error

    def drop(self, name: str) -> None:
        """Delete the object."""
        check_claim_name(name)
        where = self._address.within(name)
        try:
            self._client.delete_object(Bucket=where.bucket, Key=where.key)
        except Exception as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        return SinkUnavailable(f"{sentence_of(error, self._address)}.")
