"""Model stores in a bucket: a file is fetched once, by its digest, into the user's cache."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.sinks.s3.address import S3Address
from recorder.sinks.s3.client import is_status, sentence_of

__all__ = ["MAX_MODEL_BYTES", "RemoteModels", "RemoteUnavailable", "cache_directory"]

#: A bucket has other writers; what is larger than this must be fetched by hand.
MAX_MODEL_BYTES = 16 * 2**30
_CHUNK_BYTES = 2**20


class RemoteUnavailable(Exception):
    """A model store in a bucket cannot be read; the message is a sentence without a full stop."""


def cache_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return where fetched models are kept: below the user's cache directory."""
    variables = os.environ if environment is None else environment
    base = variables.get("XDG_CACHE_HOME") or ""
    home = Path(base) if Path(base).is_absolute() else Path(variables.get("HOME") or Path.home()) / ".cache"
    return home / "vision-flight-recorder" / "models"


@dataclass(frozen=True, slots=True)
class RemoteModels:
    """A prefix under which files are named ``<sha256>.<extension>``.

    Nothing of it is believed: a file is bounded before it is fetched, and has to have the digest of its name.
    """

    address: S3Address

    def file(self, name: str, max_bytes: int = MAX_MODEL_BYTES) -> Path | None:
        """Return the path, in the cache, of a file of that name; None when the store has none.

        Raises:
            RemoteUnavailable: the store cannot be read, or what it holds is too large or not what its name says.
        """
        cached = cache_directory() / name
        if cached.is_file():
            return cached
        where, client = self.address.within(name), _client(self.address)
        head = _asked(client.head_object, where)
        if head is None:
            return None
        size_bytes = int(head["ContentLength"])
        if size_bytes > max_bytes:
            raise RemoteUnavailable(
                f"{where} has {size_bytes} bytes, more than the {max_bytes} that are fetched unasked; "
                "copy it to a directory and name that: --models DIR"
            )
        answer = _asked(client.get_object, where, IfMatch=head["ETag"])
        if answer is None:
            raise RemoteUnavailable(f"{where} was removed while it was fetched; run the command again")
        _keep(answer["Body"], cached, where, size_bytes)
        return cached

    def small_file(self, name: str, max_bytes: int) -> bytes | None:
        """Return the content of a small file that is no content-addressed one, uncached; None: there is none.

        Raises:
            RemoteUnavailable: the store cannot be read.
        """
        where = self.address.within(name)
        answer = _asked(_client(self.address).get_object, where)
        return None if answer is None else answer["Body"].read(max_bytes)


def _client(where: S3Address) -> Any:
    from recorder.sinks.s3.source import reading_client

    try:
        return reading_client()
    except Exception as error:
        raise RemoteUnavailable(sentence_of(error, where)) from error


def _asked(call: Any, where: S3Address, **arguments: Any) -> Any:
    try:
        return call(Bucket=where.bucket, Key=where.key, **arguments)
    except Exception as error:
        if is_status(error, 404):
            return None
        raise RemoteUnavailable(sentence_of(error, where)) from error


def _keep(body: Any, target: Path, where: S3Address, size_bytes: int) -> None:
    """Write what comes into the cache, under its name only when it is what the name says."""
    temporary = target.with_name(f".tmp-{secrets.token_hex(8)}")
    found, read = hashlib.sha256(), 0
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                read += len(chunk)
                if read > size_bytes:
                    break
                found.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if read != size_bytes or found.hexdigest() != target.name.partition(".")[0]:
            raise RemoteUnavailable(f"{where} is not what its name says; put the model into the store anew")
        temporary.replace(target)
    except OSError as error:
        raise RemoteUnavailable(
            f"{where} cannot be kept in {target.parent}: {error.strerror}; free some room"
        ) from error
    except RemoteUnavailable:
        raise
    except Exception as error:  # the connection broke
        raise RemoteUnavailable(sentence_of(error, where)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
