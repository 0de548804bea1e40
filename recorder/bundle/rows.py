"""PNG's row filters with numpy: every byte becomes its difference from a prediction made of its neighbours.

`filter_rows` applies one of PNG's five to all rows, or chooses for each row. Rows are worked on in blocks that stay in
the second-level cache, with intermediate arrays made once. Source: PNG specification (third edition), section 9.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ADAPTIVE", "AVERAGE", "NONE", "PAETH", "SUB", "UP", "filter_rows"]

Array = npt.NDArray[Any]

NONE, SUB, UP, AVERAGE, PAETH = range(5)

#: Not one of PNG's: for each row the one of SUB, UP, AVERAGE and PAETH whose differences are smallest in sum, as the
#: specification advises. What is above _FAR counts alike: in the code that follows, large differences cost little more
#: than middling ones. PAETH must be better by a twentieth: decoders undo it four times slower.
ADAPTIVE = 5
_FAR = 16
_PAETH_MARGIN = 20

#: Bytes of rows filtered at a time.
_CACHE_BYTES = 128 * 1024


def filter_rows(rows: Array, step: int, filter_type: int) -> Array:
    """Return the rows as PNG stores them: each with its filter's number in front.

    Args:
        rows: uint8, height x bytes of a row.
        step: distance in bytes to the sample to the left.
        filter_type: NONE to PAETH, or ADAPTIVE.
    """
    height, width = rows.shape
    filtered = np.empty((height, 1 + width), np.uint8)
    filtered[:, 0] = filter_type
    out = filtered[:, 1:]
    if filter_type == NONE:
        out[:] = rows
    elif filter_type == SUB:
        out[:, :step] = rows[:, :step]
        np.subtract(rows[:, step:], rows[:, :-step], out=out[:, step:])
    elif filter_type == UP:
        out[0] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=out[1:])
    else:
        block_filter = {AVERAGE: _average, PAETH: _paeth}.get(filter_type)
        count = min(height, max(1, _CACHE_BYTES // width))
        padded = np.zeros((1 + count, step + width), np.uint8)  # left of a row and above the first is zero
        scratch = np.empty((11, count, width), np.uint8)
        for first in range(0, height, count):
            block = rows[first : first + count]
            length = len(block)
            padded[0] = padded[count] if first else 0  # the last row of the block before
            padded[1 : 1 + length, step:] = block
            neighbours = (padded[1 : 1 + length, :width], padded[:length, step:], padded[:length, :width])
            of_block = filtered[first : first + length]
            if block_filter is not None:
                block_filter(block, *neighbours, scratch[:, :length], of_block[:, 1:])
            else:
                _adaptive(block, *neighbours, scratch[:, :length], of_block)
    return filtered


def _average(block: Array, left: Array, up: Array, corner: Array, scratch: Array, out: Array) -> None:
    """Half the sum of left and up, rounded down, without leaving eight bits."""
    half, both = scratch[:2]
    np.bitwise_xor(left, up, out=half)
    np.right_shift(half, 1, out=half)
    np.bitwise_and(left, up, out=both)
    np.add(half, both, out=half)
    np.subtract(block, half, out=out)


def _paeth(block: Array, left: Array, up: Array, corner: Array, scratch: Array, out: Array) -> None:
    """Whichever of left, up and corner is nearest to left + up - corner; ties go in that order.

    The same in eight bits: with the corner limited to the range from the smaller to the larger of left and up,
    the distances to those are ``larger - corner`` and ``corner - smaller``, and the corner itself is the nearest
    exactly where these differ by less than the lesser of them.
    """
    smaller, larger, middle, below, above, near, other = scratch[:7]
    np.minimum(left, up, out=smaller)
    np.maximum(left, up, out=larger)
    np.maximum(corner, smaller, out=middle)
    np.minimum(middle, larger, out=middle)
    np.subtract(middle, smaller, out=below)
    np.subtract(larger, middle, out=above)
    _mask(np.less, below, above, near)
    np.minimum(below, above, out=other)
    np.maximum(below, above, out=above)
    np.subtract(above, other, out=above)
    _mask(np.less, above, other, below)  # where the corner is nearest
    np.bitwise_xor(smaller, larger, out=larger)
    np.bitwise_and(larger, near, out=larger)
    np.bitwise_xor(smaller, larger, out=smaller)  # the nearer of left and up
    np.bitwise_xor(smaller, middle, out=middle)
    np.bitwise_and(middle, below, out=middle)
    np.bitwise_xor(smaller, middle, out=smaller)
    np.subtract(block, smaller, out=out)


def _mask(compare: np.ufunc, first: Array, second: Array, out: Array) -> None:
    """255 where the comparison holds, else 0; selecting with masks is several times faster than ``np.where``."""
    compare(first, second, out=out.view(np.bool_))
    np.negative(out, out=out)


def _adaptive(block: Array, left: Array, up: Array, corner: Array, scratch: Array, filtered: Array) -> None:
    by_average, by_sub, by_up, by_paeth = candidates = scratch[7:]
    np.subtract(block, left, out=by_sub)
    np.subtract(block, up, out=by_up)
    _average(block, left, up, corner, scratch, by_average)
    _paeth(block, left, up, corner, scratch, by_paeth)
    scratch[1] = _FAR  # numpy takes the lesser of two arrays ten times faster than of an array and a number
    costs = np.stack([_cost(rows, scratch[1], scratch[0]) for rows in candidates])
    costs[3] += costs[3] // _PAETH_MARGIN
    best = costs.argmin(axis=0)
    filtered[:, 0] = np.array([AVERAGE, SUB, UP, PAETH], np.uint8)[best]
    filtered[:, 1:] = by_average
    for choice in (1, 2, 3):
        chosen = np.flatnonzero(best == choice)
        if chosen.size:
            filtered[chosen, 1:] = candidates[choice, chosen]


def _cost(rows: Array, far: Array, scratch: Array) -> Array:
    """Sum of the differences' magnitudes, of each row."""
    np.abs(rows.view(np.int8), out=scratch.view(np.int8))
    np.minimum(scratch, far, out=scratch)
    count, width = scratch.shape
    terms = 255 // _FAR  # so many fit eight bits, which is the fastest way to add
    even = width - width % terms
    sums = np.add.reduce(scratch[:, :even].reshape(count, terms, -1), axis=1, dtype=np.uint8)
    cost: Array = np.add.reduce(sums, axis=1, dtype=np.uint32)
    cost += np.add.reduce(scratch[:, even:], axis=1, dtype=np.uint32)
    return cost
