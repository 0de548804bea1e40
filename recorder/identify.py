"""Background work on an attached model: its weights get a digest and a place in the store, its calls a graph."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.export import GraphExporter
from recorder.records import Kind

if TYPE_CHECKING:
    import torch

__all__ = ["FileToRead", "Identifier", "WeightsToRead"]

#: A graph of a thousand layers exports in some ten seconds at the lowest priority.
EXPORT_SECONDS = 120.0
#: Hashing and writing weights must not starve the host's own reads.
BYTES_PER_SECOND = 400.0 * 2**20
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class WeightsToRead:
    """The live tensors of a model and the version they had when calls began to name them."""

    tensors: dict[str, torch.Tensor]
    version: int
    store: bool


@dataclass(frozen=True, slots=True)
class FileToRead:
    """The file an onnxruntime session was made of: its path, or its bytes."""

    content: str | bytes
    store: bool


class Identifier:
    """Reads weights and has graphs exported, and latches what came of it.

    Args:
        write: latches a record.
        directory: the model store, None where the sink has none.
        stopping: set when the recorder closes.
    """

    def __init__(
        self, write: Callable[[Kind, dict[str, Any]], bool], directory: Path | None, stopping: threading.Event
    ) -> None:
        self._write = write
        self._directory = directory
        self._stopping = stopping
        self._exporter = GraphExporter()

    def identify(self, model: int, weights: WeightsToRead) -> None:
        """Stream the weights; a digest counts only if they are still those that the recorded calls used."""
        from recorder.models import (
            ModelStore,
            StoreDamaged,
            StoreUnavailable,
            WeightsUnreadable,
            stream_weights,
            weights_version,
        )

        directory = self._directory if weights.store else None
        tensors = weights.tensors
        try:
            if weights_version(tensors) != weights.version:
                self._problem(model, None, "Its weights were changed before they could be read.")
                return
            if directory is not None:
                stored = ModelStore(directory).put_weights(
                    tensors, bytes_per_second=BYTES_PER_SECOND, stop=self._stopping
                )
                digest, size_bytes = stored.digest, stored.size_bytes
            else:
                streamed = stream_weights(tensors, bytes_per_second=BYTES_PER_SECOND, stop=self._stopping)
                digest, size_bytes = streamed.digest, streamed.size_bytes
            if weights_version(tensors) != weights.version:
                self._problem(model, None, "Its weights were changed while they were read.")
                return
        except (WeightsUnreadable, StoreUnavailable, StoreDamaged) as error:
            self._problem(model, None, str(error))
            return
        head = {"model": model, "digest": digest, "size_bytes": size_bytes, "stored": directory is not None}
        self._write(Kind.WEIGHTS, head)

    def identify_file(self, model: int, file: FileToRead) -> None:
        """Read an ONNX file; the digest is that of the file as it is now, moments after the session was made of it."""
        from recorder.models import ModelStore, StoreDamaged, StoreUnavailable
        from recorder.models.store import file_identity

        def chunks() -> Iterator[bytes]:
            return paced_chunks(file.content, BYTES_PER_SECOND, self._stopping)

        try:
            if file.store and self._directory is not None:
                weights, problem = ModelStore(self._directory).put_onnx(chunks)
            else:
                weights, problem = file_identity(chunks()), None
        except (StoreUnavailable, StoreDamaged) as error:
            self._problem(model, None, str(error))
            return
        except OSError as error:
            self._problem(model, None, f"Its file could not be read: {error.strerror or type(error).__name__}.")
            return
        if problem is not None:
            self._problem(model, None, problem)
        head = {
            "model": model,
            "digest": weights.digest,
            "size_bytes": weights.size_bytes,
            "stored": weights.stored,
        }
        self._write(Kind.WEIGHTS, head)

    def export(self, model: int, module: torch.nn.Module, signature: str, example: Mapping[str, Any]) -> None:
        """Have one call's graph exported by a child and stored; ``example`` is the call's record."""
        from recorder.models import ModelStore, SkeletonFailed, StoreDamaged, StoreUnavailable, skeleton

        if self._directory is None:
            return
        try:
            result = self._exporter.export(
                skeleton(module),
                example["args"],
                example["kwargs"],
                timeout_seconds=EXPORT_SECONDS,
                settings=example["settings"],
                state=(example["state_names"], example["state"]) if "state" in example else None,
            )
            if result.graph is None:
                self._problem(model, signature, result.reason or "The export gave no graph.")
                return
            digest, size_bytes = ModelStore(self._directory).put_graph(result.graph)
        except (SkeletonFailed, StoreUnavailable, StoreDamaged) as error:
            self._problem(model, signature, str(error))
            return
        head = {"model": model, "signature": signature, "digest": digest, "size_bytes": size_bytes}
        self._write(Kind.GRAPH, head)

    def close(self) -> None:
        """End exports under way."""
        self._exporter.close()

    def _problem(self, model: int, signature: str | None, sentence: str) -> None:
        self._write(Kind.PROBLEM, {"model": model, "signature": signature, "sentence": sentence})


def paced_chunks(content: str | bytes, bytes_per_second: float, stopping: threading.Event) -> Iterator[bytes]:
    """Yield a file's bytes no faster than that; ends early, with an OSError, when the recorder closes."""
    with io.BytesIO(content) if isinstance(content, bytes) else Path(content).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
            if stopping.wait(len(chunk) / bytes_per_second):
                raise OSError(errno.ECANCELED, "the recorder was closed meanwhile")
