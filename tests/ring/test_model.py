"""The ring against a plain-Python model: whatever the sizes and the order, no record is torn and none is lost early."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from recorder.ring import CONTEXTS, EVENTS, FRAMES, Reservation, RingReader
from tests.ring.rings import MEMORY, make_ring


def aligned(size_bytes: int) -> int:
    """What a record takes of its data area."""
    return max(64, -(-size_bytes // 64) * 64)


class RingModel(RuleBasedStateMachine):
    """Reserves, commits and abandons in any order, and reads everything after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="ring-model-", dir=MEMORY))
        self.ring = make_ring(self.directory / "a.ring", frames=16 << 10, events=8 << 10, contexts=8 << 10)
        self.reader = RingReader(self.ring.path)
        self.open: list[tuple[Reservation, bytes]] = []
        self.committed: dict[int, dict[int, bytes]] = {CONTEXTS: {}, EVENTS: {}, FRAMES: {}}
        self.reserved: dict[int, list[int]] = {CONTEXTS: [], EVENTS: [], FRAMES: []}  # sizes taken, by number - 1
        self.seed = 0

    def teardown(self) -> None:
        """Nothing stays behind."""
        self.reader.close()
        self.open.clear()
        self.ring.close()
        shutil.rmtree(self.directory)

    @rule(
        region=st.sampled_from([CONTEXTS, EVENTS, FRAMES, FRAMES]),
        size_bytes=st.one_of(st.integers(0, 300), st.integers(0, 9000), st.sampled_from([63, 64, 65, 4096, 16128])),
    )
    def reserve(self, region: int, size_bytes: int) -> None:
        """Fill a range, but do not publish it yet."""
        refused = sum(self.ring.losses.values())
        reservation = self.ring.reserve(region, self.seed, self.seed, size_bytes)
        self.seed += 1
        if reservation is None:
            assert sum(self.ring.losses.values()) == refused + 1
            return
        self.reserved[region].append(aligned(size_bytes))
        assert reservation.number == len(self.reserved[region])
        data = (self.seed.to_bytes(4, "little") * (size_bytes // 4 + 1))[:size_bytes]
        reservation.view[:] = data
        self.open.append((reservation, data))

    @rule(which=st.randoms(use_true_random=False), shorter=st.integers(0, 50))
    def commit(self, which: object, shorter: int) -> None:
        """Publish any open record, at times shortened."""
        if not self.open:
            return
        reservation, data = self.open.pop(which.randrange(len(self.open)))  # type: ignore[attr-defined]
        data = data[: max(0, len(data) - shorter)]
        assert self.ring.commit(reservation, len(data))
        self.committed[reservation.region][reservation.number] = data

    @rule(forget=st.booleans())
    def abandon(self, forget: bool) -> None:
        """Give one up, or drop it."""
        if self.open:
            reservation, _ = self.open.pop(0)
            if not forget:
                self.ring.abandon(reservation)

    @rule(region=st.sampled_from([EVENTS, FRAMES]), size_bytes=st.integers(0, 2000), count=st.integers(1, 40))
    def burst(self, region: int, size_bytes: int, count: int) -> None:
        """Turn the ring over."""
        for _ in range(count):
            self.reserve(region, size_bytes)
            if self.open and self.open[-1][0].number == len(self.reserved[region]):
                reservation, data = self.open.pop()
                assert self.ring.commit(reservation)
                self.committed[reservation.region][reservation.number] = data

    @invariant()
    def every_record_delivered_is_what_was_written_and_none_is_lost_before_its_time(self) -> None:
        """The model knows bytes and sizes only; how the ring wraps is its own affair."""
        for region, committed in self.committed.items():
            scan = self.reader.scan(region, skip_pending=True)
            found = {record.number: self.reader.read(record) for record in scan}
            assert list(found) == sorted(found)
            assert found == {number: committed[number] for number in found}
            sizes = self.reserved[region]
            abandoned = len(sizes) - len(committed) - sum(each.region == region for each, _ in self.open)
            assert scan.after == len(sizes)
            assert scan.pending == sum(each.region == region for each, _ in self.open)
            assert scan.abandoned <= abandoned
            assert len(found) + scan.pending + scan.abandoned + scan.lost == len(sizes)
            layout = self.reader.header.regions[region]
            for number in committed:
                later = sizes[number - 1 :]
                # A wrap skips less than the largest later record; a record survives whatever fits beside that.
                must_be_there = region == CONTEXTS or (
                    sum(later) + max(later) <= layout.data_bytes and len(later) <= layout.slot_count
                )
                assert number in found or not must_be_there


TestRingModel = RingModel.TestCase
TestRingModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
