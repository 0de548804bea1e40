"""Recorded under one setting, replayed from a shell with another: restored to the bit, and the setting named."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.matrix.cells import CELLS, cells_of_this_machine
from benchmarks.matrix.models import MODELS
from benchmarks.matrix.run import examine, record_cells
from replay.bisect.bisection import Outcome
from replay.bisect.findings import conclusion

QUICK = ("batch 4", "threads 2")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick cells of one model."""
    directory = tmp_path_factory.mktemp("matrix")
    record_cells(directory, QUICK, ["ViT"])
    return directory


def test_a_planted_setting_is_restored_and_named(recorded: Path) -> None:
    """A batch of four changes the bits of a vision transformer."""
    entry = examine(recorded, "batch 4", "ViT")
    assert entry.faithful, entry.replayed
    assert entry.differs and entry.named, conclusion(entry.bisected)


def test_a_setting_that_changes_no_bits_is_not_blamed(recorded: Path) -> None:
    """Whether two threads change bits is told from the recordings; bisect has to agree either way."""
    entry = examine(recorded, "threads 2", "ViT")
    assert entry.faithful, entry.replayed
    assert entry.named, conclusion(entry.bisected)
    assert entry.differs or entry.bisected.outcome is Outcome.NOTHING_MATTERS


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
