"""What `replay fleet run` gains over replaying one incident after the other. Alone: ``python -m benchmarks.fleet``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.commands import run_replay
from benchmarks.payload import natural_frames, scratch, use_examples
from benchmarks.results import Section, Table, median
from recorder import FlightRecorder

__all__ = ["measure", "small"]


@dataclass(slots=True)
class _Took:
    """Seconds of each round; ``cpu`` of processors."""

    singles: list[float] = field(default_factory=list)
    fleets: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    singles_cpu: list[float] = field(default_factory=list)
    fleets_cpu: list[float] = field(default_factory=list)
    outcomes: set[str] = field(default_factory=set)

    @property
    def gains(self) -> list[float]:
        return [single / fleet for single, fleet in zip(self.singles, self.fleets, strict=True)]

    def rows(self, name: str, jobs: int) -> list[list[str]]:
        return [
            [f"{name}: `replay run`, the sum", f"{median(self.singles):.1f}", f"{median(self.singles_cpu):.1f}"],
            [
                f"{name}: `replay fleet run --jobs {jobs}`",
                f"{median(self.fleets):.1f}",
                f"{median(self.fleets_cpu):.1f}",
            ],
            [f"{name}: `replay fleet run --jobs 1`", f"{median(self.alone):.1f}", ""],
        ]


def small() -> torch.nn.Module:
    """Next to nothing to compute: what remains is starting, opening and comparing."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval()


def measure(incidents: int = 6, frames: int = 16, rounds: int = 2) -> Section:
    """Seal incidents of a MobileNetV2 and of a small model, and replay all of them in both ways by turns."""
    use_examples()
    import mobilenet

    jobs = len(os.sched_getaffinity(0))
    large = _run("mobilenet:factory", mobilenet.load, incidents, frames, rounds, jobs)
    little = _run("benchmarks.fleet:small", small, incidents, frames, rounds, jobs)
    text = (
        f"{incidents} incidents of {frames} frames, each replayed by a command of its own, one after the other, and "
        f"all by one `replay fleet run` with {jobs} at a time. MobileNetV2: **{median(large.gains):.2f} ×** the "
        f"throughput (goal: 1.8 × on 2 cores), {min(large.gains):.2f} to {max(large.gains):.2f} in {rounds} rounds by "
        f"turns; a model that takes no time: {median(little.gains):.2f} ×, {min(little.gains):.2f} to "
        f"{max(little.gains):.2f}. Outcomes: {', '.join(sorted(large.outcomes | little.outcomes))}."
    )
    rows = [*large.rows("MobileNetV2", jobs), *little.rows("small", jobs)]
    return Section("Many incidents", text, Table(["what", "seconds", "of processors"], rows))


def _run(
    factory: str, load: Callable[[], torch.nn.Module], incidents: int, frames: int, rounds: int, jobs: int
) -> _Took:
    took = _Took()
    with scratch() as directory:
        _record(directory, factory, load(), incidents, frames)
        paths = sorted((directory / "incidents").glob("*.zst"))
        for number in range(rounds):
            ran = [run_replay("run", str(path), "--model", factory, "--repeat", "1", "--json") for path in paths]
            took.singles.append(sum(each.seconds for each in ran))
            took.singles_cpu.append(sum(each.cpu_seconds for each in ran))
            took.outcomes |= {json.loads(each.out)["verdict"] for each in ran}
            for at_a_time in (jobs, 1) if number == 0 else (jobs,):
                words = ("fleet", "run", str(directory / "incidents"), "--model", factory, "--weights", "recorded")
                out = str(directory / f"out-{number}-{at_a_time}")
                done = run_replay(*words, "--jobs", str(at_a_time), "-o", out, "--json")
                took.outcomes |= set(json.loads(done.out)["outcomes"])
                if at_a_time == 1:
                    took.alone.append(done.seconds)
                else:
                    took.fleets.append(done.seconds)
                    took.fleets_cpu.append(done.cpu_seconds)
    return took


def _record(directory: Path, factory: str, built: torch.nn.Module, incidents: int, frames: int) -> None:
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
        model = recorder.attach(built, factory=factory)
        given = [(picture, mobilenet.preprocess(picture)) for picture in natural_frames(frames)]
        for number in range(incidents):
            for picture, tensor in given:
                with recorder.frame(image=picture, camera=f"line-{number}"):
                    model(tensor)
            recorder.trigger(f"benchmark {number}")
            assert recorder.flush(timeout=300)


if __name__ == "__main__":
    print(measure().markdown())
