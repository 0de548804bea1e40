"""Hold two runs' layers against each other: where they first part, and how far apart each layer is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay.locate.records import Key, LayerRecord, Seen, TensorDigest

__all__ = ["LayerGap", "Parting", "align", "describe_key", "distance", "outputs_alone", "part", "within"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGap:
    """One layer in both runs."""

    key: Key
    kind: str
    is_leaf: bool  #: no other recorded layer ran inside it
    inputs_match: bool
    outputs_match: bool
    rel_l2: float | None  #: of the outputs, estimated from sketches; None where nothing can be estimated
    weights: tuple[tuple[str, float | None], ...] = ()  #: names of its own weights that differ, with their distance


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Where two runs part."""

    layers: tuple[LayerGap, ...]  #: in the order in which they ended, as far as the calls are the same
    root: Key | None  #: the first layer whose output differs while its inputs matched
    before: Key | None = None  #: where the root's own operations made the difference: the call that first got it
    structure: str | None = None  #: one sentence, where the runs call other layers
    structure_at: tuple[LayerRecord | None, LayerRecord | None] = (None, None)

    outputs_only: bool = False  #: nothing is known of what went into a layer

    @property
    def differing(self) -> list[LayerGap]:
        """The layers whose outputs differ."""
        return [layer for layer in self.layers if not layer.outputs_match]


def part(reference: Seen, other: Seen, *, outputs_only: bool = False) -> Parting:
    """Compare two runs of one call; ``outputs_only``: of their layers nothing else is known (`outputs_alone`).

    The root is found by walking through both runs in time: every input is looked at when a layer begins, every output
    when it ends. If the first difference is an output, that layer made it. If it is an input, the operations that the
    surrounding layer does itself, between the layers inside it, made it.
    """
    common = align(reference, other)
    leaves = _leaves(reference)
    at: tuple[LayerRecord | None, LayerRecord | None] = (None, None)
    if len(common) < max(len(reference.records), len(other.records)):
        at = (_at(reference, len(common)), _at(other, len(common)))
    root, before = _root(common, at[0])
    ended = sorted(
        (a.end, number)
        for number, (a, b) in enumerate(common)
        if a.end is not None and b.end is not None and _before(a.end, at[0]) and _before(b.end, at[1])
    )
    return Parting(
        layers=tuple(_gap(*common[number], number in leaves) for _, number in ended),
        root=root,
        before=before,
        structure=_structure(common, at) if at != (None, None) else None,
        structure_at=at,
        outputs_only=outputs_only,
    )


def align(reference: Seen, other: Seen) -> list[tuple[LayerRecord, LayerRecord]]:
    """Pair the records of two runs up to the first call that only one of them makes."""
    pairs = []
    for a, b in zip(reference.records, other.records, strict=False):
        if a.key != b.key or a.parent != b.parent:
            break
        pairs.append((a, b))
    return pairs


def distance(a: Sequence[TensorDigest], b: Sequence[TensorDigest]) -> float | None:
    """Estimate the relative L2 distance of two lists of tensors; None where shapes or dtypes leave it undefined.

    0 where all are the same. Within 20 % in two of three cases, down to the rounding of the sketches.
    """
    if len(a) != len(b):
        return None
    error = norm = 0.0
    for x, y in zip(a, b, strict=True):
        if x.sketch is None or y.sketch is None or x.shape != y.shape:
            if not x.same(y):
                return None
            continue
        if not x.same(y):
            error += float(np.sum((x.sketch - y.sketch) ** 2))
        norm += float(np.sum(x.sketch**2))
    if error == 0.0:
        return 0.0
    return float(np.sqrt(error / norm)) if norm > 0 else None


def within(seen: Seen, key: Key) -> Seen:
    """Return the records of one call and of everything that ran inside it, as if it were the whole run."""
    numbers: dict[int, int] = {}
    for number, record in enumerate(seen.records):
        if record.key == key or record.parent in numbers:
            numbers[number] = len(numbers)
    inside = (seen.records[number] for number in numbers)
    return Seen(
        records=tuple(
            replace(record, parent=None if record.parent is None else numbers.get(record.parent)) for record in inside
        )
    )


def outputs_alone(a: Seen, b: Seen) -> tuple[Seen, Seen]:
    """Reduce two runs to what both hold of a module's calls: its outputs, in the order of the first run.

    For runs that were watched in different ways: by modules, by the nodes of a stored graph, by a recorder in
    production. A module counts as called as often as the runs agree on; others are left out, and so are modules that
    have others inside, whose nodes a graph cannot tell from what came between.
    """
    folded = [_calls(each) for each in (a, b)]
    shared = [path for path in folded[0] if len(folded[0][path]) == len(folded[1].get(path, ()))]
    order = sorted((record.end or 0, record.key) for path in shared for record in folded[0][path])
    reduced = []
    for calls in folded:
        by_key = {record.key: record for path in shared for record in calls[path]}
        reduced.append(
            Seen(
                records=tuple(
                    replace(by_key[key], begin=2 * number, end=2 * number + 1) for number, (_, key) in enumerate(order)
                )
            )
        )
    return reduced[0], reduced[1]


def _calls(seen: Seen) -> dict[str, list[LayerRecord]]:
    """The finished calls of innermost modules by path; the nodes of one path that follow each other are one call."""
    paths = {record.path for record in seen.records if record.path}
    outer = {path[:end] for path in paths for end in range(len(path)) if path[end] == "."}
    calls: dict[str, list[LayerRecord]] = {}
    previous = ""
    for record in seen.records:
        path, operator, _ = record.key
        if path and path not in outer and record.end is not None:
            run = calls.setdefault(path, [])
            if operator and previous == path:
                run.pop()
            run.append(replace(record, key=(path, "", len(run)), parent=None, inputs=()))
        previous = path if operator else ""
    return calls


def _before(time: int, parted: LayerRecord | None) -> bool:
    """Whether something happened before the runs called other layers; what is around those is not comparable."""
    return parted is None or time < parted.begin


def _root(
    pairs: Sequence[tuple[LayerRecord, LayerRecord]], parted: LayerRecord | None
) -> tuple[Key | None, Key | None]:
    for time, number, is_end in _events([a for a, _ in pairs]):
        if not _before(time, parted):
            break
        a, b = pairs[number]
        if is_end and not _same(a.outputs, b.outputs):
            return a.key, None
        if not is_end and not _same(a.inputs, b.inputs):
            if a.parent is None:
                return None, a.key
            return pairs[a.parent][0].key, a.key
    return None, None


def _events(records: Sequence[LayerRecord]) -> Iterator[tuple[int, int, bool]]:
    """Beginnings and ends in the order of time: when, the record's number, and whether it is the end."""
    times = [(record.begin, number, False) for number, record in enumerate(records)]
    times += [(record.end, number, True) for number, record in enumerate(records) if record.end is not None]
    yield from sorted(times)


def _gap(a: LayerRecord, b: LayerRecord, is_leaf: bool) -> LayerGap:
    theirs = {digest.name: digest for digest in b.state}
    changed = [
        (digest.name, distance([digest], [theirs[digest.name]]))
        for digest in a.state
        if digest.name in theirs and not digest.same(theirs[digest.name])
    ]
    return LayerGap(
        key=a.key,
        kind=a.kind,
        is_leaf=is_leaf,
        inputs_match=_same(a.inputs, b.inputs),
        outputs_match=_same(a.outputs, b.outputs),
        rel_l2=distance(a.outputs, b.outputs),
        weights=tuple(changed),
    )


def _same(a: Sequence[TensorDigest], b: Sequence[TensorDigest]) -> bool:
    return len(a) == len(b) and all(x.same(y) for x, y in zip(a, b, strict=True))


def _leaves(seen: Seen) -> set[int]:
    return set(range(len(seen.records))) - {record.parent for record in seen.records if record.parent is not None}


def _at(seen: Seen, number: int) -> LayerRecord | None:
    return seen.records[number] if number < len(seen.records) else None


def _structure(
    common: Sequence[tuple[LayerRecord, LayerRecord]], at: tuple[LayerRecord | None, LayerRecord | None]
) -> str:
    called = [_described(record) if record else "nothing more" for record in at]
    after = f"after {_described(common[-1][0])}" if common else "at once"
    return f"the two runs call other layers: {after} one calls {called[0]}, the other {called[1]}"


def _described(record: LayerRecord) -> str:
    return describe_key(record.key, record.kind)


def describe_key(key: Key, kind: str = "") -> str:
    """Name a layer for people: "features.0.1 (BatchNorm2d)", "aten.linear.default in classifier.1, call 2"."""
    path, operator, index = key
    again = f", call {index + 1}" if index else ""
    if operator:
        return f"{operator} in {path or 'the model'}{again}"
    return f"{path or 'the model itself'}{f' ({kind})' if kind else ''}{again}"
