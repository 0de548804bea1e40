"""One global hook of torch, by which the layers of attached modules are seen.

No hooks on the layers themselves: torch's own layers leave their fused path when hooks are on their parts, and copies
of a model would carry them.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import torch

__all__ = ["Watcher", "forget", "watch"]


class Watcher(Protocol):
    """Looks at what layers give."""

    def see(self, path: str, output: Any) -> None:
        """Take in what the layer at a path gave. Must not raise."""
        ...


_watched: dict[int, tuple[tuple[Watcher, str], ...]] = {}
_lock = threading.Lock()
_handle: Any = None


def watch(watcher: Watcher, parts: dict[int, str]) -> None:
    """Show a watcher what layers give from now on.

    Args:
        watcher: held until `forget`.
        parts: path by the layer's ``id``.
    """
    global _handle
    with _lock:
        for number, path in parts.items():
            _watched[number] = (*_watched.get(number, ()), (watcher, path))
        if _handle is None:
            _handle = torch.nn.modules.module.register_module_forward_hook(_hook)


def forget(watcher: Watcher, numbers: frozenset[int]) -> None:
    """Stop; also when a module is gone, since the number of one may become another's."""
    global _handle
    with _lock:
        for number in numbers:
            left = tuple(each for each in _watched.get(number, ()) if each[0] is not watcher)
            if left:
                _watched[number] = left
            else:
                _watched.pop(number, None)
        if not _watched and _handle is not None:
            _handle.remove()
            _handle = None


def _hook(module: torch.nn.Module, _args: Any, output: Any) -> None:
    for watcher, path in _watched.get(id(module), ()):
        watcher.see(path, output)
