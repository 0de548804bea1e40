"""An object in a bucket as a source of ranges."""

from __future__ import annotations

import functools
from typing import Any

from recorder.bundle.errors import BundleUnavailable
from recorder.sinks.s3.address import S3Address
from recorder.sinks.s3.client import connect, is_status, sentence_of

__all__ = ["S3Source", "reading_client"]

#: Who reads on where the last range ended gets this much ahead, then twice as much each time: few requests for those
#: who read all, few bytes for those who do not.
_FIRST_AHEAD_BYTES, _MAX_AHEAD_BYTES = 128 * 2**10, 8 * 2**20
#: A range whose body breaks off is asked for again so often; refused requests are repeated by the client itself.
_ATTEMPTS = 3


@functools.lru_cache(maxsize=1)
def reading_client() -> Any:
    """Return the process's client for reading, by AWS's usual configuration.

    Raises:
        botocore.exceptions.BotoCoreError: that cannot be used.
    """
    return connect()


class S3Source:
    """An object, read by ranges of the one version that stood there when it was opened.

    Args:
        location: ``s3://bucket/key``.

    Raises:
        BundleUnavailable: there is no such object, or it cannot be read.
    """

    def __init__(self, location: str) -> None:
        try:
            self._address = S3Address.parse(location)
        except ValueError as error:
            raise BundleUnavailable(str(error).rstrip(".")) from error
        if not self._address.key:
            raise BundleUnavailable(f"{location} is a bucket: `replay ls` lists it; give s3://bucket/key")
        try:
            self._client = reading_client()
            head = self._client.head_object(Bucket=self._address.bucket, Key=self._address.key)
        except Exception as error:
            raise BundleUnavailable(sentence_of(error, self._address)) from error
        self.size_bytes = int(head["ContentLength"])
        self._etag = str(head["ETag"])
        self._held, self._held_from = b"", 0
        self._ahead_bytes = 0

    def read_at(self, offset: int, length: int) -> bytes:
        """Return a range, as it was when the object was opened."""
        at = offset - self._held_from
        if not (at >= 0 and at + length <= len(self._held)):
            follows = offset == self._held_from + len(self._held) or 0 <= at < len(self._held)
            grown = max(_FIRST_AHEAD_BYTES, min(2 * self._ahead_bytes, _MAX_AHEAD_BYTES))
            self._ahead_bytes = grown if follows and self._held else 0
            wanted = min(max(length, self._ahead_bytes), self.size_bytes - offset)
            self._held = self._fetch(offset, wanted) if wanted > 0 else b""
            self._held_from, at = offset, 0
        return self._held[at : at + length]

    def close(self) -> None:
        """Forget what was read ahead."""
        self._held = b""

    def _fetch(self, offset: int, length: int) -> bytes:
        address = self._address
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._client.get_object(
                    Bucket=address.bucket,
                    Key=address.key,
                    Range=f"bytes={offset}-{offset + length - 1}",
                    IfMatch=self._etag,
                )
                data: bytes = answer["Body"].read()
                if len(data) == length:
                    return data
                problem = f"{address}: the store sent {len(data)} bytes where {length} were asked for; try again"
            except Exception as error:
                if is_status(error, 404):
                    problem = f"{address}: the object was removed while it was read; `replay ls` lists what is there"
                else:
                    problem = sentence_of(error, address)
                if isinstance(getattr(error, "response", None), dict) or attempt == _ATTEMPTS:
                    raise BundleUnavailable(problem) from error
        raise BundleUnavailable(problem)
