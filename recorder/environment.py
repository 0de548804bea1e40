"""What of machine, libraries and flags decides the bits, as far as an allow-list lets it leave the machine.

No host name, user, path or URL: versions, CPU and GPU models, flags, a closed list of environment variables, and the
git commit of the host's code. torch is looked at only if the host has imported it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recorder.bundle.manifest import Environment
from recorder.bundle.values import JsonValue
from recorder.fingerprint import FINGERPRINT_NAMES
from recorder.git import git_state
from recorder.torch_settings import read_settings

__all__ = [
    "VARIABLES",
    "allowed_variables",
    "describe_cpu",
    "capture_environment",
]

#: Instruction sets oneDNN can be capped at (`ONEDNN_MAX_CPU_ISA`).
_ONEDNN_ISA = (
    r"ALL|DEFAULT|SSE41|AVX|AVX2|AVX2_VNNI|AVX2_VNNI_2|AVX512_CORE|AVX512_CORE_VNNI|AVX512_CORE_BF16|AVX512_CORE_FP16"
    r"|AVX512_CORE_AMX|AVX512_CORE_AMX_FP16|AVX10_1_512|AVX10_1_512_AMX|AVX10_1_512_AMX_FP16|AVX10_2_512"
    r"|AVX10_2_512_AMX_2"
)
_THREADS = r"[1-9][0-9]{0,3}"
_SWITCH = r"0|1|true|false|TRUE|FALSE|yes|no|on|off|ON|OFF"

#: Environment variables that are read before torch starts and change bits, each with the only values that may leave
#: the machine, or enter a replay worker. No directories, no free text: a bundle is untrusted.
VARIABLES: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "ATEN_CPU_CAPABILITY": r"default|avx2|avx512|avx512_256|sve|sve128|sve256",
        "ONEDNN_MAX_CPU_ISA": _ONEDNN_ISA,
        "DNNL_MAX_CPU_ISA": _ONEDNN_ISA,
        "ONEDNN_CPU_ISA_HINTS": r"NO_HINTS|PREFER_YMM",
        "DNNL_CPU_ISA_HINTS": r"NO_HINTS|PREFER_YMM",
        "ONEDNN_DEFAULT_FPMATH_MODE": r"STRICT|BF16|F16|TF32|ANY",
        "DNNL_DEFAULT_FPMATH_MODE": r"STRICT|BF16|F16|TF32|ANY",
        "MKL_CBWR": r"(OFF|AUTO|BRANCH|COMPATIBLE|SSE2|SSSE3|SSE4_1|SSE4_2|AVX|AVX2|AVX512(_MIC)?(_E1)?|AVX512_E[1-4])"
        r"(,STRICT)?",
        "MKL_ENABLE_INSTRUCTIONS": r"SSE4_2|AVX|AVX2|AVX2_E1|AVX512|AVX512_E[1-5]",
        "MKL_NUM_THREADS": _THREADS,
        "MKL_DYNAMIC": _SWITCH,
        "OMP_NUM_THREADS": _THREADS,
        "OMP_DYNAMIC": _SWITCH,
        "CUBLAS_WORKSPACE_CONFIG": r":[0-9]{1,6}:[0-9]{1,4}(:[0-9]{1,6}:[0-9]{1,4}){0,3}",
        "CUBLASLT_WORKSPACE_SIZE": r"[0-9]{1,7}",
        "NVIDIA_TF32_OVERRIDE": r"0|1",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": r"0|1",
        "TORCH_LINALG_PREFER_CUSOLVER": r"0|1",
        "CUDA_VISIBLE_DEVICES": r"-1|[0-9]{1,2}(,[0-9]{1,2}){0,15}",
        "PYTHONHASHSEED": r"random|[0-9]{1,10}",
    }.items()
}

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}")
#: Absolute paths inside torch's build description: where a compiler or a source tree was.
_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?/[\w.+@-]+(?:/[\w.+@-]*)*")


def allowed_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Keep what is on the list and has a value of the closed pattern."""
    return {name: variables[name] for name, form in VARIABLES.items() if form.fullmatch(variables.get(name, ""))}


#: Read once, early: torch has read them too, and what the host sets later decides nothing.
_STARTED_WITH = allowed_variables(os.environ)


def capture_environment(
    cwd: str | Path | None = None,
    *,
    fingerprint: tuple[JsonValue, ...] | None = None,
    packages: bool = True,
) -> Environment:
    """Describe the surroundings of this process. Takes some tenths of a second: call it from a background thread.

    Args:
        cwd: a directory of the host's code, for its git commit; None asks no git.
        fingerprint: what `settings_fingerprint` gave on the thread that runs the model. Some flags are per thread
            (the number of threads, flush-to-zero), so a background thread reads other values than the model sees.
        packages: whether to list the installed distributions.
    """
    torch = sys.modules.get("torch")
    settings = read_settings(torch) if torch is not None and hasattr(torch, "_C") else {}
    if fingerprint:
        seen = dict(zip(FINGERPRINT_NAMES, fingerprint, strict=False))
        settings |= {name: value for name, value in seen.items() if value is not None}
    commit, dirty = git_state(Path(cwd)) if cwd is not None else (None, None)
    return Environment(
        python=platform.python_version(),
        platform=f"{sys.platform}-{platform.machine().lower()}",
        cpu=describe_cpu(),
        gpus=_gpus(torch),
        packages=_packages() if packages else {},
        variables=dict(_STARTED_WITH),
        libraries=_libraries(torch),
        settings=settings,
        git_commit=commit,
        git_dirty=dirty,
    )


def describe_cpu() -> dict[str, JsonValue]:
    """Model, vendor, instruction set flags, and the number of CPUs this process may use."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines():
            if not line.strip() and fields:
                break  # the first processor speaks for all
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features", ""))
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        count = os.cpu_count() or 1
    return {
        # Not platform.processor(): it takes a lock that a child forked meanwhile would find taken for ever.
        "model": fields.get("model name") or platform.machine(),
        "vendor": fields.get("vendor_id", fields.get("cpu implementer", "")),
        "flags": list[JsonValue](sorted(set(flags.split()))),
        "count": count,
    }


def _gpus(torch: Any) -> tuple[dict[str, JsonValue], ...]:
    """GPUs that the host already uses. Asking about others would create a context of hundreds of megabytes."""
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return ()
    found: list[dict[str, JsonValue]] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": str(properties.name),
                "compute_capability": f"{properties.major}.{properties.minor}",
                "multiprocessors": int(properties.multi_processor_count),
                "memory_bytes": int(properties.total_memory),
            }
        )
    return tuple(found)


def _packages() -> dict[str, str]:
    """Installed distributions, name to version; anything that does not look like either is left out."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        with contextlib.suppress(Exception):  # a half-removed package has no metadata
            name, version = distribution.metadata["Name"], distribution.version
            if _NAME.fullmatch(name) and _VERSION.fullmatch(version):
                found.setdefault(name, version)
        time.sleep(0)  # lets the host's threads have the interpreter between two files
    return dict(sorted(found.items()))


def _libraries(torch: Any) -> dict[str, JsonValue]:
    """Facts about what is loaded that nobody can restore by setting a flag."""
    found: dict[str, JsonValue] = {}
    for name in ("numpy", "onnxruntime", "torchvision", "cv2", "PIL"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            found[f"{name}.version"] = version
    libc = " ".join(platform.libc_ver()).strip()
    if libc:
        found["libc"] = libc
    if torch is None or not hasattr(torch, "_C"):
        return found
    facts: dict[str, Callable[[], JsonValue]] = {
        "torch.version": lambda: str(torch.__version__),
        "torch.git_version": lambda: str(torch.version.git_version),
        "torch.config": lambda: _PATH.sub("…", torch.__config__.show()),
        "torch.cpu_capability": lambda: str(torch.backends.cpu.get_cpu_capability()),
        "torch.mkldnn_available": lambda: bool(torch.backends.mkldnn.is_available()),
        "torch.mkl_available": lambda: bool(torch.backends.mkl.is_available()),
        "torch.cuda_version": lambda: torch.version.cuda,
        "torch.cudnn_version": lambda: torch.backends.cudnn.version() if torch.cuda.is_initialized() else None,
        "torch.cuda_driver": lambda: int(torch._C._cuda_getDriverVersion()) if torch.cuda.is_initialized() else None,
    }
    for name, read in facts.items():
        with contextlib.suppress(Exception):  # a build without that part
            value = read()
            if value is not None:
                found[name] = value
    return found
