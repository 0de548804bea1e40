"""Calls of modules that take no hooks of ours: scripted ones, and those that were compiled in place.

`torch.nn.Module.__call__` goes through ``_compiled_call_impl`` where that is set; copies and saved files leave it out.
A scripted module has no place for hooks; one on which ``compile()`` was called would trace them into its graph, where
they vanish: here they surround what torch compiled.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.jit._script import RecursiveScriptModule
from torch.jit._trace import TopLevelTracedModule

from recorder.hooks.wrapped import after, before_model
from recorder.models.compiled import ENTRY

if TYPE_CHECKING:
    from recorder.hooks.attached import AttachedModel

__all__ = ["SurroundedCall", "is_compiled_in_place", "takes_no_hooks"]


def takes_no_hooks(module: torch.nn.Module) -> bool:
    """Whether this is a scripted module, or one compiled in place; a traced one takes hooks."""
    scripted = isinstance(module, RecursiveScriptModule) and not isinstance(module, TopLevelTracedModule)
    return scripted or is_compiled_in_place(module)


def is_compiled_in_place(module: torch.nn.Module) -> bool:
    """Whether ``compile()`` was called on this module and its calls are not surrounded by us."""
    return vars(module).get(ENTRY) is not None and not isinstance(vars(module)[ENTRY], SurroundedCall)


class SurroundedCall:
    """Stands in for the call of one module."""

    def __init__(self, attached: AttachedModel, module: torch.nn.Module) -> None:
        self._attached = attached
        self._module = weakref.ref(module)
        self.previous = vars(module).get(ENTRY)  #: what torch compiled
        vars(module)[ENTRY] = self

    def remove(self) -> None:
        """Let the module call itself again."""
        module = self._module()
        if module is None or vars(module).get(ENTRY) is not self:
            return
        if self.previous is None:
            del vars(module)[ENTRY]
        else:
            vars(module)[ENTRY] = self.previous

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module: Any = self._module()
        run = module._call_impl if self.previous is None else self.previous
        session = self._attached.session()
        if session is None or torch._C._get_tracing_state() is not None or torch.compiler.is_compiling():
            return run(*args, **kwargs)
        signature = None
        with session.guard("model-call"):
            signature = before_model(session, self._attached, module, args, kwargs)
        try:
            output = run(*args, **kwargs)
        except BaseException as error:
            with session.guard("model-call"):
                after(session, None, error)
            raise
        with session.guard("model-call"):
            after(session, output)
            if signature is not None and self.previous is not None:  # torch.export takes no scripted module
                self._attached.export(session, module, signature)
        return output
