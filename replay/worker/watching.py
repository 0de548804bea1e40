"""Watch a model's layers while it runs: what goes into each, what comes out, and what is in it. Imports torch.

Modules are watched by standing in for their ``forward`` and not by hooks: with hooks some of torch's own layers leave
their fused path, and the watched model would compute other bits. Operators are watched by a dispatch mode, the nodes of
a stored graph by the interpreter itself.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from recorder.capture import describe
from recorder.layers.digest import hash_tensor, is_digestible, sample_tensor, sketch_tensor
from replay.graph.run import LoadedGraph
from replay.worker.arguments import rebuild
from replay.worker.loading import Loaded

__all__ = ["Watcher"]

#: Records beyond are not made: a model of so many layers is a loop, and its first ones tell.
MAX_RECORDS = 20_000
#: Tensors of one record; an operator over more (a foreach) is cut.
_MAX_TENSORS = 64
_MAX_NESTING = 16

Key = tuple[str, str, int]


@dataclass(slots=True)
class _Record:
    key: Key
    kind: str
    parent: int | None
    begin: int
    inputs: list[dict[str, Any]]
    state: list[dict[str, Any]]
    end: int | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)

    def form(self) -> dict[str, Any]:
        path, operator, index = self.key
        tensors = {"inputs": self.inputs, "outputs": self.outputs, "state": self.state}
        times = {"parent": self.parent, "begin": self.begin, "end": self.end}
        return {"path": path, "operator": operator, "index": index, "kind": self.kind, **times, **tensors}


class Watcher:
    """Watches one call. Use `watching` around it, then `reply`.

    Args:
        request: ``within``: path, operator and index of the module call whose operators are watched too, or None;
            ``keep``: such keys of calls whose inputs and outputs are returned whole; ``force``: ``[key, arguments,
            offset, size]`` of calls that get these arguments in place of their own;
            ``sampled``: sketch as the recorder does at capture.
        payload: what the arguments' tensors point into.
    """

    def __init__(self, request: dict[str, Any], payload: memoryview) -> None:
        self._within = _key(request["within"]) if request["within"] is not None else None
        self._keep = {_key(each) for each in request["keep"]}
        self._forced = {
            _key(key): (tagged, payload[offset : offset + size]) for key, tagged, offset, size in request["force"]
        }
        self._sampled = request["sampled"]
        self._records: list[_Record] = []
        self._stack: list[int] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._clock = 0
        self._busy = False  # with work of its own, which is no operator of the model
        self._state: dict[int, str] = {}  # names of weights and buffers, by the address of their memory
        self._sketches: list[Any] = []
        self._kept: list[dict[str, Any]] = []
        self._parts: list[bytearray] = []

    @contextlib.contextmanager
    def watching(self, model: Loaded) -> Iterator[None]:
        """Watch what the model does inside the block."""
        with contextlib.ExitStack() as stack:
            if isinstance(model.call, LoadedGraph):
                self._state = _addresses(model.call.state.items())
                stack.enter_context(model.call.observed(self._node))
            elif model.module is not None:
                module = model.module
                self._state = _addresses([*module.named_parameters(), *module.named_buffers()])
                stack.enter_context(self._standing_in(module))
            else:
                stack.enter_context(_Operators(self))
            yield

    def reply(self) -> tuple[dict[str, Any], list[bytes | bytearray]]:
        """What was seen, and the bytes that belong to it: kept values one after the other, then the sketches."""
        sketches = np.stack(self._sketches).astype("<f8").tobytes() if self._sketches else b""
        seen = {
            "records": [record.form() for record in self._records],
            "kept": self._kept,
            "sketches": len(self._sketches),
        }
        return seen, [*self._parts, sketches]

    @contextlib.contextmanager
    def _standing_in(self, root: torch.nn.Module) -> Iterator[None]:
        changed: list[tuple[torch.nn.Module, Any]] = []
        try:
            for path, module in root.named_modules():
                own = vars(module).get("forward")
                with contextlib.suppress(Exception):  # a scripted module keeps its forward; its caller is watched
                    module.forward = self._watched(path, module, module.forward)
                    changed.append((module, own))
            yield
        finally:
            for module, own in changed:
                if own is None:
                    del module.forward
                else:
                    module.forward = own

    def _watched(self, path: str, module: torch.nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            key = self._next(path, "")
            if key in self._forced:
                args, kwargs = self._replaced(key, args, kwargs)
            state = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            number, kept = self._open(key, type(module).__qualname__, args, kwargs, state)
            try:
                with _Operators(self) if key == self._within else contextlib.nullcontext():
                    output = forward(*args, **kwargs)
            finally:
                self._leave(number)
            self._close(number, output, kept)
            return output

        return watched

    def _node(self, path: str, operator: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run one node of a graph, or one operator."""
        key = self._next(path, operator)
        if key in self._forced:
            args, kwargs = self._replaced(key, args, kwargs)
        state = [(self._name(tensor), tensor) for tensor in _tensors((args, kwargs)) if self._name(tensor)]
        number, kept = self._open(key, operator, args, kwargs, state)
        try:
            output = call(*args, **kwargs)
        finally:
            self._leave(number)
        self._close(number, output, kept)
        return output

    def operator(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Run one operator that the dispatch mode caught."""
        if self._busy:
            return function(*args, **kwargs)
        path = self._records[self._stack[-1]].key[0] if self._stack else ""
        return self._node(path, str(function), function, args, kwargs)

    def _next(self, path: str, operator: str) -> Key:
        index = self._counts[path, operator]
        self._counts[path, operator] += 1
        return path, operator, index

    def _open(
        self, key: Key, kind: str, args: Any, kwargs: Any, state: Sequence[tuple[str, Any]]
    ) -> tuple[int, dict[str, Any] | None]:
        """Write down the beginning of a call; return its number, and its arguments where they are to be kept."""
        number = len(self._records)
        parent = self._stack[-1] if self._stack else None
        self._stack.append(number)
        if number >= MAX_RECORDS:
            return number, None
        self._clock += 1
        with self._at_work():
            inputs = [self._digest("", tensor) for tensor in _tensors((args, kwargs)) if not self._name(tensor)]
            own = [self._digest(name, tensor) for name, tensor in state[:_MAX_TENSORS] if is_digestible(tensor)]
            self._records.append(_Record(key, kind, parent, self._clock, inputs[:_MAX_TENSORS], own))
            if key not in self._keep:
                return number, None
            arguments, size_bytes = self._whole(_only_tensors((args, kwargs)))
        return number, {"key": list(key), "arguments": arguments, "arguments_bytes": size_bytes}

    def _leave(self, number: int) -> None:
        if self._stack and self._stack[-1] == number:
            self._stack.pop()

    def _close(self, number: int, output: Any, kept: dict[str, Any] | None) -> None:
        if number >= len(self._records):
            return
        self._clock += 1
        record = self._records[number]
        record.end = self._clock
        with self._at_work():
            # What only shows a weight from another side (its transpose) computes nothing.
            outputs = [self._digest("", tensor) for tensor in _tensors(output) if not self._name(tensor)]
            record.outputs = outputs[:_MAX_TENSORS]
            if kept is not None:
                kept["output"], kept["output_bytes"] = self._whole(output)
                self._kept.append(kept)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    def _digest(self, name: str, tensor: torch.Tensor) -> dict[str, Any]:
        sketch = sample_tensor(tensor) if self._sampled else sketch_tensor(tensor)
        if sketch is not None:
            self._sketches.append(sketch)
        return {
            "name": name,
            "hash": hash_tensor(tensor),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "sketch": len(self._sketches) - 1 if sketch is not None else None,
        }

    def _whole(self, value: Any) -> tuple[dict[str, Any], int]:
        described = describe(value)
        data = bytearray(described.size_bytes)
        if data:
            described.copy_to(np.frombuffer(data, np.uint8).ctypes.data)
        self._parts.append(data)
        return described.tagged, len(data)

    def _replaced(self, key: Key, args: Any, kwargs: Any) -> Any:
        """The reference's arguments in place of a call's own."""
        tagged, data = self._forced[key]
        with self._at_work():
            reference = rebuild(tagged, data, where="reference")
            return self._with_own_state(reference, (args, kwargs))

    def _with_own_state(self, reference: Any, own: Any) -> Any:
        """The reference's tensors, but the weights of the model that runs here, and all that is no tensor."""
        if type(own) in (tuple, list) and isinstance(reference, tuple | list) and len(own) == len(reference):
            return type(own)(self._with_own_state(a, b) for a, b in zip(reference, own, strict=True))
        if type(own) is dict and isinstance(reference, dict):
            return {key: self._with_own_state(reference.get(key), item) for key, item in own.items()}
        both = isinstance(own, torch.Tensor) and isinstance(reference, torch.Tensor)
        # Each goes where the layer's own argument lies: the reference may have been run on another device.
        return reference.to(own.device) if both and not self._name(own) else own

    def _name(self, tensor: Any) -> str:
        """The name of the weight that a tensor is a view of; empty for anything else."""
        return self._state.get(_address(tensor), "") if self._state else ""


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no types
    """Hands every operator of a block to a watcher."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watcher = watcher

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would import its compiler, for seconds, to keep it out of here; nothing is compiled in a worker."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._watcher.operator(func, args, kwargs or {})


def _key(each: Sequence[Any]) -> Key:
    path, operator, index = each
    return str(path), str(operator), int(index)


def _addresses(named: Any) -> dict[int, str]:
    return {_address(tensor): name for name, tensor in named if _address(tensor)}


def _address(tensor: Any) -> int:
    return tensor.untyped_storage().data_ptr() if is_digestible(tensor) and tensor.numel() else 0


def _only_tensors(value: Any, depth: int = 0) -> Any:
    """The same containers with everything but tensors left out: the other side has its own."""
    if depth < _MAX_NESTING and type(value) in (tuple, list):
        return type(value)(_only_tensors(item, depth + 1) for item in value)
    if depth < _MAX_NESTING and type(value) is dict:
        return {key: _only_tensors(item, depth + 1) for key, item in value.items() if isinstance(key, str | int)}
    return value if is_digestible(value) else None


def _tensors(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    if is_digestible(value):
        yield value
    elif depth < _MAX_NESTING and isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item, depth + 1)
    elif depth < _MAX_NESTING and isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item, depth + 1)
