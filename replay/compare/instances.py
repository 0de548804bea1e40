"""Masks of single objects, beside the boxes of a detector that also segments: read one at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recorder.bundle.values import TensorValue
from replay.compare.layout import Array, logical_bits, real_values

__all__ = ["InstanceMasks", "instance_masks"]

#: A pixel whose probability is above is the object's (torchvision's Mask R-CNN gives probabilities).
_INSIDE = 0.5


@dataclass(frozen=True, slots=True)
class InstanceMasks:
    """One mask a box, in the coordinates of the boxes; as float64 all of them could take gigabytes."""

    bits: Array  #: (N, H, W), elements as they are stored
    dtype: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bits.shape[1], self.bits.shape[2]

    def __getitem__(self, kept: Array) -> InstanceMasks:
        """Those of a mask (N) or of indices, in their order."""
        return InstanceMasks(self.bits[kept], self.dtype)

    def inside(self, index: int) -> Array:
        """Which pixels (H, W) are the object's: above 0.5 of numbers with fractions, not 0 of others."""
        values = real_values(self.bits[index], self.dtype)
        with np.errstate(invalid="ignore"):
            inside: Array = values > (_INSIDE if "float" in self.dtype else 0)
        return inside


def instance_masks(data: bytes, tensor: TensorValue, count: int) -> InstanceMasks | None:
    """The masks of so many boxes, of a tensor (N, H, W) or (N, 1, H, W); None: it is no such tensor."""
    shape = tensor.shape
    if "complex" in tensor.dtype or len(shape) not in (3, 4) or shape[0] != count or 0 in shape:
        return None
    if len(shape) == 4 and shape[1] != 1:
        return None
    bits = logical_bits(data, tensor.dtype, shape, tensor.strides)
    return InstanceMasks(bits[:, 0] if len(shape) == 4 else bits, tensor.dtype)
