"""The flags of torch that decide bits and can change while a process runs: read, checked and written by dotted name.

One table serves the recorder, which reads, and the replay worker, which restores. Nothing here imports torch; every
function takes the module. A flag that this torch does not have, or refuses to tell, is left out.
"""

from __future__ import annotations

import functools
import operator
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recorder.bundle.values import JsonValue

__all__ = ["SETTINGS", "Setting", "acceptable", "read_settings", "write_settings"]

#: More threads than any inference server uses; a hostile bundle could otherwise ask for millions.
MAX_THREADS = 1024

_PRECISIONS = ("none", "ieee", "tf32", "bf16")
_FP32_PRECISIONS = (
    ("generic", "all"),
    ("cuda", "all"),
    ("cuda", "matmul"),
    ("cuda", "conv"),
    ("cuda", "rnn"),
    ("mkldnn", "all"),
    ("mkldnn", "matmul"),
    ("mkldnn", "conv"),
    ("mkldnn", "rnn"),
)
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_ENGINES = ("none", "fbgemm", "x86", "onednn", "qnnpack")


@dataclass(frozen=True, slots=True)
class Setting:
    """One flag. ``read`` and ``write`` may raise whatever torch raises."""

    name: str
    kind: tuple[str, ...] | type  #: bool, int (a number of threads) or the permitted words
    read: Callable[[Any], JsonValue]
    write: Callable[[Any, Any], object]
    often: bool = True  #: part of the per-call fingerprint: cheap to read, and can change while running
    getter: str | None = None  #: the function of torch's C module that ``read`` comes down to, without arguments
    cuda: bool = False  #: without effect in a build without CUDA
    #: Given torch, a function without arguments that says what ``read`` says, in less time, wherever ``read`` works.
    quick: Callable[[Any], Callable[[], JsonValue]] | None = None


def acceptable(setting: Setting, value: object) -> bool:
    """Say whether a recorded value may be handed to torch at all."""
    if setting.kind is bool:
        return isinstance(value, bool)
    if setting.kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_THREADS
    return isinstance(value, str) and isinstance(setting.kind, tuple) and value in setting.kind


def read_settings(torch: Any) -> dict[str, JsonValue]:
    """Read every flag this torch has, as the calling thread sees it."""
    found: dict[str, JsonValue] = {}
    for setting in SETTINGS:
        try:
            found[setting.name] = setting.read(torch)
        except Exception:  # noqa: BLE001, S112 - older torch lacks a flag, newer ones refuse to tell mixed ones
            continue
    return found


def write_settings(torch: Any, wanted: dict[str, Any]) -> list[str]:
    """Restore flags in the order of the table, touching only those that differ.

    Returns:
        The names that do not have the wanted value afterwards, unknown and unacceptable ones included.
    """
    for setting in SETTINGS:
        if setting.name in wanted and acceptable(setting, wanted[setting.name]):
            try:
                if setting.read(torch) != wanted[setting.name]:
                    setting.write(torch, wanted[setting.name])
            except Exception:  # noqa: BLE001, S112 - found below, by reading back
                continue
    effective = read_settings(torch)
    return [name for name, value in wanted.items() if name not in effective or effective[name] != value]


def _native(name: str) -> Callable[[Any], Any]:
    """A reader that calls a getter of torch's C module."""
    get = operator.attrgetter(f"_C.{name}")
    return lambda torch: get(torch)()


def _flag(name: str, getter: str, setter: str) -> Setting:
    put = operator.attrgetter(f"_C.{setter}")
    cuda = "cudnn" in name or name == "torch.sdp.mem_efficient"  # the CPU has a flash kernel of its own
    return Setting(name, bool, _native(getter), lambda torch, value: put(torch)(value), getter=getter, cuda=cuda)


def _fp32(backend: str, op: str) -> Setting:
    return Setting(
        f"torch.fp32_precision.{backend}.{op}",
        _PRECISIONS,
        lambda torch: torch._C._get_fp32_precision_getter(backend, op),
        lambda torch, value: torch._C._set_fp32_precision_setter(backend, op, value),
        # 130 ns each: the fingerprint reads those that can matter by themselves
        often=op in ("matmul", "conv"),
        cuda=backend == "cuda",
        quick=lambda torch: functools.partial(torch._C._get_fp32_precision_getter, backend, op),
    )


def _reduced_precision(name: str, native: str) -> Setting:
    def read(torch: Any) -> bool:
        value = getattr(torch._C, f"_get_cublas_{native}")()
        return bool(value[0] if isinstance(value, tuple) else value)

    return Setting(
        f"torch.cuda.matmul.{name}",
        bool,
        read,
        lambda torch, value: setattr(torch.backends.cuda.matmul, name, value),
        cuda=True,
    )


def _deterministic(torch: Any, mode: bool, warn_only: bool) -> None:
    # Not torch.use_deterministic_algorithms: that imports the compiler first, which a locked replay worker may not.
    torch._C._set_deterministic_algorithms(mode, warn_only=warn_only)


def _flush_denormal(_torch: Any) -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise NotImplementedError("only x86 shows it in Python's own arithmetic")
    return _flushes()


def _flushes() -> bool:
    return _SMALLEST_DENORMAL * _ONE == 0.0


# Variables, so that the compiler cannot fold the product.
_SMALLEST_DENORMAL, _ONE = 5e-324, 1.0

#: In the order in which they are restored: the coarse precision switch also moves the fine ones, so it goes first.
SETTINGS: tuple[Setting, ...] = (
    Setting(
        "torch.num_threads",
        int,
        _native("get_num_threads"),
        lambda torch, value: torch.set_num_threads(value),
        getter="get_num_threads",
    ),
    Setting(
        "torch.num_interop_threads",
        int,
        lambda torch: torch.get_num_interop_threads(),
        lambda torch, value: torch.set_num_interop_threads(value),
        often=False,  # torch lets nobody change it once work has begun
    ),
    Setting(
        "torch.default_dtype",
        _DTYPES,
        lambda torch: str(torch.get_default_dtype()).removeprefix("torch."),
        lambda torch, value: torch.set_default_dtype(getattr(torch, value)),
        often=False,  # an attached model has its dtypes already
    ),
    Setting(
        "torch.flush_denormal",
        bool,
        _flush_denormal,
        lambda torch, value: torch.set_flush_denormal(value),
        quick=lambda _: _flushes,
    ),
    Setting(
        "torch.float32_matmul_precision",
        ("highest", "high", "medium"),
        _native("_get_float32_matmul_precision"),
        lambda torch, value: torch.set_float32_matmul_precision(value),
        getter="_get_float32_matmul_precision",
    ),
    *(_fp32(backend, op) for backend, op in _FP32_PRECISIONS),
    _flag("torch.mkldnn.enabled", "_get_mkldnn_enabled", "_set_mkldnn_enabled"),
    _flag("torch.mkldnn.deterministic", "_get_mkldnn_deterministic", "_set_mkldnn_deterministic"),
    _flag("torch.nnpack.enabled", "_get_nnpack_enabled", "_set_nnpack_enabled"),
    Setting(
        "torch.deterministic_algorithms",
        bool,
        _native("_get_deterministic_algorithms"),
        lambda torch, value: _deterministic(torch, value, torch.is_deterministic_algorithms_warn_only_enabled()),
        getter="_get_deterministic_algorithms",
    ),
    Setting(
        "torch.deterministic_algorithms.warn_only",
        bool,
        _native("_get_deterministic_algorithms_warn_only"),
        lambda torch, value: _deterministic(torch, torch.are_deterministic_algorithms_enabled(), value),
        getter="_get_deterministic_algorithms_warn_only",
    ),
    _flag(
        "torch.deterministic.fill_uninitialized_memory",
        "_get_deterministic_fill_uninitialized_memory",
        "_set_deterministic_fill_uninitialized_memory",
    ),
    _flag("torch.cudnn.enabled", "_get_cudnn_enabled", "_set_cudnn_enabled"),
    _flag("torch.cudnn.benchmark", "_get_cudnn_benchmark", "_set_cudnn_benchmark"),
    _flag("torch.cudnn.deterministic", "_get_cudnn_deterministic", "_set_cudnn_deterministic"),
    _reduced_precision("allow_fp16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction"),
    _reduced_precision("allow_bf16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"),
    _reduced_precision("allow_fp16_accumulation", "allow_fp16_accumulation"),
    _flag("torch.sdp.flash", "_get_flash_sdp_enabled", "_set_sdp_use_flash"),
    _flag("torch.sdp.mem_efficient", "_get_mem_efficient_sdp_enabled", "_set_sdp_use_mem_efficient"),
    _flag("torch.sdp.math", "_get_math_sdp_enabled", "_set_sdp_use_math"),
    _flag("torch.sdp.cudnn", "_get_cudnn_sdp_enabled", "_set_sdp_use_cudnn"),
    Setting(
        "torch.quantized.engine",
        _ENGINES,
        lambda torch: torch.backends.quantized.engine,
        lambda torch, value: setattr(torch.backends.quantized, "engine", value),
        often=False,  # chosen when a model is quantised, before it is attached
    ),
)
