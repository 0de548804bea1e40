"""Where a recorded model can come from here: a stored graph, or code that the user trusts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recorder.bundle.codec import form_of, signature_of, to_json, value_to_json
from recorder.bundle.manifest import Call, Model, Weights
from recorder.graph_sizes import OpenSizes
from replay.load import ConfigInvalid, ModelLocations, ModelMissing, UserConfig, is_factory
from replay.show.text import inert

__all__ = ["Candidate", "Factories", "GraphShelf", "candidates"]

#: What helps when a model cannot be had from its graph.
REMEDY = "name the code that builds it: --model pkg.mod:factory"

_UNCOVERED = (
    "--weights own are those of the code that --model names, and none is named for this model: "
    "add --model {name}=pkg.mod:factory"
)

_ONNX_REMEDY = "name code that returns a function of (output names, inputs): --model pkg.mod:factory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to get a model: what `replay.worker.loading.load_model` is asked for."""

    origin: str  #: "graph", "onnx" or "factory"
    request: dict[str, Any]
    graph: bytes = b""
    graph_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Factories:
    """What the user passed as ``--model``: "pkg.mod:factory" for any model, "name=pkg.mod:factory" for one.

    With ``--weights``: a safetensors file and its digest, instead of the recorded weights; or "own", those of the code.
    """

    named: dict[str, str] = field(default_factory=dict)
    general: str | None = None
    directory: str | None = None  #: imported from last, because the user named the code
    weights: str | None = None
    weights_digest: str | None = None

    @classmethod
    def parse(cls, specifications: Sequence[str], directory: str | None, weights: str | None = None) -> Factories:
        """Parse the options; a weights file is read once, for its digest.

        Raises:
            ValueError: one of them has another form.
            ConfigInvalid: the weights file cannot be read, there is no code whose own weights could be taken, or
                no such directory.
        """
        if directory is not None and not Path(directory).is_dir():
            raise ConfigInvalid(f"--model-dir {directory} is no directory; name the one in which the code is")
        named: dict[str, str] = {}
        general = None
        for specification in specifications:
            name, equals, factory = specification.rpartition("=")
            if not is_factory(factory):
                raise ValueError(f"--model takes pkg.mod:factory or name=pkg.mod:factory, not {specification!r}")
            if equals:
                named[name] = factory
            else:
                general = factory
        if weights == "own" and not specifications:
            raise ConfigInvalid("--weights own are those of the code that --model names: add --model pkg.mod:factory")
        digest = None
        if weights is not None and weights != "own":
            try:
                with Path(weights).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ConfigInvalid(f"--weights {weights} cannot be read: {error.strerror}") from None
        return cls(named, general, directory, weights, digest)

    def of(self, model: Model) -> str | None:
        """The factory the user named for a model."""
        return self.named.get(model.name, self.general)


class GraphShelf:
    """The graphs of a replay, each read once."""

    def __init__(self, locations: ModelLocations) -> None:
        """Read nothing yet."""
        self.locations = locations
        self._documents: dict[str, bytes] = {}
        self._sizes: dict[str, OpenSizes | None] = {}

    def document(self, digest: str) -> bytes:
        """Return the graph of that digest, verified.

        Raises:
            ModelMissing: nowhere, or what stands there is not it.
        """
        if digest not in self._documents:
            self._documents[digest] = self.locations.graph(digest)
        return self._documents[digest]

    def serves(self, digest: str, call: Call) -> bool:
        """Say whether a graph leaves sizes open and serves those of a call.

        Raises:
            ModelMissing: see `document`.
        """
        if digest not in self._sizes:
            self._sizes[digest] = OpenSizes.of(self.document(digest))
        sizes = self._sizes[digest]
        return sizes is not None and sizes.serve(value_to_json(call.args), value_to_json(call.kwargs))


def candidates(
    model: Model, call: Call, factories: Factories, shelf: GraphShelf, config: UserConfig
) -> tuple[list[Candidate], list[str]]:
    """List the ways to get a model for calls like one call, most wanted first, and why others are none.

    The user's own choice and then nothing else: a verdict about another model would answer another question. Without
    one, the ONNX file, or the graph of this signature; where there is none, those of the call's form that serve its
    sizes; then the factory that the bundle names, only if the user has listed exactly that one in the config.
    """
    locations = shelf.locations
    weights, missing = _weights(model, locations)
    uncovered = factories.weights == "own" and model.weights is not None
    if factories.weights is not None:
        weights, missing = (None, "") if factories.weights == "own" else (factories.weights, "")
        digest = factories.weights_digest
        model = replace(model, weights=None if digest is None else Weights(digest=digest, size_bytes=0, stored=True))
    chosen = factories.of(model)
    if chosen is not None:
        return [_factory(model, chosen, weights, factories.directory)], []
    if model.framework == "onnxruntime":
        found, reasons = _onnx(model, locations, weights)
    elif uncovered:
        found, reasons = [], [_UNCOVERED.format(name=inert(model.name, 80))]
    else:
        signature, form = signature_of(call), form_of(call)
        digests = [graph.digest for graph in model.graphs if graph.signature == signature]
        general = [graph.digest for graph in model.graphs if graph.form == form and graph.digest not in digests]
        if model.weights is not None and factories.weights is None:
            for known, key in ((digests, signature), (general, form)):
                if not known and (remembered := locations.remembered_graph(model.weights.digest, key)) is not None:
                    known.append(remembered)
        found, reasons = _graphs(model, digests, weights, missing, shelf)
        if not found:
            others, why = _graphs(model, general, weights, missing, shelf, call)
            found, reasons = others, list(dict.fromkeys([*reasons, *why]))
    if model.factory is not None and model.factory in config.trusted_factories:
        found.append(_factory(model, model.factory, weights, None))
    return found, reasons


def _onnx(model: Model, locations: ModelLocations, other: str | None) -> tuple[list[Candidate], list[str]]:
    """The recorded ONNX file, or the one that the user wants to try in its place."""
    if model.weights is None:
        why = "; ".join(inert(problem.rstrip("."), 200) for problem in model.problems) or "its file is not known"
        return [], [f"it is an ONNX model without a digest: {why}; {_ONNX_REMEDY}."]
    try:
        path = other or str(locations.onnx(model.weights.digest))
    except ModelMissing as error:
        why = "; ".join(inert(problem.rstrip("."), 200) for problem in model.problems)
        return [], [f"{why}; {_ONNX_REMEDY}." if why else str(error)]
    request = _request(model, "onnx", None, path, None) | {"options": to_json(model.options)}
    return [Candidate(origin="onnx", request=request)], []


def _graphs(
    model: Model,
    digests: Sequence[str],
    weights: str | None,
    missing: str,
    shelf: GraphShelf,
    call: Call | None = None,
) -> tuple[list[Candidate], list[str]]:
    """The graphs of those digests that are there, and why others are not; with a call, those that serve its sizes."""
    found: list[Candidate] = []
    reasons: list[str] = []
    if digests and missing and model.weights is not None and weights is None:
        return [], [missing]
    for digest in digests:
        try:
            if call is not None and not shelf.serves(digest, call):
                continue
            document = shelf.document(digest)
        except ModelMissing as error:
            reasons.append(str(error))
            continue
        request = _request(model, "graph", None, weights, None)
        found.append(Candidate(origin="graph", request=request, graph=document, graph_digest=digest))
    if found or reasons:
        return found, reasons
    if model.framework == "callable":
        reasons.append(f"it is a function, not a module with weights; {REMEDY}.")
    elif model.graphs:
        reasons.append(f"its graphs serve calls with other shapes or arguments; {REMEDY}.")
    else:
        why = "; ".join(inert(problem.rstrip("."), 200) for problem in model.problems) or "no graph was stored"
        reasons.append(f"{why}; {REMEDY}.")
    return found, reasons


def _weights(model: Model, locations: ModelLocations) -> tuple[str | None, str]:
    if model.weights is None or model.framework == "onnxruntime":
        return None, ""  # an ONNX file is no safetensors file
    try:
        return str(locations.weights(model.weights.digest)), ""
    except ModelMissing as error:
        return None, str(error)


def _factory(model: Model, factory: str, weights: str | None, directory: str | None) -> Candidate:
    return Candidate(origin="factory", request=_request(model, "factory", factory, weights, directory))


def _request(
    model: Model, source: str, factory: str | None, weights: str | None, directory: str | None
) -> dict[str, Any]:
    return {
        "source": source,
        "factory": factory,
        "path": weights,
        "digest": model.weights.digest if model.weights else None,
        "layouts": to_json(model.layouts),
        "training_modules": list(model.training_modules),
        "state": list(model.state),
        "add_path": directory,
    }
