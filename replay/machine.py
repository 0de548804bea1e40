"""What of this machine matters to a replay, told without loading torch into this process."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from recorder.bundle.values import JsonValue
from recorder.environment import VARIABLES, allowed_variables, describe_cpu

__all__ = ["CPU_FLAGS", "Machine", "examine"]

#: Instruction sets that ATen, oneDNN and MKL choose their kernels by.
CPU_FLAGS = (
    "sse4_1",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "sve",
)

_PACKAGES = ("torch", "numpy", "safetensors", "onnxruntime", "torchvision", "pillow", "zstandard")

#: Importing torch takes two seconds, ten on a cold disk.
_PROBE_SECONDS = 120

#: Version 1 of cgroups says "no limit" with a number near 2**63.
_NO_LIMIT_BYTES = 2**50

#: Runs in a process of its own, under the same isolation as a replay worker; prints one JSON object.
_PROBE = """
import json, sys
from replay.worker.sandbox import isolate
kept = isolate()
facts = {"sandbox": kept, "settings": {}, "libraries": {}}
try:
    import torch
    from recorder.environment import capture_environment
    found = capture_environment(packages=False)
    facts |= {"settings": found.settings, "libraries": found.libraries}
except Exception as error:
    facts["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(facts))
"""

Machine = dict[str, Any]


def examine() -> Machine:
    """Return the facts, and under "problems" what stands in the way of a replay, each with its remedy."""
    problems: list[str] = []
    probe = _probe(problems)
    cpu = describe_cpu()
    flags = cpu["flags"] if isinstance(cpu["flags"], list) else []
    machine: Machine = {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine().lower()}",
        "packages": _packages(),
        "cpu": {"model": cpu["model"], "count": cpu["count"], "flags": [flag for flag in CPU_FLAGS if flag in flags]},
        "torch": _torch_facts(probe),
        "variables": allowed_variables(os.environ),
        "memory": _memory(),
        "models": _models(problems),
        "sandbox": probe.get("sandbox", {}),
        "problems": problems,
    }
    for name in sorted(set(VARIABLES) & set(os.environ) - set(machine["variables"])):
        problems.append(f"{name} is set to a value that replay does not know; unset it or correct it")
    for what, keeper in machine["sandbox"].items():
        if keeper != "kernel":
            problems.append(
                f"only Python keeps replayed code from the {what}, the kernel does not; "
                "replay bundles of strangers in a container without network and with a read-only disk"
            )
    return machine


def _packages() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        found[name] = None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _probe(problems: list[str]) -> dict[str, Any]:
    """Ask a short-lived process for what only an imported torch can tell."""
    command = [sys.executable, "-P", "-c", _PROBE]  # -P: the working directory is no place to import from
    try:
        ended = subprocess.run(
            command, capture_output=True, timeout=_PROBE_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
        facts = json.loads(ended.stdout.decode().strip().rpartition("\n")[2])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        problems.append("a worker process could not be started or gave no answer; check memory and process limits")
        return {}
    if "error" in facts:
        problems.append(f"torch cannot be imported ({facts['error'][:200]}); install torch to replay torch models")
    return dict(facts)


def _torch_facts(probe: dict[str, Any]) -> dict[str, JsonValue]:
    known = {**probe.get("libraries", {}), **probe.get("settings", {})}
    names = {
        "version": "torch.version",
        "cpu_capability": "torch.cpu_capability",
        "threads": "torch.num_threads",
        "interop_threads": "torch.num_interop_threads",
        "mkldnn": "torch.mkldnn_available",
        "mkl": "torch.mkl_available",
        "cuda": "torch.cuda_version",
    }
    return {short: known[name] for short, name in names.items() if name in known}


def _memory() -> dict[str, int | None]:
    from recorder.ring.cgroup import memory_headroom_bytes

    found: dict[str, int | None] = {"available_bytes": None, "shared_memory_free_bytes": None}
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found["available_bytes"] = (
            int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
        )
    with contextlib.suppress(OSError):
        found["shared_memory_free_bytes"] = shutil.disk_usage("/dev/shm").free  # noqa: S108 - looked at, not written to
    headroom = memory_headroom_bytes()
    unlimited = headroom is None or headroom > _NO_LIMIT_BYTES
    return found | {"container_headroom_bytes": None if unlimited else headroom}


def _models(problems: list[str]) -> dict[str, Any]:
    """Where models are looked for besides ``models/`` next to a bundle, and which factories the user trusts."""
    from replay.load import ConfigInvalid, find_locations, read_user_config

    try:
        config = read_user_config()
        directories = find_locations(None, None, config).directories
    except ConfigInvalid as error:
        problems.append(str(error).rstrip("."))
        return {"directories": [], "trusted_factories": []}
    for directory in directories:
        if not directory.is_dir():
            problems.append(f"the model store {directory} is not a directory; correct the user's config")
    return {
        "directories": [str(directory) for directory in directories],
        "trusted_factories": sorted(config.trusted_factories),
    }
