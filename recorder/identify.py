"""Background work on an attached model: its weights get a digest and a place in the store, its calls a graph."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bundle.signature import call_form
from recorder.export import GraphExporter
from recorder.graph_sizes import OpenSizes
from recorder.records import Kind

if TYPE_CHECKING:
    import torch

__all__ = ["FileToRead", "Identifier", "WeightsToRead"]

#: A graph of a thousand layers exports in some ten seconds at the lowest priority.
EXPORT_SECONDS = 120.0
#: Exports of one model. The second of a form is made to serve all sizes, so that few models need more than two.
MAX_GRAPHS = 8
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


@dataclass(slots=True)
class _Exports:
    """What was exported of one model."""

    count: int = 0
    forms: set[str] = field(default_factory=set)
    open: list[tuple[OpenSizes, dict[str, Any]]] = field(default_factory=list)  #: graphs that leave sizes open

    def begin(self, form: str) -> bool:
        """Count an export; say whether the graph is to serve other sizes, since calls of this form had others."""
        self.count += 1
        varies = form in self.forms
        self.forms.add(form)
        return varies

    def serving(self, form: str, args: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """Return the head of the graph that serves a call already."""
        return next((head for sizes, head in self.open if head["form"] == form and sizes.serve(args, kwargs)), None)


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
        self._exports: dict[int, _Exports] = {}

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
        args, kwargs, state = example["args"], example["kwargs"], example.get("state")
        form = call_form(args, kwargs, state)
        known = self._exports.setdefault(model, _Exports())
        if (graph := known.serving(form, args, kwargs)) is not None:
            self._write(Kind.GRAPH, {"model": model, "signature": signature, **graph})
            return
        if known.count >= MAX_GRAPHS:
            self._problem(model, signature, f"It is called with more kinds of inputs than {MAX_GRAPHS} graphs serve.")
            return
        any_size = known.begin(form)
        try:
            result = self._exporter.export(
                skeleton(module),
                args,
                kwargs,
                timeout_seconds=EXPORT_SECONDS,
                settings=example["settings"],
                state=None if state is None else (example["state_names"], state),
                any_size=any_size,
            )
            if result.graph is None:
                self._problem(model, signature, result.reason or "The export gave no graph.")
                return
            digest, size_bytes = ModelStore(self._directory).put_graph(result.graph)
        except (SkeletonFailed, StoreUnavailable, StoreDamaged) as error:
            self._problem(model, signature, str(error))
            return
        head: dict[str, Any] = {"digest": digest, "size_bytes": size_bytes}
        sizes = OpenSizes.of(result.graph)
        if sizes is not None:
            head["form"] = form
            known.open.append((sizes, head))
        self._write(Kind.GRAPH, {"model": model, "signature": signature, **head})

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
