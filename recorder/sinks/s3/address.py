"""``s3://bucket/key``, taken apart."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["S3Address", "is_s3"]

_SCHEME = "s3://"
#: What S3 calls a bucket, the older names with capitals and underscores too.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
#: S3's own limit, in UTF-8.
_MAX_KEY_BYTES = 1024


def is_s3(text: str) -> bool:
    """Whether this is meant as an address in S3."""
    return text.startswith(_SCHEME)


@dataclass(frozen=True, slots=True)
class S3Address:
    """A bucket, and a key or prefix in it without a leading slash."""

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}" if self.key else f"{_SCHEME}{self.bucket}"

    @classmethod
    def parse(cls, text: str) -> S3Address:
        """Read ``s3://bucket/key``.

        Raises:
            ValueError: it is not of that form; the message is a sentence.
        """
        bucket, _, key = text.removeprefix(_SCHEME).partition("/")
        if not is_s3(text) or not _BUCKET.fullmatch(bucket):
            raise ValueError(f"{text!r} is no address in S3: give s3://bucket/key.")
        if len(key.encode("utf-8", "surrogatepass")) > _MAX_KEY_BYTES:
            raise ValueError(f"The key of s3://{bucket} is longer than the {_MAX_KEY_BYTES} bytes that S3 takes.")
        if any(unicodedata.category(character)[0] == "C" for character in key):
            raise ValueError(f"The key of s3://{bucket} holds control characters; give it as it is listed.")
        return cls(bucket, key)

    def within(self, *names: str) -> S3Address:
        """Return what has these names below this prefix."""
        return S3Address(self.bucket, "/".join(part for part in (self.key.strip("/"), *names) if part))

    def prefixes(self) -> Iterator[S3Address]:
        """Yield the prefixes that a key stands under, the nearest first, the bucket itself last."""
        key = self.key
        while key:
            key = key.rpartition("/")[0]
            yield S3Address(self.bucket, key)
