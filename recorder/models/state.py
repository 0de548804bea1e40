"""State: the tensors of a module that its forward pass changes from call to call, such as a hidden state.

They are named by glob patterns over dotted tensor names (`recorder.models.tensors`), are no part of the weights'
identity, and are captured before every outermost call, so that each call can be run again by itself.
"""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from recorder.models.compiled import original
from recorder.models.tensors import MODULE_INTERNALS, inside, tensors_of_module, walk

__all__ = ["StateNames", "StateReader", "StateRefused", "put_state"]

#: An index into a list of tensors; no memory bank has more items.
_INDEX = re.compile(r"[0-9]{1,6}")


#: The recorder itself finds at most 512 tensors (recorder.hooks.state), and a host names a few patterns. More would
#: take seconds for each call: bundles, which hold them, are a stranger's.
MAX_PATTERNS = 1000
MAX_PATTERN_CHARS = 2000  #: of one; fnmatch looks for the end of each "[" anew
MAX_ALL_CHARS = 100_000
#: Lists in lists in dictionaries; each part of a name is one.
MAX_NAME_PARTS = 100


class StateRefused(ValueError):
    """A state that does not fit the module; the message is one sentence."""


class StateNames:
    """Which tensors of a module are state: those whose dotted name one of the patterns matches.

    Each star of a pattern is matched once and for all (fnmatch makes atomic groups of them), so that no pattern takes
    longer than its length times that of a name.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile the patterns.

        Raises:
            StateRefused: they are too many, or too long.
        """
        sizes = list(map(len, patterns))
        if len(sizes) > MAX_PATTERNS or max(sizes, default=0) > MAX_PATTERN_CHARS or sum(sizes) > MAX_ALL_CHARS:
            raise StateRefused(f"The state is named by more than {MAX_PATTERNS} patterns, or by too long ones.")
        self.patterns = tuple(patterns)
        self._expression = re.compile("|".join(fnmatch.translate(pattern) for pattern in self.patterns) or r"(?!)")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._expression.match(name) is not None

    def weights(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors that are no state."""
        if not self.patterns:
            return dict(tensors)
        return {name: tensor for name, tensor in tensors.items() if name not in self}


class StateReader:
    """Reads the state of one module before each call, without looking at its weights.

    The places where state can be are looked up again when a module was given an attribute or lost one.
    """

    def __init__(self, module: torch.nn.Module, names: StateNames) -> None:
        self.names = names
        self._dictionaries: list[dict[str, Any]] = []
        self._size = -1
        self._places: list[tuple[str, dict[str, Any], str]] = []
        self._find(module)

    def read(self, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Return the live tensors by name; a few microseconds, and less than one for every submodule."""
        if sum(map(len, self._dictionaries)) != self._size:
            self._find(module)
        found = {}
        for name, dictionary, key in self._places:
            value = dictionary.get(key)
            if type(value) is torch.Tensor:
                found[name] = value
            elif value is not None:
                found.update((each, tensor) for each, tensor in inside(name, value) if each in self.names)
        return found

    def _find(self, module: torch.nn.Module) -> None:
        self._dictionaries, self._places = [], []
        for prefix, part in walk(module, "", ()):
            for dictionary in (part._parameters, part._buffers, part.__dict__):
                self._dictionaries.append(dictionary)
                for key, value in list(dictionary.items()):
                    if (dictionary is not part.__dict__ or key not in MODULE_INTERNALS) and self._can_hold(
                        f"{prefix}{key}", value
                    ):
                        self._places.append((f"{prefix}{key}", dictionary, key))
        self._size = sum(map(len, self._dictionaries))

    def _can_hold(self, name: str, value: Any) -> bool:
        if value is None or isinstance(value, torch.Tensor):
            return name in self.names or (value is None and f"{name}.0" in self.names)
        if type(value) not in (list, tuple, deque, dict):
            return False
        return f"{name}.0" in self.names or any(each in self.names for each, _ in inside(name, value)) or not value


def put_state(module: torch.nn.Module, names: StateNames, state: Mapping[str, torch.Tensor]) -> None:
    """Give a module a captured state: afterwards the tensors that the names match are exactly these.

    Tensors that match and are not in the state go: an attribute becomes None, a list becomes shorter.

    Raises:
        StateRefused: the module has no place for one of them, one is named that is no state, or one is no tensor.
    """
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise StateRefused(f"The recorded state {name[:100]!r} is no tensor.")
        if name.count(".") >= MAX_NAME_PARTS:
            raise StateRefused(f"The recorded state {name[:100]!r}… has a name of more than {MAX_NAME_PARTS} parts.")
    own = {name for name in tensors_of_module(module) if name in names}
    changes: dict[tuple[int, str], tuple[torch.nn.Module, dict[tuple[str, ...], torch.Tensor | None]]] = {}
    for name in (*sorted(own - state.keys()), *state):
        if name not in names:
            raise StateRefused(f"The recorded state has a tensor {name[:100]!r} that is not one of the model's state.")
        owner, attribute, rest = _place(module, name.split("."))
        changes.setdefault((id(owner), attribute), (owner, {}))[1][rest] = state.get(name)
    for (_, attribute), (owner, parts) in changes.items():
        _put(owner, attribute, parts)


def _place(module: torch.nn.Module, path: list[str]) -> tuple[torch.nn.Module, str, tuple[str, ...]]:
    module = original(module)
    name, *rest = path
    child = module._modules.get(name)
    if rest and child is not None:
        return _place(child, rest)
    known = name in module._parameters or name in module._buffers or name in module.__dict__
    # A bundle is a stranger's: its tensors must not take the place of a method or of what torch keeps for itself.
    if name in MODULE_INTERNALS or not name.isidentifier() or (not known and hasattr(module, name)):
        raise StateRefused(f"The model has no place for the recorded state {'.'.join(path)[:100]!r}.")
    return module, name, tuple(rest)


def _put(owner: torch.nn.Module, attribute: str, parts: dict[tuple[str, ...], torch.Tensor | None]) -> None:
    for registered in (owner._parameters, owner._buffers):
        if attribute in registered:
            if parts.keys() != {()}:
                raise StateRefused(f"The model's {attribute[:100]!r} is one tensor and not several.")
            tensor = parts[()]
            if tensor is not None and registered is owner._parameters:
                before = registered[attribute]
                tensor = torch.nn.Parameter(tensor, requires_grad=before is None or before.requires_grad)
            registered[attribute] = tensor  # type: ignore[assignment]  # of a parameter it is one
            return
    present = owner.__dict__.get(attribute)
    if present is not None and not isinstance(present, torch.Tensor | list | tuple | deque | dict):
        raise StateRefused(f"The model's {attribute[:100]!r} is no tensor and holds none.")
    owner.__dict__[attribute] = _replaced(present, parts, attribute)


def _replaced(value: Any, parts: Mapping[tuple[str, ...], torch.Tensor | None], name: str) -> Any:
    if () in parts:
        return parts[()]
    inner: dict[str, dict[tuple[str, ...], torch.Tensor | None]] = {}
    for path, tensor in parts.items():
        inner.setdefault(path[0], {})[path[1:]] = tensor
    if isinstance(value, dict):
        return _in_dictionary(value, inner, name)
    if value is None or isinstance(value, list | tuple | deque):
        return _in_sequence(value, inner, name)
    raise StateRefused(f"The model's {name[:100]!r} holds no tensors by name or number.")


def _in_dictionary(value: dict[Any, Any], inner: Mapping[str, Any], name: str) -> dict[Any, Any]:
    changed = dict(value)
    for key, below in inner.items():
        number = int(key) if _INDEX.fullmatch(key) else key
        real = number if number in changed else key
        new = _replaced(changed.get(real), below, f"{name}.{key}")
        if new is None:
            changed.pop(real, None)
        else:
            changed[real] = new
    return changed


def _in_sequence(value: Any, inner: Mapping[str, Any], name: str) -> Any:
    items = list(value or ())
    for position, below in sorted(_positions(inner, name)):
        if position > len(items):
            raise StateRefused(f"The recorded state of {name[:100]!r} lacks its item {len(items)}.")
        new = _replaced(items[position] if position < len(items) else None, below, f"{name}.{position}")
        items[position : position + 1] = [new]
    kept = [item for position, item in enumerate(items) if item is not None or str(position) not in inner]
    if isinstance(value, deque):
        return deque(kept, value.maxlen)
    return tuple(kept) if isinstance(value, tuple) else kept


def _positions(inner: Mapping[str, Any], name: str) -> Iterator[tuple[int, Any]]:
    for key, below in inner.items():
        if not _INDEX.fullmatch(key):
            raise StateRefused(f"The recorded state of {name[:100]!r} has an item without a number.")
        yield int(key), below
