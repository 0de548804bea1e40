"""What of torch's flags and of the calling thread decides a call's bits, read before every call."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

from recorder.bundle.manifest import CallSettings
from recorder.bundle.values import JsonValue
from recorder.torch_settings import SETTINGS

__all__ = ["FINGERPRINT_NAMES", "call_settings", "flags_now", "settings_fingerprint", "whole_fingerprint"]

_OFTEN = tuple(setting for setting in SETTINGS if setting.often)

#: What the values of a fingerprint are.
FINGERPRINT_NAMES: tuple[str, ...] = tuple(setting.name for setting in _OFTEN)

#: The readers of the flags this build of torch has, as short as they get; None while torch is not imported.
_readers: tuple[Callable[[], JsonValue], ...] | None = None
#: Where in a fingerprint their values stand.
_places: tuple[int, ...] = ()


def settings_fingerprint() -> tuple[JsonValue, ...]:
    """Read the flags that can change while the host runs, as the calling thread sees them.

    Two equal fingerprints mean that no new context has begun. Empty while torch is not imported; a flag that cannot
    be read, or has no effect in this build of torch, is None. The values stand in the order of FINGERPRINT_NAMES.
    """
    return whole_fingerprint(flags_now())


def flags_now() -> tuple[JsonValue, ...]:
    """Return those values of `settings_fingerprint` that can differ between two calls (2 µs, cold caches ten times)."""
    readers = _readers
    if readers is None:
        torch = sys.modules.get("torch")
        if torch is None or not hasattr(torch, "_C"):
            return ()
        readers = _find_readers(torch)
    try:
        return tuple([read() for read in readers])
    except Exception:  # noqa: BLE001 - torch refuses to tell some flags once old and new names were mixed
        return tuple([_attempt(read) for read in readers])


def whole_fingerprint(flags: tuple[JsonValue, ...]) -> tuple[JsonValue, ...]:
    """Return the fingerprint of what `flags_now` gave."""
    if not flags:
        return ()
    values: list[JsonValue] = [None] * len(_OFTEN)
    for place, value in zip(_places, flags, strict=True):
        values[place] = value
    return tuple(values)


def call_settings(training: bool) -> CallSettings:
    """Read what of the calling thread decides a model call's bits (about 1 µs). Needs torch to be imported."""
    torch = sys.modules["torch"]
    core = torch._C
    if not core._is_any_autocast_enabled():
        return _settings_of(training, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), ())
    autocast = tuple(
        (device, str(torch.get_autocast_dtype(device)).removeprefix("torch."))
        for device in ("cpu", "cuda")
        if torch.is_autocast_enabled(device)
    )
    return _settings_of(training, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast)


@functools.lru_cache(maxsize=64)
def _settings_of(training: bool, grad: bool, inference: bool, autocast: tuple[tuple[str, str], ...]) -> CallSettings:
    return CallSettings(training=training, grad_enabled=grad, inference_mode=inference, autocast=dict(autocast))


def _find_readers(torch: Any) -> tuple[Callable[[], JsonValue], ...]:
    global _readers, _places
    built_for_cuda = torch.version.cuda is not None or torch.version.hip is not None
    readers: list[Callable[[], JsonValue]] = []
    places: list[int] = []
    for place, setting in enumerate(_OFTEN):
        if setting.cuda and not built_for_cuda:
            continue
        with contextlib.suppress(RuntimeError):  # refused just now; may be told later
            try:
                setting.read(torch)
            except (AttributeError, NotImplementedError):  # not in this torch, or not on this machine: never will be
                continue
        native = getattr(torch._C, setting.getter or "", None)
        quick = setting.quick(torch) if setting.quick is not None else None
        readers.append(native or quick or functools.partial(setting.read, torch))
        places.append(place)
    _places = tuple(places)
    _readers = tuple(readers)
    return _readers


def _attempt(read: Callable[[], JsonValue]) -> JsonValue:
    try:
        return read()
    except Exception:  # noqa: BLE001 - see flags_now
        return None
