"""What one frame costs the calling thread: the recorder beside everything people do instead, interleaved."""

from __future__ import annotations

import ctypes
import io
import mmap
import os
import pickle
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import PIL.Image
import torch

from benchmarks.payload import image, model_input, model_output, pinned, scratch
from benchmarks.results import Bars, Section, Table, median, quantile
from benchmarks.sketch import Sketch
from recorder import FlightRecorder

__all__ = ["measure"]

RING_BYTES = 192 * 2**20
#: Contestants that take a hundred times as long run in every so many rounds only.
SLOW_EVERY = 40

_Step = Callable[[], object]


class _Answers(torch.nn.Module):
    """A model that costs nothing, so that what is measured is the recorder."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("answer", model_output())

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.answer.detach()  # type: ignore[operator]


def measure(rounds: int) -> Section:
    """Run all contestants in turn for so many rounds, on one core."""
    torch.set_num_threads(1)
    picture, given, answer = image(), model_input(), model_output()
    with scratch() as directory, torch.inference_mode():
        recorder = FlightRecorder(
            directory / "incidents",
            ring=directory / "ring" / "host.ring",
            max_bytes=RING_BYTES * 4 // 3,
            overhead_budget=1,
        )
        watched, bare, sketched = recorder.attach(_Answers().eval(), store=False), _Answers().eval(), _Answers().eval()
        sketch = Sketch(directory / "sketch", RING_BYTES)
        sketch.attach(sketched)
        time.sleep(2)  # the ring is prefaulted by then

        def recorded() -> None:
            with recorder.frame(image=picture, camera="line-3"):
                watched(given)

        def sketch_recorded() -> None:
            with sketch.frame(picture):
                sketched(given)

        steps: dict[str, _Step] = {
            "memcpy": _memcpy(directory, picture, given, answer),
            "recorder": recorded,
            "sketch in plain Python": sketch_recorded,
        }
        steps["bare model"] = lambda: bare(given)
        steps |= _copies(picture, given, answer)
        slow, missing = _formats(directory, picture, given, answer)
        times: dict[str, list[float]] = {name: [] for name in (*steps, *slow)}
        try:
            with pinned():
                for number in range(rounds):
                    turn = list(steps.items()) + (list(slow.items()) if number % SLOW_EVERY == 0 else [])
                    # Whoever comes second finds the payload in the cache: take turns.
                    for name, step in turn[:: 1 if number % 2 else -1]:
                        began = time.perf_counter_ns()
                        step()
                        times[name].append((time.perf_counter_ns() - began) / 1e3)
            lost = recorder.stats().frames_lost
        finally:
            recorder.close()
    return _section(times, missing, lost)


def _section(times: dict[str, list[float]], missing: list[str], lost: dict[str, int]) -> Section:
    bare = median(times.pop("bare model"))
    for name in ("recorder", "sketch in plain Python"):
        times[name] = [value - bare for value in times[name]]
    memcpy = median(times["memcpy"])
    added = median(times["recorder"]) - memcpy
    floor = median(times["sketch in plain Python"]) - memcpy
    rows, bars = [], []
    for name, values in sorted(times.items(), key=lambda item: median(item[1])):
        middle = median(values)
        tail = f"{quantile(values, 99) / memcpy:.1f}" if len(values) >= 100 else "–"
        rows.append([name, f"{middle / memcpy:.2f}", tail])
        bars.append((name, middle / memcpy))
    text = (
        "One 1280×720 uint8 frame, a 1×3×224×224 float32 input and a 1×1000 output, with default triggers; every line "
        "is a multiple of copying the same bytes into a mapped file of the same size, all interleaved on one core. "
        f"The recorder takes the memcpy plus **{added:.0f} µs** on this machine (goal: 1.05 × the memcpy + 30 µs, "
        f"which is the memcpy plus {0.05 * memcpy + 30:.0f} µs here); the model's own call is subtracted. The sketch, "
        f"which only hooks, packs a ready head, copies and commits, takes the memcpy plus {floor:.0f} µs: after a copy "
        "or a forward pass nothing that Python touches is in a cache."
    )
    if missing:
        text += f" Not installed here: {', '.join(missing)}."
    if lost:
        text += f" Lost: {lost}."
    table = Table(["what", "median, × memcpy", "p99, × memcpy"], rows)
    return Section("Cost per frame", text, table, [Bars("per-frame", "Cost of one frame, × memcpy (log scale)", bars)])


def _memcpy(directory: Path, picture: np.ndarray[Any, Any], given: torch.Tensor, answer: torch.Tensor) -> _Step:
    with (directory / "plain").open("w+b") as file:
        os.posix_fallocate(file.fileno(), 0, RING_BYTES)
        mapped = mmap.mmap(file.fileno(), RING_BYTES)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    ctypes.memset(begin, 1, RING_BYTES)
    parts = [
        (picture.ctypes.data, picture.nbytes),
        (given.data_ptr(), given.nbytes),
        (answer.data_ptr(), answer.nbytes),
    ]
    cursor = 0

    def step() -> None:
        nonlocal cursor
        for source, size_bytes in parts:
            if cursor + size_bytes > RING_BYTES:
                cursor = 0
            ctypes.memmove(begin + cursor, source, size_bytes)
            cursor += -(-size_bytes // 64) * 64
        assert not mapped.closed  # held by this function: the address is no reference

    return step


def _copies(picture: np.ndarray[Any, Any], given: torch.Tensor, answer: torch.Tensor) -> dict[str, _Step]:
    kept: deque[object] = deque(maxlen=RING_BYTES // (picture.nbytes + given.nbytes))
    arrays = (picture, given.numpy(), answer.numpy())

    def torch_save() -> None:
        torch.save({"image": torch.from_numpy(picture), "input": given, "output": answer}, io.BytesIO())

    return {
        "deque of copies": lambda: kept.append([array.copy() for array in arrays]),
        "msgpack": lambda: msgpack.packb([memoryview(array).cast("B") for array in arrays]),
        "pickle": lambda: pickle.dumps(arrays, protocol=5),
        "torch.save": torch_save,
    }


def _formats(
    directory: Path, picture: np.ndarray[Any, Any], given: torch.Tensor, answer: torch.Tensor
) -> tuple[dict[str, _Step], list[str]]:
    pil = PIL.Image.fromarray(picture)
    steps: dict[str, _Step] = {
        "JPEG (Pillow, 90)": lambda: pil.save(io.BytesIO(), "JPEG", quality=90),
        "PNG (Pillow, level 6)": lambda: pil.save(io.BytesIO(), "PNG", compress_level=6),
    }
    missing = []
    parts = (picture.tobytes(), given.numpy().tobytes(), answer.numpy().tobytes())
    try:
        from mcap.writer import CompressionType, Writer

        for name, compression in (("MCAP", CompressionType.NONE), ("MCAP, zstd", CompressionType.ZSTD)):
            writer = Writer(str(directory / f"{compression.name}.mcap"), compression=compression)
            writer.start()
            channel = writer.register_channel("frames", "raw", writer.register_schema("bytes", "", b""))
            steps[name] = lambda writer=writer, channel=channel: [  # type: ignore[misc]
                writer.add_message(channel, time.time_ns(), part, time.time_ns()) for part in parts
            ]
    except ImportError:
        missing.append("mcap")
    try:
        import rerun

        rerun.init("benchmark")
        rerun.save(str(directory / "frames.rrd"))

        def log() -> None:
            rerun.log("image", rerun.Image(picture))
            rerun.log("input", rerun.Tensor(given.numpy()))
            rerun.log("output", rerun.Tensor(answer.numpy()))

        steps["Rerun"] = log
    except ImportError:
        missing.append("rerun-sdk")
    return steps, missing
