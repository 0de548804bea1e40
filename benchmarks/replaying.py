"""What replaying costs: `replay show`, and the throughput of `replay run` beside the bare model loop."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.payload import natural_frames, scratch, use_examples
from benchmarks.results import Section, Table
from recorder import FlightRecorder

__all__ = ["measure"]

SHOWS = 5
#: Passes of the shorter and the longer run: what both spend on starting and loading cancels out.
FEW, MANY = 2, 6


def measure(frames: int) -> Section:
    """Record a MobileNetV2 on natural frames, seal it, show and replay the bundle in processes of their own."""
    use_examples()
    import mobilenet

    torch.set_num_threads(1)
    with scratch() as directory, torch.inference_mode():
        inputs = [mobilenet.preprocess(picture) for picture in natural_frames(frames)]
        with FlightRecorder(
            directory / "incidents",
            ring=directory / "ring" / "host.ring",
            pre_frames=frames,
            post_frames=0,
            overhead_budget=1,
        ) as recorder:
            model = recorder.attach(mobilenet.load(), factory="mobilenet:factory")
            for given in inputs:
                with recorder.frame(camera="line-3"):
                    model(given)
            recorder.trigger("benchmark")
            recorder.flush(timeout=300)
        [bundle] = (directory / "incidents").glob("*.zst")
        show = min(_seconds("show", str(bundle)) for _ in range(SHOWS))
        bare_model = mobilenet.load()
        bare = min(_loop(bare_model, inputs) for _ in range(3)) / frames
        few, many = (_replay(bundle, passes) for passes in (FEW, MANY))
    replayed = (many - few) / ((MANY - FEW) * frames)
    text = (
        f"{frames} frames of MobileNetV2. `replay show` takes **{show:.2f} s** from start to end (goal: 0.25 s). One "
        f"replayed frame takes {replayed / bare:.2f} × the bare call: {bare / replayed:.2f} × its throughput "
        "(goal: 0.95 ×; from the difference between runs of many and few passes, so without starting and loading)."
    )
    rows = [
        ["replay show", f"{show:.2f}"],
        [f"replay run, {FEW} passes", f"{few:.1f}"],
        [f"{MANY} passes", f"{many:.1f}"],
    ]
    return Section("Replaying", text, Table(["what", "seconds"], rows))


def _loop(model: torch.nn.Module, inputs: list[torch.Tensor]) -> float:
    began = time.monotonic()
    for given in inputs:
        model(given)
    return time.monotonic() - began


def _replay(bundle: Path, passes: int) -> float:
    return _seconds("run", str(bundle), "--model", "mobilenet:factory", "--repeat", str(passes))


def _seconds(*arguments: str) -> float:
    paths = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "examples")]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "replay", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"replay {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return time.monotonic() - began
