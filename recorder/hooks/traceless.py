"""Copies, pickles and scripts of an attached module are those of the module without us.

Three questions that Python and torch ask an object, answered by entries in the module's own dictionary, which none of
the answers contains: ``__getstate__`` (copy, deepcopy, pickle, torch.save) and ``__prepare_scriptable__``
(torch.jit.script, which would try to compile our hooks).
"""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch

__all__ = ["Traceless"]

_STATE, _SCRIPTABLE = "__getstate__", "__prepare_scriptable__"
#: Dictionaries of a module that are keyed by the number of a hook.
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


class Traceless:
    """The entries in one module's dictionary."""

    def __init__(self, module: torch.nn.Module, hook_ids: set[int]) -> None:
        self._module = weakref.ref(module)
        self._hook_ids = hook_ids
        entries = vars(module)
        # A module that answers for itself, in its dictionary, goes on doing so.
        self._names = [name for name in (_STATE, _SCRIPTABLE) if name not in entries]
        if _SCRIPTABLE in self._names and hasattr(module, _SCRIPTABLE):
            self._names.remove(_SCRIPTABLE)
        if _STATE in self._names:
            entries[_STATE] = self._state
        if _SCRIPTABLE in self._names:
            entries[_SCRIPTABLE] = self._scriptable

    def remove(self) -> None:
        """Take the entries away."""
        module = self._module()
        for name in self._names if module is not None else ():
            vars(module).pop(name, None)

    def _state(self) -> Any:
        module: Any = self._module()
        kind: Any = type(module)
        state = kind.__getstate__(module)
        if not isinstance(state, dict):
            return state
        clean = {key: value for key, value in state.items() if key not in self._names}
        for name in _HOOKS:
            hooks = clean.get(name)
            if isinstance(hooks, dict) and not self._hook_ids.isdisjoint(hooks):
                kept = [(key, hook) for key, hook in hooks.items() if key not in self._hook_ids]
                clean[name] = type(hooks)(kept)
        return clean

    def _scriptable(self) -> Any:
        """Return a shallow copy: it shares parameters and submodules with the module, not the hooks."""
        return copy.copy(self._module())
