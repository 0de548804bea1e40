"""Identity and storage of models: which tensors a module holds, their digest, and the store both lie in."""

from recorder.models.skeleton import SkeletonFailed, make_inert_hook, skeleton
from recorder.models.store import ModelStore, StoreDamaged, StoreUnavailable
from recorder.models.tensors import layouts_of, tensors_of_module, training_modules_of, weights_version
from recorder.models.weights_file import WeightsChanged, WeightsUnreadable, stream_weights

__all__ = [
    "ModelStore",
    "SkeletonFailed",
    "StoreDamaged",
    "StoreUnavailable",
    "WeightsChanged",
    "WeightsUnreadable",
    "layouts_of",
    "make_inert_hook",
    "skeleton",
    "stream_weights",
    "tensors_of_module",
    "training_modules_of",
    "weights_version",
]
