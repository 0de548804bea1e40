"""What replaying costs: `replay show`, and the throughput of a replay's passes beside the bare model loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from benchmarks.commands import run_replay
from benchmarks.payload import natural_frames, scratch, use_examples
from benchmarks.results import Section, Table, median
from recorder import FlightRecorder
from recorder.bundle import Bundle
from replay.options import ReplayOptions
from replay.run import replay_bundle

__all__ = ["measure"]

SHOWS = 5
#: Passes in a row, each followed by the bare loop. The first also compares with what was recorded.
PASSES = 10


@dataclass(slots=True)
class _Alternating:
    """Runs the bare loop whenever a pass of the replay has ended and its worker has nothing to do."""

    model: torch.nn.Module
    inputs: list[torch.Tensor]
    passes: list[float] = field(default_factory=list)  #: seconds a frame, from the first answer to the last
    loops: list[float] = field(default_factory=list)  #: seconds a frame of the bare loop right after
    loads: list[float] = field(default_factory=list)  #: seconds to the first answer of a pass
    _began: float = field(default_factory=time.monotonic)
    _first: float = 0.0

    def __call__(self, done: int, _work: int) -> None:
        """Take the progress of a replay."""
        now, frames = time.monotonic(), len(self.inputs)
        if done % frames == 1:
            self._first = now
            self.loads.append(now - self._began)
        if done % frames == 0:
            self.passes.append((now - self._first) / (frames - 1))
            began = time.monotonic()
            for given in self.inputs[1:]:
                self.model(given)
            self._began = time.monotonic()
            self.loops.append((self._began - began) / (frames - 1))


def measure(frames: int) -> Section:
    """Record a MobileNetV2 on natural frames, seal it, show the bundle and replay it."""
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
        [path] = (directory / "incidents").glob("*.zst")
        show = min(run_replay("show", str(path)).seconds for _ in range(SHOWS))
        both = _Alternating(mobilenet.load(), inputs)
        with Bundle.open(path) as bundle:
            result = replay_bundle(
                bundle,
                ReplayOptions(model=("mobilenet:factory",), bundle_path=path, repeat=PASSES, progress=both),
            )
    ratios = [bare / replayed for bare, replayed in zip(both.loops, both.passes, strict=True)]
    text = (
        f"{frames} frames of MobileNetV2, {result.verdict.value}. `replay show` takes **{show:.2f} s** from start to "
        f"end (goal: 0.25 s). A pass of a replay after loading runs at **{median(ratios):.2f} ×** the throughput of "
        f"the bare loop over the same inputs in memory (goal: 0.95 ×): {PASSES} passes, each against the loop right "
        f"after it, median of the ratios; {min(ratios):.2f} to {max(ratios):.2f}."
    )
    rows = [
        ["replay show", f"{show:.2f}"],
        ["worker started, torch and model loaded, first answer", f"{both.loads[0]:.2f}"],
        ["model loaded anew for a later pass, first answer", f"{median(both.loads[1:]):.2f}"],
        ["first pass, compared with the recording, a frame", f"{both.passes[0]:.4f}"],
        ["later pass, compared with the first, a frame", f"{median(both.passes[1:]):.4f}"],
        ["bare loop, a frame", f"{median(both.loops):.4f}"],
    ]
    return Section("Replaying", text, Table(["what", "seconds"], rows))
