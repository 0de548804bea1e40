"""What each cause does to clean frames: the examples that a profile learns to tell them by.

Every corruption exists in broad variants (kernels, directions, colours, tints are drawn), since one form of fog learnt
by heart says little of the next. The same draw is applied to both views of a window.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recorder.cause import sensor, strangers, weather
from recorder.cause.filters import blurred, disk_kernel, line_kernel, moved, resized
from recorder.cause.views import Pixels, Views
from recorder.cause.vocabulary import AMOUNTS

__all__ = ["FORMS", "corrupted", "damaged", "healthy", "stranger"]

Random = np.random.Generator
#: A corruption of (frames, height, width, 3): amount, pixels of the recorded frame per pixel, its width here, draws.
Corruption = Callable[[Pixels, float, float, Random], Pixels]

#: The exponent by which cameras encode light.
_GAMMA = 2.2
#: Medium grey as encoded.
_GREY = 0.45


def corrupted(views: Views, cause: str, severity: float, seed: int) -> Views:
    """Return a window as the cause would have made it.

    Args:
        views: clean frames.
        cause: one of `recorder.cause.vocabulary.FITTED`.
        severity: 0.5 to 5.5.
        seed: of the variant; its remainder by `FORMS` of the cause is the number of the form.
    """
    amount = AMOUNTS[cause].at(severity)
    if cause != "occlusion":
        return _both(views, _form(cause, seed), amount, seed)
    # What covers a part of the frame covers all of its centre, or nothing of it, more often than a part.
    shares = [
        part / (whole * views.scale) for part, whole in zip(views.detail.shape[1:3], views.wide.shape[1:3], strict=True)
    ]
    wide, detail = (
        quantised(_occlusion(pixels, amount, scale, np.random.default_rng(seed), (high, across)))
        for pixels, scale, (high, across) in (
            (views.wide, views.scale, (1.0, 1.0)),
            (views.detail, 1.0, (min(1.0, shares[0]), min(1.0, shares[1]))),
        )
    )
    return Views(wide, detail, views.scale, views.width)


def damaged(pixels: Pixels, cause: str, amount: float, scale: float, seed: int) -> Pixels:
    """Return pictures as a cause would have made them.

    Args:
        pixels: (frames, height, width, 3), 0 to 1.
        cause: one of `recorder.cause.vocabulary.FITTED`.
        amount: in the unit of the cause's `recorder.cause.vocabulary.AMOUNTS`.
        scale: pixels of the recorded frame per pixel of these.
        seed: of the variant.
    """
    return quantised(_form(cause, seed)(pixels, amount, scale, np.random.default_rng(seed)))


def stranger(views: Views, kind: str, seed: int) -> Views:
    """Return a window with a fault that has no name, so that a profile learns that there are such."""
    return _both(views, strangers.STRANGERS[kind], 0.0, seed)


def healthy(views: Views, seed: int) -> Views:
    """Return a window as a healthy change of the scene might have made it: exposure and white balance breathe."""
    return _both(views, _breathing, 0.0, seed)


def _both(views: Views, corruption: Corruption, amount: float, seed: int) -> Views:
    wide, detail = (
        quantised(corruption(pixels, amount, scale, np.random.default_rng(seed)))
        for pixels, scale in ((views.wide, views.scale), (views.detail, 1.0))
    )
    return Views(wide, detail, views.scale, views.width)


def quantised(pixels: Pixels) -> Pixels:
    """Return pixels as eight bits would hold them."""
    return (np.rint(np.clip(pixels, 0, 1) * 255) / 255).astype(np.float32)


def _exposed(pixels: Pixels, stops: float, rng: Random) -> Pixels:
    kind = rng.integers(3)
    if kind == 0:  # light falls off or grows, the camera encodes it
        return pixels * np.float32(2 ** (stops / _GAMMA))
    if kind == 1:  # black level: as much at medium grey
        return pixels + _lifted(stops / _GAMMA)
    return np.clip(pixels, 0, 1) ** np.float32(2 ** (-stops / _GAMMA * 1.2))  # the camera bends its curve


def _lifted(stops: npt.ArrayLike) -> npt.NDArray[np.float32]:
    return (_GREY * (2 ** np.asarray(stops) - 1)).astype(np.float32)


def _darker(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    return _exposed(pixels, -amount, rng)


def _brighter(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    return _exposed(pixels, amount, rng)


def _low_contrast(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    centre = pixels.mean() if rng.random() < 0.6 else np.float32(rng.uniform(0.35, 0.55))
    return centre + (pixels - centre) * np.float32(1 - amount)


def _defocus(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    return blurred(pixels, disk_kernel(amount / scale, soft=rng.random() < 0.5))


def _motion_blur(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    return blurred(pixels, line_kernel(amount / scale, rng.uniform(0, np.pi)))


def _compression(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    from PIL import Image as pil

    subsampling = int(rng.choice([0, 2, 2]))
    given = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    made = np.empty_like(pixels)
    for number, frame in enumerate(given):
        file = io.BytesIO()
        quality = min(95, round(amount * scale))  # reduced afterwards, less of the loss is left
        pil.fromarray(frame).save(file, "JPEG", quality=quality, subsampling=subsampling)
        made[number] = np.asarray(pil.open(file), np.float32) / 255
    return made


def _in_squares(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Fewer pixels, each shown as a square."""
    return _coarser(pixels, amount / scale, rng, "nearest")


def _smoothed(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Fewer pixels, and a scaler that smooths between them."""
    return _coarser(pixels, amount / scale, rng, str(rng.choice(["bilinear", "bicubic"])))


def _coarser(pixels: Pixels, factor: float, rng: Random, up: str) -> Pixels:
    down = str(rng.choice(["box", "bilinear", "nearest"]))
    return resized(pixels, factor, down, up) if factor > 1.05 else pixels


def _colour_cast(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    gains = rng.standard_normal(3)
    gains = (gains - gains.mean()) / np.ptp(gains) * amount / _GAMMA
    if rng.random() < 0.3:
        return pixels + _lifted(gains)
    made: Pixels = pixels * (2**gains).astype(np.float32)
    return made


def _camera_shift(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    # The share is of the whole width; the centre in full resolution shows another place of the same scene.
    angle = rng.uniform(0, 2 * np.pi)
    length = amount * pixels.shape[2]
    return moved(pixels, 0.0, length * np.cos(angle), length * np.sin(angle), zoom=1 + 0.02 * rng.random())


def _camera_rotation(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    return moved(pixels, amount * rng.choice([-1, 1]), *rng.normal(0, 0.004 * pixels.shape[2], 2))


def _occlusion(
    pixels: Pixels, amount: float, scale: float, rng: Random, shown: tuple[float, float] = (1.0, 1.0)
) -> Pixels:
    # The pixels are the middle of the frame, these shares of its height and width.
    height, width = pixels.shape[1:3]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = 0.5 + ((y + 0.5) / height - 0.5) * shown[0], 0.5 + ((x + 0.5) / width - 0.5) * shown[1]
    aspect = np.exp(rng.uniform(-0.6, 0.6))
    high, wide = min(1.0, np.sqrt(amount * aspect)), min(1.0, np.sqrt(amount / aspect))
    shape = rng.integers(3)
    cy, cx = rng.uniform(0.1, 0.9, 2)
    if shape == 0:
        mask = (abs(y - cy) < high / 2) & (abs(x - cx) < wide / 2)
    elif shape == 1:
        mask = ((y - cy) / (0.564 * high)) ** 2 + ((x - cx) / (0.564 * wide)) ** 2 < 1
    else:  # from an edge
        side = (x, 1 - x, y, 1 - y)[rng.integers(4)]
        mask = side < amount
    colour = rng.uniform(0, 0.7) + rng.normal(0, 0.06, 3)
    soft = rng.uniform(0.3, 4) / scale
    cover = np.broadcast_to(np.clip(colour, 0, 1).astype(np.float32), pixels.shape[1:]).copy()
    if rng.random() < 0.7:  # else a mask, or a part of the picture that never arrived
        cover += np.float32(rng.uniform(0, 0.03)) * rng.standard_normal(cover.shape, np.float32)
    edge = blurred(mask[None, :, :, None].astype(np.float32), disk_kernel(soft))
    return pixels * (1 - edge) + cover * edge


def _channel_order(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    orders = [[2, 1, 0]] * 4 + [[1, 0, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1]]
    return pixels[..., orders[rng.integers(len(orders))]]


def _breathing(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    gains = 2 ** (rng.normal(0, 0.07) + rng.normal(0, 0.015, 3))
    return pixels * gains.astype(np.float32)


#: The forms that each cause takes. Those that stand apart here leave different traces, and each is learnt as a place of
#: its own; an amount means the same in all.
_CORRUPTIONS: dict[str, tuple[Corruption, ...]] = {
    "darker": (_darker,),
    "brighter": (_brighter,),
    "low-contrast": (_low_contrast,),
    "defocus": (_defocus,),
    "motion-blur": (_motion_blur,),
    "noise": (sensor.grain, sensor.high_gain),
    "impulse-noise": (sensor.impulses,),
    "compression": (_compression,),
    "low-resolution": (_in_squares, _smoothed),
    "fog": (weather.veil, weather.mist),
    "rain": (weather.rain,),
    "snow": (weather.snow, weather.snow_cover),
    "colour-cast": (_colour_cast,),
    "camera-shift": (_camera_shift,),
    "camera-rotation": (_camera_rotation,),
    "occlusion": (_occlusion,),
    "channel-order": (_channel_order,),
}
#: How many forms a cause has.
FORMS: dict[str, int] = {cause: len(forms) for cause, forms in _CORRUPTIONS.items()}


def _form(cause: str, seed: int) -> Corruption:
    forms = _CORRUPTIONS[cause]
    return forms[seed % len(forms)]
