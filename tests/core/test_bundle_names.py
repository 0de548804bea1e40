"""Names of bundles say when it happened, so that a listing of names is a listing in time."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.manifest import Incident, Window
from recorder.sealer.latched import Latched
from recorder.sealer.sealing import bundle_name
from recorder.sealer.window import ClosedWindow
from recorder.sinks.base import check_name


def name_at(opened_ns: int, id: str = "0" * 32) -> str:
    window = Window(pre_frames=0, post_frames=0, post_seconds=0, closed_by="close")
    incident = Incident(
        id=id, stream="", severity="normal", opened_ns=opened_ns, window=window, triggers=(), host="alive"
    )
    return bundle_name(ClosedWindow(incident, [], Latched()))


@given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70))
def test_names_sort_in_time_to_the_microsecond_and_hold_whatever_a_ring_claims(one: int, other: int) -> None:
    first, second = name_at(one), name_at(other)
    check_name(first)
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z-0{12}\.zst", first)
    if 0 <= one < 2**63 and 0 <= other < 2**63 and one // 1_000 < other // 1_000:
        assert first < second


def test_two_incidents_of_one_second_are_in_order() -> None:
    """Their random ids are not."""
    second = 1_800_000_000 * 10**9
    assert name_at(second + 5_000, "f" * 32) < name_at(second + 900_000_000, "0" * 32)
    assert name_at(second) == "20270115T080000.000000Z-000000000000.zst"
