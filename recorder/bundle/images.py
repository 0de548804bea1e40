"""Images as members: pixels to PNG, encoded originals verbatim, thumbnails, and back to pixels."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recorder.bundle import png
from recorder.bundle.errors import BundleInvalid, PixelsDiffer
from recorder.bundle.limits import MAX_IMAGE_PIXELS, THUMBNAIL_SIDE
from recorder.bundle.manifest import Image

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = [
    "DECODER_ERRORS",
    "EXTENSIONS",
    "checked_pixels",
    "decode_file",
    "pixels_bytes",
    "pixels_digest",
    "sniff",
    "thumbnail",
]

Array = npt.NDArray[Any]

#: Encoding to the extension of its members. Nothing else is ever given to a decoder.
EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp", "raw": "bin"}

#: Pillow's modes that become an array as they are; anything else is converted first.
_MODES = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "I;16"})

#: Whatever Pillow's readers raise on a broken file: they were not written for hostile ones.
DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

#: Small enough for a page of a hundred frames, good enough to see what happened.
_JPEG_QUALITY = 70


def sniff(data: bytes) -> str:
    """Return the encoding of a file by its first bytes; "raw" when it is none of ours."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return "raw"


def pixels_bytes(pixels: Array) -> bytes:
    """Return the pixels in C order, little-endian: what ``pixels_sha256`` is the digest of."""
    return _little(pixels).tobytes()


def pixels_digest(pixels: Array) -> str:
    """Return the sha256 of `pixels_bytes`, without a copy of them."""
    return hashlib.sha256(_little(pixels).reshape(-1).view(np.uint8).data).hexdigest()


def _little(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))


def decode_file(data: bytes | memoryview, encoding: str, size: tuple[int, int] | None = None) -> Array:
    """Decode a PNG, JPEG or WebP file: HW for grey, else HWC; uint8, or uint16 for 16-bit PNG.

    Palettes become RGB or RGBA, CMYK stays four channels, EXIF orientation is not applied.

    Args:
        data: the file.
        encoding: "png", "jpeg" or "webp".
        size: width and height the file must state; looked at before anything is decoded.

    Raises:
        ValueError: it cannot be decoded to all its bits.
    """
    if encoding == "png" and (pixels := _decode_plain_png(data, size)) is not None:
        return pixels
    with _opened(data, encoding, size) as opened:
        if encoding == "png" and data[24] == 16 and opened.mode != "I;16":
            raise ValueError("16-bit colour with these filters cannot be decoded without loss")
        image: PilImage = opened
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode not in _MODES:
            image = image.convert("L" if image.mode == "1" else "RGB")
        return np.asarray(image)


def checked_pixels(data: bytes | memoryview, image: Image) -> Array:
    """Decode an image's member and check everything the manifest says of it, the digest of the pixels included.

    Raises:
        BundleInvalid: a PNG or raw member is not what the manifest says.
        PixelsDiffer: a JPEG or WebP member gives other pixels here, or none.
    """
    lossless = image.encoding in ("png", "raw")
    shape = (image.height, image.width) + ((image.channels,) if image.channels else ())
    try:
        if image.encoding == "raw":
            pixels = np.frombuffer(data, np.dtype(image.dtype).newbyteorder("<"))
        else:
            pixels = decode_file(data, image.encoding, (image.width, image.height))
        if pixels.dtype == np.dtype(image.dtype):
            pixels = pixels.reshape(shape)
            if pixels_digest(pixels) == image.pixels_sha256:
                return pixels
        problem = None
    except DECODER_ERRORS as error:
        problem = error
    if lossless:
        raise BundleInvalid(f"{image.member} has other pixels than the manifest says; do not trust it") from problem
    raise PixelsDiffer(
        f"{image.member} is intact, but its {image.encoding} decodes to other pixels here than where it was recorded; "
        "use the recorded model input"
    ) from problem


def thumbnail(pixels: Array) -> bytes | None:
    """Return a small JPEG, or None when the pixels are no picture (more than four channels, or none at all)."""
    from PIL import Image as pil

    if not pixels.size or (pixels.ndim == 3 and pixels.shape[2] > 4):
        return None
    step = max(1, max(pixels.shape[:2]) // (4 * THUMBNAIL_SIDE))
    small = np.ascontiguousarray(pixels[::step, ::step])
    if small.dtype == np.uint16:  # a 12-bit camera fills a sixteenth of the range: stretch it
        low, high = int(small.min()), int(small.max())
        small = ((small.astype(np.float32) - low) * (255 / max(1, high - low))).astype(np.uint8)
    if small.ndim == 3:
        small = small[:, :, :3] if small.shape[2] >= 3 else small[:, :, 0]
    scale = THUMBNAIL_SIDE / max(pixels.shape[:2])
    size = tuple(min(side, max(1, math.ceil(side * scale))) for side in (pixels.shape[1], pixels.shape[0]))
    picture = pil.fromarray(np.ascontiguousarray(small))
    if size < picture.size:
        picture = picture.resize((size[0], size[1]), pil.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def _decode_plain_png(data: bytes | memoryview, size: tuple[int, int] | None) -> Array | None:
    try:
        return png.decode(data, size)
    except BundleInvalid as error:
        raise ValueError(str(error)) from error


def _opened(data: bytes | memoryview, encoding: str, size: tuple[int, int] | None) -> PilImage:
    """Open a file with one named decoder; its size is checked before any pixel is decoded."""
    from PIL import Image as pil

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", pil.DecompressionBombWarning)
        try:
            image = pil.open(io.BytesIO(data), formats=[encoding.upper()])
            if image.size != (size or image.size) or image.width * image.height > MAX_IMAGE_PIXELS:
                raise ValueError("the image has another size, or too many pixels")
            image.load()
        except (pil.DecompressionBombWarning, pil.DecompressionBombError) as error:
            raise ValueError("the image has too many pixels") from error
    return image
