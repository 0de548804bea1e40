"""Calls of a TorchScript module: it takes no hooks, but like any module it calls what stands in for its call.

`torch.nn.Module.__call__` goes through ``_compiled_call_impl`` where that is set; copies and saved files leave it out.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.jit._script import RecursiveScriptModule
from torch.jit._trace import TopLevelTracedModule

from recorder.hooks.wrapped import after, before_model

if TYPE_CHECKING:
    from recorder.hooks.attached import AttachedModel

__all__ = ["ScriptCall", "takes_no_hooks"]

_ENTRY = "_compiled_call_impl"


def takes_no_hooks(module: torch.nn.Module) -> bool:
    """Whether this is a scripted module; a traced one takes hooks."""
    return isinstance(module, RecursiveScriptModule) and not isinstance(module, TopLevelTracedModule)


class ScriptCall:
    """Stands in for the call of one scripted module."""

    def __init__(self, attached: AttachedModel, module: torch.nn.Module) -> None:
        self._attached = attached
        self._module = weakref.ref(module)
        vars(module)[_ENTRY] = self

    def remove(self) -> None:
        """Let the module call itself again."""
        module = self._module()
        if module is not None and vars(module).get(_ENTRY) is self:
            del vars(module)[_ENTRY]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module: Any = self._module()
        session = self._attached.session()
        if session is None or torch._C._get_tracing_state() is not None:
            return module._call_impl(*args, **kwargs)
        with session.guard("model-call"):
            before_model(session, self._attached, module, args, kwargs)
        try:
            output = module._call_impl(*args, **kwargs)
        except BaseException as error:
            with session.guard("model-call"):
                after(session, None, error)
            raise
        with session.guard("model-call"):
            after(session, output)
        return output
