"""What the compact track costs: time of the sealer per 720p frame, bytes of an hour at 30 frames a second.

    python benchmarks/track.py

Times are CPU time of the measuring thread, on frames of natural smoothness with sensor noise.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recorder.bundle import Bundle, BundleWriter
from recorder.bundle.images import thumbnail
from recorder.bundle.manifest import Incident, Manifest, Trigger, Window
from recorder.image_signals import bytes_digest, image_signals
from recorder.records import Kind, pack_head
from recorder.ring import FRAMES, RingIdentity, RingReader, RingWriter
from recorder.sealer.follower import Follower
from recorder.sealer.tracking import Tracking
from recorder.settings import SealerSettings
from recorder.track import TRACK_SIGNALS, Row, TrackWriter
from recorder.track.sealed import load_track, store_track

FRAMES_MEASURED = 60
FRAMES_AN_HOUR = 30 * 3600


def main() -> None:
    """Measure and print."""
    frame = _frame()
    data = frame.tobytes()
    before = image_signals(frame).small
    print("CPU time per 720p colour frame, median of runs of 10")
    for name, work in (
        ("signals of the image", lambda: image_signals(frame, before)),
        ("digest of its bytes", lambda: bytes_digest(data)),
        ("thumbnail (three a minute)", lambda: thumbnail(frame)),
    ):
        print(f"  {name:40s} {_cpu_ms(work):7.3f} ms")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        whole, without = (
            _follow(Path(directory) / "a.ring", frame, 16 * 2**20),
            _follow(Path(directory) / "b.ring", frame, 0),
        )
        print(f"  {'the sealer in all, with the track':40s} {whole:7.3f} ms")
        print(f"  {'the sealer in all, without':40s} {without:7.3f} ms")
        _hour(Path(directory), thumbnail(frame) or b"")


def _frame() -> np.ndarray:
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:720, 0:1280]
    clean = 128 + 60 * np.sin(y[..., None] / 37 + np.arange(3)) + 50 * np.cos(x[..., None] / 53 + np.arange(3))
    return np.clip(clean + random.normal(0, 2, clean.shape), 0, 255).astype(np.uint8)


def _cpu_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(10):
        began = time.thread_time()
        for _ in range(10):
            work()
        times.append((time.thread_time() - began) / 10)
    return sorted(times)[5] * 1e3


def _follow(path: Path, frame: np.ndarray, track_bytes: int) -> float:
    """CPU milliseconds of the sealer per frame, everything it does for one included."""
    ring = RingWriter.create(
        path,
        frames_bytes=256 * 2**20,
        events_bytes=2**16,
        contexts_bytes=2**16,
        identity=RingIdentity.of_this_process(),
    )
    settings = SealerSettings(
        sink="", sink_options={}, notify=None, spool_bytes=2**20, track_bytes=track_bytes, history_seconds=3600.0
    )
    reader = RingReader(path)
    tracking = Tracking.of_ring(reader, settings)
    if tracking is not None:
        tracking._cpu_share = 1e9
    follower = Follower(reader, path.parent, 2**20, lambda event: None, lambda window: None, tracking)
    height, width, channels = frame.shape
    image = {
        "name": "image", "source": "array", "encoding": "pixels", "height": height, "width": width,
        "channels": channels, "dtype": "uint8", "size_bytes": frame.nbytes, "offset": 0,
    }  # fmt: skip
    began = 0.0
    for number in range(1, FRAMES_MEASURED + 11):
        if number == 11:  # the first frames fill caches and the page tables
            follower.poll(0.0)
            began = time.thread_time()
        moment = number * 33_000_000
        begin = {
            "stream": "a", "time": moment, "monotonic": moment, "context": 0, "metadata": {}, "sensor_time": None,
            "images": [image],
        }  # fmt: skip
        end = {"latency": 0.02, "metadata": {}, "output": None, "exception": None, "lost": {}}
        for kind, head, payload in ((Kind.BEGIN, begin, frame), (Kind.END, end, None)):
            packed, start = pack_head(head)
            size = start + (payload.nbytes if payload is not None else 0)
            reservation = ring.reserve(FRAMES, kind, number, max(size, len(packed)))
            assert reservation is not None
            reservation.view[: len(packed)] = packed
            if payload is not None:
                paused = time.thread_time()
                reservation.view[start:] = payload.tobytes()
                began += time.thread_time() - paused  # the host's work, not the sealer's
            ring.commit(reservation)
        follower.poll(0.0)
    spent = time.thread_time() - began
    if tracking is not None:
        tracking.close()
    reader.close()
    ring.close()
    return spent / FRAMES_MEASURED * 1e3


def _hour(directory: Path, jpeg: bytes) -> None:
    """An hour of one camera: bytes in the file, bytes in a bundle, time to seal them."""
    path = directory / "hour.track"
    random = np.random.default_rng(1)
    writer = TrackWriter(path, 16 * 2**20, "benchmark", 3600.0)
    began = time.thread_time()
    thumbnails = 0
    for number in range(1, FRAMES_AN_HOUR + 1):
        moment = number * 33_333_333
        values = random.normal(0.5, 0.01, len(TRACK_SIGNALS)).astype(np.float32)
        row = Row(number, "line-3", 1_760_000_000_000_000_000 + moment, moment, 0, number, 3, values)
        writer.add(row)
        if writer.wants_thumbnail("line-3", moment):
            writer.add_thumbnail(row, jpeg)
            thumbnails += 1
    print(f"  {'row and intervals':40s} {(time.thread_time() - began) / FRAMES_AN_HOUR * 1e3:7.3f} ms")
    layout = writer.layout
    writer.close()
    began = time.thread_time()
    view = load_track(path, "benchmark", None)
    kept = [len(view.rows), *(len(each) for each in view.intervals)]
    used = [count * size for count, size in zip(kept, layout.slot_bytes[1:], strict=False)]
    with BundleWriter(directory) as bundle:
        track = store_track(bundle, view, "line-3")
        seconds = time.thread_time() - began
        window = Window(pre_frames=0, post_frames=0, post_seconds=0.0, closed_by="frames")
        trigger = Trigger(kind="manual", reason="benchmark", frame=None, time_ns=0)
        incident = Incident(
            id="0" * 32, stream="", severity="normal", opened_ns=0, window=window, triggers=(trigger,), host="alive"
        )
        plain = {"created_ns": 0, "producer": "benchmark", "incident": incident}
        nothing: dict[str, tuple[()]] = {"contexts": (), "models": (), "frames": (), "calls": (), "members": ()}
        bundle.finish(directory / "hour.zst", Manifest(**plain, **nothing, track=track))  # type: ignore[arg-type]
    with Bundle.open(directory / "hour.zst") as opened:
        member = next(each for each in opened.manifest.members if each.path == track.member) if track else None
        print("\nAn hour of one camera at 30 frames a second")
        print(f"  file beside the ring (fixed)             {layout.file_bytes / 1e6:8.2f} MB")
        print(f"    of it rows and intervals within reach  {sum(used) / 1e6:8.2f} MB ({kept} slots)")
        pictures = thumbnails * layout.slot_bytes[-1] / 1e6
        print(f"    of it thumbnails                       {pictures:8.2f} MB ({thumbnails})")
        print(f"  tables in a bundle, unpacked             {(member.size_bytes if member else 0) / 1e6:8.2f} MB")
        print(f"  tables and thumbnails in a bundle        {opened.size_bytes / 1e6:8.2f} MB")
        print(f"  CPU time to seal them                    {seconds * 1e3:8.0f} ms")


if __name__ == "__main__":
    main()
