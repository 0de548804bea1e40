"""The least a recorder in plain Python can do: hooks, a packed head, the memcpy and a commit. A floor to compare with.

It looks at no setting, takes any tensor for the usual one, handles no error, no thread and no truncated file, and packs
a head that was made beforehand. What the recorder takes beyond it is what all of that costs.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

__all__ = ["Sketch"]

_SLOT = struct.Struct("<QQQIIQQQQ")
_SLOTS = 8192
_HEAD = struct.Struct(">200sQ10sQ10sQ200s")
_TEXT, _NAME = bytes(200), bytes(10)


class Sketch:
    """A ring of ``size_bytes`` in ``path``, and a model's hooks that write to it.

    Attributes:
        spent_ns: time inside, on the calling thread.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        with path.open("w+b") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
            self._file = mmap.mmap(file.fileno(), size_bytes)
        self._view = memoryview(self._file)
        self._words = self._view.cast("Q")
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._file))
        ctypes.memset(self._address, 1, size_bytes)
        self._size = size_bytes
        self._cursor = _SLOTS * _SLOT.size
        self._number = 0
        self._lock = threading.RLock()
        self._frame: ContextVar[Sketch | None] = ContextVar("sketch", default=None)
        self.spent_ns = 0

    def attach(self, model: torch.nn.Module) -> None:
        """Record the calls of a model."""
        model.register_forward_pre_hook(self._before, with_kwargs=True)
        model.register_forward_hook(self._after, with_kwargs=True, always_call=True)

    def frame(self, image: np.ndarray[Any, Any]) -> _SketchFrame:
        """Record an image, and that the frame is over."""
        return _SketchFrame(self, image)

    def append(self, kind: int, address: int, size_bytes: int) -> None:
        """Reserve, copy, commit."""
        head = _HEAD.pack(_TEXT, time.time_ns(), _NAME, time.monotonic_ns(), _NAME, kind, _TEXT)
        length = len(head)
        start = length + 63 & -64
        with self._lock:
            place = self._cursor
            if place + start + size_bytes > self._size:
                place = _SLOTS * _SLOT.size
            self._cursor = place + (start + size_bytes + 63 & -64)
            self._number = number = self._number + 1
            slot = number % _SLOTS * _SLOT.size
            _SLOT.pack_into(self._view, slot, number, place, start + size_bytes, kind, 0, number, size_bytes, number, 0)
        self._view[place : place + length] = head
        if size_bytes:
            ctypes.memmove(self._address + place + start, address, size_bytes)
        self._words[slot // 8 + 7] = number

    def _before(self, _model: object, args: tuple[Any, ...], _kwargs: object) -> None:
        clock = time.perf_counter_ns()
        self._write(2, args[0])
        self.spent_ns += time.perf_counter_ns() - clock

    def _after(self, _model: object, _args: object, _kwargs: object, output: Any) -> None:
        clock = time.perf_counter_ns()
        self._write(3, output)
        self.spent_ns += time.perf_counter_ns() - clock

    def _write(self, kind: int, tensor: torch.Tensor) -> None:
        self._frame.get()
        hash((tensor.dtype, tensor.shape, tensor.stride()))
        self.append(kind, tensor.data_ptr(), tensor.nbytes)


class _SketchFrame:
    __slots__ = ("_image", "_sketch", "_token")

    def __init__(self, sketch: Sketch, image: np.ndarray[Any, Any]) -> None:
        self._sketch = sketch
        self._image = image

    def __enter__(self) -> _SketchFrame:
        image = self._image
        self._token = self._sketch._frame.set(self._sketch)
        address = ctypes.addressof(ctypes.c_char.from_buffer(image))  # type: ignore[arg-type]  # an array is a buffer
        self._sketch.append(1, address, image.nbytes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sketch._frame.reset(self._token)
        self._sketch.append(4, 0, 0)
