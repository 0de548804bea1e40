"""How values become bytes: who owns which memory, and when a copy is due.

Everything is copied into the ring while the caller waits: camera buffers are reused, tensors are written in place, and
a reference dies with the process. What is not copied is described: structure, dtypes, strides, alignment.
"""

from __future__ import annotations

from recorder.capture.images import CapturedImage, capture_image, looks_like_image
from recorder.capture.leaf import Leaf, MemoryLeaf, align
from recorder.capture.structure import Description, describe, plain_metadata, without_tensors

__all__ = [
    "CapturedImage",
    "Description",
    "Leaf",
    "MemoryLeaf",
    "align",
    "capture_image",
    "describe",
    "looks_like_image",
    "plain_metadata",
    "without_tensors",
]
