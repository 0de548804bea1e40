"""Evidently and alibi-detect as rivals in `benchmarks.drift`, run by the interpreter of an environment of theirs.

::

    python -m venv rivals && rivals/bin/pip install evidently alibi-detect torch
    python -m benchmarks.drift --libraries rivals/bin/python
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.libraries_child import DETECTORS

__all__ = ["Case", "Library", "libraries"]

#: A reference and the stream after it, (frames, signals) each.
Case = tuple[np.ndarray, np.ndarray]
#: Detectors that take too long for streams of ten thousand frames.
KERNEL = ("alibi-detect MMDDrift", "alibi-detect MMDDriftOnline")


class Library:
    """One detector of a library."""

    def __init__(self, python: Path, name: str) -> None:
        self._python = python
        self.name = name

    def alarms(self, cases: Sequence[Case]) -> list[list[int]]:
        """Return the frames of each stream at which it raised an alarm."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "cases.npz")
            np.savez(
                path,
                **{f"{number}.{part}": each for number, case in enumerate(cases) for part, each in enumerate(case)},
            )
            answer: dict[str, list[list[int]]] = _ask(self._python, self.name, path)
        return answer["alarms"]


def libraries(python: Path | None, *, kernel: bool = False) -> list[Library]:
    """Return the fast detectors, or the kernel tests; none without an interpreter that has them."""
    return [] if python is None else [Library(python, name) for name in DETECTORS if (name in KERNEL) == kernel]


def versions(python: Path) -> dict[str, str]:
    """Return the versions that are compared with."""
    found: dict[str, str] = _ask(python, "versions", Path("-"))
    return found


def _ask(python: Path, name: str, path: Path) -> Any:
    child = Path(__file__).with_name("libraries_child.py")
    done = subprocess.run(
        [str(python), "-W", "ignore", str(child), name, str(path)], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])
