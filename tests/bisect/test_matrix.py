"""Recorded under one setting, replayed from a shell with another: restored to the bit, and the setting named."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.matrix.cells import CELLS, cells_of_this_machine
from benchmarks.matrix.models import MODELS
from benchmarks.matrix.run import examine, record_cells
from replay.bisect.findings import conclusion


def test_a_planted_instruction_set_is_restored_and_named(tmp_path: Path) -> None:
    """Without vector instructions a vision transformer gives other bits; on a CPU that has none, nothing matters."""
    record_cells(tmp_path, ["aten default"], ["ViT"])
    entry = examine(tmp_path, "aten default", "ViT")
    assert entry.faithful, entry.replayed
    assert entry.named, conclusion(entry.bisected)


@pytest.mark.soak
@pytest.mark.parametrize("model", list(MODELS))
def test_every_cell_that_this_machine_can_restore(tmp_path: Path, model: str) -> None:
    """The whole matrix; `python -m benchmarks.matrix` prints it."""
    cells = [name for name in cells_of_this_machine() if MODELS[model].batches or not CELLS[name].batch]
    record_cells(tmp_path, cells, [model])
    wrong = {}
    for cell in cells:
        entry = examine(tmp_path, cell, model)
        if not (entry.faithful and entry.named):
            wrong[cell] = (entry.replayed.verdict, entry.replayed.not_restored, conclusion(entry.bisected))
    assert not wrong
