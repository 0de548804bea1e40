"""The reading side: following a live ring, emptying a dead one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from recorder.ring import CONTEXTS, EVENTS, FRAMES, RingInvalid, RingReader, RingUnavailable
from tests.ring.rings import make_ring, write


def test_a_scan_continues_where_the_last_one_ended(directory: Path) -> None:
    """A resident reader follows the ring as it fills and sees every record once."""
    ring = make_ring(directory / "a.ring", frames=256 << 10)
    seen: list[int] = []
    after = 0
    with RingReader(ring.path) as reader:
        for turn in range(1, 20):
            for _ in range(turn):
                write(ring, FRAMES, b"x" * 700, key=turn)
            scan = reader.scan(FRAMES, after)
            seen += [record.number for record in scan]
            after = scan.after
            assert (scan.lost, scan.pending) == (0, 0)
    assert seen == list(range(1, 191))


def test_a_scan_stops_at_a_record_still_being_written(directory: Path) -> None:
    """Order is kept: the next scan begins with the record that was waited for."""
    ring = make_ring(directory / "a.ring")
    write(ring, FRAMES, b"one")
    slow = ring.reserve(FRAMES, 1, 2, 3)
    write(ring, FRAMES, b"three")
    assert slow is not None
    with RingReader(ring.path) as reader:
        scan = reader.scan(FRAMES)
        assert [record.number for record in scan] == [1]
        assert (scan.after, scan.pending, scan.first_pending) == (1, 1, 2)
        impatient = reader.scan(FRAMES, skip_pending=True)
        assert [record.number for record in impatient] == [1, 3]
        assert (impatient.after, impatient.pending, impatient.first_pending) == (3, 1, 2)
        slow.view[:] = b"two"
        ring.commit(slow)
        assert [reader.read(record) for record in reader.scan(FRAMES, scan.after)] == [b"two", b"three"]


def test_overwritten_records_are_counted_as_lost(directory: Path) -> None:
    """A reader that was away knows how much it missed, whether slots or bytes ran out."""
    ring = make_ring(directory / "a.ring", frames=64 << 10, events=8 << 10)
    with RingReader(ring.path) as reader:
        for region, size_bytes, count in ((FRAMES, 5000, 100), (EVENTS, 1, 100)):
            for _ in range(count):
                write(ring, region, b"x" * size_bytes)
            scan = reader.scan(region)
            numbers = [record.number for record in scan]
            assert numbers == list(range(numbers[0], count + 1)) and len(numbers) >= 8
            assert scan.lost == count - len(numbers)
            late = reader.scan(region, 50)
            assert len(list(late)) == len(numbers) and late.lost == scan.lost - 50


def test_a_scan_that_is_ahead_finds_nothing(directory: Path) -> None:
    """Asking behind the end is no error."""
    ring = make_ring(directory / "a.ring")
    write(ring, FRAMES, b"x")
    with RingReader(ring.path) as reader:
        for after in (1, 2, 2**63):
            scan = reader.scan(FRAMES, after)
            assert (list(scan), scan.after, scan.lost) == ([], after, 0)


def test_a_record_overwritten_after_it_was_found_reads_as_none(directory: Path) -> None:
    """Never foreign bytes: reading validates again."""
    ring = make_ring(directory / "a.ring")
    write(ring, FRAMES, b"a" * 5000)
    with RingReader(ring.path) as reader:
        (record,) = reader.scan(FRAMES)
        assert reader.read(record) == b"a" * 5000
        for _ in range(20):
            write(ring, FRAMES, b"b" * 5000)
        assert reader.read(record) is None


def test_a_record_overwritten_while_it_is_read_reads_as_none(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look at the slot decides, not the first."""
    ring = make_ring(directory / "a.ring")
    write(ring, FRAMES, b"a" * 5000)
    with RingReader(ring.path) as reader, (directory / "copy").open("wb+") as copy:
        (record,) = reader.scan(FRAMES)
        genuine = reader._pread

        def slow_pread(size_bytes: int, offset: int) -> bytes:
            data = genuine(size_bytes, offset)
            if size_bytes == 5000:
                for _ in range(20):
                    write(ring, FRAMES, b"b" * 5001)
            return data

        monkeypatch.setattr(reader, "_pread", slow_pread)
        assert reader.read(record) is None
        monkeypatch.undo()
        newest = list(reader.scan(FRAMES))[-1]
        copy.write(b"before")
        copy.flush()
        monkeypatch.setattr(reader, "_pread", lambda size, at: slow_pread(size - (size == 5001), at))
        assert not reader.copy_to(newest, copy.fileno())
        assert (directory / "copy").read_bytes() == b"before" and copy.tell() == 6


def test_parts_of_a_record_are_read_within_its_bounds(directory: Path) -> None:
    """Headers first, payload later; never a byte of the neighbour."""
    ring = make_ring(directory / "a.ring")
    write(ring, FRAMES, b"0123456789")
    write(ring, FRAMES, b"neighbour")
    with RingReader(ring.path) as reader:
        record, _ = reader.scan(FRAMES)
        assert reader.read(record, 3) == b"3456789"
        assert reader.read(record, 3, 4) == b"3456"
        assert reader.read(record, 8, 100) == b"89"
        assert reader.read(record, 10) == reader.read(record, 100, 5) == reader.read(record, 0, 0) == b""
        for offset, length in ((-1, None), (0, -1)):
            with pytest.raises(ValueError, match="at least 0"):
                reader.read(record, offset, length)


def test_a_record_is_copied_to_a_file_in_pieces(directory: Path) -> None:
    """Spooling holds no record in memory."""
    ring = make_ring(directory / "a.ring", frames=8 << 20)
    data = os.urandom(3 << 20) + b"end"
    write(ring, FRAMES, data)
    with RingReader(ring.path) as reader, (directory / "copy").open("wb+") as copy:
        (record,) = reader.scan(FRAMES)
        assert reader.copy_to(record, copy.fileno())
        assert reader.copy_to(record, copy.fileno(), 3 << 20)
        assert reader.copy_to(record, copy.fileno(), 0, 4)
    assert (directory / "copy").read_bytes() == data + b"end" + data[:4]


def test_every_region_is_described(directory: Path) -> None:
    """Readers find regions by the header, so that more can follow."""
    ring = make_ring(directory / "a.ring")
    with RingReader(ring.path) as reader:
        assert [region.name for region in reader.header.regions] == ["contexts", "events", "frames"]
        assert reader.header.identity.service == "tests" and reader.header.identity.pid == os.getpid()
        assert reader.header.regions[FRAMES].end == reader.header.file_bytes == ring.size_bytes
        with pytest.raises(IndexError):
            reader.head(3)


def test_a_ring_truncated_under_the_reader_is_one_sentence(directory: Path) -> None:
    """No signal, no short data taken for a record."""
    ring = make_ring(directory / "a.ring")
    write(ring, FRAMES, b"x" * 5000)
    with RingReader(ring.path) as reader:
        (record,) = reader.scan(FRAMES)
        ring.close()
        os.truncate(ring.path, reader.header.regions[FRAMES].data_offset + 10)
        with pytest.raises(RingInvalid, match="truncated while it was read"):
            reader.read(record)
        with pytest.raises(RingInvalid, match="it was cut"):
            reader.refresh()
        os.truncate(ring.path, 100)
        with pytest.raises(RingInvalid, match="truncated while it was read"):
            list(reader.scan(CONTEXTS))


def test_an_unlinked_ring_stays_readable(directory: Path) -> None:
    """Removing the file harms neither side."""
    ring = make_ring(directory / "a.ring")
    with RingReader(ring.path) as reader:
        ring.path.unlink()
        write(ring, FRAMES, b"x")
        assert [reader.read(record) for record in reader.scan(FRAMES)] == [b"x"]


def test_what_cannot_be_opened_is_one_sentence(directory: Path) -> None:
    """Missing, a symbolic link, a pipe, a socket, a directory: refused without waiting for anyone."""
    ring = make_ring(directory / "a.ring")
    (directory / "link").symlink_to(ring.path)
    os.mkfifo(directory / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
        for name in ("missing", "link", "socket"):
            with pytest.raises(RingUnavailable, match="cannot be opened"):
                RingReader(directory / name)
        for name in ("pipe", "."):
            with pytest.raises(RingInvalid, match="not an ordinary file"):
                RingReader(directory / name)


def test_a_ring_of_another_user_is_refused(directory: Path) -> None:
    """/dev/shm is world-writable; only our own files count."""
    ring = make_ring(directory / "a.ring")
    with pytest.raises(RingUnavailable, match="belongs to user"):
        RingReader(ring.path, owner_uid=os.geteuid() + 1)


def test_a_closed_reader_says_so(directory: Path) -> None:
    """Using it afterwards never touches a descriptor that is someone else's by now."""
    ring = make_ring(directory / "a.ring")
    reader = RingReader(ring.path)
    reader.close()
    reader.close()
    with pytest.raises(RingUnavailable, match="closed by its reader"):
        list(reader.scan(FRAMES))
