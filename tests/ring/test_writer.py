"""The writing side: what is kept, what is refused, and that every refusal is counted."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recorder.ring import CONTEXTS, EVENTS, FRAMES, RingReader, RingState, RingUnavailable, RingWriter
from tests.ring.rings import contents, make_ring, write


def test_the_file_has_exactly_the_announced_size_and_all_of_it_is_allocated(directory: Path) -> None:
    """A ring never grows: its bound holds from the first moment."""
    ring = make_ring(directory / "a.ring", frames=300_000)
    announced = RingWriter.file_bytes(frames_bytes=300_000, events_bytes=16 << 10, contexts_bytes=16 << 10)
    status = ring.path.stat()
    assert status.st_size == ring.size_bytes == announced <= 300_000 + (32 << 10) + 4096
    assert status.st_blocks * 512 >= status.st_size
    assert status.st_mode & 0o777 == 0o600
    assert [entry.name for entry in directory.iterdir()] == ["a.ring"]


def test_records_come_back_with_kind_key_and_bytes(directory: Path) -> None:
    """What was committed is what a reader finds, in every region."""
    ring = make_ring(directory / "a.ring")
    for region in (CONTEXTS, EVENTS, FRAMES):
        write(ring, region, b"first", kind=7, key=2**64 - 1)
        write(ring, region, b"", kind=2**32 - 1, key=3)
    with RingReader(ring.path) as reader:
        for region in (CONTEXTS, EVENTS, FRAMES):
            first, second = reader.scan(region)
            assert (first.number, first.kind, first.key, reader.read(first)) == (1, 7, 2**64 - 1, b"first")
            assert (second.number, second.kind, second.key, reader.read(second)) == (2, 2**32 - 1, 3, b"")


def test_address_and_view_are_the_same_aligned_bytes(directory: Path) -> None:
    """A caller may copy to an address or into a view."""
    ring = make_ring(directory / "a.ring")
    reservation = ring.reserve(FRAMES, 1, 1, 5)
    assert reservation is not None and reservation.address % 64 == 0 and len(reservation.view) == 5
    ctypes.memmove(reservation.address, b"hello", 5)
    assert reservation.view == b"hello"
    assert ring.commit(reservation)
    assert contents(ring.path, FRAMES) == {1: b"hello"}


def test_a_record_can_be_committed_shorter_than_reserved(directory: Path) -> None:
    """An upper bound is enough to reserve; growing afterwards is refused."""
    ring = make_ring(directory / "a.ring")
    reservation = ring.reserve(FRAMES, 1, 1, 1000)
    assert reservation is not None
    reservation.view[:3] = b"abc"
    with pytest.raises(ValueError, match="cannot be committed with 1001"):
        ring.commit(reservation, 1001)
    assert ring.commit(reservation, 3)
    assert not ring.commit(reservation, 2)
    assert contents(ring.path, FRAMES) == {1: b"abc"}


def test_a_full_latched_region_refuses_and_keeps_what_it_has(directory: Path) -> None:
    """Contexts are never overwritten."""
    ring = make_ring(directory / "a.ring")
    kept = 0
    while (reservation := ring.reserve(CONTEXTS, 1, kept, 3000)) is not None:
        reservation.view[:] = bytes([kept]) * 3000
        ring.commit(reservation)
        kept += 1
    assert kept == 5 and ring.losses == {"contexts-full": 1}
    assert contents(ring.path, CONTEXTS) == {number + 1: bytes([number]) * 3000 for number in range(kept)}
    with RingReader(ring.path) as reader:
        assert reader.header.losses == {"contexts-full": 1}


def test_a_latched_region_refuses_when_its_slots_are_used_up(directory: Path) -> None:
    """Many tiny contexts end at the index, not in someone else's slot."""
    ring = make_ring(directory / "a.ring")
    for number in range(16):
        write(ring, CONTEXTS, bytes([number]))
    assert ring.reserve(CONTEXTS, 1, 1, 1) is None
    assert len(contents(ring.path, CONTEXTS)) == 16


def test_a_record_larger_than_its_region_is_refused_and_evicts_nothing(directory: Path) -> None:
    """Nothing is thrown away for a record that cannot be kept."""
    ring = make_ring(directory / "a.ring")
    write(ring, FRAMES, b"keep me")
    assert ring.reserve(FRAMES, 1, 1, 64 << 10) is None
    assert ring.losses == {"frames-too-large": 1}
    assert contents(ring.path, FRAMES) == {1: b"keep me"}


def test_a_record_that_fills_its_region_is_kept(directory: Path) -> None:
    """The largest record is the whole data area."""
    ring = make_ring(directory / "a.ring")
    with RingReader(ring.path) as reader:
        largest = reader.header.regions[FRAMES].data_bytes
    for turn in range(3):
        write(ring, FRAMES, b"x" * 100)
        write(ring, FRAMES, bytes([turn]) * largest)
        assert contents(ring.path, FRAMES) == {2 * turn + 2: bytes([turn]) * largest}


def test_records_that_fill_the_region_exactly_are_all_kept(directory: Path) -> None:
    """Nothing is evicted a byte too early."""
    ring = make_ring(directory / "a.ring")
    with RingReader(ring.path) as reader:
        quarter, rest = divmod(reader.header.regions[FRAMES].data_bytes, 4)
    assert rest == quarter % 64 == 0
    for number in range(1, 13):
        write(ring, FRAMES, bytes([number]) * quarter)
        newest = range(max(1, number - 3), number + 1)
        assert contents(ring.path, FRAMES) == {each: bytes([each]) * quarter for each in newest}


def test_an_open_reservation_is_never_run_over(directory: Path) -> None:
    """A slow thread keeps its range; newer records are refused and counted until it is done."""
    ring = make_ring(directory / "a.ring")
    slow = ring.reserve(FRAMES, 1, 1, 1000)
    assert slow is not None
    written = 0
    while (reservation := ring.reserve(FRAMES, 1, 2, 5000)) is not None:
        reservation.view[:] = b"n" * 5000
        ring.commit(reservation)
        written += 1
    assert written > 3 and ring.losses == {"frames-blocked": 1} and ring.open_reservations == 1
    slow.view[:] = b"s" * 1000
    assert ring.commit(slow)
    found = contents(ring.path, FRAMES)
    assert found[1] == b"s" * 1000 and len(found) == written + 1
    assert ring.reserve(FRAMES, 1, 3, 5000) is not None


def test_an_abandoned_reservation_blocks_nothing_and_is_never_delivered(directory: Path) -> None:
    """Giving up is explicit, counted by the reader, and final."""
    ring = make_ring(directory / "a.ring")
    given_up = ring.reserve(FRAMES, 1, 1, 1000)
    assert given_up is not None
    ring.abandon(given_up)
    ring.abandon(given_up)
    assert not ring.commit(given_up)
    write(ring, FRAMES, b"next")
    with RingReader(ring.path) as reader:
        scan = reader.scan(FRAMES)
        assert [record.number for record in scan] == [2]
        assert (scan.abandoned, scan.lost, scan.pending) == (1, 0, 0)
    for _ in range(100):
        write(ring, FRAMES, b"n" * 5000)
    assert ring.losses == {}


def test_a_forgotten_reservation_abandons_itself(directory: Path) -> None:
    """An exception in the host between reserve and commit does not stop the recording for ever."""
    ring = make_ring(directory / "a.ring")

    def host() -> None:
        reservation = ring.reserve(FRAMES, 1, 1, 1000)
        assert reservation is not None
        raise RuntimeError("the host's own")

    with pytest.raises(RuntimeError):
        host()
    gc.collect()
    assert ring.open_reservations == 0
    for _ in range(100):
        write(ring, FRAMES, b"n" * 5000)


def test_reserving_inside_reserving_is_refused_not_wrong(directory: Path) -> None:
    """Garbage collection can run a host's code, and so the recorder, in the middle of a reservation."""
    ring = make_ring(directory / "a.ring")
    nested: list[object] = []

    class Finalizer:
        def __del__(self) -> None:
            nested.append(ring.reserve(FRAMES, 1, 99, 10))

    class Size(int):
        """An argument whose use runs code inside the lock, as a collection would."""

        def __add__(self, other: int) -> int:
            Finalizer()
            return int(self) + other

    outer = ring.reserve(FRAMES, 1, 1, Size(100))
    assert outer is not None and nested == [None]
    assert ring.losses == {"frames-reentered": 1}
    outer.view[:] = b"o" * 100
    assert ring.commit(outer)
    assert contents(ring.path, FRAMES) == {1: b"o" * 100}


def test_closing_keeps_exported_memory_alive(directory: Path) -> None:
    """A thread that still copies when the ring is closed writes into memory that is there."""
    ring = make_ring(directory / "a.ring")
    reservation = ring.reserve(FRAMES, 1, 1, 100)
    assert reservation is not None
    view = reservation.view
    ring.close()
    ring.close()
    ctypes.memset(reservation.address, 7, 100)
    assert view == bytes([7]) * 100
    assert not ring.commit(reservation)
    assert ring.reserve(FRAMES, 1, 1, 1) is None and not ring.heartbeat()
    assert ring.losses == {"ring-closed": 1}
    with RingReader(ring.path) as reader:
        assert reader.header.state is RingState.CLOSED


def test_a_terminated_ring_stays_terminated_when_closed(directory: Path) -> None:
    """An orderly shutdown is told from a death and from an ordinary end."""
    ring = make_ring(directory / "a.ring")
    ring.set_state(RingState.TERMINATED)
    ring.close()
    with RingReader(ring.path) as reader:
        assert reader.header.state is RingState.TERMINATED


def test_a_heartbeat_moves_both_clocks(directory: Path) -> None:
    """A reader sees that the process lives."""
    ring = make_ring(directory / "a.ring")
    with RingReader(ring.path) as reader:
        before = reader.header
        assert ring.heartbeat()
        after = reader.refresh()
    assert after.heartbeat_ns > before.heartbeat_ns and after.heartbeat_monotonic_ns > before.heartbeat_monotonic_ns
    assert after.created_ns == before.created_ns


def test_prefaulting_changes_no_byte(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's help or without, even while records are written."""
    for name in ("with", "without"):
        ring = make_ring(directory / name, frames=4 << 20)
        write(ring, FRAMES, b"before")
        if name == "without":
            monkeypatch.setattr("recorder.ring.mapping._MADV_POPULATE_WRITE", 9999)
        thread = threading.Thread(target=ring.prefault)
        thread.start()
        for _ in range(50):
            write(ring, FRAMES, b"during" * 1000)
        thread.join()
        found = contents(ring.path, FRAMES)
        assert found.pop(1) == b"before" and set(found.values()) == {b"during" * 1000}
        ring.close()
        ring.prefault()


def test_an_existing_file_is_never_replaced(directory: Path) -> None:
    """The ring of another process, or its leftover, is safe from us."""
    make_ring(directory / "a.ring").close()
    before = (directory / "a.ring").read_bytes()
    with pytest.raises(RingUnavailable, match="already"):
        make_ring(directory / "a.ring")
    assert (directory / "a.ring").read_bytes() == before
    assert [entry.name for entry in directory.iterdir()] == ["a.ring"]


def test_a_file_system_without_links_is_no_obstacle(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is then given by a rename, still never over a file that is there."""

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    write(make_ring(directory / "a.ring"), FRAMES, b"there")
    with pytest.raises(RingUnavailable, match="already"):
        make_ring(directory / "a.ring")
    assert contents(directory / "a.ring", FRAMES) == {1: b"there"}


@pytest.mark.parametrize(
    ("number", "sentence"), [(errno.ENOSPC, "no room"), (errno.EFBIG, "no room"), (errno.EIO, "can be made at")]
)
def test_no_room_is_one_sentence_and_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
) -> None:
    """A full disk or tmpfs is found out before the first byte is touched."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(RingUnavailable, match=sentence):
        make_ring(directory / "a.ring")
    assert list(directory.iterdir()) == []


def test_a_directory_that_is_not_there_is_one_sentence(directory: Path) -> None:
    """The remedy stands in the sentence."""
    with pytest.raises(RingUnavailable, match="name a directory"):
        make_ring(directory / "missing" / "a.ring")


@pytest.mark.parametrize("region", ["frames", "events", "contexts"])
def test_a_region_too_small_to_hold_anything_is_a_wrong_argument(directory: Path, region: str) -> None:
    """Wrong arguments raise at construction."""
    with pytest.raises(ValueError, match=f"The {region} region"):
        make_ring(directory / "a.ring", **{region: 4096})


_UNDER_A_FILE_SIZE_LIMIT = """
import resource, sys
from pathlib import Path
from recorder.ring import RingUnavailable
from tests.ring.rings import make_ring
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    make_ring(Path(sys.argv[1]), frames=1 << 20)
except RingUnavailable as error:
    print(error)
"""

_CUT_UNDER_THE_WRITER = """
import os, sys
from pathlib import Path
from recorder.ring import FRAMES
from tests.ring.rings import make_ring, write
ring = make_ring(Path(sys.argv[1]))
write(ring, FRAMES, b"before")
reservation = ring.reserve(FRAMES, 1, 1, 60000)
os.truncate(sys.argv[1], 0)
print({attempt})
"""


def _run(script: str, path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_limit_on_file_sizes_is_one_sentence(directory: Path) -> None:
    """RLIMIT_FSIZE neither kills the host nor leaves a half-made file."""
    assert "no room for a ring" in _run(_UNDER_A_FILE_SIZE_LIMIT, directory / "a.ring")
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        (
            "ring.abandon(reservation), ring.reserve(FRAMES, 1, 1, 9), ring.losses",
            "None, None, {'frames-truncated': 1}",
        ),
        ("ring.reserve(FRAMES, 1, 1, 9), ring.losses", "None, {'frames-truncated': 1}"),
        ("ring.reserve(FRAMES, 1, 1, 9000), ring.losses", "None, {'frames-blocked': 1}"),
        ("ring.reserve(FRAMES, 1, 1, 10**6), ring.losses", "None, {'frames-too-large': 1}"),
        ("ring.heartbeat(), ring.reserve(FRAMES, 1, 1, 9), ring.losses", "False, None, {'ring-closed': 1}"),
        ("ring.set_state(2), ring.close(), ring.commit(reservation)", "None, None, False"),
        ("ring.close(), ring.commit(reservation)", "None, False"),
    ],
)
def test_a_ring_cut_under_its_writer_is_given_up_without_sigbus(directory: Path, attempt: str, outcome: str) -> None:
    """The host lives on, whatever it does next; the loss is counted."""
    script = _CUT_UNDER_THE_WRITER.replace("{attempt}", f"({attempt})")
    assert _run(script, directory / "a.ring") == f"({outcome})\n"


def test_a_descriptor_closed_by_the_host_stops_nothing(directory: Path) -> None:
    """Daemons close every descriptor; the mapping does not need its own."""
    ring = make_ring(directory / "a.ring")
    mapping = ring._mapping
    assert mapping is not None
    with (directory / "small").open("wb+") as other:
        object.__setattr__(mapping, "_file_size", lambda: os.fstat(other.fileno()).st_size)
        write(ring, FRAMES, b"still here")
    assert contents(ring.path, FRAMES) == {1: b"still here"}


def test_a_forked_child_lets_go_and_the_parent_goes_on(directory: Path) -> None:
    """The ring belongs to the process that made it."""
    ring = make_ring(directory / "a.ring")
    inherited = ring.reserve(FRAMES, 1, 1, 100)
    assert inherited is not None
    held = threading.Event()
    done = threading.Event()

    def hold_the_lock() -> None:
        with ring._lock:
            held.set()
            done.wait(120)

    thread = threading.Thread(target=hold_the_lock)
    thread.start()
    held.wait(120)
    child = os.fork()
    if child == 0:
        ring.after_fork_in_child()
        refused = ring.reserve(FRAMES, 1, 2, 10) is None and not ring.commit(inherited) and not ring.heartbeat()
        ring.abandon(inherited)
        ring.close()
        os._exit(0 if refused else 1)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    inherited.view[:] = b"p" * 100
    assert ring.commit(inherited)
    assert contents(ring.path, FRAMES) == {1: b"p" * 100}
    with RingReader(ring.path) as reader:
        assert reader.header.state is RingState.LIVE
