"""What of the recorded surroundings a worker does not have: fixed sentences, with the bundle's strings made safe."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff

from recorder.bundle.manifest import Environment
from recorder.bundle.values import JsonValue
from recorder.torch_settings import SETTINGS
from replay.numerics.instruction_sets import aten_capability, flags_of, onednn_level
from replay.show.text import inert

__all__ = ["compare_surroundings"]


_COMPARED_VARIABLES = (
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DYNAMIC",
    "OMP_DYNAMIC",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_LINALG_PREFER_CUSOLVER",
)


def compare_surroundings(recorded: Environment, effective: Environment) -> list[str]:
    """List what differs between the recorded environment and the worker's, after it restored what it could.

    Args:
        recorded: the environment of a context.
        effective: what the worker reports of itself.

    Returns:
        One sentence for each difference that can change bits; empty when everything was restored.
    """
    return [*_machine(recorded, effective), *_libraries(recorded, effective), *_flags(recorded, effective)]


def _machine(recorded: Environment, effective: Environment) -> Iterator[str]:
    if recorded.platform != effective.platform:
        yield f"platform: recorded on {inert(recorded.platform)}, this is {effective.platform}"
    theirs, ours = recorded.cpu.get("model"), effective.cpu.get("model")
    if theirs != ours:
        yield f"CPU: recorded on {_said(theirs)}, this is {_said(ours)}"
    used = onednn_level(flags_of(recorded.cpu), recorded.variables)
    here = onednn_level(flags_of(effective.cpu), effective.variables)
    if used != here and used is not None and here is not None:
        yield f"oneDNN: its instruction set was {used}, here it is {here}"
    gpus = [[gpu.get("name"), gpu.get("compute_capability")] for gpu in recorded.gpus]
    if gpus and gpus[0] not in [[gpu.get("name"), gpu.get("compute_capability")] for gpu in effective.gpus]:
        name = effective.gpus[0].get("name") if effective.gpus else None
        yield f"GPU: recorded on {_said(gpus[0][0])}, " + (f"this is {_said(name)}" if name else "none is used here")


def _libraries(recorded: Environment, effective: Environment) -> Iterator[str]:
    then, now = recorded.libraries, effective.libraries
    was, runs = then.get("torch.version"), now.get("torch.version")
    if was != runs:
        yield f"torch: version {_said(was)} was recorded, {_said(runs)} runs here"
    elif _build(then) != _build(now):
        yield f"torch: another build of version {_said(runs)}: {_first_change(_build(then), _build(now))}"
    used, here = _capability(then), _capability(now)
    if used != here:
        yield f"torch: its CPU capability was {_said(used)}, here it is {_said(here)}"
    for name, title in (("torch.cuda_version", "CUDA"), ("torch.cudnn_version", "cuDNN")):
        if recorded.gpus and then.get(name) != now.get(name):
            yield f"{title}: version {_said(then.get(name))} was recorded, {_said(now.get(name))} runs here"


def _flags(recorded: Environment, effective: Environment) -> Iterator[str]:
    for setting in SETTINGS:
        if setting.name in recorded.settings and recorded.settings[setting.name] != effective.settings.get(
            setting.name
        ):
            was, now = recorded.settings[setting.name], effective.settings.get(setting.name)
            yield f"{setting.name}: it was {_said(was)}, here it is {_said(now)}"
    for name in _COMPARED_VARIABLES:
        set_to, set_here = recorded.variables.get(name), effective.variables.get(name)
        if set_to != set_here and not _explained(name, recorded, effective):
            yield f"{name}: it was {_said(set_to or 'not set')}, here it is {_said(set_here or 'not set')}"


def _explained(name: str, recorded: Environment, effective: Environment) -> bool:
    """A cap that replay itself set, to get the instruction set of the recorded machine on a better one."""
    return (
        name == "MKL_ENABLE_INSTRUCTIONS"
        and name not in recorded.variables
        and effective.variables.get(name) == "AVX2"
        and "avx512f" not in flags_of(recorded.cpu)
    )


def _capability(libraries: dict[str, JsonValue]) -> JsonValue:
    reported = libraries.get("torch.cpu_capability")
    return aten_capability(reported) or reported


def _build(libraries: dict[str, JsonValue]) -> list[str]:
    """The lines of torch's build description, without the one that shows the capability in use."""
    text = libraries.get("torch.config")
    lines = text.splitlines() if isinstance(text, str) else []
    return [line.strip() for line in lines[:100] if "CPU capability usage" not in line]


def _first_change(then: list[str], now: list[str]) -> str:
    changes = [
        line
        for line in unified_diff(then, now, lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    was = next((line[1:] for line in changes if line.startswith("-")), None)
    here = next((line[1:] for line in changes if line.startswith("+")), None)
    return f"it had {_said(was)}, here {_said(here)}"


def _said(value: object) -> str:
    if value is None:
        return "unknown"
    return str(value).lower() if isinstance(value, bool) else inert(value, 80)
