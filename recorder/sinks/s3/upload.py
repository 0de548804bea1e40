"""One file becomes one object: whole or not at all, over nothing that is there, and resumed where it was cut off."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from recorder.sinks.s3.client import code_of, is_status
from recorder.sinks.s3.options import S3Options
from recorder.sinks.s3.pace import Bandwidth, Body

__all__ = ["Content", "KeyTaken", "Upload", "content_of"]

#: Above this a file goes in parts, so that a line that breaks costs one part.
_SINGLE_BYTES = 16 * 2**20
#: S3 takes parts of at least 5 MiB and 10,000 of them.
_PART_BYTES, _MAX_PARTS = 8 * 2**20, 10_000
_CHUNK_BYTES = 2**20
#: A note on an upload under way is two hundred bytes.
_MAX_NOTE_BYTES = 4096
_UPLOAD_ID = re.compile(r"[\x21-\x7e]{1,1024}")


class KeyTaken(Exception):
    """Something else stands under the key."""


@dataclass(frozen=True, slots=True)
class _Part:
    number: int  #: from 1
    offset: int
    length: int
    sha256: str  #: base64, as S3 writes it
    md5: str  #: hexadecimal: the ETag of a part, where a store does not list its SHA-256


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds, as S3 will say it."""

    size_bytes: int
    sha256: str  #: hexadecimal, of the whole
    parts: tuple[_Part, ...]

    @property
    def is_single(self) -> bool:
        """Whether it goes in one request."""
        return self.size_bytes <= _SINGLE_BYTES

    @property
    def checksum(self) -> str:
        """What a store computes over the object: the SHA-256, or that of the parts' SHA-256 and their number."""
        if self.is_single:
            return base64.b64encode(bytes.fromhex(self.sha256)).decode()
        over = hashlib.sha256(b"".join(base64.b64decode(part.sha256) for part in self.parts))
        return f"{base64.b64encode(over.digest()).decode()}-{len(self.parts)}"


def content_of(file: BinaryIO) -> Content:
    """Read a file through.

    Raises:
        OSError: it cannot be read.
    """
    size_bytes = os.fstat(file.fileno()).st_size
    part_bytes = max(_PART_BYTES, -(-size_bytes // _MAX_PARTS))
    whole, parts = hashlib.sha256(), []
    for number, offset in enumerate(range(0, size_bytes, part_bytes), 1):
        length = min(part_bytes, size_bytes - offset)
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        for chunk in _chunks(file, offset, length):
            for digest in (whole, sha256, md5):
                digest.update(chunk)
        parts.append(_Part(number, offset, length, base64.b64encode(sha256.digest()).decode(), md5.hexdigest()))
    return Content(size_bytes, whole.hexdigest(), tuple(parts))


class Upload:
    """Brings files to a bucket.

    Args:
        client: of S3.
        bucket: its name.
        options: how objects are asked to be.
        bandwidth: what it may take of the line.
    """

    def __init__(self, client: Any, bucket: str, options: S3Options, bandwidth: Bandwidth) -> None:
        self._client = client
        self._bucket = bucket
        self._options = options
        self._bandwidth = bandwidth

    def put(self, file: BinaryIO, content: Content, key: str, note: Path) -> bool:
        """Bring a file there; say whether it was: False when it stood there already.

        Args:
            file: open for reading.
            content: of that file.
            key: the whole key.
            note: where the id of an upload in parts is kept, so that it goes on after a restart.

        Raises:
            KeyTaken: other bytes stand there.
            Exception: what botocore raises; nothing is there then, or all of it is.
        """
        try:
            if content.is_single:
                self._put_single(file, content, key)
            elif not self._put_parts(file, content, key, note):
                return False
        except Exception as error:
            # No such upload: the answer to an earlier completion was lost, and the upload is over.
            if not is_status(error, 412) and code_of(error) != "NoSuchUpload":
                raise
            stands = self.stands(key, content)
            if stands is None:
                note.unlink(missing_ok=True)
                raise
            self.give_up(note)
            if not stands:
                raise KeyTaken(key) from error
            return False
        note.unlink(missing_ok=True)
        return True

    def stands(self, key: str, content: Content) -> bool | None:
        """Whether an object is this one, by what the store computed itself (metadata can lie); None: there is none.

        A store that kept no checksum is asked for the bytes.
        """
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
        except Exception as error:
            if is_status(error, 404):
                return None
            raise
        if head["ContentLength"] != content.size_bytes:
            return False
        if head.get("ChecksumSHA256"):
            if head["ChecksumSHA256"] == content.checksum:
                return True
            if ("-" in head["ChecksumSHA256"]) == ("-" in content.checksum):
                return False
        body, digest = self._client.get_object(Bucket=self._bucket, Key=key)["Body"], hashlib.sha256()
        for chunk in body.iter_chunks(_CHUNK_BYTES):
            self._bandwidth.spend(len(chunk))
            digest.update(chunk)
        return digest.hexdigest() == content.sha256

    def give_up(self, note: Path) -> None:
        """Abort the upload in parts that a note speaks of, if there is one; its parts would be paid for else."""
        if (noted := _read_note(note)) is not None:
            with suppress(Exception):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=noted["key"], UploadId=noted["upload"])
        note.unlink(missing_ok=True)

    def _put_single(self, file: BinaryIO, content: Content, key: str) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=Body(file, 0, content.size_bytes, self._bandwidth),
            ContentLength=content.size_bytes,
            ChecksumSHA256=content.checksum,
            IfNoneMatch="*",
            **self._described(content),
        )

    def _put_parts(self, file: BinaryIO, content: Content, key: str, note: Path) -> bool:
        was_noted, resumed = note.exists(), self._resumed(content, key, note)
        # The process may have died when all was there, and a gigabyte is not sent to be told so.
        if was_noted and resumed is None and self.stands(key, content):
            return False
        upload, there = resumed or (self._begun(content, key, note), {})
        done = []
        for part in content.parts:
            tag = there.get(part.number)
            if tag is None:
                answer = self._client.upload_part(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=upload,
                    PartNumber=part.number,
                    Body=Body(file, part.offset, part.length, self._bandwidth),
                    ContentLength=part.length,
                    ChecksumSHA256=part.sha256,
                )
                tag = answer["ETag"]
            done.append({"PartNumber": part.number, "ETag": tag, "ChecksumSHA256": part.sha256})
        self._client.complete_multipart_upload(
            Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done}, IfNoneMatch="*"
        )
        return True

    def _begun(self, content: Content, key: str, note: Path) -> str:
        answer = self._client.create_multipart_upload(
            Bucket=self._bucket, Key=key, ChecksumAlgorithm="SHA256", **self._described(content)
        )
        upload = str(answer["UploadId"])
        _write_note(note, {"upload": upload, "key": key, "sha256": content.sha256})
        return upload

    def _resumed(self, content: Content, key: str, note: Path) -> tuple[str, dict[int, str]] | None:
        """The upload that a note speaks of and the parts there that are ours; None: there is none to go on with."""
        noted = _read_note(note)
        if noted is None:
            return None
        if (noted["key"], noted["sha256"]) != (key, content.sha256):
            self.give_up(note)
            return None
        try:
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=key, UploadId=noted["upload"]
            )
            listed = {part["PartNumber"]: part for page in pages for part in page.get("Parts", ())}
        except Exception as error:
            if is_status(error, 404):  # it was aborted, or finished without our hearing of it
                note.unlink(missing_ok=True)
                return None
            raise
        ours = {part.number: part for part in content.parts}
        return noted["upload"], {n: p["ETag"] for n, p in listed.items() if n in ours and _is_part(p, ours[n])}

    def _described(self, content: Content) -> dict[str, Any]:
        return {
            "Metadata": {"sha256": content.sha256},
            "ContentType": "application/octet-stream",
            **self._options.put_arguments(),
        }


def _is_part(listed: dict[str, Any], part: _Part) -> bool:
    told = listed.get("ChecksumSHA256")
    same = told == part.sha256 if told else str(listed.get("ETag", "")).strip('"') == part.md5
    return bool(listed.get("Size") == part.length and same)


def _chunks(file: BinaryIO, offset: int, length: int) -> Iterator[bytes]:
    file.seek(offset)
    while length > 0:
        chunk = file.read(min(_CHUNK_BYTES, length))
        if not chunk:
            raise OSError("the file became shorter while it was read")
        length -= len(chunk)
        yield chunk


def _write_note(note: Path, content: dict[str, str]) -> None:
    from recorder.bundle.durable import durable_file

    with durable_file(note) as file:
        file.write(json.dumps(content).encode())


def _read_note(note: Path) -> dict[str, str] | None:
    """What a note says; None when there is none or it is not of that form: then the upload begins anew."""
    try:
        with note.open("rb") as file:
            content = json.loads(file.read(_MAX_NOTE_BYTES))
        texts = [content[name] for name in ("upload", "key", "sha256")]
        if all(isinstance(text, str) for text in texts) and _UPLOAD_ID.fullmatch(content["upload"]):
            return {name: content[name] for name in ("upload", "key", "sha256")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None
