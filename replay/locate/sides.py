"""The two sides of a comparison: which settings, which device, which model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from recorder.bundle.manifest import Manifest
from recorder.environment import VARIABLES, allowed_variables, describe_cpu
from recorder.torch_settings import SETTINGS, acceptable
from replay.numerics.instruction_sets import ATEN_LEVELS, aten_native, flags_of
from replay.numerics.settings import PROFILES, WorkerPlan, plan_worker

__all__ = ["AGAINST", "Side", "check_against", "sides"]

#: What `--against` takes besides NAME=VALUE.
AGAINST = (*PROFILES, "recorded", "itself", "cpu", "cuda", "cuda:N", "default-isa", "avx2-isa")

_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")
_ISA = {"default-isa": "DEFAULT", "avx2-isa": "AVX2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How one of the two replays is run."""

    name: str
    plans: dict[int, WorkerPlan]  #: by id of the context
    device: str | None


def check_against(words: Sequence[str]) -> None:
    """Refuse what `--against` does not take.

    Raises:
        ValueError: one sentence.
    """
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            _setting(name, value)
        elif word not in AGAINST and not _DEVICE.fullmatch(word):
            raise ValueError(f"--against takes {', '.join(AGAINST)} or NAME=VALUE of a setting, not {word!r}")


def sides(
    manifest: Manifest,
    numerics: str,
    against: Sequence[str],
    *,
    device: str | None = None,
    library: tuple[str, str] | None = None,
) -> tuple[Side, Side]:
    """Return the reference and what it is held against.

    Args:
        manifest: of the bundle.
        numerics: profile of the reference; of the other side too, unless ``against`` names one.
        against: words of `--against`, checked.
        device: of the reference.
        library: ("torch==2.12.0", directory it was installed into): what the other side imports first.

    Raises:
        ValueError: this machine cannot run the other side.
    """
    cpu = describe_cpu()
    plans = {context.id: plan_worker(context.environment, numerics, cpu) for context in manifest.contexts}
    other, other_device, names = dict(plans), device, []
    for word in against:
        if word in PROFILES:
            other = {context.id: plan_worker(context.environment, word, cpu) for context in manifest.contexts}
    for word in against:
        name, equals, value = word.partition("=")
        if word in _ISA:
            levels = list(ATEN_LEVELS)
            if levels.index(_ISA[word]) > levels.index(aten_native(flags_of(cpu))):
                raise ValueError(f"--against {word}: this CPU does not have these instructions")
            name, equals, value = "ATEN_CPU_CAPABILITY", "=", ATEN_LEVELS[_ISA[word]]
        if equals:
            other = {number: _changed(plan, name, value) for number, plan in other.items()}
        elif _DEVICE.fullmatch(word):
            other_device = word
        names.append(word)
    if library is not None:
        other = {number: replace(plan, library=library[1]) for number, plan in other.items()}
        names.append(library[0])
    return (
        Side(name=numerics, plans=plans, device=device),
        Side(name=", ".join(names) or numerics, plans=other, device=other_device),
    )


def _changed(plan: WorkerPlan, name: str, value: str) -> WorkerPlan:
    if name in VARIABLES:
        if plan.profile == "here":
            raise ValueError(f"--against {name}=… goes with the settings of a profile: faithful or portable")
        return replace(plan, variables={**plan.variables, name: value})
    settings = {**plan.settings, name: _setting(name, value)}
    variables = plan.variables
    if name == "torch.num_threads" and variables:
        variables = {**variables, "OMP_NUM_THREADS": value, "MKL_NUM_THREADS": value}
    return replace(plan, settings=settings, variables=variables)


def _setting(name: str, value: str) -> bool | int | str:
    """A setting's value as typed: JSON where it is, else a string."""
    if name in VARIABLES:
        if allowed_variables({name: value}):
            return value
        raise ValueError(f"--against: {value!r} is no value of {name}")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    known = {setting.name: setting for setting in SETTINGS}
    if name not in known:
        raise ValueError(f"--against: there is no setting {name!r}; `replay doctor` lists those that change bits")
    if not acceptable(known[name], parsed):
        raise ValueError(f"--against: {value!r} is no value of {name}")
    assert isinstance(parsed, bool | int | str)  # noqa: S101 - every acceptable value is
    return parsed
