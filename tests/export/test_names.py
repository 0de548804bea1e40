"""Names of classes, streams and signals as names of files."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from replay.class_names import ClassNames
from replay.export.names import NO_CLASS, plain_name, with_unit


@settings(max_examples=40)
@given(st.lists(st.text() | st.from_regex(r"[a-z/ .]{1,4}(-[0-9a-f]{10})?", fullmatch=True), unique=True))
def test_distinct_names_stay_distinct_and_lead_nowhere(names: list[str]) -> None:
    """Also those that look like what another becomes."""
    every = [*names, *(plain_name(name) for name in names)]
    plain = {plain_name(name) for name in set(every)}
    assert len(plain) == len(set(every)) and NO_CLASS not in plain
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) for name in plain)


def test_plain_names_stay_as_they_are_and_others_can_be_read() -> None:
    assert plain_name("dent_3") == "dent_3" and plain_name("cat-dog") == "cat-dog"
    assert plain_name("a/b").startswith("a_b-") and plain_name("a/b") != plain_name("a b")
    assert plain_name("../").startswith("-") and plain_name("unknown").startswith("unknown-")


def test_signals_name_their_unit() -> None:
    assert with_unit("luminance", "of full scale") == "luminance_of_full_scale"
    assert with_unit("latency_seconds", "seconds") == "latency_seconds" and with_unit("x", "") == "x"
    assert re.fullmatch(r"[\w-]+", with_unit("a/../b", "\x1b[31m m/s"))


def test_a_class_is_the_same_by_index_and_by_name() -> None:
    names = ClassNames({"ok": 0, "dent": 1})
    assert names.key("dent") == names.key(1) == names.key("1") == 1 and names.text(1) == "dent"
    assert names.key("007") == "007" and names.key(True) == "True" and names.text(5) == "5"
