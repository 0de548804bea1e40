"""The images of a bundle that is being written: each stored once, with a thumbnail, under paths of their frames."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from recorder.bundle import images, png
from recorder.bundle.limits import MAX_IMAGE_PIXELS
from recorder.bundle.manifest import Image
from recorder.bundle.spool import Spool
from recorder.bundle.zframe import FAST

__all__ = ["ImageMembers"]


class ImageMembers:
    """Puts images into a spool. Equal ones are stored once.

    Args:
        spool: what they are put into.
        taken: paths they are not given.
    """

    def __init__(self, spool: Spool, taken: frozenset[str]) -> None:
        self._spool = spool
        self._taken = taken
        self._known: dict[tuple[object, ...], Image] = {}
        self._images_of: dict[int, int] = {}

    def add(self, frame_id: int, name: str, pixels: npt.NDArray[Any], source: str) -> Image:
        """Store pixels, as `BundleWriter.image` says."""
        if pixels.dtype.name not in ("uint8", "uint16") or pixels.ndim not in (2, 3):
            raise ValueError(f"an image is HW or HWC of uint8 or uint16, not {pixels.dtype} {pixels.shape}")
        height, width = pixels.shape[:2]
        if height * width > MAX_IMAGE_PIXELS:
            raise ValueError(f"an image has at most {MAX_IMAGE_PIXELS} pixels, not {height} x {width}")
        digest = images.pixels_digest(pixels)
        known = self._known.get((digest, pixels.shape, pixels.dtype.name))
        if known is not None:
            return replace(known, name=name, source=source)
        channels = pixels.shape[2] if pixels.ndim == 3 else 0
        if channels <= 4 and pixels.size:
            encoding, content = "png", png.encode(pixels)
        else:
            encoding, content = "raw", images.pixels_bytes(pixels)
        image = self._store(
            frame_id,
            content,
            pixels,
            Image(
                name=name,
                source=source,
                member="",
                encoding=encoding,
                height=height,
                width=width,
                channels=channels,
                dtype=pixels.dtype.name,
                pixels_sha256=digest,
            ),
        )
        self._known[digest, pixels.shape, pixels.dtype.name] = image
        return image

    def add_file(self, frame_id: int, name: str, data: bytes, source: str) -> Image:
        """Store an encoded file as it is, as `BundleWriter.encoded_image` says."""
        key = (hashlib.sha256(data).hexdigest(), "encoded")
        known = self._known.get(key)
        if known is not None:
            return replace(known, name=name, source=source)
        encoding = images.sniff(data)
        pixels = None
        if encoding != "raw":
            try:
                pixels = images.decode_file(data, encoding)
            except images.DECODER_ERRORS:
                pixels = None
        shape = pixels.shape if pixels is not None else (0, 0)
        image = self._store(
            frame_id,
            data,
            pixels,
            Image(
                name=name,
                source=source,
                member="",
                encoding=encoding,
                height=shape[0],
                width=shape[1],
                channels=shape[2] if len(shape) == 3 else 0,
                dtype=pixels.dtype.name if pixels is not None else "uint8",
                pixels_sha256=None if pixels is None else images.pixels_digest(pixels),
            ),
        )
        self._known[key] = image
        return image

    def _store(self, frame_id: int, content: bytes, pixels: npt.NDArray[Any] | None, image: Image) -> Image:
        member, path = self._next_paths(frame_id, images.EXTENSIONS[image.encoding])
        while not self._taken.isdisjoint((member, path)):
            member, path = self._next_paths(frame_id, images.EXTENSIONS[image.encoding])
        level = self._spool.level_for(content) if image.source in ("array", "pil") else FAST
        self._spool.add(member, content, len(content), level=level)
        small = images.thumbnail(pixels) if pixels is not None else None
        if small is not None:
            self._spool.add(path, small, len(small))
        return replace(image, member=member, thumbnail=path if small is not None else None)

    def _next_paths(self, frame_id: int, extension: str) -> tuple[str, str]:
        """The next names of an image and its thumbnail."""
        index = self._images_of.get(frame_id, 0)
        self._images_of[frame_id] = index + 1
        return f"images/{frame_id:06x}-{index}.{extension}", f"thumbnails/{frame_id:06x}-{index}.jpg"
