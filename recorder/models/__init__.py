"""Identity and storage of models: which tensors a module holds, their digest, and the store both lie in.

Names are imported on first use: the store alone needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recorder.models.compiled import is_compiled, original, original_name, without_wrappers
    from recorder.models.skeletons import SkeletonFailed, make_inert_hook, skeleton
    from recorder.models.state import StateNames, StateReader, StateRefused, put_state
    from recorder.models.store import ModelStore, StoreDamaged, StoreUnavailable
    from recorder.models.tensors import layouts_of, tensors_of_module, training_modules_of, weights_version
    from recorder.models.weights_file import WeightsChanged, WeightsUnreadable, stream_weights

__all__ = [
    "is_compiled",
    "original",
    "original_name",
    "without_wrappers",
    "ModelStore",
    "SkeletonFailed",
    "StateNames",
    "StateReader",
    "StateRefused",
    "StoreDamaged",
    "StoreUnavailable",
    "WeightsChanged",
    "WeightsUnreadable",
    "layouts_of",
    "make_inert_hook",
    "put_state",
    "skeleton",
    "stream_weights",
    "tensors_of_module",
    "training_modules_of",
    "weights_version",
]

_PLACES = {
    "compiled": ("is_compiled", "original", "original_name", "without_wrappers"),
    "skeletons": ("SkeletonFailed", "make_inert_hook", "skeleton"),
    "state": ("StateNames", "StateReader", "StateRefused", "put_state"),
    "store": ("ModelStore", "StoreDamaged", "StoreUnavailable"),
    "tensors": ("layouts_of", "tensors_of_module", "training_modules_of", "weights_version"),
    "weights_file": ("WeightsChanged", "WeightsUnreadable", "stream_weights"),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    """Find a public name in its module."""
    if name in _MODULE_OF:
        return getattr(import_module(f"recorder.models.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'recorder.models' has no attribute {name!r}")
