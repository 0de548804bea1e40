"""The recorder's share of a real forward pass: MobileNetV2, batch 1, 224 x 224, one thread."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from benchmarks.payload import image, model_input, pinned, scratch, use_examples
from benchmarks.results import Section, Table, median
from benchmarks.sketch import Sketch
from recorder import FlightRecorder

_SKETCH, _COPY = "the model's call alone, by the sketch of a recorder", "a memcpy of the model's input"

__all__ = ["measure"]


def measure(rounds: int) -> Section:
    """Alternate a bare forward pass with recorded ones of the same weights."""
    use_examples()
    import mobilenet

    torch.set_num_threads(1)
    given, picture = model_input(), image()
    rows = []
    with scratch() as directory, torch.inference_mode():
        recorder = FlightRecorder(directory / "incidents", ring=directory / "ring" / "host.ring", overhead_budget=1)
        model = mobilenet.load()
        recorder.attach(model, store=False)
        sketched, sketch = mobilenet.load(), Sketch(directory / "sketch", 96 * 2**20)
        sketch.attach(sketched)
        destination = np.empty((64, *given.shape), np.float32)
        time.sleep(2)

        def timed_sketch() -> tuple[float, float]:
            before, began = sketch.spent_ns, time.perf_counter_ns()
            sketched(given)
            return (time.perf_counter_ns() - began) / 1e3, (sketch.spent_ns - before) / 1e3

        def timed_copy(number: int) -> float:
            began = time.perf_counter_ns()
            ctypes.memmove(destination[number % 64].ctypes.data, given.data_ptr(), given.nbytes)
            return (time.perf_counter_ns() - began) / 1e3

        def timed(around: Callable[[], AbstractContextManager[Any]] | None) -> tuple[float, float]:
            session = recorder._session
            assert session is not None
            before, began = session.spent_ns, time.perf_counter_ns()
            if around is None:
                model(given)
            else:
                with around():
                    model(given)
            return (time.perf_counter_ns() - began) / 1e3, (session.spent_ns - before) / 1e3

        cases: dict[str, Callable[[], AbstractContextManager[Any]] | None] = {
            "the model's call alone": None,
            "in a frame with its 224 × 224 image": lambda: recorder.frame(image=picture[:224, :224].copy(), camera="a"),
            "in a frame with a 720p image": lambda: recorder.frame(image=picture, camera="b"),
        }
        shares: dict[str, list[float]] = {name: [] for name in (*cases, _SKETCH, _COPY)}
        try:
            with pinned():
                for number in range(rounds):
                    for name, around in cases.items():
                        took, spent = timed(around)
                        shares[name].append(spent / (took - spent))
                    took, spent = timed_sketch()
                    shares[_SKETCH].append(spent / (took - spent))
                    shares[_COPY].append(timed_copy(number) / (took - spent))
        finally:
            recorder.close()
    rows = [[name, f"{median(values):.2%}"] for name, values in shares.items()]
    text = (
        "The recorder's own time, by its own clock, as a share of the rest of the forward pass around it (default "
        "triggers; goal: at most 1 %). A 720p copy alone can be more than that: `overhead_budget` then decides how "
        "many frames keep their image when they come without a pause. The sketch only hooks, packs a ready head, "
        "copies and commits: the least that plain Python takes with caches as cold as a forward pass leaves them."
    )
    return Section("Share of a MobileNetV2 forward pass", text, Table(["recorded", "share, median"], rows))
