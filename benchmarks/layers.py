"""What digesting the layers of a forward pass takes: MobileNetV2, batch 1, 224 x 224, one thread."""

from __future__ import annotations

import time

import torch

from benchmarks.payload import model_input, pinned, scratch, use_examples
from benchmarks.results import Section, Table, median
from recorder import FlightRecorder
from recorder.layers import capture

__all__ = ["measure"]

#: Calls that are not counted: a phase before it, and a quiet start, leave savings that pay for a dozen digested calls.
SETTLING = 30


def measure(rounds: int) -> Section:
    """Alternate a model without layer digests with a copy that has them in every call, and one that keeps the share."""
    use_examples()
    import mobilenet

    torch.set_num_threads(1)
    given = model_input()
    shares: dict[str, list[float]] = {"every call digested": [], "as it is: no more than the share": []}
    kept = capture.SHARE
    with scratch() as directory, torch.inference_mode():
        recorder = FlightRecorder(directory / "incidents", ring=directory / "ring" / "host.ring", overhead_budget=1)
        plain, watched = mobilenet.load(), mobilenet.load()
        recorder.attach(plain, store=False)
        recorder.attach(watched, store=False, layers=True)
        time.sleep(2)

        def timed(model: torch.nn.Module) -> float:
            began = time.thread_time_ns()
            model(given)
            return float(time.thread_time_ns() - began)

        try:
            with pinned():
                for name, share in zip(shares, (1e9, kept), strict=True):
                    capture.SHARE = share
                    for _ in range(SETTLING):
                        timed(watched)
                    for _ in range(rounds):
                        without = timed(plain)
                        shares[name].append(timed(watched) / without - 1)
        finally:
            capture.SHARE = kept
            recorder.close()
    rows = [[name, f"{median(values):.1%}", f"{sum(values) / len(values):.1%}"] for name, values in shares.items()]
    text = (
        "`attach(model, layers=True)` against the same model attached without: processor time of one forward pass, "
        "alternating. "
        f"{len([m for m in watched.modules() if capture.has_matrix(m)])} layers are hashed and sketched."
    )
    return Section("Layer digests", text, Table(["", "median", "mean"], rows))
