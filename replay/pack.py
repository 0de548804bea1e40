"""A self-contained copy of a bundle: the weights and graphs it names by digest travel inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from recorder.bundle import Bundle
from recorder.bundle.codec import form_of, signature_of
from recorder.bundle.errors import BundleUnavailable
from recorder.bundle.manifest import Graph, Manifest, Model
from recorder.bundle.rewrite import rewrite
from recorder.bundle.writer import BundleWriter
from replay.load import ModelLocations, ModelMissing
from replay.show.text import inert, size

__all__ = ["Packed", "TooLarge", "pack_models"]

_CHUNK_BYTES = 2**20


class TooLarge(Exception):
    """The models are larger than the user allowed; the message says by how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What a packed bundle holds."""

    bundle: str  #: its id
    members: tuple[tuple[str, int], ...]  #: path and size in bytes of the model files it holds
    lacking: tuple[str, ...]  #: sentences: models without a graph, which still need code


@dataclass(frozen=True, slots=True)
class _File:
    member: str
    path: Path
    digest: str
    size_bytes: int


def pack_models(source: Bundle, out: Path, locations: ModelLocations, max_bytes: int) -> Packed:
    """Write a copy of a bundle that holds its models.

    Args:
        source: open; it is only read.
        out: the new bundle, which names the source as its parent.
        locations: where weights and graphs are looked for.
        max_bytes: of all model files together; checked before any is read.

    Raises:
        ModelMissing: the weights of a model are nowhere, or are not what their name says.
        TooLarge: there are more bytes than allowed.
        BundleInvalid, BundleUnavailable: the source is damaged or cannot be read.
        OSError: the new bundle cannot be written; nothing is left behind.
    """
    manifest = source.manifest
    models = tuple(_with_remembered_graphs(manifest, model, locations) for model in manifest.models)
    held = {member.path for member in manifest.members}
    files = [file for model in models for file in _files(model, locations) if file.member not in held]
    files = list({file.member: file for file in files}.values())
    total = sum(file.size_bytes for file in files)
    if total > max_bytes:
        raise TooLarge(
            f"the models take {size(total)}, more than the {size(max_bytes)} allowed: raise --max-bytes to {total}"
        )

    def add(manifest: Manifest, writer: BundleWriter) -> Manifest:
        for file in files:
            if writer.add(file.member, _chunks(file), file.size_bytes) != file.digest:
                raise ModelMissing(f"{file.path} is not what its name says; fetch it again.")
        return replace(manifest, models=models)

    bundle = rewrite(source, out, operation="pack", transform=add)
    lacking = [
        f"{inert(model.name, 80)} has no stored graph: replay still needs --model pkg.mod:factory"
        for model in models
        if model.framework == "torch" and not model.graphs
    ]
    lacking += [
        f"{inert(model.name, 80)} is a function: replay still needs --model pkg.mod:factory"
        for model in models
        if model.framework == "callable"
    ]
    return Packed(
        bundle=bundle, members=tuple((file.member, file.size_bytes) for file in files), lacking=tuple(lacking)
    )


def _with_remembered_graphs(manifest: Manifest, model: Model, locations: ModelLocations) -> Model:
    """A model with the graphs that were stored for its calls at deployment, which a recorder does not know of."""
    if model.weights is None or model.framework != "torch":
        return model
    graphs = {graph.signature: graph for graph in model.graphs}
    forms = {graph.form for graph in model.graphs}
    for call in manifest.calls:
        if call.model == model.id and call.parent is None:
            signature, form = signature_of(call), form_of(call)
            if signature not in graphs:
                digest = locations.remembered_graph(model.weights.digest, signature)
                if digest is not None:
                    size = len(locations.graph(digest))
                    graphs[signature] = Graph(signature=signature, digest=digest, size_bytes=size)
            if signature not in graphs and form not in forms:
                digest = locations.remembered_graph(model.weights.digest, form)
                if digest is not None:
                    size = len(locations.graph(digest))
                    graphs[signature] = Graph(signature=signature, digest=digest, size_bytes=size, form=form)
                    forms.add(form)
    return replace(model, graphs=tuple(graphs.values()))


def _files(model: Model, locations: ModelLocations) -> Iterator[_File]:
    if model.weights is not None:
        onnx = model.framework == "onnxruntime"
        path = locations.onnx(model.weights.digest) if onnx else locations.weights(model.weights.digest)
        yield _file("onnx" if onnx else "safetensors", path, model.weights.digest)
    for graph in model.graphs:
        locations.graph(graph.digest)  # a missing one is said with its remedy
        yield _file("graph.json", locations.graph_file(graph.digest), graph.digest)


def _file(extension: str, path: Path, digest: str) -> _File:
    try:
        return _File(f"models/{digest}.{extension}", path, digest, path.stat().st_size)
    except OSError as error:
        raise ModelMissing(f"{path} cannot be read: {error.strerror}.") from error


def _chunks(file: _File) -> Iterator[bytes]:
    try:
        with file.path.open("rb") as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise BundleUnavailable(f"{file.path} cannot be read: {error.strerror}") from error
