"""The settings that decide bits, as factors: each can be restored or left as it is here, apart from the others.

The table below puts every flag of `recorder.torch_settings` and every variable of `recorder.environment` under one
factor, and a test holds it to that. Five more belong to the call and not to the process: left alone they are what
somebody gets who runs the model by hand on a recorded image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recorder.bundle.manifest import Context, Environment
from recorder.bundle.values import JsonValue, tensors_of
from recorder.environment import VARIABLES
from recorder.torch_settings import SETTINGS
from replay.bisect.variants import batch_of, is_laid_out
from replay.numerics.settings import WorkerPlan
from replay.outcome import Job
from replay.show.text import inert

__all__ = [
    "CALL_FACTORS",
    "DEVICE",
    "ENVIRONMENT_FACTORS",
    "Factor",
    "LIBRARY",
    "Overlay",
    "active_factors",
    "group_of",
]

#: Factor to the flags and variables it restores, by name or by a prefix that ends in a dot.
ENVIRONMENT_FACTORS: dict[str, tuple[str, ...]] = {
    "threads": ("torch.num_threads", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    "mkldnn": ("torch.mkldnn.enabled",),
    "fp32 precision": ("torch.float32_matmul_precision", "torch.fp32_precision."),
    "deterministic algorithms": (
        "torch.deterministic_algorithms",
        "torch.deterministic_algorithms.warn_only",
        "torch.deterministic.fill_uninitialized_memory",
        "torch.mkldnn.deterministic",
        "torch.cudnn.deterministic",
    ),
    "default dtype": ("torch.default_dtype",),
    "denormals": ("torch.flush_denormal",),
    "attention kernels": ("torch.sdp.",),
    "nnpack": ("torch.nnpack.enabled",),
    "quantized engine": ("torch.quantized.engine",),
    "cuda": ("torch.cudnn.enabled", "torch.cudnn.benchmark", "torch.cuda.matmul."),
    # From here on a new process is needed: these are read once, when torch is imported.
    "aten instruction set": ("ATEN_CPU_CAPABILITY",),
    "onednn instruction set": (
        "ONEDNN_MAX_CPU_ISA",
        "DNNL_MAX_CPU_ISA",
        "ONEDNN_CPU_ISA_HINTS",
        "DNNL_CPU_ISA_HINTS",
    ),
    "onednn math mode": ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    "mkl mode": ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DYNAMIC", "OMP_DYNAMIC"),
    "interop threads": ("torch.num_interop_threads",),
    "cuda variables": (
        "CUBLAS_WORKSPACE_CONFIG",
        "CUBLASLT_WORKSPACE_SIZE",
        "NVIDIA_TF32_OVERRIDE",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        "TORCH_LINALG_PREFER_CUSOLVER",
        "CUDA_VISIBLE_DEVICES",
    ),
    "hash seed": ("PYTHONHASHSEED",),
}

#: What belongs to a call. Not restored they are: one image at a time · C-contiguous tensors and weights · all of them
#: at addresses divisible by 64 · no autocast · gradients on.
CALL_FACTORS = ("batch", "memory format", "alignment", "autocast", "gradient mode")

#: Set with ``--with``: it takes another process too.
LIBRARY = "library"

#: A factor only where ``--device`` names another one than the recorded; restored, calls run where they were recorded.
DEVICE = "device"

#: torch.set_num_threads reaches OpenMP and MKL alike, so the variables are not touched and the process need not change.
_BY_FLAG = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What restoring a factor changes in a worker."""

    variables: dict[str, str | None] = field(default_factory=dict)  #: None: taken away
    settings: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One setting, or a few that belong together, that is not here as it was recorded."""

    name: str
    recorded: str  #: for people, safe to show
    here: str
    restore: dict[int, Overlay] = field(default_factory=dict)  #: by id of the context


def group_of(name: str) -> str | None:
    """The factor that a flag or variable belongs to."""
    for factor, members in ENVIRONMENT_FACTORS.items():
        if any(name == member or (member.endswith(".") and name.startswith(member)) for member in members):
            return factor
    return None


def active_factors(
    jobs: Sequence[Job], faithful: Mapping[int, WorkerPlan], variables: Mapping[str, str], here: Environment
) -> list[Factor]:
    """List the factors that are not here what they were, those that need no new process first.

    Args:
        jobs: the calls to explain.
        faithful: the plan that would restore everything, by id of the context.
        variables: the listed environment variables as they are here.
        here: what a worker with these says of itself.
    """
    contexts = {job.context.id: job.context for job in jobs}
    found = [factor for factor in (_of_call(name, jobs) for name in CALL_FACTORS) if factor is not None]
    for name in ENVIRONMENT_FACTORS:
        restore = {each: _overlay(name, faithful[each], variables, here) for each in contexts}
        if any(overlay.variables or overlay.settings for overlay in restore.values()):
            found.append(_described(name, restore, contexts, variables, here))
    return found


def _overlay(name: str, faithful: WorkerPlan, variables: Mapping[str, str], here: Environment) -> Overlay:
    wanted: dict[str, str | None] = {}
    for variable in VARIABLES:
        if group_of(variable) == name and variable not in _BY_FLAG:
            then, now = faithful.variables.get(variable), variables.get(variable)
            if then != now:
                wanted[variable] = then
    settings = {
        setting.name: faithful.settings[setting.name]
        for setting in SETTINGS
        if group_of(setting.name) == name
        and setting.name in faithful.settings
        and setting.name in here.settings
        and faithful.settings[setting.name] != here.settings[setting.name]
    }
    return Overlay(variables=wanted, settings=settings)


def _described(
    name: str,
    restore: dict[int, Overlay],
    contexts: Mapping[int, Context],
    variables: Mapping[str, str],
    here: Environment,
) -> Factor:
    """Say what differs, for the first context in which anything does."""
    overlay = next(each for each in restore.values() if each.variables or each.settings)
    then, now = [], []
    if name == "aten instruction set":
        context = next(iter(contexts.values()))
        then.append(_said(context.environment.libraries.get("torch.cpu_capability")))
        now.append(_said(here.libraries.get("torch.cpu_capability")))
    else:
        changed: dict[str, tuple[object, object]] = {
            variable: (value or "not set", variables.get(variable, "not set"))
            for variable, value in overlay.variables.items()
        }
        changed |= {flag: (value, here.settings.get(flag)) for flag, value in overlay.settings.items()}
        for flag, (was, is_now) in changed.items():
            label = "" if len(changed) == 1 and flag in overlay.settings else f"{flag}="
            then.append(f"{label}{_said(was)}")
            now.append(f"{label}{_said(is_now)}")
    return Factor(name=name, recorded=", ".join(then), here=", ".join(now), restore=restore)


def _of_call(name: str, jobs: Sequence[Job]) -> Factor | None:
    """A factor of the calls themselves; None where no call has anything but the plain form."""
    match name:
        case "batch":
            sizes = sorted({size for job in jobs if (size := batch_of(job.call)) > 1})
            if sizes:
                shown = ", ".join(map(str, sizes[:4]))
                return Factor(name=name, recorded=f"batch of {shown}", here="one item at a time")
        case "memory format":
            if any(is_laid_out(job) for job in jobs):
                return Factor(name=name, recorded="strides as recorded", here="contiguous")
        case "alignment":
            places = sorted({place for job in jobs for place in _alignments(job)} - {0})
            if places:
                shown = ", ".join(map(str, places[:4]))
                return Factor(name=name, recorded=f"addresses modulo 64: {shown}", here="divisible by 64")
        case "autocast":
            if dtypes := sorted({dtype for job in jobs for dtype in job.call.settings.autocast.values()}):
                return Factor(name=name, recorded=inert(", ".join(dtypes), 60), here="off")
        case "gradient mode":
            settings = [job.call.settings for job in jobs]
            if any(each.inference_mode for each in settings):
                return Factor(name=name, recorded="inference mode", here="gradients on")
            if not all(each.grad_enabled for each in settings):
                return Factor(name=name, recorded="gradients off", here="gradients on")
    return None


def _alignments(job: Job) -> set[int]:
    inputs = {tensor.alignment or 0 for value in (job.call.args, job.call.kwargs) for _, tensor in tensors_of(value)}
    return inputs | {layout.alignment for layout in job.model.layouts.values()}


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else inert(value, 60)
