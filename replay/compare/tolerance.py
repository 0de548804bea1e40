"""How far apart two tensors of one dtype and shape are, and how far arithmetic alone can take them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recorder.bundle.tensors import dense_order
from recorder.bundle.values import TensorValue
from replay.compare.layout import Array, logical_bits, real_values

__all__ = ["Gap", "TOLERANCES", "measure", "tolerance_of"]

#: Largest relative L2 error that arithmetic in this precision explains. float16 to float64: calibrated on three
#: networks against changes of instruction set, threads and batch. float8: half a unit in the last place, the least
#: that a rounded result can be off by. "tf32" and autocast dtypes are what a model computes in, whatever it returns.
TOLERANCES: dict[str, float] = {
    "float64": 1e-12,
    "complex128": 1e-12,
    "float32": 1e-5,
    "complex64": 1e-5,
    "tf32": 2e-3,
    "float16": 2e-3,
    "bfloat16": 2e-2,
    "float8_e4m3fn": 2.0**-4,
    "float8_e5m2": 2.0**-3,
}

#: A single element may be off by this many times the tolerance, of the largest element.
_PEAK_FACTOR = 10.0

#: Elements looked at in one go: bounds the working memory to a few tens of MB whatever the tensor's size.
_CHUNK_ELEMENTS = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What separates two tensors. The measures are over places where both are finite; 0 for integers and bools."""

    differing: int  #: elements whose bits differ
    masks_agree: bool  #: NaN, +Inf and -Inf stand in the same places
    max_abs: float  #: largest absolute difference
    rel_l2: float  #: norm of the difference over the norm of the first tensor; infinite where only that is zero
    rel_peak: float  #: max_abs over the largest absolute value of the first tensor; likewise
    floating: bool

    def within(self, tolerance: float) -> bool:
        """Whether arithmetic of this relative L2 tolerance explains the gap."""
        if not self.floating:
            return self.differing == 0
        return self.masks_agree and self.rel_l2 <= tolerance and self.rel_peak <= _PEAK_FACTOR * tolerance


def measure(recorded: TensorValue, recorded_data: bytes, replayed: TensorValue, replayed_data: bytes) -> Gap:
    """Measure the gap between two tensors of one dtype and shape, whatever their strides, a piece at a time.

    Raises:
        ValueError: the bytes do not fit dtype and shape.
    """
    floating = recorded.dtype in TOLERANCES
    differing, masks_agree = 0, True
    error, reference = _Norm(), _Norm()
    for bits_a, bits_b in _chunks(recorded, recorded_data, replayed, replayed_data):
        unequal = _unequal(bits_a, bits_b)
        differing += unequal
        if floating:
            a = real_values(bits_a, recorded.dtype)
            reference.add(a[np.isfinite(a)])
            if unequal:
                masks_agree &= _add_error(a, real_values(bits_b, recorded.dtype), error)
    rel_l2, rel_peak = error.relative_to(reference)
    return Gap(
        differing=differing,
        masks_agree=masks_agree,
        max_abs=error.peak,
        rel_l2=rel_l2,
        rel_peak=rel_peak,
        floating=floating,
    )


def tolerance_of(dtype: str, compute_dtype: str | None = None) -> float:
    """Return the relative L2 tolerance for a tensor of ``dtype``, at least that of the dtype it was computed in.

    A lower compute precision does not reach float64 values: autocast and TF32 leave those alone.
    """
    own = TOLERANCES[dtype]
    if dtype in ("float64", "complex128") or compute_dtype is None:
        return own
    return max(own, TOLERANCES.get(compute_dtype, 0.0))


def _chunks(
    recorded: TensorValue, a_data: bytes, replayed: TensorValue, b_data: bytes
) -> Iterator[tuple[Array, Array]]:
    """Yield corresponding pieces of two tensors as flat arrays of raw elements."""
    a = logical_bits(a_data, recorded.dtype, recorded.shape, recorded.strides)
    b = logical_bits(b_data, replayed.dtype, replayed.shape, replayed.strides)
    order = dense_order(recorded.shape, recorded.strides)
    if order is not None and a.size:  # walk the recorded memory forwards; the other side follows
        a, b = a.transpose(order), b.transpose(order)
    pieces = np.nditer(
        [a, b], flags=["external_loop", "buffered", "zerosize_ok"], order="C", buffersize=_CHUNK_ELEMENTS
    )
    yield from pieces


def _unequal(a: Array, b: Array) -> int:
    """Count the elements whose bit patterns differ; values are not looked at."""
    if a.dtype.kind != "c":
        return int(np.count_nonzero(a != b))
    words_a, words_b = (np.ascontiguousarray(bits).view("<u8").reshape(-1, 2) for bits in (a, b))
    return int(np.count_nonzero(np.any(words_a != words_b, axis=1)))


def _add_error(a: Array, b: Array, error: _Norm) -> bool:
    """Add one piece to the error's norm; return whether NaN and infinities stand in the same places."""
    finite = np.isfinite(a) & np.isfinite(b)
    special_a, special_b = a[~finite], b[~finite]
    with np.errstate(all="ignore"):  # the difference of two finite numbers can overflow; then it is infinite
        error.add(a[finite] - b[finite])
    return bool(np.all((special_a == special_b) | (np.isnan(special_a) & np.isnan(special_b))))


@dataclass(slots=True)
class _Norm:
    """A running L2 norm and maximum that neither overflows nor underflows (the scaling of BLAS nrm2)."""

    peak: float = 0.0
    _sum: float = 0.0  #: of squares, in units of peak squared

    def add(self, values: Array) -> None:
        if not values.size:
            return
        peak = float(np.max(np.abs(values)))
        if peak == 0.0 or self.peak == math.inf:
            return
        if peak == math.inf:
            self.peak = self._sum = math.inf
            return
        if peak > self.peak:
            self._sum *= (self.peak / peak) ** 2
            self.peak = peak
        scaled = values / self.peak
        self._sum += float(np.dot(scaled, scaled))

    def relative_to(self, reference: _Norm) -> tuple[float, float]:
        """Return the ratios of the L2 norms and of the maxima; infinite where only the reference is zero."""
        if self.peak == 0.0:
            return 0.0, 0.0
        if reference.peak == 0.0:
            return math.inf, math.inf
        peaks = self.peak / reference.peak
        return peaks * math.sqrt(self._sum / reference._sum), peaks
