"""Recorded pictures as files of other tools, and as what a screen shows."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pil

from recorder.bundle import Bundle, PixelsDiffer, png
from recorder.bundle.errors import BundleError, BundleInvalid, BundleUnavailable
from recorder.bundle.manifest import Image
from replay.export.source import Exported, Source

__all__ = ["Screen", "original_file", "suffix_of"]

_SUFFIXES = {"jpeg": ".jpg", "webp": ".webp"}
#: What sensors deliver in 16 bits; a picture of 12 would else be nearly black.
_DEPTHS_BITS = (8, 10, 12, 14, 16)
#: Fast: the best level takes four times as long for a tenth less.
_PNG_LEVEL = 1


def suffix_of(image: Image) -> str:
    """Of the file that `original_file` makes."""
    return _SUFFIXES.get(image.encoding, ".png")


def original_file(bundle: Bundle, image: Image, exported: Exported) -> bytes | None:
    """A picture as a file with its very pixels, 16 bits too: of a JPEG or WebP file the recorded bytes, else a PNG.

    None where there is no such file, which is counted.

    Raises:
        BundleInvalid, BundleUnavailable: it is not what the manifest says.
    """
    if image.encoding in _SUFFIXES and image.pixels_sha256 is not None:
        return bundle.read(image.member)
    pixels = _pixels(bundle, image, exported)
    if pixels is None:
        return None
    channels = pixels.shape[2] if pixels.ndim == 3 else 0
    if channels > 4 or channels == 2:
        exported.left_out["picture with channels that PNG files do not have for other tools"] += 1
        return None
    if pixels.dtype != np.uint8 and channels > 1:
        return png.encode(pixels)  # Pillow writes no 16-bit colour
    return _png(pil.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels)))


class Screen:
    """Pictures as tools show them: 8 bits, grey or RGB; those of more bits over the depth their stream has in all."""

    def __init__(self, source: Source) -> None:
        """``source`` says which pictures belong together."""
        self._source = source
        self._depths: dict[tuple[str, str], int] = {}

    def png(self, stream: str, image: Image) -> bytes | None:
        """A PNG file; None where the picture cannot be decoded, which is counted.

        Raises:
            BundleInvalid, BundleUnavailable: it is not what the manifest says.
        """
        pixels = _pixels(self._source.bundle, image, self._source.exported)
        if pixels is None:
            return None
        changed = self._source.exported.changed
        if pixels.dtype != np.uint8:
            pixels = (pixels >> (self._depth(stream, image.name) - 8)).astype(np.uint8)
            changed["picture of 16 bits shown with 8"] += 1
        if pixels.ndim == 3:
            if pixels.shape[2] not in (1, 3):
                changed["picture shown without alpha or further channels"] += 1
            pixels = pixels[..., 0] if pixels.shape[2] < 3 else pixels[..., :3]
        return _png(pil.fromarray(np.ascontiguousarray(pixels)))

    def _depth(self, stream: str, name: str) -> int:
        """The least usual depth in bits that holds every wanted picture of a camera."""
        key = (stream, name)
        if key not in self._depths:
            most = 0
            for frame in self._source.frames:
                for image in frame.images if frame.stream == stream else ():
                    if image.name == name and image.dtype != "uint8":
                        pixels = _pixels(self._source.bundle, image, Exported())
                        most = most if pixels is None else max(most, int(pixels.max()))
            self._depths[key] = next(bits for bits in _DEPTHS_BITS if most < 2**bits)
        return self._depths[key]


def _pixels(bundle: Bundle, image: Image, exported: Exported) -> NDArray[Any] | None:
    """HW or HWC, uint8 or uint16; None where they cannot be had here, which is counted."""
    try:
        pixels = np.asarray(bundle.pixels(image))
        if pixels.size:
            return pixels
        exported.left_out["picture without pixels"] += 1
    except PixelsDiffer:
        exported.left_out["picture that decodes otherwise here"] += 1
    except (BundleInvalid, BundleUnavailable):
        raise
    except BundleError:
        exported.left_out["picture that could not be decoded"] += 1
    return None


def _png(picture: pil.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=_PNG_LEVEL)
    return file.getvalue()
