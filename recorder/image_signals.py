"""Cheap statistics of one image, as pure functions: what the sealer notes of every frame, and drift is judged by.

Values are of the stored numbers divided by the largest the dtype can hold (255 or 65,535), so between 0 and 1, as the
camera encoded them (no gamma is undone). A colour image is taken in the channel order the caller used. Everything
works on a part of the pixels: 720p costs well under a millisecond.
"""

from __future__ import annotations

import functools
import hashlib
import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.image_texture import blockiness, haze, motion, spectrum_slope

__all__ = ["IMAGE_SIGNALS", "ImageSignals", "bytes_digest", "decode_reduced", "image_signals"]

Array = npt.NDArray[Any]
Grey = npt.NDArray[np.float32]

#: Name to unit, in the order of `ImageSignals.values`.
IMAGE_SIGNALS: dict[str, str] = {
    "luminance": "of full scale",
    "contrast": "of full scale",
    "clipped_low": "share of pixels",
    "clipped_high": "share of pixels",
    "sharpness_x": "full scale squared",
    "sharpness_y": "full scale squared",
    "noise": "of full scale",
    "saturation": "ratio",
    "channel_0": "of full scale",
    "channel_1": "of full scale",
    "channel_2": "of full scale",
    "difference": "of full scale",
    "anisotropy": "octaves",
    "spectrum_slope": "octaves per octave",
    "blockiness": "ratio",
    "haze": "of full scale",
    "motion_x": "pixels",
    "motion_y": "pixels",
}

#: Longer side of the grid that means and shares are taken from: 58,000 samples of a 720p frame, whose mean is good to
#: a thousandth of the contrast.
_GRID_SIDE = 320
#: Grid that is kept of each stream's last frame for ``difference``: 80 by 45 bytes for video.
_SMALL_STEP = 4
#: Bands of three rows at full resolution that sharpness and noise are taken from.
_BANDS = 16
#: Columns of a band; a wider image is cropped to its centre, where a 12-megapixel sensor has detail enough.
_BAND_COLUMNS = 2_048
#: Rec. 601: what JPEG and most cameras mean by luminance.
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
#: At most this near to an end of the range counts as clipped: sensor noise keeps clipped pixels from being equal.
_CLIP = 4 / 255
#: Decoding more than this would hold up the sealer for a tenth of a second.
_MAX_DECODED_PIXELS = 2**24
#: A tenth of a grey level, squared: what has no detail has no direction either.
_LEAST_DETAIL = np.float32((0.1 / 255) ** 2)
#: Words of 64 bits summed at a time: 64 KiB stay in the cache.
_DIGEST_WORDS = 8_192
_HALF = np.uint64(32)


class ImageSignals:
    """The signals of one image.

    Attributes:
        values: float32, one for each of `IMAGE_SIGNALS`; NaN where the image has no such thing (colour of a grey
            image, the difference of a first frame).
        small: luminance of the frame on a coarse grid, uint8; give it to the next frame of the stream.
    """

    __slots__ = ("small", "values")

    def __init__(self, values: Grey, small: npt.NDArray[np.uint8]) -> None:
        self.values = values
        self.small = small


def image_signals(pixels: Array, previous: npt.NDArray[np.uint8] | None = None) -> ImageSignals:
    """Measure one image.

    With Y = 0.299 c0 + 0.587 c1 + 0.114 c2 (c0 of a grey image) on every n-th pixel, n such that the longer side has at
    most 320: ``luminance`` is the mean of Y, ``contrast`` its standard deviation, ``clipped_low`` and ``clipped_high``
    the shares within 4/255 of 0 and 1, ``channel_i`` the means, ``saturation`` the mean of (max - min) / max over the
    channels, ``difference`` the mean of abs(Y - Y of the previous frame) on a grid four times coarser.

    ``haze`` is the dark channel on the same grid; ``motion_x`` and ``motion_y`` how far the picture moved as a whole,
    in its own pixels, to the right and down; see `recorder.image_texture`.

    On 16 bands of three neighbouring rows at full resolution, evenly spaced: ``sharpness_x`` and ``sharpness_y`` are
    the variances of the second differences [1 -2 1] along a row and across rows (blur lowers both, motion blur one of
    them), ``noise`` is Immerkaer's estimate of sigma, sqrt(pi/2)/6 times the mean of abs(Y * [1 -2 1; -2 4 -2; 1 -2 1])
    (J. Immerkaer, Fast Noise Variance Estimation, 1996). ``anisotropy`` is the logarithm of sharpness_x / sharpness_y;
    ``spectrum_slope`` and ``blockiness`` are taken along the bands' middle rows.

    Args:
        pixels: HW or HWC, uint8 or uint16; channels beyond the third are ignored, with two the first is taken.
        previous: ``small`` of the stream's frame before; None for the first.

    Raises:
        ValueError: another dtype or number of dimensions, or no pixel.
    """
    if pixels.dtype.name not in ("uint8", "uint16") or pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"an image is HW or HWC of uint8 or uint16, not {pixels.dtype} {pixels.shape}")
    scale = np.float32(1 / np.iinfo(pixels.dtype).max)
    step = -(-max(pixels.shape[:2]) // _GRID_SIDE)
    top, left = (min(step, side) // 2 for side in pixels.shape[:2])
    grid = pixels[top::step, left::step]
    colour = grid.ndim == 3 and grid.shape[2] >= 3
    values = np.full(len(IMAGE_SIGNALS), np.nan, np.float32)
    if colour:
        # Channel by channel: numpy's inner loops are then rows, not three bytes.
        planes = np.stack([grid[:, :, channel] for channel in range(3)]) * scale
        grey = np.tensordot(_WEIGHTS, planes, 1)
        brightest, darkest = planes.max(axis=0), planes.min(axis=0)
        values[7] = ((brightest - darkest) / np.maximum(brightest, np.float32(1e-6))).mean()
        values[8:11] = planes.mean(axis=(1, 2))
    else:
        plane = grid if grid.ndim == 2 else grid[:, :, 0]
        grey = darkest = plane * scale
    values[0] = grey.mean()
    values[1] = grey.std()
    values[2] = np.count_nonzero(grey <= _CLIP) / grey.size
    values[3] = np.count_nonzero(grey >= 1 - _CLIP) / grey.size
    values[15] = haze(darkest)
    if min(pixels.shape[:2]) >= 3:
        bands = _bands(pixels, scale)
        values[4:7] = _detail(bands)
        values[12] = np.log2(max(values[4], _LEAST_DETAIL) / max(values[5], _LEAST_DETAIL))
        values[13:15] = spectrum_slope(bands[:, 1]), blockiness(bands[:, 1])
    small = (grey[::_SMALL_STEP, ::_SMALL_STEP] * 255 + 0.5).astype(np.uint8)
    if previous is not None and previous.shape == small.shape:
        values[11] = np.abs(small.astype(np.int16) - previous).mean() / 255
        values[16:18] = motion(small, previous)
        values[16:18] *= step * _SMALL_STEP
    return ImageSignals(values, small)


def _bands(pixels: Array, scale: np.float32) -> Grey:
    """(bands, 3, columns): neighbouring rows at full resolution."""
    height, width = pixels.shape[:2]
    bands = min(_BANDS, height // 3)
    starts = (np.arange(bands) * (height - 3) // max(1, bands - 1)) if bands > 1 else np.array([(height - 3) // 2])
    left = max(0, (width - _BAND_COLUMNS) // 2)
    rows = pixels[starts[:, None] + np.arange(3), left : left + _BAND_COLUMNS]
    # Green (or the only channel) alone: it has the most of luminance, and twice the others' samples on a Bayer sensor.
    plane = rows if rows.ndim == 3 else rows[:, :, :, 1 if rows.shape[3] >= 3 else 0]
    bands_of_green: Grey = np.ascontiguousarray(plane) * scale
    return bands_of_green


def _detail(grey: Grey) -> tuple[float, float, float]:
    """Sharpness along x and y, and noise."""
    across = _second_difference(grey[:, 0], grey[:, 1], grey[:, 2])
    middle = grey[:, 1]
    along = _second_difference(middle[:, :-2], middle[:, 1:-1], middle[:, 2:])
    both = _second_difference(across[:, :-2], across[:, 1:-1], across[:, 2:])
    noise = np.sqrt(np.pi / 2) / 6 * np.abs(both, out=both).mean()
    return float(along.var()), float(across.var()), float(noise)


def _second_difference(before: Grey, here: Grey, after: Grey) -> Grey:
    difference = before + after
    difference -= here
    difference -= here
    return difference


def bytes_digest(data: bytes | memoryview) -> int:
    """Return 64 bits that are equal for equal bytes and, by all odds, differ for others.

    Sums of 64-bit words times fixed odd weights, over 64 KiB at a time, and BLAKE2b of the sums: five times as fast as
    SHA-256, for telling whether a camera repeats itself. It is no proof against someone who wants two images to look
    equal.
    """
    view = memoryview(data).cast("B")
    whole = len(view) // 8 * 8
    words = np.frombuffer(view[:whole], np.dtype("<u8"))
    weights, mixed = _weights(), np.empty(_DIGEST_WORDS, np.uint64)
    mixer = hashlib.blake2b(len(view).to_bytes(8, "little") + bytes(view[whole:]), digest_size=8)
    for start in range(0, len(words), _DIGEST_WORDS):
        part = words[start : start + _DIGEST_WORDS]
        room = mixed[: len(part)]
        # The high bits of a word reach few bits of a product: fold them into the low ones.
        np.right_shift(part, _HALF, out=room)
        np.bitwise_xor(part, room, out=room)
        mixer.update(int(room @ weights[: len(part)]).to_bytes(8, "little"))
    return int.from_bytes(mixer.digest(), "little")


@functools.cache
def _weights() -> npt.NDArray[np.uint64]:
    """Fixed odd numbers: splitmix64 of 1, 2, 3 …"""
    with np.errstate(over="ignore"):
        z = np.arange(1, _DIGEST_WORDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def decode_reduced(data: bytes, encoding: str) -> Array | None:
    """Decode a JPEG, PNG or WebP file for measuring: a JPEG at a fraction of its size, which costs a fraction.

    Sharpness of a reduced JPEG is that of the reduced image; it compares with other frames of the stream all the same.

    Returns:
        HW or HWC, uint8 or uint16; None when the file cannot be decoded or is too large to be.
    """
    from PIL import Image as pil

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pil.open(io.BytesIO(data), formats=[encoding.upper()]) as image:
                if image.width * image.height > _MAX_DECODED_PIXELS:
                    return None
                share = _GRID_SIDE / max(image.size)
                image.draft(None, (int(image.width * share), int(image.height * share)))
                if image.mode not in ("L", "RGB", "RGBA", "I;16"):
                    return np.asarray(image.convert("RGB"))
                return np.asarray(image)
    except (OSError, ValueError, SyntaxError, MemoryError, pil.DecompressionBombError):
        return None  # whatever a decoder says of a broken file
