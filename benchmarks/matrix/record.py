"""The child that records: ``python -m benchmarks.matrix.record CELL DIRECTORY MODEL …``.

Its numerics stand in its environment.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch

from benchmarks.matrix.cells import CELLS
from benchmarks.matrix.models import ITEMS, MODELS, inputs
from recorder import FlightRecorder

__all__ = ["record"]


def record(cell_name: str, directory: Path, names: list[str]) -> None:
    """Record each model's four inputs under the cell's settings, one bundle a model: ``directory/MODEL/….zst``."""
    cell = CELLS[cell_name]
    if not cell.mkldnn:
        torch._C._set_mkldnn_enabled(False)
    form = torch.channels_last if cell.channels_last else torch.contiguous_format
    for name in names:
        subject = MODELS[name]
        with (
            FlightRecorder(directory / name, pre_frames=64, post_frames=0, triggers=[], overhead_budget=1) as recorder,
            torch.inference_mode(),
            torch.autocast("cpu", dtype=torch.bfloat16) if cell.autocast else contextlib.nullcontext(),
        ):
            for (network, build), size in zip(subject.networks.items(), subject.sizes, strict=True):
                step = ITEMS if cell.batch and subject.batches else 1
                if subject.onnx:
                    session = recorder.attach(build(), name=network)
                    [wanted] = session.get_inputs()
                    for start in range(0, ITEMS, step):
                        with recorder.frame():
                            session.run(None, {wanted.name: inputs(size)[start : start + step].numpy()})
                    continue
                model = recorder.attach(build().to(memory_format=form), name=network, store=False)
                items = inputs(size).to(memory_format=form)
                for start in range(0, ITEMS, step):
                    with recorder.frame():
                        model(items[start : start + step].clone(memory_format=torch.preserve_format))
            incident = recorder.trigger("matrix")
            recorder.flush(timeout=120)
            if incident.wait(timeout=120).path is None:
                raise RuntimeError(f"the incident of {name} was not sealed: {recorder.stats()}")


if __name__ == "__main__":
    record(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
