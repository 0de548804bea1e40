"""The skeleton of a module: its code and structure pickled without one byte of its tensors.

It exists to export a graph in a child process of our own, since exporting in the live host changes the host's answers.
The child is trusted with what the host trusts; a skeleton is never stored and never part of a bundle.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import cloudpickle
import torch

from recorder.models.compiled import original

__all__ = ["SkeletonFailed", "inert_hook", "load_skeleton", "make_inert_hook", "rebuild_tensor", "skeleton"]

_device: ContextVar[str] = ContextVar("device of rebuilt tensors", default="meta")


class SkeletonFailed(RuntimeError):
    """The module cannot be pickled; the message says what stood in the way."""


def skeleton(module: torch.nn.Module) -> bytes:
    """Pickle a module with every tensor replaced by a description: dtype, shape, strides, no bytes.

    Of a compiled module it is the module that was compiled.

    The live module is only read. Classes of ``__main__`` travel by value, others by import path. User hooks travel if
    they pickle; a hook object that must not travel defines ``__reduce__`` returning ``(make_inert_hook, ())``.

    Raises:
        SkeletonFailed: something in the module does not pickle.
    """
    buffer = io.BytesIO()
    try:
        _SkeletonPickler(buffer).dump(original(module))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SkeletonFailed(f"The module cannot be pickled for export ({reason}).") from error
    return buffer.getvalue()


def load_skeleton(data: bytes, device: str = "meta") -> torch.nn.Module:
    """Rebuild a module from its skeleton; ``device`` may be "cpu" inside a FakeTensorMode, where it costs no memory.

    Only for skeletons that this process's own parent made: unpickling runs code.
    """
    token = _device.set(device)
    try:
        module = pickle.loads(data)  # noqa: S301  from our own parent, through a pipe
    finally:
        _device.reset(token)
    if not isinstance(module, torch.nn.Module):
        raise SkeletonFailed("The skeleton is not of a torch module.")
    return module


def inert_hook(*_args: object, **_kwargs: object) -> None:
    """A hook of any kind that does nothing: None changes neither inputs nor outputs."""


def make_inert_hook() -> Callable[..., None]:
    """What a hook that must not travel is rebuilt as: its ``__reduce__`` returns ``(make_inert_hook, ())``."""
    return inert_hook


def rebuild_tensor(
    dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...], kind: str, requires_grad: bool
) -> torch.Tensor:
    """Make a tensor without bytes; ``kind`` is "tensor", "parameter" or "buffer"."""
    empty = torch.empty_strided(shape, strides, dtype=dtype, device=_device.get())
    if kind == "parameter":
        return torch.nn.Parameter(empty, requires_grad=requires_grad)
    if kind == "buffer":
        return torch.nn.Buffer(empty)
    return empty


class _SkeletonPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            return rebuild_tensor, _description_of(obj)
        if isinstance(obj, torch.UntypedStorage | torch.TypedStorage):
            raise pickle.PicklingError("it holds a bare storage, whose bytes must not travel")
        return super().reducer_override(obj)


def _description_of(tensor: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...], tuple[int, ...], str, bool]:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise pickle.PicklingError("it holds a tensor that is not an ordinary dense one")
    if torch.nn.parameter.is_lazy(tensor):
        raise pickle.PicklingError("it holds a lazy parameter; run the model once before attaching it")
    kind = (
        "parameter"
        if isinstance(tensor, torch.nn.Parameter)
        else "buffer"
        if isinstance(tensor, torch.nn.Buffer)
        else "tensor"
    )
    return tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), kind, tensor.requires_grad
