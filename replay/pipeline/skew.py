"""Name what turned one model input into another: channels reversed, another normalisation, another crop.

Pure. A name is given only when undoing it makes the two inputs equal to within `EXPLAINED`; everything else is said as
what it is, a difference of some size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXPLAINED", "name_skew"]

Array = NDArray[Any]

#: Norm of what is left over the norm of the recorded input, once a suspected change is undone. Two resizing libraries
#: differ by 1e-2 and more, arithmetic in another order by 1e-6.
EXPLAINED = 1e-3

#: Crops that differ by more are called another picture.
_MAX_SHIFT_PIXELS = 16

#: Sizes of an axis that may hold colours.
_CHANNELS = (1, 3, 4)


def name_skew(recorded: Array, replayed: Array) -> str:
    """Say in half a sentence how a replayed model input differs from the recorded one.

    Args:
        recorded: any shape, float or integer.
        replayed: the same tensor of the re-run.
    """
    if recorded.shape != replayed.shape:
        return _other_shape(recorded.shape, replayed.shape)
    a, b = recorded.astype(np.float64), replayed.astype(np.float64)
    if not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
        return "it holds values that are not finite"
    size = _left(a, b)
    if a.ndim < 2 or not a.any():
        return f"relative L2 {size:.2g}"
    axis = _channel_axis(a.shape)
    if axis is not None and a.shape[axis] >= 3:
        turned = _reversed(b, axis)
        if _left(a, turned) < EXPLAINED or (_fit(a, turned, axis)[2] < EXPLAINED <= _fit(a, b, axis)[2]):
            return "its colour channels are in the reverse order (RGB and BGR)"
    rows, columns = _image_axes(a.ndim, axis)
    for name, other in (
        ("mirrored left to right", np.flip(b, columns)),
        ("upside down", np.flip(b, rows)),
    ):
        if _left(a, other) < EXPLAINED:
            return f"it is {name}"
    if a.shape[rows] == a.shape[columns] and _left(a, np.swapaxes(b, rows, columns)) < EXPLAINED:
        return "its rows and columns are exchanged"
    if size >= EXPLAINED:
        scales, offsets, rest = _fit(a, b, axis)
        if rest < EXPLAINED:
            return _other_range(scales, offsets)
        moved = _shift(a, b, rows, columns)
        if moved is not None:
            return f"it is shifted by {moved[0]:+d} px across and {moved[1]:+d} px down: another crop or alignment"
        scales, offsets, rest = _fit(a, b, None)
        if rest > 0.7:
            return f"another picture (relative L2 {size:.2g})"
    return f"relative L2 {size:.2g}, as from another resize, colour conversion or library version"


def _other_shape(recorded: tuple[int, ...], replayed: tuple[int, ...]) -> str:
    if sorted(recorded) == sorted(replayed) and len(recorded) > 1:
        return f"its axes are in another order: {list(recorded)} was recorded, {list(replayed)} came"
    return f"its size is another: {list(recorded)} was recorded, {list(replayed)} came"


def _left(a: Array, b: Array) -> float:
    return float(np.linalg.norm((a - b).ravel()) / max(float(np.linalg.norm(a.ravel())), 1e-30))


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """NCHW and CHW before NHWC and HWC."""
    for axis in (len(shape) - 3, len(shape) - 1):
        if len(shape) >= 3 and shape[axis] in _CHANNELS:
            return axis
    return None


def _image_axes(dimensions: int, channels: int | None) -> tuple[int, int]:
    if channels == dimensions - 1:
        return dimensions - 3, dimensions - 2
    return dimensions - 2, dimensions - 1


def _reversed(array: Array, axis: int) -> Array:
    order = [2, 1, 0, *range(3, array.shape[axis])]
    return np.take(array, order, axis=axis)


def _fit(a: Array, b: Array, axis: int | None) -> tuple[Array, Array, float]:
    """Least-squares ``a = scale * b + offset`` per channel; scales, offsets and what is left, relative."""
    channels = 1 if axis is None else a.shape[axis]
    x = (b[None] if axis is None else np.moveaxis(b, axis, 0)).reshape(channels, -1)
    y = (a[None] if axis is None else np.moveaxis(a, axis, 0)).reshape(channels, -1)
    mean_x, mean_y = x.mean(axis=1), y.mean(axis=1)
    spread = ((x - mean_x[:, None]) ** 2).sum(axis=1)
    common = ((x - mean_x[:, None]) * (y - mean_y[:, None])).sum(axis=1)
    scales = np.divide(common, spread, out=np.zeros_like(common), where=spread > 0)
    offsets = mean_y - scales * mean_x
    rest = y - (scales[:, None] * x + offsets[:, None])
    varying = np.linalg.norm((y - mean_y[:, None]).ravel())  # so that a constant does not explain everything
    return scales, offsets, float(np.linalg.norm(rest.ravel()) / max(float(varying), 1e-30))


def _other_range(scales: Array, offsets: Array) -> str:
    """``recorded = scales * replayed + offsets`` in words."""
    alike = np.allclose(scales, scales[0], rtol=1e-3) and np.allclose(offsets, 0, atol=1e-3 * abs(scales[0]))
    if alike and abs(scales[0] - 1 / 255) < 1e-4:
        return "its values go up to 255 where up to 1 was recorded: the division by 255 is missing"
    if alike and abs(scales[0] - 255) < 0.5:
        return "its values go up to 1 where up to 255 was recorded: divided by 255 once too often"
    parts = ", ".join(f"{scale:.4g}·x{offset:+.4g}" for scale, offset in zip(scales, offsets, strict=True))
    return f"another normalisation: recorded = {parts} by channel, x being what came"


def _shift(a: Array, b: Array, rows: int, columns: int) -> tuple[int, int] | None:
    """The whole-pixel shift that maps a onto b, by phase correlation and then checked; None where there is none."""
    height, width = a.shape[rows], a.shape[columns]
    reach = min(_MAX_SHIFT_PIXELS, height // 4, width // 4)
    if reach < 1:
        return None
    flat_a = np.moveaxis(a, (rows, columns), (-2, -1)).reshape(-1, height, width).mean(axis=0)
    flat_b = np.moveaxis(b, (rows, columns), (-2, -1)).reshape(-1, height, width).mean(axis=0)
    cross = np.fft.rfft2(flat_b - flat_b.mean()) * np.conj(np.fft.rfft2(flat_a - flat_a.mean()))
    peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-12), s=(height, width))
    down, across = (int(each) for each in np.unravel_index(int(peaks.argmax()), peaks.shape))
    down, across = (down + height // 2) % height - height // 2, (across + width // 2) % width - width // 2
    if not (0 < max(abs(down), abs(across)) <= reach):
        return None
    inner = [slice(None)] * a.ndim
    inner[rows], inner[columns] = slice(reach, height - reach), slice(reach, width - reach)
    back = np.roll(b, (-down, -across), axis=(rows, columns))
    return (across, down) if _left(a[tuple(inner)], back[tuple(inner)]) < EXPLAINED else None
