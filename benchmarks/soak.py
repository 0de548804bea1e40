"""Memory over many frames and incidents: the host's beyond the ring, and the sealer's."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.payload import scratch
from benchmarks.results import Curve, Section, Table
from recorder import FlightRecorder

__all__ = ["measure"]

#: Points of the curve.
SAMPLES = 40
#: Incidents asked for along the way.
INCIDENTS = 20


def measure(frames: int) -> Section:
    """Record so many small frames as fast as they come, with an incident now and then."""
    torch.set_num_threads(1)
    picture, given = np.zeros((32, 32, 3), np.uint8), torch.zeros(1, 3, 8, 8)
    points, sealer_points, incidents = [], [], []
    every = frames // INCIDENTS
    with scratch() as directory, torch.inference_mode():
        recorder = FlightRecorder(
            directory / "incidents",
            ring=directory / "ring" / "host.ring",
            max_bytes=32 * 2**20,
            overhead_budget=1,
            cooldown_seconds=0,
        )
        model = recorder.attach(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval(), store=False)
        time.sleep(1)
        try:
            for number in range(frames):
                with recorder.frame(image=picture, camera=f"line-{number % 8}"):
                    model(given)
                    if number % every == every // 2:
                        incidents.append(recorder.trigger("benchmark"))
                if number % every == every - 1:  # a window that stands open would take the next trigger in
                    incidents[-1].wait(timeout=60)
                if number % (frames // SAMPLES) == frames // SAMPLES - 1:
                    points.append((float(number + 1), _own_mib("self")))
                    sealer_points.append(_own_mib(_sealer(recorder)))
            stats = recorder.stats()
        finally:
            recorder.close(timeout=30)
    first = points[len(points) // 10][1]
    rows = [
        ["host: growth of private memory after the first tenth", f"{points[-1][1] - first:+.1f}"],
        ["host: highest above the first tenth", f"{max(value for _, value in points) - first:+.1f}"],
        ["sealer: highest", f"{max(sealer_points):.1f}"],
    ]
    text = (
        f"{frames:,} small frames of eight streams and {INCIDENTS} incidents, {stats.incidents_sealed} of them sealed; "
        "the ring itself is not counted (goals: the host flat within 16 MiB, the sealer below 128 MiB while sealing)."
    )
    curve = Curve("soak", "Private memory of the host over frames, MiB", points)
    return Section("Memory", text, Table(["what", "MiB"], rows), [curve])


def _own_mib(process: str) -> float:
    """Private memory of a process; 0 when it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields.get("RssAnon", "0 kB").split()[0]) / 1024


def _sealer(recorder: FlightRecorder) -> str:
    keeper = recorder._session._keeper if recorder._session is not None else None
    process = keeper._process if keeper is not None else None
    return str(process.pid) if process is not None else "none"
