"""The secret under which pseudonyms and digests are made: without it, neither can be guessed back.

It comes from a file or from the environment and is never written anywhere: bundles name it by an id.
"""

from __future__ import annotations

import functools
import hmac
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from recorder.bundle.values import JsonValue

__all__ = ["KEY_VARIABLE", "MIN_KEY_BYTES", "PrivacyKey", "load_key"]

#: Names the environment variable that holds the key's text.
KEY_VARIABLE = "FLIGHT_RECORDER_PRIVACY_KEY"
#: 128 bits: below, values of a short metadata field could be tried together with the keys.
MIN_KEY_BYTES = 16
#: HMAC hashes longer keys first; a file of this size was no key.
MAX_KEY_BYTES = 4096
_ID_TEXT = b"vision-flight-recorder privacy key"


@dataclass(frozen=True, slots=True)
class PrivacyKey:
    """A secret for HMAC-SHA256.

    Raises:
        ValueError: it is shorter than 16 bytes or longer than 4096.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not MIN_KEY_BYTES <= len(self.secret) <= MAX_KEY_BYTES:
            raise ValueError(
                f"the privacy key has {len(self.secret)} bytes and must have {MIN_KEY_BYTES} to {MAX_KEY_BYTES}; "
                "`openssl rand -hex 32` makes one"
            )

    @property
    def id(self) -> str:
        """16 hex digits that name the key and tell nothing about it."""
        return _id_of(self.secret)

    def digest(self, data: bytes | bytearray | memoryview) -> str:
        """HMAC-SHA256 of some bytes, 64 hex digits."""
        return hmac.digest(self.secret, data, "sha256").hex()

    def stated(self, data: bytes | bytearray | memoryview) -> str:
        """The digest as bundles state it: ``hmac-sha256:KEY:DIGEST`` (schemas/FORMAT.md, section 3.5)."""
        return f"hmac-sha256:{self.id}:{self.digest(data)}"

    def pseudonym(self, value: JsonValue) -> str:
        """``p_`` and 16 hex digits of the HMAC: the same for equal values, in every bundle under this key.

        Of a string the UTF-8 is hashed, of anything else its compact JSON with sorted keys.
        """
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
        return f"p_{self.digest(text.encode('utf-8', 'replace'))[:16]}"


@functools.lru_cache(maxsize=8)
def _id_of(secret: bytes) -> str:
    return hmac.digest(secret, _ID_TEXT, "sha256").hex()[:16]


def load_key(path: str | os.PathLike[str] | None = None) -> PrivacyKey | None:
    """Read the key: from a file when one is named, else from FLIGHT_RECORDER_PRIVACY_KEY; None when there is neither.

    White space around it does not count.

    Raises:
        ValueError: the file cannot be read, or what is there is too short or too long for a key.
    """
    if path is not None:
        try:
            with Path(path).open("rb") as file:
                secret = file.read(MAX_KEY_BYTES + 1024)
        except OSError as error:
            raise ValueError(f"the privacy key cannot be read from {os.fspath(path)!r}: {error.strerror}") from error
        return PrivacyKey(secret.strip())
    text = os.environ.get(KEY_VARIABLE, "").strip()
    return PrivacyKey(text.encode("utf-8", "surrogateescape")) if text else None
