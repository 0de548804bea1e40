"""What `replay fleet run` gains over replaying one incident after the other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from benchmarks.commands import run_replay
from benchmarks.payload import natural_frames, scratch, use_examples
from benchmarks.results import Section, Table, median
from recorder import FlightRecorder

__all__ = ["measure"]

_MODEL = ("--model", "mobilenet:factory")


def measure(incidents: int = 8, frames: int = 16, rounds: int = 3) -> Section:
    """Seal incidents of a MobileNetV2, and replay all of them in both ways by turns."""
    use_examples()
    jobs = len(os.sched_getaffinity(0))
    singles, fleets, alone = [], [], []
    with scratch() as directory:
        _record(directory, incidents, frames)
        paths = sorted((directory / "incidents").glob("*.zst"))
        for number in range(rounds):
            took = [run_replay("run", str(path), *_MODEL, "--repeat", "1", "--json") for path in paths]
            singles.append(sum(each.seconds for each in took))
            outcomes = [json.loads(each.out)["verdict"] for each in took]
            for found, at_a_time in ((fleets, jobs), (alone, 1)):
                out = directory / f"out-{number}-{at_a_time}"
                words = ("fleet", "run", str(directory / "incidents"), *_MODEL, "--weights", "recorded")
                done = run_replay(*words, "--jobs", str(at_a_time), "-o", str(out), "--json")
                found.append(done.seconds)
                told = json.loads(done.out)["outcomes"]
    gains = [single / fleet for single, fleet in zip(singles, fleets, strict=True)]
    text = (
        f"{incidents} incidents of {frames} frames of MobileNetV2, each replayed by a command of its own, one after "
        f"the other, and all by one `replay fleet run` with {jobs} at a time: **{median(gains):.2f} ×** the throughput "
        f"(goal: 1.8 × on 2 cores), {min(gains):.2f} to {max(gains):.2f} in {rounds} rounds by turns. "
        f"Alone {', '.join(sorted(set(outcomes)))}; of the fleet "
        f"{', '.join(f'{count} {name}' for name, count in sorted(told.items()))}."
    )
    rows = [
        ["`replay run`, the sum", f"{median(singles):.1f}"],
        [f"`replay fleet run --jobs {jobs}`", f"{median(fleets):.1f}"],
        ["`replay fleet run --jobs 1`", f"{median(alone):.1f}"],
    ]
    return Section("Many incidents", text, Table(["what", "seconds"], rows))


def _record(directory: Path, incidents: int, frames: int) -> None:
    import mobilenet

    torch.set_num_threads(1)
    with (
        torch.inference_mode(),
        FlightRecorder(
            directory / "incidents",
            ring=directory / "ring" / "host.ring",
            pre_frames=frames - 1,
            post_frames=0,
            overhead_budget=1,
            dedupe_seconds=0,
        ) as recorder,
    ):
        model = recorder.attach(mobilenet.load(), factory="mobilenet:factory")
        given = [(picture, mobilenet.preprocess(picture)) for picture in natural_frames(frames)]
        for number in range(incidents):
            for picture, tensor in given:
                with recorder.frame(image=picture, camera=f"line-{number}"):
                    model(tensor)
            recorder.trigger(f"benchmark {number}")
            assert recorder.flush(timeout=300)
