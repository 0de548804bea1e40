"""Tensors on a GPU on their way to the host: one side stream, a fixed pinned arena, and events instead of waiting.

A copy is enqueued behind the work that produces the tensor; the caller goes on at once. The source is held until the
event says that the copy is done. What has no room in the arena, or happens while a CUDA graph is captured, is not
copied: nothing here ever waits for the device.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Arena", "Copies", "Copy", "CudaCopies", "Done", "copies", "is_remote", "memory_of"]

#: Pinned memory cannot be paged out, and taking it costs milliseconds: so little, once.
ARENA_BYTES = 64 * 2**20
_ALIGNMENT = 64


class Done(Protocol):
    """What torch.cuda.Event is to us."""

    def query(self) -> bool:
        """Whether everything enqueued before it has happened; never waits."""
        ...


@dataclass(slots=True)
class Copy:
    """One tensor under way to the host."""

    place: Any  #: the slice of the arena it goes to, a uint8 tensor on the host
    done: Done
    source: Any  #: held until done, so that its memory is not given to another tensor
    version: int | None

    @property
    def is_intact(self) -> bool:
        """Whether the source was not written in place meanwhile, as far as its version counter tells."""
        return self.version is None or bool(self.source._version == self.version)


class Copies(Protocol):
    """Starts copies; finished ones are released in the order in which they were started."""

    def start(self, tensor: Any) -> Copy | None:
        """Enqueue a copy; None where that cannot be done without waiting."""
        ...

    def release(self, copy: Copy) -> None:
        """Give the oldest copy's place back."""
        ...


class Arena:
    """Places in one block of memory, given back in the order they were taken."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._taken: deque[tuple[int, int]] = deque()

    def take(self, size_bytes: int) -> int | None:
        """Return the offset of a free range, None where there is none."""
        wanted = max(_ALIGNMENT, (size_bytes + _ALIGNMENT - 1) & -_ALIGNMENT)
        if not self._taken:
            start = 0
        else:
            oldest, newest_end = self._taken[0][0], self._taken[-1][1]
            start = newest_end
            if newest_end > oldest:
                if start + wanted > self._size:
                    start = 0
                    if wanted > oldest:
                        return None
            elif start + wanted > oldest:
                return None
        if start + wanted > self._size:
            return None
        self._taken.append((start, start + wanted))
        return start

    def release_oldest(self) -> None:
        """Give the range back that was taken first."""
        self._taken.popleft()


class CudaCopies:
    """Copies from CUDA devices, each by a stream of its own that lives as long as the recording."""

    def __init__(self, arena_bytes: int = ARENA_BYTES) -> None:
        import torch

        self._torch = torch
        self._arena = Arena(arena_bytes)
        self._memory = torch.empty(arena_bytes, dtype=torch.uint8, pin_memory=True)
        self._streams: dict[Any, Any] = {}

    def start(self, tensor: Any) -> Copy | None:
        """Enqueue a copy behind what the current stream has been given so far."""
        cuda = self._torch.cuda
        if cuda.is_current_stream_capturing():
            return None
        size_bytes = tensor.numel() * tensor.element_size()
        offset = self._arena.take(size_bytes)
        if offset is None:
            return None
        place = self._memory[offset : offset + size_bytes]
        side = self._streams.get(tensor.device)
        if side is None:
            side = self._streams[tensor.device] = cuda.Stream(tensor.device)
        side.wait_stream(cuda.current_stream(tensor.device))
        with cuda.stream(side):
            place.copy_(memory_of(tensor), non_blocking=True)
            done = cuda.Event()
            done.record(side)
        return Copy(place, done, tensor, None if tensor.is_inference() else tensor._version)

    def release(self, copy: Copy) -> None:
        """Give the oldest copy's place back."""
        self._arena.release_oldest()


def copies() -> Copies:
    """Make what copies for one recording."""
    return CudaCopies()


def is_remote(tensor: Any) -> bool:
    """Whether a tensor's bytes can only be had by a copy that is worth not waiting for."""
    return bool(tensor.device.type == "cuda")


def memory_of(tensor: Any) -> Any:
    """Return a flat uint8 view of a tensor's bytes as they lie in memory; of one with gaps, of a dense copy."""
    import torch

    from recorder.capture.leaf import is_dense

    plain = tensor.detach()
    if plain.is_conj() or plain.is_neg():
        plain = plain.resolve_conj().resolve_neg()
    if not is_dense(tuple(plain.shape), plain.stride()):
        plain = plain.contiguous()
    flat = torch.as_strided(plain, (plain.numel(),), (1,))
    return flat.view(torch.uint8) if flat.numel() else flat.new_empty(0, dtype=torch.uint8)
