"""The state of an attached model: named by the host, or found by watching which tensors change between its calls."""

from __future__ import annotations

import glob
from collections.abc import Mapping

import torch

from recorder.models import StateNames

__all__ = ["MAX_STATE_BYTES", "StateFinder", "size_of_state"]

#: A state up to this is captured before every call, which takes some 0.4 ms at the most. A larger one is left out and
#: counted, and a call without it is not replayed: from another state it would give another answer.
MAX_STATE_BYTES = 4 * 2**20
#: Of its own accord the recorder takes no more tensors than this for state; the deepest of the common networks have
#: 160 batch norms with three tensors each.
MAX_STATE_TENSORS = 512
#: So many changes in a row must have been of the same tensors.
CHANGES_OF_STATE = 3

#: What tells a changed tensor from the one before: identity, address, version.
Mark = tuple[int, int, int]


class StateFinder:
    """Looks at each change of a model's tensors; where it is the same few each time, they are state.

    Parameters never are: a model that is trained while it runs has no state that a call could be repeated with.
    """

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}
        self._changed: frozenset[str] | None = None
        self._times = 0

    def forget(self) -> None:
        """Begin anew: with another recording."""
        self._marks, self._changed, self._times = {}, None, 0

    def look(self, tensors: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
        """Take note of the tensors as they are; return patterns of those that have proved to be state."""
        before, self._marks = self._marks, {name: _mark(tensor) for name, tensor in tensors.items()}
        if not before:
            return ()
        moved = {name for name in before.keys() | self._marks if before.get(name) != self._marks.get(name)}
        if not moved:
            return ()
        changed = frozenset(_pattern(name, tensors) for name in moved)
        self._times = self._times + 1 if changed == self._changed else 1
        self._changed = changed
        if self._times < CHANGES_OF_STATE or not _can_be_state(changed, tensors):
            return ()
        self._times = 0
        return tuple(sorted(changed))


def size_of_state(state: Mapping[str, torch.Tensor]) -> int:
    """Return how many bytes its elements take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def _can_be_state(patterns: frozenset[str], tensors: Mapping[str, torch.Tensor]) -> bool:
    names = StateNames(sorted(patterns))
    state = {name: tensor for name, tensor in tensors.items() if name in names}
    trained = any(isinstance(tensor, torch.nn.Parameter) for tensor in state.values())
    return len(state) <= MAX_STATE_TENSORS and not trained


def _pattern(name: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """The tensor's own name; of an item of a growing list that of them all."""
    prefix, _, last = name.rpartition(".")
    # A submodule's index is followed by the tensor's name, so that a number at the end is an item's.
    return f"{glob.escape(prefix)}.*" if prefix and last.isdecimal() else glob.escape(name)


def _mark(tensor: torch.Tensor) -> Mark:
    try:
        address = tensor.data_ptr()
    except RuntimeError:  # sparse and other tensors without one storage
        address = 0
    return id(tensor), address, -1 if tensor.is_inference() else tensor._version
