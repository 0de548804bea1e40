"""From a recorded context to a worker's environment and flags: which settings, in which order, what is impossible.

Three profiles. *faithful* restores what was recorded. *portable* fixes the lowest instruction sets, MKL's compatible
mode and one thread, so that any x86 machine computes the same bits (other bits than production's). *here* takes the
caller's surroundings as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recorder.bundle.manifest import Environment
from recorder.bundle.values import JsonValue
from recorder.environment import VARIABLES, allowed_variables
from recorder.torch_settings import SETTINGS, acceptable
from replay.numerics.instruction_sets import (
    ATEN_LEVELS,
    ONEDNN_LEVELS,
    aten_capability,
    aten_native,
    flags_of,
    mkl_level,
    onednn_level,
)
from replay.show.text import inert

__all__ = ["PORTABLE_VARIABLES", "PROFILES", "WorkerPlan", "plan_worker", "worker_environment"]

PROFILES = ("faithful", "portable", "here")

#: Checked on emulated CPUs: identical bits in 38 of 38 operators; caps or MKL's mode alone do not suffice, and the
#: profile depends on the number of threads.
PORTABLE_VARIABLES: dict[str, str] = {
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

#: Unknown settings that are named one by one.
_TOLD = 10

#: What a worker gets of the caller's own environment besides: where shared libraries are, language and time zone. They
#: change no bits, and the caller trusts them already.
_CARRIED = ("LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """How a worker has to be started and set up."""

    profile: str
    variables: dict[str, str] = field(default_factory=dict)  #: set before torch is imported
    settings: dict[str, JsonValue] = field(default_factory=dict)  #: restored afterwards, by dotted name
    not_restored: tuple[str, ...] = ()  #: sentences: what the recording asks for and cannot be had
    library: str | None = None  #: directory of packages imported before the installed ones; chosen by the user

    def needs_another_process(self, other: WorkerPlan) -> bool:
        """Whether a worker started for the other plan cannot be switched to this one."""
        fixed = "torch.num_interop_threads"
        mine = (self.variables, self.library, self.settings.get(fixed))
        return mine != (other.variables, other.library, other.settings.get(fixed))


def plan_worker(recorded: Environment, profile: str, cpu: Mapping[str, JsonValue]) -> WorkerPlan:
    """Plan a worker for a recorded environment.

    Args:
        recorded: the environment of a context; untrusted, so every part passes an allow-list again.
        profile: one of PROFILES.
        cpu: this machine's CPU (`recorder.environment.describe_cpu`).

    Raises:
        ValueError: there is no such profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"numerics are one of {', '.join(PROFILES)}, not {profile!r}")
    if profile == "here":
        return WorkerPlan(profile=profile)
    settings, refused = _settings(recorded.settings)
    refused += _unknown(recorded)
    if profile == "portable":
        settings |= {"torch.num_threads": 1}
        return WorkerPlan(
            profile=profile, variables=dict(PORTABLE_VARIABLES), settings=settings, not_restored=tuple(refused)
        )
    variables = allowed_variables(recorded.variables)
    refused += [
        f"the recorded value of {name} is not one that replay passes on"
        for name in VARIABLES
        if name in recorded.variables and name not in variables
    ]
    threads = settings.get("torch.num_threads")
    if threads is not None:
        variables["OMP_NUM_THREADS"] = variables["MKL_NUM_THREADS"] = str(threads)
    refused += _cap_instruction_sets(variables, recorded, cpu)
    return WorkerPlan(profile=profile, variables=variables, settings=settings, not_restored=tuple(refused))


def worker_environment(plan: WorkerPlan, caller: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the worker's process. The caller's own settings of the listed variables are dropped.

    The profile "mixed" is that of `replay bisect`: the caller's environment, the listed variables as the plan says.
    """
    if plan.profile == "here":
        return dict(caller)
    if plan.profile == "mixed":
        return {name: value for name, value in caller.items() if name not in VARIABLES} | plan.variables
    return {name: caller[name] for name in _CARRIED if name in caller} | plan.variables


def _settings(recorded: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], list[str]]:
    wanted: dict[str, JsonValue] = {}
    refused = []
    for setting in SETTINGS:
        if setting.name not in recorded:
            continue
        if acceptable(setting, recorded[setting.name]):
            wanted[setting.name] = recorded[setting.name]
        else:
            refused.append(f"the recorded value of {setting.name} is not one that replay passes on")
    return wanted, refused


def _unknown(recorded: Environment) -> list[str]:
    """Recorded by another version, or by nobody's: this one knows no such flag or variable and restores none."""
    known = {setting.name for setting in SETTINGS}
    names = [name for name in recorded.settings if name not in known]
    names += [name for name in recorded.variables if name not in VARIABLES]
    told = [f"this version of replay does not know the recorded setting {inert(name, 80)}" for name in names[:_TOLD]]
    if len(names) > _TOLD:
        told.append(f"nor {len(names) - _TOLD} more")
    return told


def _cap_instruction_sets(variables: dict[str, str], recorded: Environment, cpu: Mapping[str, JsonValue]) -> list[str]:
    """Ask for the recorded machine's kernels where this CPU has more; never for more than it has."""
    refused = []
    theirs, ours = flags_of(recorded.cpu), flags_of(cpu)
    capability, native = aten_capability(recorded.libraries.get("torch.cpu_capability")), aten_native(ours)
    order = list(ATEN_LEVELS)
    variables.pop("ATEN_CPU_CAPABILITY", None)  # what it did stands in the effective capability
    if capability is not None and order.index(capability) < order.index(native):
        variables["ATEN_CPU_CAPABILITY"] = ATEN_LEVELS[capability]
    elif capability is not None and order.index(capability) > order.index(native):
        refused.append(f"torch used {capability} kernels, this CPU has {native} only")
    used, here = onednn_level(theirs, variables), onednn_level(ours, variables)
    if used is not None and here is not None:
        levels = list(ONEDNN_LEVELS)
        if levels.index(used) < levels.index(here):
            variables["ONEDNN_MAX_CPU_ISA"] = used
        elif levels.index(used) > levels.index(here):
            refused.append(f"oneDNN used {used} kernels, this CPU has {here} only")
    mkl_then, mkl_now = mkl_level(recorded.cpu), mkl_level(cpu)
    if mkl_then == "AVX2" and mkl_now == "AVX512" and "MKL_CBWR" not in variables:
        variables.setdefault("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    return refused
