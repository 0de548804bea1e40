"""The model store: a directory of weights files and graphs, each named by its own sha256."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from recorder.bundle.manifest import Graph, Weights

if TYPE_CHECKING:
    import torch

__all__ = ["Kind", "ModelStore", "StoreDamaged", "StoreUnavailable", "file_identity"]

Kind = Literal["weights", "graph", "onnx"]

_SUFFIXES: dict[Kind, str] = {"weights": ".safetensors", "graph": ".graph.json", "onnx": ".onnx"}
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 2**20
#: A temp file older than this belongs to a process that died; no write takes so long without touching its file.
_LEFTOVER_SECONDS = 24 * 3600
#: A graph reference is a hundred bytes; what is larger was not written by us.
_REFERENCE_BYTES = 4096


class StoreUnavailable(RuntimeError):
    """The store cannot be written or read; the message names the directory and the remedy."""


class StoreDamaged(RuntimeError):
    """A file of the store is not what its name says."""


class _NotStored(Exception):
    """A file that is not kept; the message is the sentence for the bundle."""


class ModelStore:
    """A content-addressed directory: ``<sha256>.safetensors``, ``<sha256>.graph.json`` and ``<sha256>.onnx``.

    Files are written beside their place, synced and linked into it, and never overwritten, so that any number of
    processes may share one store. Nothing in it is believed before its digest was checked.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Name the directory; it is created by the first write."""
        self.directory = Path(directory)

    def __repr__(self) -> str:
        return f"ModelStore({str(self.directory)!r})"

    def path_of(self, digest: str, kind: Kind) -> Path:
        """Return where a file of that digest stands, or would.

        Raises:
            ValueError: the digest is not 64 lower-case hex digits (it may come from a hostile manifest).
        """
        if not _DIGEST.fullmatch(digest):
            raise ValueError("A digest is 64 lower-case hex digits.")
        return self.directory / f"{digest}{_SUFFIXES[kind]}"

    def has(self, digest: str, kind: Kind) -> bool:
        """Say whether a file of that digest is there (unverified)."""
        return self.path_of(digest, kind).is_file()

    def verify(self, digest: str, kind: Kind) -> bool:
        """Read the file through and say whether its bytes have the digest of its name; False when it is not there."""
        found = hashlib.sha256()
        try:
            with self.path_of(digest, kind).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    found.update(chunk)
        except OSError:
            return False
        return found.hexdigest() == digest

    def put_weights(
        self,
        tensors: dict[str, torch.Tensor],
        *,
        bytes_per_second: float | None = None,
        stop: threading.Event | None = None,
    ) -> Weights:
        """Store the weights of a model and return their identity.

        The digest is computed first; bytes are written only if the store lacks them.

        Raises:
            WeightsUnreadable, WeightsChanged: see `stream_weights`.
            StoreUnavailable: no room, no permission; nothing is left behind.
            StoreDamaged: a file of that name is there with another size.
        """
        from recorder.models.weights_file import WeightsChanged, stream_weights

        identity = stream_weights(tensors, bytes_per_second=bytes_per_second, stop=stop)
        weights = Weights(digest=identity.digest, size_bytes=identity.size_bytes, stored=True)
        target = self.path_of(weights.digest, "weights")
        if self._stands(target, weights.size_bytes):
            return weights
        with self._writing(target) as file:
            written = stream_weights(tensors, file.write, bytes_per_second=bytes_per_second, stop=stop)
            if written != identity:
                raise WeightsChanged("The weights changed while they were being stored, unseen by torch's counters.")
        return weights

    def put_graph(self, graph: bytes) -> tuple[str, int]:
        """Store a graph; return its digest and its size in bytes.

        Raises:
            StoreUnavailable, StoreDamaged: as for `put_weights`.
        """
        digest = hashlib.sha256(graph).hexdigest()
        target = self.path_of(digest, "graph")
        if not self._stands(target, len(graph)):
            with self._writing(target) as file:
                file.write(graph)
        return digest, len(graph)

    def put_onnx(self, chunks: Callable[[], Iterator[bytes]]) -> tuple[Weights, str | None]:
        """Store an ONNX file under its digest, unless it is not whole by itself.

        Args:
            chunks: begins to read the file, each time it is called.

        Returns:
            Its identity, and a sentence that says why it was not stored (then ``stored`` is False), or None.

        Raises:
            StoreUnavailable, StoreDamaged: as for `put_weights`.
        """
        from recorder.models.onnx_file import OnnxInvalid, references_of

        identity = file_identity(chunks())
        target = self.path_of(identity.digest, "onnx")
        stored = Weights(digest=identity.digest, size_bytes=identity.size_bytes, stored=True)
        if self._stands(target, identity.size_bytes):
            return stored, None
        try:
            with self._writing(target) as file:
                for chunk in chunks():
                    file.write(chunk)
                file.flush()
                # A file of our own is mapped, never the host's: one cut short under a mapping is a SIGBUS.
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
                    digest = hashlib.sha256(data).hexdigest()
                    problem = None if digest != identity.digest else references_of(data).problem
                if digest != identity.digest:
                    raise _NotStored("The model file was changed while it was read.")
                if problem is not None:
                    raise _NotStored(problem)
        except OnnxInvalid as error:
            return identity, f"Its file is no ONNX model that could be stored: {error}."
        except _NotStored as error:
            return identity, str(error)
        return stored, None

    def remember_graph(self, weights_digest: str, graph: Graph) -> None:
        """Note that a graph belongs to some weights: how a graph made at deployment is found later.

        A graph that leaves sizes open is found by its form, as if that were the signature.

        Raises:
            StoreUnavailable: as for `put_weights`.
        """
        key = graph.form or graph.signature
        target = self._reference(weights_digest, key)
        content = {"signature": key, "digest": graph.digest, "size_bytes": graph.size_bytes}
        with self._writing(target, replace=True) as file:
            file.write(json.dumps(content).encode())

    def remembered_graph(self, weights_digest: str, signature: str) -> Graph | None:
        """Return the graph noted for these weights and this call signature, if there is one; a claim, unverified."""
        try:
            with self._reference(weights_digest, signature).open("rb") as file:
                content = json.loads(file.read(_REFERENCE_BYTES))
            graph = Graph(signature=signature, digest=content["digest"], size_bytes=int(content["size_bytes"]))
            self.path_of(graph.digest, "graph")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return graph

    def _reference(self, weights_digest: str, signature: str) -> Path:
        if not (_DIGEST.fullmatch(weights_digest) and _DIGEST.fullmatch(signature)):
            raise ValueError("A digest is 64 lower-case hex digits.")
        return self.directory / f"{weights_digest}-{signature[:16]}.graph-ref.json"

    def _stands(self, target: Path, size_bytes: int) -> bool:
        try:
            found = target.stat().st_size
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unavailable(error) from error
        if found != size_bytes:
            raise StoreDamaged(f"{target} has {found} bytes where {size_bytes} were expected; remove that file.")
        return True

    @contextmanager
    def _writing(self, target: Path, *, replace: bool = False) -> Iterator[IO[bytes]]:
        """A temp file that becomes `target` when the block ends well, and vanishes when it does not."""
        temporary = self.directory / f".tmp-{secrets.token_hex(8)}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            with temporary.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _publish(temporary, target, replace=replace)
            _sync_directory(self.directory)
        except OSError as error:
            raise self._unavailable(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StoreUnavailable(f"The model store {self.directory} has no room left; free some or move the store.")
        reason = error.strerror or type(error).__name__
        return StoreUnavailable(f"The model store {self.directory} cannot be used: {reason}.")

    def _remove_leftovers(self) -> None:
        for path in self.directory.glob(".tmp-*"):
            try:
                if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                    path.unlink()
            except OSError:
                continue  # another process removed it first, or it is not ours to remove


def file_identity(chunks: Iterator[bytes]) -> Weights:
    """Return the identity of a file that is not stored."""
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size_bytes += len(chunk)
    return Weights(digest=digest.hexdigest(), size_bytes=size_bytes, stored=False)


def _publish(temporary: Path, target: Path, *, replace: bool) -> None:
    """Give a finished file its name; the first of two processes wins, the content is the same."""
    if replace:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)  # unlike rename, this never overwrites
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not target.exists():
            temporary.replace(target)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
