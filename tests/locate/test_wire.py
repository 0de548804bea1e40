"""What a worker says of its layers is not believed: it may run a stranger's graph."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.locate.records import Seen, seen_from_wire
from replay.protocol import ProtocolError


def form() -> dict[str, Any]:
    digest = {"name": "", "hash": "0" * 16, "dtype": "float32", "shape": [2, 3], "sketch": 0}
    record = {"path": "a.b", "operator": "", "index": 0, "kind": "Linear", "parent": None, "begin": 1, "end": 2}
    return {
        "records": [{**record, "inputs": [digest], "outputs": [digest], "state": []}],
        "kept": [],
        "sketches": 1,
    }


PAYLOAD = np.arange(61, dtype="<f8").tobytes()


def test_an_honest_reply_is_taken() -> None:
    """Digests point into the sketches."""
    seen = seen_from_wire(form(), memoryview(PAYLOAD))
    assert isinstance(seen, Seen) and seen.records[0].key == ("a.b", "", 0)
    assert seen.records[0].outputs[0].sketch[60] == 60.0


HOSTILE: list[tuple[str, Any]] = [
    ("records.0.outputs.0.sketch", 1),
    ("records.0.outputs.0.sketch", -1),
    ("records.0.outputs.0.hash", "0" * 15 + "\n"),
    ("records.0.outputs.0.dtype", "object"),
    ("records.0.outputs.0.shape", [-1]),
    ("records.0.outputs.0.shape", [1] * 65),
    ("records.0.parent", 0),
    ("records.0.end", 1),
    ("records.0.path", "x" * 1001),
    ("records.0.index", True),
    ("records.0.inputs", None),
    ("records", 7),
    ("sketches", 2**60),
    ("sketches", 0),
    ("kept", [{"key": ["", "", 0], "arguments": {}, "arguments_bytes": 2**60, "output": {}, "output_bytes": 0}]),
    ("kept", [{"key": ["", "", 0], "arguments": {}, "arguments_bytes": 0, "output": {}, "output_bytes": 0}]),
]


@pytest.mark.parametrize(("where", "value"), HOSTILE)
def test_a_hostile_reply_is_refused(where: str, value: Any) -> None:
    """One error of the protocol, whatever is wrong."""
    changed = form()
    *steps, last = [int(step) if step.isdigit() else step for step in where.split(".")]
    place = changed
    for step in steps:
        place = place[step]
    place[last] = value
    with pytest.raises(ProtocolError):
        seen_from_wire(changed, memoryview(PAYLOAD))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["records", "kept", "sketches"]), anything)
def test_nonsense_is_refused_or_empty(key: str, value: Any) -> None:
    """Never another exception."""
    changed = {**copy.deepcopy(form()), key: value}
    try:
        seen_from_wire(changed, memoryview(PAYLOAD))
    except ProtocolError:
        return
    assert (key == "records" and value in ([], {}, "")) or (key == "kept" and value in ([], {}, ""))
