"""JSON has one meaning here, or none."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle import BundleInvalid, strictjson

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_what_is_written_is_read_again(data: Any) -> None:
    """Every kind of data, every character but lone surrogates."""
    assert strictjson.loads(strictjson.dumps(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"a":1,"a":2}',
        b'[{"a":{"b":1,"b":1}}]',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[18446744073709551616]",
        b"[" + b"9" * 10_000 + b"]",
        b'["\\ud800"]',
        b'{"\\udfff":1}',
        b'["\\udc00\\ud800"]',
        b"[" * 129 + b"]" * 129,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" + b"1," * 2**20 + b"1]",
        b" " * (32 * 2**20 + 1),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_texts_that_readers_disagree_on_are_refused(text: bytes) -> None:
    """With one sentence, never another exception."""
    with pytest.raises(BundleInvalid):
        strictjson.loads(text)


def test_a_surrogate_pair_is_one_character() -> None:
    """Escaped characters beyond the first plane are legal."""
    assert strictjson.loads(b'["\\ud83d\\ude00"]') == ["\N{GRINNING FACE}"]


def test_what_json_cannot_say_is_written_as_null_or_question_mark() -> None:
    """A trigger's value may be NaN, a path may not be Unicode; neither may cost the incident."""
    assert json.loads(strictjson.dumps({"a": [math.nan, -math.inf, 1.5]})) == {"a": [None, None, 1.5]}
    assert json.loads(strictjson.dumps([2**64, -(2**63)])) == [str(2**64), -(2**63)]
    assert strictjson.dumps(["\udc80"]) == b'["?"]'
