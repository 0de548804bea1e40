"""What every probe is given: frames, their answers as they are, and a way to ask about changed pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recorder.bundle.manifest import Frame
from replay.compare.layout import Array
from replay.compare.reading import Reading, same
from replay.probe.subject import Subject

__all__ = ["Case", "Trial", "as_uint8", "fraction"]

#: A probe has to find the same twice.
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One frame with the decision that its unchanged pixels give."""

    frame: Frame
    pixels: Array  #: (H, W) or (H, W, C), uint8 or uint16
    reading: Reading
    region: Array  #: (H, W) bool: where the object is
    region_from: str  #: who says so


class Trial:
    """Cases and the subject that answers."""

    def __init__(self, subject: Subject, cases: Sequence[Case]) -> None:
        """Every case's reading is the subject's own answer to its pixels."""
        self.subject = subject
        self.cases = tuple(cases)

    def ask(self, case: Case, variants: Sequence[Array]) -> Iterator[Reading | None]:
        """Answer to other pixels in the case's place."""
        return self.subject.ask(case.frame, variants)

    def kept(self, change: Callable[[Array], Array]) -> tuple[float, float | None]:
        """Share of decisions that stay under a change of the pixels, and the mean confidence in them."""
        stayed: list[bool] = []
        sureness: list[float] = []
        for case in self.cases:
            for reading in self.ask(case, [change(case.pixels)]):
                stayed.append(same(case.reading, reading))
                if reading is not None and (sure := reading.sureness_of(case.reading)) is not None:
                    sureness.append(sure)
        return fraction(stayed), float(np.mean(sureness)) if sureness else None


def fraction(flags: Sequence[bool]) -> float:
    """Share of true ones; 0 of none."""
    return sum(flags) / len(flags) if flags else 0.0


def as_uint8(pixels: Array) -> Array:
    """Pixels as a picture of eight bits."""
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
