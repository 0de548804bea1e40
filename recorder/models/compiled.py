"""What torch.compile makes of a module: a wrapper around it, or another way to be called. Its tensors are the module's.

Names are always those of the module itself: a compiled model and the eager one have the same weights.
"""

from __future__ import annotations

import torch

__all__ = ["ENTRY", "is_compiled", "is_wrapper", "original", "original_name", "without_wrappers"]

#: Where torch keeps what stands in for a module's call, in its dictionary.
ENTRY = "_compiled_call_impl"
#: Where the wrapper that torch.compile returns keeps the module.
_INSIDE = "_orig_mod"


def is_wrapper(module: torch.nn.Module) -> bool:
    """Whether a module is what torch.compile returned; asked by name, since importing its class takes seconds."""
    return type(module).__name__ == "OptimizedModule" and isinstance(module._modules.get(_INSIDE), torch.nn.Module)


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether a module or a part of it was compiled, as a wrapper or in place; not whether that was ever run."""
    return any(
        is_wrapper(part) or _comes_from_torch(getattr(vars(part).get(ENTRY), "previous", vars(part).get(ENTRY)))
        for part in module.modules()
    )


def original(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module that a wrapper was made of; any other module itself."""
    while is_wrapper(module):
        inside = module._modules[_INSIDE]
        assert inside is not None  # noqa: S101  asked above
        module = inside
    return module


def without_wrappers(module: torch.nn.Module) -> torch.nn.Module:
    """Return the eager module: wrappers are taken away, also inside it, where they are replaced in place."""
    module = original(module)
    for part in list(module.modules()):
        if vars(part).get(ENTRY) is not None:
            vars(part)[ENTRY] = None
        for name, child in list(part._modules.items()):
            if child is not None and is_wrapper(child):
                part._modules[name] = original(child)
    return module


def original_name(name: str) -> str:
    """Return a tensor's or module's dotted name without the wrappers on its way."""
    return ".".join(part for part in name.split(".") if part != _INSIDE)


def _comes_from_torch(entry: object) -> bool:
    return entry is not None and hasattr(entry, "_torchdynamo_orig_callable")
