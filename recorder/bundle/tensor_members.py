"""The tensors of a bundle that is being written: equal bytes stored once, small ones together in shared members."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from recorder.bundle import encodings
from recorder.bundle.limits import GROUP_BYTES, GROUPED_TENSOR_BYTES
from recorder.bundle.spool import Spool
from recorder.bundle.tensors import size_in_bytes
from recorder.bundle.values import TensorValue
from recorder.bundle.zframe import FAST, NOISY

__all__ = ["TensorMembers"]


class TensorMembers:
    """Puts tensors into a spool.

    Args:
        spool: what they are put into.
        taken: paths they are not given.
    """

    def __init__(self, spool: Spool, taken: frozenset[str]) -> None:
        self._spool = spool
        self._taken = taken
        self._known: dict[tuple[str, int], TensorValue] = {}
        self._last = 0
        self._group = bytearray()
        self.open_path = ""  #: of the shared member that is still being filled; empty: there is none

    def add(
        self,
        data: bytes | bytearray | memoryview,
        *,
        container: str,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        alignment: int | None,
        device: str,
    ) -> TensorValue:
        """Store a tensor's bytes, as `BundleWriter.tensor` says."""
        view = memoryview(data).cast("B")
        if len(shape) != len(strides) or view.nbytes != size_in_bytes(dtype, shape):
            raise ValueError(f"{view.nbytes} bytes are no {dtype} tensor of shape {shape} and strides {strides}")
        digest = hashlib.sha256(view).hexdigest()
        key = (digest, size_in_bytes(dtype, ()))  # an encoding depends on the item size
        described = {
            "container": container,
            "dtype": dtype,
            "shape": shape,
            "strides": strides,
            "alignment": alignment,
            "device": device,
        }
        known = self._known.get(key)
        if known is not None:
            return replace(known, **described)  # type: ignore[arg-type]
        if view.nbytes < GROUPED_TENSOR_BYTES:
            member, offset = self._join_group(view)
            encoding = "raw"
        else:
            encoding, content = encodings.encode(view, dtype, shape, strides)
            member, offset = self._next_path(), 0
            self._spool.add(member, content, len(content), level=NOISY if encoding == "planes" else FAST)
        value = TensorValue(
            **described,  # type: ignore[arg-type]
            member=member,
            offset=offset,
            size_bytes=view.nbytes,
            encoding=encoding,
            sha256=digest,
        )
        self._known[key] = value
        return value

    def _next_path(self) -> str:
        while True:
            self._last += 1
            path = f"tensors/{self._last:06x}.bin"
            if path not in self._taken:
                return path

    def _join_group(self, view: memoryview) -> tuple[str, int]:
        """Append a small tensor to the open shared member; return the member's path and the offset."""
        if not self.open_path:
            self.open_path = self._next_path()
        place = self.open_path, len(self._group)
        self._group += view
        if len(self._group) >= GROUP_BYTES:
            self.close_group()
        return place

    def close_group(self) -> None:
        """Store the shared member as it is; the next small tensor begins another."""
        if self.open_path:
            self._spool.add(self.open_path, bytes(self._group), len(self._group))
            self.open_path, self._group = "", bytearray()
