"""Record, replay and bisect cells of the matrix."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.matrix.cells import CELLS, PLAIN_SHELL
from benchmarks.matrix.models import MODELS
from recorder.bundle import Bundle
from recorder.bundle.values import tensors_of
from recorder.environment import VARIABLES
from replay.bisect.bisection import Bisection, BisectOptions, Outcome, bisect_bundle
from replay.compare.layout import logical_bits
from replay.load import UserConfig
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level, ReplayResult

__all__ = ["Entry", "examine", "record_cells"]

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model under one planted setting."""

    model: str
    cell: str
    differs: bool  #: whether the planted setting changes bits at all, told from the two recordings alone
    replayed: ReplayResult
    bisected: Bisection

    @property
    def faithful(self) -> bool:
        """Whether the faithful replay gave the recorded bits, with everything restored."""
        return self.replayed.verdict is Level.BIT_EXACT and not self.replayed.not_restored

    @property
    def named(self) -> bool:
        """Whether bisect named the planted setting alone, or said that none matters where none does."""
        if not self.differs:
            return self.bisected.outcome is Outcome.NOTHING_MATTERS
        return frozenset({CELLS[self.cell].planted}) in self.bisected.explanations


def record_cells(directory: Path, cells: Sequence[str], models: Sequence[str]) -> None:
    """Record models under the settings of cells, each cell in a process of its own, below ``directory/CELL/MODEL``."""
    for name in dict.fromkeys((*(CELLS[cell].shell_like for cell in cells), *cells)):
        environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
        environment |= {**PLAIN_SHELL, **CELLS[name].variables, "PYTHONPATH": str(_ROOT)}
        command = [sys.executable, "-m", "benchmarks.matrix.record", name, str(directory / name), *models]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"recording {name} ended with {done.returncode}: {done.stderr[-2000:]}")


def examine(directory: Path, cell: str, model: str) -> Entry:
    """Replay and bisect one recorded cell from its shell."""
    subject = MODELS[model]
    path, base = (next((directory / name / model).glob("*.zst")) for name in (cell, CELLS[cell].shell_like))
    shared = {
        "model": subject.factories(),
        "model_directory": str(_ROOT),
        "bundle_path": path,
        "config": UserConfig(),
    }
    with Bundle.open(path) as bundle, Bundle.open(base) as plain, _shell(CELLS[cell].shell):
        return Entry(
            model=model,
            cell=cell,
            differs=_items(bundle) != _items(plain),
            replayed=replay_bundle(bundle, ReplayOptions(**shared)),
            bisected=bisect_bundle(bundle, BisectOptions(**shared)),
        )


def _items(bundle: Bundle) -> dict[str, bytes]:
    """The answers' elements, item after item, whatever calls they came in."""
    found: dict[str, list[bytes]] = {}
    for call in bundle.manifest.calls:
        for path, tensor in tensors_of(call.output):
            bits = logical_bits(bundle.tensor_bytes(tensor), tensor.dtype, tensor.shape, tensor.strides)
            found.setdefault(f"{call.model}{path} {tensor.dtype}", []).append(bits.tobytes())
    return {name: b"".join(parts) for name, parts in found.items()}


@contextmanager
def _shell(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment as of a shell with these numerics and no others."""
    before = dict(os.environ)
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ.update({**PLAIN_SHELL, **variables})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
