"""What the ring costs beside the memcpy it cannot avoid: ``python -m benchmarks.ring [--json]``.

Everything runs on one pinned core, in one process, in rounds that alternate between the ring and a plain memcpy of the
same bytes into the same mapping, both walking through all of it, so that caches and the machine's moods are shared.
Only ratios and differences of one run mean anything.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from recorder.ring import FRAMES, RingIdentity, RingReader, RingWriter

RING_BYTES = 256 << 20
IMAGE_BYTES = 1280 * 720 * 3
#: One frame: a head, the image, the model's float32 input of 3x224x224 and its output of 1000 classes.
FRAME_BYTES = (256, IMAGE_BYTES, 3 * 224 * 224 * 4, 4000)
ROUNDS = 600
_memmove = ctypes.memmove
_clock = time.perf_counter_ns


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="ring-bench-", dir=memory))
    try:
        ring = RingWriter.create(
            directory / "bench.ring",
            frames_bytes=RING_BYTES,
            events_bytes=1 << 20,
            contexts_bytes=1 << 20,
            identity=RingIdentity.of_this_process("benchmark"),
        )
        started = _clock()
        ring.prefault()
        figures = {"prefault_ms": (_clock() - started) / 1e6}
        figures |= small_records(ring)
        figures |= beside_memcpy(ring, "image", (IMAGE_BYTES,))
        figures |= beside_memcpy(ring, "frame", FRAME_BYTES)
        figures |= reading(ring)
        ring.close()
    finally:
        shutil.rmtree(directory)
    if "--json" in sys.argv:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:40} {value:10.3f}")


def small_records(ring: RingWriter) -> dict[str, float]:
    """Microseconds for a record of 256 bytes: bookkeeping alone, and with its copy."""
    payload = bytes(256)

    def bookkeeping() -> None:
        ring.commit(ring.reserve(FRAMES, 1, 1, 256))  # type: ignore[arg-type]

    def record() -> None:
        reservation = ring.reserve(FRAMES, 1, 1, 256)
        _memmove(reservation.address, payload, 256)  # type: ignore[union-attr]
        ring.commit(reservation)  # type: ignore[arg-type]

    figures = {}
    for name, step in (("reserve_commit", bookkeeping), ("reserve_copy_commit", record)):
        times = [_per_call_us(step, 2000) for _ in range(50)]
        figures |= {f"{name}_256_us_median": statistics.median(times), f"{name}_256_us_min": min(times)}
    return figures


def beside_memcpy(ring: RingWriter, name: str, parts: tuple[int, ...]) -> dict[str, float]:
    """Parts recorded one by one against copying them into the same mapping, alternating."""
    sources = [os.urandom(size_bytes) for size_bytes in parts]
    with RingReader(ring.path) as reader:
        area = reader.header.regions[FRAMES].data_bytes
    assert ring._mapping is not None
    begin = ring._mapping.address + ring.size_bytes - area
    cursor = 0

    def plain() -> None:
        nonlocal cursor
        for source in sources:
            if cursor + len(source) > area:
                cursor = 0
            _memmove(begin + cursor, source, len(source))
            cursor += -(-len(source) // 64) * 64

    def recorded() -> None:
        for source in sources:
            reservation = ring.reserve(FRAMES, 1, 1, len(source))
            _memmove(reservation.address, source, len(source))  # type: ignore[union-attr]
            ring.commit(reservation)  # type: ignore[arg-type]

    for _ in range(area // sum(parts) + 1):  # evict what other measurements left: this one's own mix counts
        recorded()
    # Half a turn apart: whoever walks closer behind the other finds its destination in a large last-level cache.
    present = ring.reserve(FRAMES, 1, 1, 0)
    assert present is not None
    cursor = (present.address - begin + area // 128 * 64) % area
    ring.commit(present)
    plain_us, recorded_us = [], []
    for turn in range(ROUNDS):
        # Whoever comes second finds the sources in the cache: take turns.
        for times, step in ((plain_us, plain), (recorded_us, recorded))[:: 1 if turn % 2 else -1]:
            times.append(_per_call_us(step, 1))
    return {
        f"{name}_memcpy_us_median": statistics.median(plain_us),
        f"{name}_ring_us_median": statistics.median(recorded_us),
        f"{name}_ring_over_memcpy": statistics.median(recorded_us) / statistics.median(plain_us),
        f"{name}_added_us": statistics.median(recorded_us) - statistics.median(plain_us),
        f"{name}_ring_over_memcpy_p99": _p99(recorded_us) / _p99(plain_us),
    }


def reading(ring: RingWriter) -> dict[str, float]:
    """The other side: a scan that finds nothing new, and a whole image read and validated."""
    reservation = ring.reserve(FRAMES, 1, 1, IMAGE_BYTES)
    assert reservation is not None
    ring.commit(reservation)
    with RingReader(ring.path) as reader:
        *_, newest = reader.scan(FRAMES)
        return {
            "scan_nothing_new_us": _per_call_us(lambda: list(reader.scan(FRAMES, newest.number)), 2000),
            "read_image_us": _per_call_us(lambda: reader.read(newest), 50),
        }


def _per_call_us(step: Callable[[], object], count: int) -> float:
    started = _clock()
    for _ in range(count):
        step()
    return (_clock() - started) / 1000 / count


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


if __name__ == "__main__":
    main()
