"""Run a checked graph: numbered values, one call after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from replay.graph.arguments import GraphRefused, Ref

__all__ = ["Body", "Input", "LoadedGraph", "Observation", "Step"]

#: Runs a step in place of the body: module path, operator, what to call, its arguments.
Observer = Callable[[str, str, Callable[..., Any], list[Any], dict[str, Any]], Any]

#: One tensor of a graph; a float32 batch of eight 4K images is 0.8 GB.
MAX_TENSOR_BYTES = 4 * 2**30


class LoadedGraph:
    """A checked graph. Call it as the model was called."""

    def __init__(
        self,
        *,
        names: list[str],
        state: list[torch.Tensor],
        inputs: list[Input],
        call: tuple[Any, Any],
        body: Body,
        mutations: list[Any],
        changing: dict[int, tuple[str, Input]] | None = None,
    ) -> None:
        self._changing = changing or {}
        self._lacks_state = bool(changing)
        self._names = names
        self._state = state
        self._inputs = inputs
        self._args, self._kwargs = call
        self._body = body
        self._mutations = mutations

    def put_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Set the tensors that the model changes from call to call, for the next call.

        Raises:
            GraphRefused: they are others than those that the graph was exported with.
        """
        if missing := [name for name, _ in self._changing.values() if name not in state]:
            raise GraphRefused(f"The recorded state lacks {missing[0][:100]!r}, which the graph uses.")
        for number, (name, expected) in self._changing.items():
            expected.check(state[name], number, f"The recorded state {name[:100]!r}")
            self._state[number] = state[name]
        self._lacks_state = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph under the thread's own settings (gradient mode, autocast, generator).

        Raises:
            GraphRefused: the call has another structure, dtype, shape or plain value than the graph was exported for.
            Exception: what an operator raises, unchanged, as the model would have.
        """
        if self._lacks_state:
            raise GraphRefused("The graph is one of a model with a state, and the call brings none.")
        first_input = len(self._state)
        values: list[Any] = [*self._state, *([None] * len(self._inputs))]
        _bind(self._args, args, values, "args")
        _bind(self._kwargs, kwargs, values, "kwargs")
        for number, expected in enumerate(self._inputs, first_input):
            expected.check(values[number], number - first_input)
        outputs = self._body.run(values)
        answer, *new_states = outputs
        with torch.no_grad():
            for number, new_state in zip(self._mutations, new_states, strict=True):
                self._state[number].copy_(new_state)
        return answer

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """Weights and constants by name."""
        return dict(zip(self._names, self._state, strict=True))

    @contextlib.contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Let an observer run every step inside the block."""
        self._body.observation.observer = observer
        try:
            yield
        finally:
            self._body.observation.observer = None


@dataclass(slots=True)
class Observation:
    """Who runs the steps; the bodies of one graph share it."""

    observer: Observer | None = None


@dataclass(frozen=True, slots=True)
class Input:
    dtype: torch.dtype
    least: tuple[int, ...]  #: each size, or the least that it may be
    most: tuple[int | None, ...]  #: each size, or the most that it may be; None: any

    def check(self, value: Any, number: int, what: str = "") -> None:
        if not isinstance(value, torch.Tensor) or value.dtype != self.dtype or not self._takes(tuple(value.shape)):
            found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise GraphRefused(
                f"{what or f'Input {number}'} is {found}; this graph serves {self.dtype} {self._shape()} alone."
            )

    def _takes(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.least) and all(
            least <= size and (most is None or size <= most)
            for size, least, most in zip(shape, self.least, self.most, strict=True)
        )

    def _shape(self) -> str:
        sizes = [
            str(least) if least == most else f"{least}..{'' if most is None else most}"
            for least, most in zip(self.least, self.most, strict=True)
        ]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


@dataclass(frozen=True, slots=True)
class Step:
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    release: tuple[int, ...]  #: values that no later step uses
    operator: str = ""  #: empty where nothing is computed
    module: str = ""  #: path of the module that the step is part of, as far as the graph says


@dataclass(frozen=True, slots=True)
class Body:
    """Steps over numbered values, and what of them is the result."""

    steps: list[Step]
    output: Any
    observation: Observation = field(default_factory=Observation)

    def run(self, values: list[Any]) -> Any:
        observer = self.observation.observer
        for step in self.steps:
            args = [_filled(arg, values) for arg in step.args]
            kwargs = {name: _filled(arg, values) for name, arg in step.kwargs.items()}
            if observer is None or not step.operator:
                result = step.call(*args, **kwargs)
            else:
                result = observer(step.module, step.operator, step.call, args, kwargs)
            if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() > MAX_TENSOR_BYTES:
                raise GraphRefused(f"The graph made a tensor of more than {MAX_TENSOR_BYTES} bytes.")
            values.append(result)
            for number in step.release:
                values[number] = None
        return _filled(self.output, values)


def _filled(value: Any, values: list[Any]) -> Any:
    kind = type(value)
    if kind is Ref:
        return values[value.number]
    if kind is list:
        return [_filled(item, values) for item in value]
    if kind is tuple:
        return tuple([_filled(item, values) for item in value])
    if kind is dict:
        return {key: _filled(item, values) for key, item in value.items()}
    return value


def _bind(pattern: Any, value: Any, values: list[Any], where: str) -> None:
    """Lay a call's arguments over the structure the graph was exported with."""
    match pattern:
        case Ref(number):
            values[number] = value
            return
        case tuple() | list():
            if isinstance(value, tuple | list) and len(value) == len(pattern):
                for index, (part, item) in enumerate(zip(pattern, value, strict=True)):
                    _bind(part, item, values, f"{where}[{index}]")
                return
        case dict():
            if isinstance(value, dict) and value.keys() == pattern.keys():
                for key, part in pattern.items():
                    _bind(part, value[key], values, f"{where}[{key!r}]")
                return
        case float() if pattern != pattern and isinstance(value, float) and value != value:
            return
        case _:
            if type(value) is type(pattern) and value == pattern:
                return
    raise GraphRefused(f"The call's {where} differs from the one this graph was exported for.")
