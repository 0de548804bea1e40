"""The vectors of all incidents as one matrix in a file that is mapped, not read.

Row i (float32) belongs to the entry with id i + 1: `DIMENSIONS` numbers and the number of the vector's space, 0 where
there is no vector. The file holds nothing that the database lacks, and is made anew when it does not fit.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from replay.catalog.embedding import DIMENSIONS

__all__ = ["Matrix", "VectorFile", "is_vector"]

Matrix = NDArray[np.float32]

_ROW_BYTES = 4 * (DIMENSIONS + 1)


def is_vector(value: object) -> TypeGuard[bytes]:
    """Whether a value of the database is the bytes of a vector."""
    return isinstance(value, bytes) and len(value) == 4 * DIMENSIONS


class VectorFile:
    """The file, which need not be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._matrix: Matrix | None = None
        self._mapped = (0, 0)  #: inode and rows of what is mapped

    @property
    def rows(self) -> int:
        """How many whole rows it has; what an interrupted writer left behind the last does not count."""
        try:
            return self._path.stat().st_size // _ROW_BYTES
        except FileNotFoundError:
            return 0

    def remove(self) -> None:
        """Begin anew; who has the old one mapped keeps it."""
        self._path.unlink(missing_ok=True)

    def append(self, rows_after: Callable[[int], Iterable[tuple[int | None, bytes | None]]]) -> None:
        """Append rows: number of the space, and the vector's bytes.

        Readers append too, where a writer has not yet: the file is locked before it is looked how many rows there are.

        Args:
            rows_after: gives those after the number of rows that the file has.
        """
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            have = os.fstat(file.fileno()).st_size // _ROW_BYTES
            os.ftruncate(file.fileno(), have * _ROW_BYTES)
            for space, vector in rows_after(have):
                known = vector if is_vector(vector) else None
                file.write((known or bytes(4 * DIMENSIONS)) + np.float32(space if known and space else 0).tobytes())

    def matrix(self) -> Matrix:
        """All rows (rows, DIMENSIONS + 1), mapped."""
        rows = self.rows
        if not rows:
            return np.zeros((0, DIMENSIONS + 1), np.float32)
        mapped = (self._path.stat().st_ino, rows)
        if self._matrix is None or self._mapped != mapped:  # kept: every new mapping costs a fault a page
            self._matrix = np.memmap(self._path, np.float32, "r", shape=(rows, DIMENSIONS + 1))
            self._mapped = mapped
        return self._matrix
