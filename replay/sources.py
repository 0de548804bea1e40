"""Where a recorded model can come from here: a stored graph, or code that the user trusts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recorder.bundle.codec import to_json
from recorder.bundle.manifest import Model, Weights
from replay.load import ConfigInvalid, ModelLocations, ModelMissing, UserConfig, is_factory
from replay.show.text import inert

__all__ = ["Candidate", "Factories", "candidates"]

#: What helps when a model cannot be had from its graph.
REMEDY = "name the code that builds it: --model pkg.mod:factory"

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
            ConfigInvalid: the weights file cannot be read, or there is no code whose own weights could be taken.
        """
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


def candidates(
    model: Model, signature: str, factories: Factories, locations: ModelLocations, config: UserConfig
) -> tuple[list[Candidate], list[str]]:
    """List the ways to get a model for calls of one signature, most wanted first, and why others are none.

    The user's own choice and then nothing else: a verdict about another model would answer another question. Without
    one, the ONNX file, or the graph that serves calls of this signature; then the factory that the bundle names, only
    if the user has listed exactly that one in the config.
    """
    weights, missing = _weights(model, locations)
    if factories.weights is not None:
        weights, missing = (None, "") if factories.weights == "own" else (factories.weights, "")
        digest = factories.weights_digest
        model = replace(model, weights=None if digest is None else Weights(digest=digest, size_bytes=0, stored=True))
    chosen = factories.of(model)
    if chosen is not None:
        return [_factory(model, chosen, weights, factories.directory)], []
    if model.framework == "onnxruntime":
        found, reasons = _onnx(model, locations, weights)
    else:
        remembered = None
        if model.weights is not None and factories.weights is None:
            remembered = locations.remembered_graph(model.weights.digest, signature)
        graph = next((graph.digest for graph in model.graphs if graph.signature == signature), remembered)
        found, reasons = _graph(model, graph, weights, missing, locations)
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


def _graph(
    model: Model, graph: str | None, weights: str | None, missing: str, locations: ModelLocations
) -> tuple[list[Candidate], list[str]]:
    found: list[Candidate] = []
    reasons: list[str] = []
    if graph is not None and (weights is not None or model.weights is None):
        try:
            document = locations.graph(graph)
            request = _request(model, "graph", None, weights, None)
            found.append(Candidate(origin="graph", request=request, graph=document, graph_digest=graph))
        except ModelMissing as error:
            reasons.append(str(error))
    elif graph is not None and missing:
        reasons.append(missing)
    elif model.framework == "callable":
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
