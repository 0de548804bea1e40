"""Taking a suspected cause back, or bringing it about: pictures in, pictures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from recorder.cause.corruptions import damaged
from recorder.cause.pose import PoseFinder, thumbnail
from recorder.cause.vocabulary import AMOUNTS
from replay.compare.layout import Array
from replay.pipeline.edits import Edit, apply_edits
from replay.probe.trial import as_uint8

__all__ = ["Suspicion", "bring_about", "can_be_undone", "take_back"]

#: What cannot be taken back, because what it covers or takes away is gone; it can only be brought about.
_ONE_WAY = ("occlusion", "rain", "snow")
#: How sharp a picture is made again: percent and radius of an unsharp mask, the usual ones of photography.
_SHARPEN = ImageFilter.UnsharpMask(radius=2, percent=150, threshold=0)
#: Gains beyond invent what is not there.
_MOST_GAIN = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A cause, and what is known of its strength.

    Attributes:
        cause: one of `recorder.cause.vocabulary.FITTED`.
        amount: in the cause's unit; None: that of its middle severity.
        scale: pixels of the recorded image per pixel of what the model sees.
        clean: pictures of the same stream from before it began, as the model saw them.
    """

    cause: str
    amount: float | None
    scale: float = 1.0
    clean: Sequence[Array] = field(default_factory=tuple)


def can_be_undone(cause: str) -> bool:
    """Whether a picture without the cause can be made of one with it."""
    return cause not in _ONE_WAY


def take_back(pixels: Array, suspicion: Suspicion) -> Array:
    """Return a picture as it might have been without the cause, by what clean ones look like.

    Light, contrast and colours are brought to the means and spreads of the clean pictures; a moved camera is moved
    back by what fits best; noise is filtered; a blurred picture is sharpened, which brings back nothing that is lost.
    """
    return _UNDO[suspicion.cause](pixels, suspicion)


def bring_about(pixels: Array, suspicion: Suspicion, seed: int) -> Array:
    """Return a clean picture as the cause would have made it, by the corruptions that profiles learn from."""
    amount = AMOUNTS[suspicion.cause].levels[2] if suspicion.amount is None else suspicion.amount
    top = float(np.iinfo(pixels.dtype).max)
    colour = pixels[..., None].repeat(3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
    given = (colour.astype(np.float32) / np.float32(top))[None]
    made = np.rint(damaged(given, suspicion.cause, amount, suspicion.scale, seed)[0] * top).astype(pixels.dtype)
    if pixels.ndim == 2:
        grey: Array = np.rint(made.mean(axis=2)).astype(pixels.dtype)
        return grey
    done = np.array(pixels, copy=True)
    done[..., :3] = made
    return done


def _means(pictures: Sequence[Array]) -> tuple[Array, Array]:
    """Mean and spread of each channel, medians over pictures."""
    flat = [
        picture.reshape(-1, 1 if picture.ndim == 2 else picture.shape[2]).astype(np.float64) for picture in pictures
    ]
    means = np.median([each.mean(axis=0) for each in flat], axis=0)
    return means, np.median([each.std(axis=0) for each in flat], axis=0)


def _affine(pixels: Array, gain: Array, offset: Array) -> Array:
    top = np.iinfo(pixels.dtype).max
    values = pixels.astype(np.float64) * gain + offset
    done: Array = np.clip(np.rint(values), 0, top).astype(pixels.dtype)
    return done


def _shaped(values: Array, pixels: Array) -> Array:
    shaped: Array = values if pixels.ndim == 3 else np.asarray(values[0])
    return shaped


def _relit(pixels: Array, suspicion: Suspicion) -> Array:
    """One gain for all channels."""
    wanted, _ = _means(suspicion.clean)
    found, _ = _means([pixels])
    gain: Array = np.clip(wanted.mean() / max(float(found.mean()), 1e-6), 1 / _MOST_GAIN, _MOST_GAIN)
    return _affine(pixels, np.asarray(gain), np.asarray(0.0))


def _stretched(pixels: Array, suspicion: Suspicion) -> Array:
    """Mean and spread of the whole picture."""
    (wanted, spread), (found, narrow) = _means(suspicion.clean), _means([pixels])
    gain = np.clip(spread.mean() / max(float(narrow.mean()), 1e-6), 1 / _MOST_GAIN, _MOST_GAIN)
    return _affine(pixels, np.asarray(gain), np.asarray(wanted.mean() - gain * found.mean()))


def _rebalanced(pixels: Array, suspicion: Suspicion) -> Array:
    """A gain for each channel."""
    wanted, _ = _means(suspicion.clean)
    found, _ = _means([pixels])
    gain = np.clip(wanted / np.maximum(found, 1e-6), 1 / _MOST_GAIN, _MOST_GAIN)
    return _affine(pixels, _shaped(gain, pixels), np.asarray(0.0))


def _moved_back(pixels: Array, suspicion: Suspicion) -> Array:
    """Turned and shifted to where the clean pictures fit best."""
    reference = np.median([_luminance(each) for each in suspicion.clean], axis=0).astype(np.float32)
    pose = PoseFinder(thumbnail(reference)).find(_luminance(pixels))
    width = pixels.shape[1]
    edits = []
    if suspicion.cause == "camera-rotation":
        edits.append(Edit(name="rotate", amount=-pose.degrees))
    edits += [
        Edit(name="shift_x", amount=-round(pose.right * width)),
        Edit(name="shift_y", amount=-round(pose.down * width)),
    ]
    return apply_edits(pixels, edits)


def _luminance(pixels: Array) -> Array:
    grey = pixels if pixels.ndim == 2 else pixels[..., :3].mean(axis=2)
    scaled: Array = grey.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return scaled


def _filtered(chosen: ImageFilter.Filter) -> Callable[[Array, Suspicion], Array]:
    def undo(pixels: Array, _: Suspicion) -> Array:
        """In eight bits: what is taken back is far above the rest."""
        done = np.asarray(Image.fromarray(as_uint8(pixels)).filter(chosen))
        return done if pixels.dtype == np.uint8 else done.astype(np.uint16) * 257

    return undo


def _swapped(pixels: Array, _: Suspicion) -> Array:
    return apply_edits(pixels, [Edit(name="swap_channels", amount=1.0)])


_UNDO: dict[str, Callable[[Array, Suspicion], Array]] = {
    "darker": _relit,
    "brighter": _relit,
    "low-contrast": _stretched,
    "fog": _stretched,
    "colour-cast": _rebalanced,
    "camera-shift": _moved_back,
    "camera-rotation": _moved_back,
    "noise": _filtered(ImageFilter.GaussianBlur(1.2)),
    "impulse-noise": _filtered(ImageFilter.MedianFilter(3)),
    "compression": _filtered(ImageFilter.GaussianBlur(0.8)),
    "defocus": _filtered(_SHARPEN),
    "motion-blur": _filtered(_SHARPEN),
    "low-resolution": _filtered(_SHARPEN),
    "channel-order": _swapped,
}
