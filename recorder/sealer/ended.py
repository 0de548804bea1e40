"""A frame that has just ended, as triggers see it: its records, its metadata, its values read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from recorder.bundle.codec import value_from_json
from recorder.bundle.values import Value, tensors_of
from recorder.counts import Counts
from recorder.records import Kind
from recorder.sealer.placing import placed
from recorder.sealer.stages import StageRecord
from recorder.signals import confidence

if TYPE_CHECKING:
    from recorder.sealer.references import Watched

__all__ = ["EndedFrame", "Part"]

#: Larger values are not looked at: the sealer shares the host's machine. Counted as "too-large-to-evaluate".
MAX_EVALUATED_BYTES = 64 * 2**20


class Part:
    """An input, an output or the answer.

    Attributes:
        name: "input", "output" or "answer".
        call: the call it belongs to; None: the answer.
        model: the name of that call's model.
        row: the frame's item of the batch; None: the call served this frame alone.
        value: the structure.
        tensors: its tensors' bytes by path.
    """

    def __init__(
        self,
        name: str,
        value: Value,
        tensors: dict[str, bytes],
        *,
        call: int | None,
        model: str | None,
        row: int | None,
    ) -> None:
        self.name = name
        self.value = value
        self.tensors = tensors
        self.call = call
        self.model = model
        self.row = row


class EndedFrame:
    """One frame.

    Args:
        stream: its stream.
        id: its number.
        time_ns: wall clock at its beginning.
        stages: its records, oldest first; the last is its END.
        lost: where it is counted what is too large to be looked at.
        model_name: names a model by its id.
        watched: its stream as compared with its reference, this frame included; None: there is none.
    """

    def __init__(
        self,
        stream: str,
        id: int,
        time_ns: int,
        stages: Sequence[StageRecord],
        lost: Counts,
        model_name: Callable[[int], str],
        watched: Watched | None = None,
    ) -> None:
        self.stream = stream
        self.id = id
        self.time_ns = time_ns
        self.stages = stages
        self.watched = watched
        self._lost = lost
        self._model_name = model_name
        self._parts: dict[tuple[int, str], Part | None] = {}

    @property
    def begin(self) -> StageRecord | None:
        """Its first record: stream, metadata at the beginning, images."""
        return next((stage for stage in self.stages if stage.kind == Kind.BEGIN), None)

    @property
    def end(self) -> StageRecord | None:
        """Its last record: latency, metadata, answer."""
        return next((stage for stage in self.stages if stage.kind == Kind.END), None)

    def parts(self, *kinds: Kind) -> Iterator[Part]:
        """Yield the inputs (of INPUT records), outputs (OUTPUT) and answer (END) that can be read, oldest first."""
        for stage in self.stages:
            if stage.kind not in kinds:
                continue
            if stage.kind == Kind.INPUT:
                yield from self._part("input", {"tuple": [stage.head["args"], stage.head["kwargs"]]}, stage)
            elif stage.head.get("output") is not None:
                yield from self._part("output" if stage.kind == Kind.OUTPUT else "answer", stage.head["output"], stage)

    def judged(self, key: str | int | None) -> tuple[Part, float] | None:
        """Return where the confidence of the answer is told, and the confidence; None where it is not.

        With a key, the service's answer is looked at first, then the models' outputs, the last call first. Without,
        the outputs, then the answer.
        """
        answers = self.parts(Kind.END)
        outputs = reversed(list(self.parts(Kind.OUTPUT)))
        for part in chain(answers, outputs) if key is not None else chain(outputs, answers):
            measured = confidence(part.value, part.tensors, key, part.row)
            if measured is not None:
                return part, measured
        return None

    def _part(self, name: str, tagged: dict[str, Any], stage: StageRecord) -> Iterator[Part]:
        """Read a part once, however many triggers look at it."""
        key = (stage.source.sequence, name)
        if key not in self._parts:
            self._parts[key] = self._read(name, tagged, stage)
        part = self._parts[key]
        if part is not None:
            yield part

    def _read(self, name: str, tagged: dict[str, Any], stage: StageRecord) -> Part | None:
        value = value_from_json(placed(tagged))
        leaves = list(tensors_of(value))
        if sum(tensor.size_bytes for _, tensor in leaves) > MAX_EVALUATED_BYTES:
            self._lost.add("too-large-to-evaluate")
            return None
        tensors = {}
        for path, tensor in leaves:
            data = stage.payload(tensor.offset, tensor.size_bytes)
            if data is not None:
                tensors[path] = data
        if name == "answer":
            return Part(name, value, tensors, call=None, model=None, row=None)
        frames = stage.head["frames"]
        row = frames.index(self.id) if len(frames) > 1 and self.id in frames else None
        call = int(stage.head["call"])
        return Part(name, value, tensors, call=call, model=self._model_of(call), row=row)

    def _model_of(self, call: int) -> str | None:
        for stage in self.stages:
            if stage.kind == Kind.INPUT and stage.head["call"] == call:
                return self._model_name(int(stage.head["model"]))
        return None
