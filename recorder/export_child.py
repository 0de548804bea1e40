"""The child that exports a graph: reads a skeleton, runs `torch.export` on fake tensors, replies, ends.

Started by `recorder.export` alone. Fake tensors have shapes and no memory, so the child stays small however large the
weights are, and no byte of them ever reaches it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from recorder.graph_format import OPEN_SIZES_VERSION, GraphUnwritable, graph_document
from recorder.graph_sizes import with_fixed_sizes
from recorder.models.compiled import without_wrappers
from recorder.models.skeletons import SkeletonFailed, load_skeleton
from recorder.models.state import StateNames, StateRefused, put_state
from recorder.models.tensors import tensors_of_module, walk

__all__ = ["ExportRefused", "export_document", "main"]

#: The lowest priority: the host's own threads come first.
_NICENESS = 19

_PLAIN_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter, FakeTensor, type(None)})


class ExportRefused(RuntimeError):
    """No graph can be made of this model and this call; the message is one sentence."""


def main() -> None:
    """Answer one request on stdin; the last thing this process does."""
    reply = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the user's modules print must not reach the reply
    os.nice(_NICENESS)
    request = json.loads(sys.stdin.buffer.readline())
    signal.alarm(request["alarm_seconds"])
    skeleton = sys.stdin.buffer.read(request["size"])
    threading.Thread(target=_end_with_host, daemon=True).start()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    head: dict[str, Any]
    try:
        graph = export_document(
            skeleton,
            request["args"],
            request["kwargs"],
            request["settings"],
            request["state"],
            any_size=request["any_size"],
        )
        head = {"size": len(graph)}
    except (ExportRefused, GraphUnwritable, SkeletonFailed) as error:
        graph, head = b"", {"reason": str(error)}
    except Exception as error:  # noqa: BLE001  whatever the user's modules raise becomes a sentence
        graph, head = b"", {"reason": f"The model could not be exported ({_first_line(error)})."}
    reply.write(json.dumps(head).encode() + b"\n" + graph)
    reply.flush()
    os._exit(0)  # no exit handlers of the user's modules


def export_document(
    skeleton: bytes,
    args_json: dict[str, Any],
    kwargs_json: dict[str, Any],
    settings: dict[str, Any],
    state: Sequence[Any] | None = None,
    *,
    any_size: bool = False,
) -> bytes:
    """Export one call of a skeleton and return the graph document (recorder.graph_format).

    With ``any_size`` the graph serves other sizes too, as far as the model allows it: every size that nothing fixes is
    left open. Such a graph is taken only if, at the sizes of this call, it is the very graph that is exported for these
    sizes alone; otherwise that one is.

    Raises:
        ExportRefused, GraphUnwritable, SkeletonFailed: with the sentence for the manifest's ``problems``.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        try:
            module = without_wrappers(load_skeleton(skeleton, "cpu"))
        except Exception as error:
            raise ExportRefused(f"The model's code cannot be imported in a child ({_first_line(error)}).") from error
        args, kwargs = example(args_json), example(kwargs_json)
        if state is not None:
            _restore_state(module, StateNames(state[0]), example(state[1]))
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        raise ExportRefused("The recorded call is not a tuple of arguments and a dict of keyword arguments.")
    names: dict[int, str] = {}
    for name, tensor in tensors_of_module(module).items():
        names.setdefault(id(tensor), name)
    paths = [path for path, _ in module.named_modules()]
    patterns = StateNames(state[0] if state is not None else ())

    def document(*, open_sizes: bool) -> bytes:
        with _settings(settings), _fast_paths():
            program = _export(module, args, kwargs, open_sizes=open_sizes)
        return graph_document(program, names, paths, patterns)

    exact = document(open_sizes=False)
    if not any_size:
        return exact
    try:
        general = document(open_sizes=True)
    except Exception:  # noqa: BLE001  what has no form, or what torch cannot trace, is served size by size
        return exact
    return general if _is_the_same(general, exact) else exact


def _is_the_same(general: bytes, exact: bytes) -> bool:
    """Whether a graph that leaves sizes open is, at an exact graph's sizes, that graph, node by node."""
    wanted, found = json.loads(exact), json.loads(general)
    if found["version"] != OPEN_SIZES_VERSION:
        return False
    shapes = [entry["shape"] for entry in wanted["inputs"]]
    fixed = with_fixed_sizes(found, shapes)
    return fixed is not None and fixed == with_fixed_sizes(wanted, shapes)


def _restore_state(module: torch.nn.Module, names: StateNames, state: dict[str, torch.Tensor]) -> None:
    """Put the state there as it was before the call, as buffers: export follows changes of these alone."""
    try:
        put_state(module, names, state)
    except StateRefused as refused:
        raise ExportRefused(str(refused)) from refused
    for prefix, part in walk(module, "", ()):
        for name, value in list(part.__dict__.items()):
            if f"{prefix}{name}" in state and isinstance(value, torch.Tensor):
                del part.__dict__[name]
                part.register_buffer(name, value)


def example(value: dict[str, Any]) -> Any:
    """Build an example of a tagged value, tensors without bytes; call inside a FakeTensorMode."""
    [(tag, content)] = value.items()
    match tag:
        case "tensor" if content["container"] == "torch":
            dtype = getattr(torch, content["dtype"])
            return torch.empty_strided(tuple(content["shape"]), tuple(content["strides"]), dtype=dtype, device="cpu")
        case "tensor":
            raise ExportRefused("The model takes numpy arrays, which a graph cannot stand for.")
        case "tuple":
            return tuple(example(item) for item in content)
        case "list":
            return [example(item) for item in content]
        case "dict":
            return {key: example(item) for key, item in content}
        case "scalar":
            return content
        case "float":
            return float(content)
        case _:
            raise ExportRefused("The model takes an object that could not be recorded, so no graph can stand for it.")


def _export(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, open_sizes: bool
) -> torch.export.ExportedProgram:
    """Trace by running the forward pass; where that fails, by reading its bytecode."""
    shapes = _open_shapes(module, args, kwargs) if open_sizes else None
    try:
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as first:  # noqa: BLE001  tracing raises whatever the model's code does
        try:
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=True)
        except Exception:  # noqa: BLE001  the first reason is the one users can act on
            raise ExportRefused(f"torch.export cannot trace the model ({_first_line(first)}).") from first


def _open_shapes(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Leave every size of every input open; torch closes those that the model's code fixes, and sizes of one."""
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor):
            shapes[leaf] = dict.fromkeys(range(leaf.dim()), torch.export.Dim.AUTO)
    return shapes.dynamic_shapes(module, args, kwargs)


@contextlib.contextmanager
def _settings(settings: dict[str, Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(bool(settings.get("grad_enabled", False))))
        for device, dtype in settings.get("autocast", {}).items():
            # The child has no GPU: a model on one is traced as if it stood on the CPU.
            stack.enter_context(torch.autocast("cpu" if device != "cpu" else device, dtype=getattr(torch, dtype)))
        yield


@contextlib.contextmanager
def _fast_paths() -> Iterator[None]:
    """Let torch's attention layers take the fused path that they take in the host; the plain one has other bits.

    They avoid it while they are traced, by two checks that are overruled here, in the child alone. On a torch that has
    other checks the plain path is exported, and the graph does not reproduce the recorded frames: replay says so.
    """
    activation: Any = torch.nn.modules.activation
    overrides: Any = torch.overrides
    original = overrides.has_torch_function
    before = (getattr(activation, "_is_make_fx_tracing", None), original)

    def has_torch_function(arguments: Any) -> bool:
        # The original is true whenever a mode is active, as it is while tracing. The layers, which alone pass
        # parameters here, mean their arguments' types.
        layers = {type(each) for each in arguments} <= _PLAIN_TENSORS and any(
            isinstance(each, torch.nn.Parameter) for each in arguments
        )
        return not layers and bool(original(arguments))

    activation._is_make_fx_tracing = lambda: False
    overrides.has_torch_function = has_torch_function
    try:
        yield
    finally:
        activation._is_make_fx_tracing, overrides.has_torch_function = before


def _end_with_host() -> None:
    """The host keeps the pipe open as long as it waits; its end means that nobody does."""
    sys.stdin.buffer.read(1)
    os._exit(1)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
