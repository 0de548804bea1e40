"""The triggers that the sealer evaluates, on the records of a frame that has just ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recorder.bundle.codec import value_from_json
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.manifest import Trigger
from recorder.bundle.values import Value, tensors_of
from recorder.records import Kind, RecordInvalid
from recorder.sealer.latched import TriggerRule
from recorder.sealer.placing import placed
from recorder.sealer.stages import StageRecord
from recorder.signals import confidence, count_non_finite

__all__ = ["Rules"]

#: Larger values are not looked at: the sealer shares the host's machine. Counted as "too-large-to-evaluate".
MAX_EVALUATED_BYTES = 64 * 2**20
#: Streams whose runs of low confidence are remembered.
MAX_STREAMS = 1_024

_Loaded = tuple[Value, dict[str, bytes]]


class Rules:
    """Evaluates the configured triggers frame by frame; remembers runs per stream."""

    def __init__(self, rules: Sequence[TriggerRule]) -> None:
        self._rules = rules
        self._runs: dict[tuple[str, int], int] = {}
        self.too_large = 0

    def evaluate(self, stream: str, frame: int, time_ns: int, stages: Sequence[StageRecord]) -> list[Trigger]:
        """Return the triggers that fire on a frame, given its records."""
        fired = []
        for index, rule in enumerate(self._rules):
            try:
                trigger = self._one(index, rule, stream, frame, time_ns, stages)
            except (BundleInvalid, RecordInvalid, KeyError, TypeError, ValueError):
                continue
            if trigger is not None:
                fired.append(trigger)
        return fired

    def _one(
        self, index: int, rule: TriggerRule, stream: str, frame: int, time_ns: int, stages: Sequence[StageRecord]
    ) -> Trigger | None:
        match rule.kind:
            case "exception":
                found = _exception(stages)
                if found is None:
                    return None
                reason = f"{found['type']}: {found['message']}"[:1_000]
                parameters = {"type": found["type"], "stage": found["stage"]}
                return Trigger(kind=rule.kind, reason=reason, frame=frame, time_ns=time_ns, parameters=parameters)
            case "non_finite":
                return self._non_finite(frame, time_ns, stages)
            case "low_confidence":
                return self._low_confidence(index, rule, stream, frame, time_ns, stages)
        return None

    def _non_finite(self, frame: int, time_ns: int, stages: Sequence[StageRecord]) -> Trigger | None:
        for stage in stages:
            for name, part in _parts(stage):
                loaded = self._load(part, stage)
                count = count_non_finite(*loaded) if loaded is not None else 0
                if count:
                    call = stage.head.get("call")
                    where = f"the {name} of call {call}" if call is not None else f"the {name}"
                    return Trigger(
                        kind="non_finite",
                        reason=f"{count} values in {where} are NaN or infinite",
                        frame=frame,
                        time_ns=time_ns,
                        value=float(count),
                        threshold=0.0,
                        parameters={"part": name, "call": call},
                    )
        return None

    def _low_confidence(
        self, index: int, rule: TriggerRule, stream: str, frame: int, time_ns: int, stages: Sequence[StageRecord]
    ) -> Trigger | None:
        below, key = float(rule.parameters["below"]), rule.parameters.get("key")
        source, row, measured = "model", None, None
        end = next((stage for stage in stages if stage.kind == Kind.END), None)
        if key is not None and end is not None and end.head.get("output") is not None:
            loaded = self._load(end.head["output"], end)
            measured = confidence(*loaded, key) if loaded is not None else None
            source = "answer" if measured is not None else "model"
        if measured is None:
            outputs = [stage for stage in stages if stage.kind == Kind.OUTPUT and "output" in stage.head]
            for stage in reversed(outputs):
                loaded = self._load(stage.head["output"], stage)
                frames = stage.head["frames"]
                row = frames.index(frame) if len(frames) > 1 and frame in frames else None
                measured = confidence(*loaded, key, row) if loaded is not None else None
                if measured is not None:
                    break
        run_key = (stream, index)
        run = self._runs.pop(run_key, 0) + 1
        if measured is None or measured >= below:
            return None
        self._runs[run_key] = run
        if len(self._runs) > MAX_STREAMS:
            del self._runs[next(iter(self._runs))]
        wanted = int(rule.parameters.get("for_frames", 1))
        if run < wanted:
            return None
        lasting = f" for {run} frames in a row" if wanted > 1 else ""
        return Trigger(
            kind="low_confidence",
            reason=f"confidence {measured:.3f} is below {below:g}{lasting}",
            frame=frame,
            time_ns=time_ns,
            value=measured,
            threshold=below,
            parameters={"below": below, "key": key, "for_frames": wanted, "source": source, "row": row},
        )

    def _load(self, tagged: dict[str, Any], stage: StageRecord) -> _Loaded | None:
        value = value_from_json(placed(tagged))
        tensors = {}
        total = 0
        for path, tensor in tensors_of(value):
            total += tensor.size_bytes
            if total > MAX_EVALUATED_BYTES:
                self.too_large += 1
                return None
            data = stage.payload(tensor.offset, tensor.size_bytes)
            if data is not None:
                tensors[path] = data
        return value, tensors


def _exception(stages: Sequence[StageRecord]) -> dict[str, Any] | None:
    for stage in stages:
        found = stage.head.get("exception") if stage.kind in (Kind.OUTPUT, Kind.END) else None
        if found:
            return {"type": str(found["type"]), "message": str(found["message"]), "stage": str(found["stage"])}
    return None


def _parts(stage: StageRecord) -> list[tuple[str, dict[str, Any]]]:
    head = stage.head
    if stage.kind == Kind.INPUT:
        return [("input", {"tuple": [head["args"], head["kwargs"]]})]
    if stage.kind == Kind.OUTPUT and head.get("output") is not None:
        return [("output", head["output"])]
    if stage.kind == Kind.END and head.get("output") is not None:
        return [("answer", head["output"])]
    return []
