"""Masks as COCO writes them: run lengths down the columns, beginning with what is outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["compressed", "run_lengths"]


def run_lengths(inside: NDArray[np.bool_]) -> list[int]:
    """Uncompressed, as annotations have them, of a mask (H, W)."""
    flat = inside.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    runs: list[int] = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return [0, *runs] if flat[0] else runs


def compressed(runs: list[int]) -> str:
    """Compressed, as results have to have them: five bits a character.

    From the fourth run on, the difference to the last but one is written. Source: pycocotools' maskApi.c, rleToString.
    """
    letters = []
    for index, run in enumerate(runs):
        rest = run - runs[index - 2] if index > 2 else run
        while True:
            bits, rest = rest & 0x1F, rest >> 5
            is_last = rest == (-1 if bits & 0x10 else 0)
            letters.append(chr(bits + 48 if is_last else (bits | 0x20) + 48))
            if is_last:
                break
    return "".join(letters)
