"""Damage to what a recorder left: ``python -m tests.attacks.leftover_mutations --count 100000`` prints what came of it.

Each mutation hits the ring, the track, the progress or the status file of a real recording, some of them where a
checksum or a length would otherwise catch it. Whoever reads these, the sealer that goes on, the one that takes over
and `replay recover`, must refuse with a sentence or pass over what is damaged; a bundle made of the rest must hold what
its own digests say. Anything else is a failure, and is printed with the seed that makes it again.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack

from recorder.bundle import Bundle
from recorder.records import HEAD_LENGTH
from recorder.ring import RingError, RingReader
from recorder.ring.layout import HEADS_OFFSET, MOVING_OFFSET, REGIONS_OFFSET, SLOT_BYTES
from recorder.sealer.assemble import assemble
from recorder.sealer.follower import Follower
from recorder.sealer.leftover import salvage
from recorder.sealer.progress import Progress, Told
from recorder.sealer.tracking import Tracking, owner_of
from recorder.sealer.window import ClosedWindow, incident_name
from recorder.status import StatusReader, StatusWriter, status_path
from recorder.track import TrackUnavailable, track_path
from recorder.track.layout import HEADER_BYTES, seal_slot, unpack_header
from tests.attacks.leftovers import RING, leave

__all__ = ["BATCH", "Leftovers", "run_batch"]

#: Mutations of one seed: what a failure names.
BATCH = 100
#: What the contract allows a hostile file to take.
MAX_SECONDS = 2.0

_NUMBERS = [0, 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 4096, SLOT_BYTES]
#: Values of another kind than a record's head has in that place.
_ODD: list[Any] = [
    None, True, -1, 0, 2**62, 2**63 - 1, 2**64 - 1, -(2**63), 1e308, float("inf"), float("nan"), "", "../../evil",
    "\ud7ff" * 3, "x" * 5000, [], {}, [[]], {"tensor": {}}, {"opaque": 3}, {"scalar": 2**64 - 1}, [{}] * 40,
]  # fmt: skip


class Leftovers:
    """A recording's files, and a directory in which they are damaged and read."""

    def __init__(self, directory: Path) -> None:
        ring = leave(directory / "genuine")
        self.genuine = {
            path.name.removeprefix(RING): path.read_bytes() for path in sorted(ring.parent.glob(RING + "*"))
        }
        self.heads = _heads(ring)
        self.slots = _slots(self.genuine[".track"])
        self.directory = directory / "damaged"
        self.directory.mkdir()
        self.ring = self.directory / RING
        self.scratch = directory / "scratch"
        self.scratch.mkdir()

    def put(self, files: dict[str, bytes]) -> None:
        """Lay the files out, the damaged ones in the place of the genuine ones."""
        for path in self.directory.iterdir():
            path.unlink()
        for suffix, content in {**self.genuine, **files}.items():
            (self.directory / (RING + suffix)).write_bytes(content)


def run_batch(left: Leftovers, seed: int, count: int = BATCH) -> Counter[str]:
    """Make and try mutations; return the outcomes by name.

    Raises:
        AssertionError: one of them had another outcome than it may; the message names seed and number.
    """
    dice = random.Random(seed)
    outcomes = Counter[str]()
    for number in range(count):
        suffix, damaged = _damage(left, dice)
        left.put({suffix: damaged})
        began = time.process_time()
        try:
            outcomes[f"{suffix or '.ring'}: {_read_all(left)}"] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, mutation {number}: {type(error).__name__}: {error}") from error
        assert time.process_time() - began < MAX_SECONDS, f"seed {seed}, mutation {number} took too long"
    return outcomes


def _damage(left: Leftovers, dice: random.Random) -> tuple[str, bytes]:
    suffix = dice.choices(["", ".track", ".progress", ".status"], [6, 2, 1, 1])[0]
    data = bytearray(left.genuine[suffix])
    if suffix == "" and dice.random() < 0.6:
        _change_head(data, left.heads, dice)
        return suffix, bytes(data)
    if suffix == ".track" and dice.random() < 0.6:
        for _ in range(dice.choice([1, 3])):
            _change_slot(data, left.slots, dice)
        return suffix, bytes(data)
    for _ in range(dice.choice([1, 1, 2, 4])):
        place = dice.randrange(len(data) or 1)
        match dice.randrange(6):
            case 0 if data:
                data[place] ^= 1 << dice.randrange(8)
            case 1 if len(data) >= 16:
                struct.pack_into("<Q", data, dice.randrange(len(data) // 8) * 8, dice.choice(_NUMBERS))
            case 2 if suffix == "":
                words = [*range(44), *range(MOVING_OFFSET // 8, MOVING_OFFSET // 8 + 4)]
                words += range(REGIONS_OFFSET // 8, HEADS_OFFSET // 8 + 8)
                struct.pack_into("<Q", data, dice.choice(words) * 8, dice.choice([*_NUMBERS, len(data)]))
            case 3:
                del data[place:]
            case 4:
                data[place : place + 4096] = dice.randbytes(min(4096, len(data) - place))
            case _ if suffix == ".status":
                data += dice.choice(
                    [b"[" * 5000, b'{"n":' * 2000, b'{"n":1e999}\n', b'{"n":true}\n', b"9" * 9000, b"\xff\n"]
                )
    if suffix == ".track":
        _make_checksums_right(data)
    return suffix, bytes(data)


def _heads(ring: Path) -> list[tuple[int, dict[str, Any]]]:
    """Where the head of each record lies in the file, and what it says."""
    content, found = ring.read_bytes(), []
    with RingReader(ring) as reader:
        for region, layout in enumerate(reader.header.regions):
            for record in reader.scan(region, skip_pending=True):
                place = layout.data_offset + record.offset
                (length,) = HEAD_LENGTH.unpack_from(content, place)
                found.append((place, msgpack.unpackb(content[place + 4 : place + 4 + length])))
    assert len(found) > 20
    return found


def _change_head(data: bytearray, heads: list[tuple[int, dict[str, Any]]], dice: random.Random) -> None:
    """Put something odd into a record's head, which no checksum guards, and let its length agree."""
    place, head = dice.choice(heads)
    changed = json.loads(json.dumps(head))
    node: Any = changed
    while True:
        key = dice.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if isinstance(node[key], dict | list) and node[key] and dice.random() < 0.7:
            node = node[key]
            continue
        node[key] = dice.choice(_ODD)
        if isinstance(node, dict) and dice.random() < 0.2:
            del node[key]
        break
    packed = msgpack.packb(changed)
    data[place : place + 4 + len(packed)] = HEAD_LENGTH.pack(len(packed)) + packed  # into the payload, if it is longer


def _slots(track: bytes) -> list[tuple[int, int]]:
    """Where the slots of a track that hold something lie, and how long they are."""
    layout = unpack_header(track[:HEADER_BYTES], len(track))
    found = []
    for start, end, size in zip(layout.offsets, layout.offsets[1:], layout.slot_bytes, strict=False):
        found += [(place, size) for place in range(start, end, size) if any(track[place : place + size])]
    assert len(found) > 8
    return found


def _change_slot(data: bytearray, slots: list[tuple[int, int]], dice: random.Random) -> None:
    """Put extremes into a slot of the track, and let its checksum agree; sometimes into one that was empty."""
    place, size = dice.choice(slots)
    target = place + size if dice.random() < 0.2 and place + 2 * size <= len(data) else place
    slot = bytearray(data[place : place + size])
    for _ in range(dice.choice([1, 1, 4])):
        code, width = dice.choice([("<Q", 8), ("<I", 4), ("<H", 2)])
        number = dice.choice([*_NUMBERS, 0x7FC00000, 0x7F800000, 0xFF800000, dice.getrandbits(64)])
        struct.pack_into(code, slot, dice.randrange(4, min(size, 80) - width), number % 2 ** (8 * width))
    data[target : target + size] = seal_slot(bytes(4) + bytes(slot[4:]))


def _make_checksums_right(data: bytearray) -> None:
    """Let the track's header agree with its checksum, so that what it says is looked at."""
    if len(data) > 64:
        length = struct.unpack_from("<I", data, 12)[0]
        struct.pack_into("<I", data, 16, zlib.crc32(data[20 : 20 + length]))


def _read_all(left: Leftovers) -> str:
    """Read everything by every way; return how it ended."""
    StatusWriter(status_path(left.ring)).append({"event": "flushed", "flush": 1})
    assert all(isinstance(event, dict) for event in StatusReader(status_path(left.ring)).poll())
    Told.about(left.ring)
    progress = Progress(left.ring)
    progress.close()
    try:
        with RingReader(left.ring) as reader:
            _follow(left, reader, progress.found)
            window = salvage(reader, incident_name(reader), "recovered", ending="unknown")
            return _bundle(left, window)
    except RingError as error:
        assert str(error).isprintable() and str(error).endswith(".")
        return "refused"


def _follow(left: Leftovers, reader: RingReader, resume: tuple[int, int]) -> None:
    """As the resident sealer does, with history, and with the marks that a former one left."""
    try:
        tracking = Tracking(track_path(left.ring), 2**17, owner_of(reader), 60.0)
    except (TrackUnavailable, OSError):
        tracking = None
    windows: list[ClosedWindow] = []
    events: list[dict[str, Any]] = []
    try:
        for marks in ((0, 0), resume):
            follower = Follower(
                reader, left.directory, 2**20, events.append, windows.append, resume=marks, tracking=tracking
            )
            follower.poll(time.monotonic())
            follower.close("close", "closed", time.monotonic())
        for window in windows:
            window.latched.awaited(window.contexts, window.models)
            _bundle(left, window)
            window.release()
    finally:
        if tracking is not None:
            tracking.close()


def _bundle(left: Leftovers, window: ClosedWindow) -> str:
    with tempfile.TemporaryDirectory(dir=left.scratch) as scratch:
        path = assemble(window.incident, window.records, window.latched, Path(scratch), track=window.track)
        with Bundle.open(path) as bundle:
            assert not bundle.verify(), bundle.verify()
            lost = bundle.manifest.incident.lost
            return "records left out" if {"record-malformed", "track-unreadable"} & set(lost) else "read"


def main() -> None:
    """Run a campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory() as directory:
        left = Leftovers(Path(directory))
        outcomes += run_batch(left, arguments.seed, min(20, arguments.count))  # what honest files take, too
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        while outcomes.total() < arguments.count:
            arguments.seed += 1
            outcomes += run_batch(left, arguments.seed, min(BATCH, arguments.count - outcomes.total()))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"mutations": outcomes.total(), "grown_bytes": grown, "outcomes": dict(sorted(outcomes.items()))}))


if __name__ == "__main__":
    main()
