"""What the host latched in the contexts region: configuration, environments, models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from recorder.bundle.codec import from_json
from recorder.bundle.manifest import Context, Environment, Graph, Model, Weights
from recorder.incident import WindowPolicy
from recorder.limits import MAX_CAP
from recorder.privacy import Level, PrivacyPolicy
from recorder.privacy.policy import FIELDS
from recorder.records import Kind
from recorder.sealer.stages import MALFORMED, checked

__all__ = ["Latched", "TriggerRule", "placeholder_context", "placeholder_model"]

#: Graphs and problems listed per model; the host stops long before.
MAX_PER_MODEL = 64

#: Added to a model's id where its weights changed at some moment that nobody saw: such calls name no weights.
DOUBTFUL = 2**32
_DOUBT = "Its weights changed while these calls ran and it was noticed only later, so which ones they used is unknown."


@dataclass(frozen=True, slots=True)
class TriggerRule:
    """A trigger the sealer evaluates."""

    kind: str
    parameters: dict[str, Any]


@dataclass(slots=True)
class Latched:
    """The contexts region, read so far. Malformed records are counted and passed over: a ring is untrusted."""

    policy: WindowPolicy = field(default_factory=WindowPolicy)
    privacy: PrivacyPolicy = field(default_factory=PrivacyPolicy)
    rules: list[TriggerRule] = field(default_factory=list)
    contexts: dict[int, Context] = field(default_factory=dict)
    models: dict[int, Model] = field(default_factory=dict)
    weights: dict[int, Weights] = field(default_factory=dict)
    graphs: dict[int, dict[str, Graph]] = field(default_factory=dict)
    problems: dict[int, list[str]] = field(default_factory=dict)
    failed: set[tuple[int, str | None]] = field(default_factory=set)  #: (model, signature), None: the weights
    exports: set[tuple[int, str]] = field(default_factory=set)
    doubts: list[tuple[int, int, int]] = field(default_factory=list)  #: (model, first call, call before which it ends)
    verified_calls: int = 0  #: when so many had begun, the weights of all models were known
    malformed: int = 0

    def take(self, kind: int, head: dict[str, Any]) -> None:
        """Take in one record."""
        try:
            self._take(kind, head)
        except MALFORMED:
            self.malformed += 1

    def _take(self, kind: int, head: dict[str, Any]) -> None:
        match kind:
            case Kind.CONFIG:
                self.privacy = _privacy(head.get("privacy"))
                self.policy = WindowPolicy(
                    pre_frames=min(max(int(head["pre_frames"]), 0), 10_000),
                    post_frames=min(max(int(head["post_frames"]), 0), 10_000),
                    post_seconds=_seconds(head["post_seconds"]),
                    cooldown_seconds=_seconds(head["cooldown_seconds"]),
                    dedupe_seconds=_seconds(head["dedupe_seconds"]),
                    max_incidents_per_hour=min(max(int(head["max_incidents_per_hour"]), 1), MAX_CAP),
                    max_incidents_per_day=min(max(int(head["max_incidents_per_day"]), 1), MAX_CAP),
                )
                self.rules = [
                    TriggerRule(str(rule["kind"]), dict(rule["parameters"])) for rule in head["triggers"][:64]
                ]
            case Kind.CONTEXT:
                context = checked(from_json(Context, head, "context"))
                self.contexts[context.id] = context
            case Kind.MODEL:
                model = checked(from_json(Model, head, "model"))
                self.models[model.id] = dataclasses.replace(model, weights=None, graphs=())
                self.problems.setdefault(model.id, []).extend(model.problems[:MAX_PER_MODEL])
            case Kind.WEIGHTS:
                self.weights[int(head["model"])] = checked(from_json(Weights, head, "weights"))
            case Kind.DOUBT:
                if len(self.doubts) < MAX_PER_MODEL:
                    self.doubts.append((int(head["model"]), int(head["first"]), int(head["before"])))
            case Kind.EXPORT:
                self.exports.add((int(head["model"]), str(head["signature"])))
            case Kind.GRAPH:
                graph = checked(from_json(Graph, head, "graph"))
                self.graphs.setdefault(int(head["model"]), {})[graph.signature] = graph
            case Kind.PROBLEM:
                signature = head["signature"]
                self.failed.add((int(head["model"]), None if signature is None else str(signature)))
                listed = self.problems.setdefault(int(head["model"]), [])
                sentence = str(head["sentence"])[:500]
                if len(listed) < MAX_PER_MODEL and sentence not in listed:
                    listed.append(sentence)

    def model_of(self, call: int, model_id: int) -> int:
        """Return the id of the model that a call ran: its own, or that of the same model with unknown weights."""
        doubtful = any(model_id == model and first <= call < before for model, first, before in self.doubts)
        return model_id + DOUBTFUL if doubtful and model_id < DOUBTFUL else model_id

    def model(self, model_id: int) -> Model:
        """Return a model with all that is known of it."""
        if model_id >= DOUBTFUL and model_id - DOUBTFUL in self.models:
            known = self.models[model_id - DOUBTFUL]
            return dataclasses.replace(known, id=model_id, layouts={}, problems=(_DOUBT,))
        model = self.models.get(model_id)
        if model is None:
            return placeholder_model(model_id)
        graphs = tuple(self.graphs.get(model_id, {}).values())[:MAX_PER_MODEL]
        problems = list(self.problems.get(model_id, []))
        weights = self.weights.get(model_id)
        if weights is None and not problems:
            problems.append("The process ended before its weights were read, so no digest can name them.")
        return dataclasses.replace(model, weights=weights, graphs=graphs, problems=tuple(problems))

    def is_comparable(self, model_id: int) -> bool:
        """Whether a model's weights are in memory and could change: a torch module's."""
        model = self.models.get(model_id)
        return model is not None and model.framework == "torch"

    def awaited(self, contexts: Iterable[int], models: Iterable[int]) -> bool:
        """Whether the host is still working on something that these contexts and models lack."""
        if any(context not in self.contexts for context in contexts):
            return True
        wanted = set(models)
        for model_id in wanted:
            settled = model_id in self.weights or (model_id, None) in self.failed or self.problems.get(model_id)
            if model_id in self.models and not settled:
                return True
        return any(
            model_id in wanted
            and signature not in self.graphs.get(model_id, {})
            and (model_id, signature) not in self.failed
            for model_id, signature in self.exports
        )


def _seconds(value: Any) -> float:
    """A duration as the recorder takes them (`recorder.settings`)."""
    seconds = float(value)
    if not 0 <= seconds <= 86_400:
        raise ValueError("a duration that no recorder has")
    return seconds


def _privacy(given: Any) -> PrivacyPolicy:
    """The recording's policy; one that cannot be read lets nothing leave."""
    try:
        return PrivacyPolicy() if given is None else PrivacyPolicy.from_json(given)
    except (ValueError, TypeError):
        return PrivacyPolicy(levels=dict.fromkeys(FIELDS, Level.DIGEST_ONLY))


def placeholder_context(context_id: int) -> Context:
    """Stand in for a context the host could not describe before it died."""
    nothing = Environment(python="", platform="", cpu={}, gpus=(), packages={}, variables={}, libraries={}, settings={})
    return Context(id=context_id, since_ns=0, environment=nothing)


def placeholder_model(model_id: int) -> Model:
    """Stand in for a model whose description could not be latched."""
    return Model(
        id=model_id,
        name=f"model-{model_id}",
        framework="torch",
        type="",
        problems=("Its description did not fit into the ring's context area.",),
    )
