"""Find where two replays of a recorded call part: layer by layer, then each layer alone, then operator by operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from recorder.bundle.values import ITEM_SIZE_BYTES
from replay.compare.comparison import compare_answers
from replay.locate.alignment import LayerGap, Parting, outputs_alone, part, within
from replay.locate.records import Kept, Key, LayerRecord, Seen, Watch
from replay.session import Failed, Job, Raised, Returned, Session

__all__ = ["Alone", "Located", "locate_call", "locate_repeat", "watch"]

#: Inputs and outputs of layers that are brought over to be run alone; the first layers that differ come first.
_ALONE_BYTES = 256 * 2**20
_ALONE_LAYERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What one layer makes of the reference's own inputs on the other side: an error that nothing handed on to it."""

    rel_l2: float | None  #: exact; 0 where the outputs are the same; None where it is undefined
    max_abs: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where two runs of one call part."""

    job: Job
    parting: Parting | None = None
    alone: Mapping[Key, Alone] = field(default_factory=dict)
    operators: Parting | None = None  #: inside the root, where that is a module
    disturbed: bool = False  #: watching the operators changed what the root computes
    reason: str = ""  #: why nothing could be compared

    @property
    def differs(self) -> bool:
        """Whether the runs part anywhere."""
        return self.parting is not None and bool(self.parting.differing or self.parting.structure)

    @property
    def root(self) -> LayerGap | None:
        """The layer where they part."""
        if self.parting is None or self.parting.root is None:
            return None
        return next((layer for layer in self.parting.layers if layer.key == self.parting.root), None)

    @property
    def operator(self) -> Key | None:
        """The operator where they part, as far as it is known."""
        root = self.root
        if root is not None and root.key[1]:
            return root.key
        found = self.operators.root if self.operators is not None else None
        return found if found is not None and found[1] else None


class NotSeen(Exception):
    """A side that could not be watched; the message is one sentence."""


Run = Callable[[Job, Watch], Seen]


def watch(session: Session, job: Job, what: Watch) -> Seen:
    """Run one call and watch it.

    Raises:
        NotSeen: it could not be run, or raised.
    """
    [(_, outcome)] = session.run([replace(job, watch=what)])
    match outcome:
        case Returned(seen=Seen() as seen):
            return seen
        case Raised(type=kind):
            raise NotSeen(f"it raised {kind}")
        case Failed(reason=reason):
            raise NotSeen(reason)
    raise NotSeen("the replay worker watched nothing")


def locate_call(
    reference: Session, job: Job, other: Session, other_job: Job, *, names: tuple[str, str] = ("one", "the other")
) -> Located:
    """Locate the difference between two sides of one call.

    Args:
        reference: a session under the one side's settings.
        job: the call on that side.
        other: a session under the other side's settings; may be the same.
        other_job: the same call on that side: its model may be another.
        names: of the sides, for sentences.

    Raises:
        BundleInvalid, BundleUnavailable: recorded bytes are not what the manifest says.
    """
    seen: list[Seen] = []
    for session, each, name in ((reference, job, names[0]), (other, other_job, names[1])):
        try:
            seen.append(watch(session, each, Watch()))
        except NotSeen as error:
            return Located(job=job, reason=f"{name}: {error}")
    sources = [session.source_of(each) for session, each in ((reference, job), (other, other_job))]
    if len({source.origin for source in sources if source is not None}) > 1:
        return Located(job=job, parting=part(*outputs_alone(*seen), outputs_only=True))
    located = Located(job=job, parting=part(*seen))
    try:
        return _look_closer(
            located,
            seen[0],
            lambda what: watch(reference, job, what),
            lambda what: watch(other, other_job, what),
        )
    except NotSeen:  # it ran before; what is known already is said
        return located


def locate_repeat(session: Session, job: Job) -> Located:
    """Locate the difference between two runs of one call under the same settings, the model loaded anew in between."""
    runs = []
    try:
        for _ in range(2):
            session.forget_models()
            runs.append(watch(session, job, Watch()))
        located = Located(job=job, parting=part(*runs))
        root = located.root
        if root is None or root.key[1]:
            return located
        runs.clear()
        for _ in range(2):
            session.forget_models()
            runs.append(watch(session, job, Watch(within=root.key)))
    except NotSeen as error:
        return Located(job=job, reason=str(error))
    return replace(located, operators=part(*(within(run, root.key) for run in runs)))


def _look_closer(
    located: Located, reference: Seen, run: Callable[[Watch], Seen], run_other: Callable[[Watch], Seen]
) -> Located:
    """Run each differing layer on the reference's inputs, and watch the operators of the root."""
    if located.parting is None or not located.parting.differing:
        return located
    root = located.parting.root
    module = root if root is not None and not root[1] else None
    keys = tuple(_worth_running(located.parting, reference))
    ours = run(Watch(within=module, keep=keys))
    theirs = run_other(Watch(within=module, keep=keys, force=ours.kept))
    alone = {key: _compare(ours.kept[key], theirs.kept[key]) for key in keys if key in ours.kept and key in theirs.kept}
    if module is None:
        return replace(located, alone=alone)
    inside = within(ours, module), within(theirs, module)
    before = next((record for record in reference.records if record.key == module), None)
    disturbed = before is not None and bool(inside[0].records) and _outputs(before) != _outputs(inside[0].records[0])
    return replace(located, alone=alone, operators=part(*inside), disturbed=disturbed)


def _worth_running(parting: Parting, reference: Seen) -> Iterator[Key]:
    """The innermost layers that differ, as many as may be brought over."""
    sizes = {record.key: _size_bytes(record) for record in reference.records}
    left = _ALONE_BYTES
    for layer in [each for each in parting.layers if each.is_leaf and not each.outputs_match][:_ALONE_LAYERS]:
        left -= sizes[layer.key]
        if left < 0:
            return
        yield layer.key


def _size_bytes(record: LayerRecord) -> int:
    tensors = (*record.inputs, *record.outputs)
    return sum(math.prod(tensor.shape) * ITEM_SIZE_BYTES[tensor.dtype] for tensor in tensors)


def _compare(ours: Kept, theirs: Kept) -> Alone:
    difference = compare_answers(ours.output, theirs.output).first_difference
    if difference is None:
        return Alone(rel_l2=0.0, max_abs=0.0)
    return Alone(rel_l2=difference.rel_l2, max_abs=difference.max_abs)


def _outputs(record: LayerRecord) -> list[str]:
    return [digest.hash for digest in record.outputs]
