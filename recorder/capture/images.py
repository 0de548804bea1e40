"""One image as the caller has it: an array, a PIL image, encoded bytes or a path."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recorder.capture import device
from recorder.capture.leaf import ArrayLeaf, BytesLeaf, Leaf, MemoryLeaf, RemoteLeaf

__all__ = ["CapturedImage", "capture_image", "looks_like_image", "sniff_encoding"]

#: A path whose file is larger is not read on the calling thread.
MAX_FILE_BYTES = 64 * 2**20

_PIL_MODES = {"L", "RGB", "RGBA", "LA", "I;16"}


@dataclass(frozen=True, slots=True)
class CapturedImage:
    """An image ready to be copied into the ring."""

    head: dict[str, Any]  #: name, source, encoding ("pixels" or the file's), height, width, channels, dtype
    leaf: Leaf


def capture_image(name: str, image: object) -> CapturedImage:
    """Prepare one image.

    Args:
        name: "image", or the key the caller gave among several.
        image: HWC or HW uint8 or uint16 array or tensor (one on a GPU is copied late, see recorder.late), PIL image,
            encoded bytes (JPEG, PNG, WebP), or a path to such a file.

    Raises:
        ValueError: it is none of these; the message says what it is.
        OSError: the path could not be read.
    """
    if isinstance(image, np.ndarray):
        return _pixels(name, "array", image)
    if isinstance(image, bytes | bytearray | memoryview):
        return _encoded(name, "encoded", bytes(image))
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"an image file larger than {MAX_FILE_BYTES} bytes")
        return _encoded(name, "path", path.read_bytes())
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(image, pil.Image):
        plain = image if image.mode in _PIL_MODES else image.convert("RGB")
        return _pixels(name, "pil", np.asarray(plain))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(image, torch.Tensor):
        if device.is_remote(image):
            return _remote(name, image.detach())
        # Another accelerator's is copied at once, which waits for the device: as its tensors are.
        return _pixels(name, "array", image.detach().cpu().numpy())
    raise ValueError(f"an image of type {type(image).__name__}")


def _pixels(name: str, source: str, array: np.ndarray[Any, Any]) -> CapturedImage:
    _check(array.shape, array.dtype.name)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    leaf: Leaf
    if array.flags.c_contiguous:
        leaf = MemoryLeaf(array.__array_interface__["data"][0], array.nbytes, array)
    else:
        leaf = ArrayLeaf(array)
    return CapturedImage(_head(name, source, array.shape, array.dtype.name, leaf), leaf)


def _remote(name: str, tensor: Any) -> CapturedImage:
    """An image on a GPU: its bytes come when the device is done."""
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    _check(shape, dtype)
    # Rows in order, also of a view such as CHW turned into HWC; the copy is made by the device, in its own time.
    rows = tensor.contiguous()
    leaf = RemoteLeaf(rows, rows.numel() * rows.element_size())
    return CapturedImage(_head(name, "array", shape, dtype, leaf), leaf)


def _check(shape: tuple[int, ...], dtype: str) -> None:
    if dtype not in ("uint8", "uint16") or len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"an image array of shape {shape} and dtype {dtype}")


def _head(name: str, source: str, shape: tuple[int, ...], dtype: str, leaf: Leaf) -> dict[str, Any]:
    return {
        "name": name,
        "source": source,
        "encoding": "pixels",
        "height": shape[0],
        "width": shape[1],
        "channels": shape[2] if len(shape) == 3 else 0,
        "dtype": dtype,
        "size_bytes": leaf.size_bytes,
    }


def _encoded(name: str, source: str, data: bytes) -> CapturedImage:
    encoding = sniff_encoding(data)
    if encoding is None:
        raise ValueError("encoded bytes that are neither JPEG, PNG nor WebP")
    head = {"name": name, "source": source, "encoding": encoding, "size_bytes": len(data)}
    return CapturedImage(head, BytesLeaf(data))


def sniff_encoding(data: bytes) -> str | None:
    """Tell "jpeg", "png" or "webp" by the file's first bytes; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def looks_like_image(value: object) -> bool:
    """Whether a value is a picture without further words: an array of uint8 or uint16, a PIL image, bytes."""
    shape, dtype = getattr(value, "shape", None), str(getattr(value, "dtype", ""))
    if shape is not None:
        return len(shape) in (2, 3) and dtype.removeprefix("torch.") in ("uint8", "uint16")
    pil = sys.modules.get("PIL.Image")
    return isinstance(value, bytes) or (pil is not None and isinstance(value, pil.Image))
