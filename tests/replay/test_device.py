"""A call on another device than the recorded one: the whole model and what it is given go there.

Torch's meta device stands in for a GPU: it is another device as far as placing is concerned, and computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recorder.bundle import Bundle
from recorder.bundle.manifest import Call
from recorder.bundle.values import MappingValue, map_tensors
from recorder.environment import describe_cpu
from replay.jobs import plan_jobs
from replay.load import UserConfig
from replay.numerics.settings import plan_worker
from replay.process import Limits
from replay.session import Job, Outcome, Raised, Returned, Session, recorded_device
from replay.worker.arguments import Placing, rebuild
from tests.replay.bundles_of_calls import Recording, describe_bytes
from tests.replay.models_of_places import places

MODELS = "tests.replay.models_of_places"
OWN = ("weight", "mean", "scale", "memory")


Change = Callable[[Call], Call]


@pytest.fixture
def bundle(recording: Recording) -> Path:
    """One call recorded on the CPU."""
    recording.attach(places(), store=False)(torch.zeros(4), length=torch.tensor(3))
    recording.set_models(state=("memory",))
    return recording.write()


def run(path: Path, device: str, *changes: Change) -> tuple[list[Outcome], list[str]]:
    """Run the one call of a bundle, changed in each of these ways, on a device; return what was not restored too."""
    with Bundle.open(path) as opened:
        [job] = plan_jobs(opened.manifest, opened.manifest.frames, model=(f"{MODELS}:places",), config=UserConfig())
        job = replace(job, call=replace(job.call, state=MappingValue(items=(("memory", job.call.args.items[0]),))))
        plan = plan_worker(job.context.environment, "faithful", describe_cpu())
        with Session(opened.tensor_bytes, {job.context.id: plan}, device=device, limits=Limits()) as session:
            ran = session.run([replace(job, call=change(job.call)) for change in changes])
            return [outcome for _, outcome in ran], session.lacking(job)


def unchanged(call: Call) -> Call:
    return call


def without_length(call: Call) -> Call:
    return replace(call, kwargs=MappingValue(items=()))


def answer(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Returned), outcome
    assert isinstance(outcome.answer.value, MappingValue)
    return {name: item.value for name, item in outcome.answer.value.items}  # type: ignore[union-attr]


def recorded_on(device: str, autocast: dict[str, str] | None = None, but: str = "") -> Change:
    """Make of a call one whose tensors were on a GPU, but for one keyword."""

    def change(call: Call) -> Call:
        def put(value: Any) -> Any:
            return map_tensors(value, lambda tensor: replace(tensor, device=device))

        kwargs = MappingValue(items=tuple((key, each if key == but else put(each)) for key, each in call.kwargs.items))
        settings = replace(call.settings, autocast=autocast or {})
        return replace(call, args=put(call.args), kwargs=kwargs, state=put(call.state), settings=settings)

    return change


def test_a_call_goes_where_the_user_asks_with_all_that_belongs_to_it(bundle: Path) -> None:
    """Arguments, state, parameters, buffers, tensors in plain attributes; told as not restored.

    Of a call that was on a GPU, what stood on the CPU stays there. Tensors that are on two devices after the move are
    the move's fault: no divergence.
    """
    (all_of_it, mixed, torn), lacking = run(
        bundle, "meta", unchanged, recorded_on("cuda:0", but="length"), without_length
    )
    found = answer(all_of_it)
    assert {found[name] for name in ("x", "length", *OWN)} == {"meta"} and found["tied"] is True
    assert "device: recorded on cpu, run on meta" in lacking
    found = answer(mixed)
    assert (found["length"], {found[name] for name in ("x", *OWN)}) == ("cpu", {"meta"})
    assert isinstance(torn, Raised) and torn.cannot is not None, torn
    assert torn.cannot.startswith("a part of it stays on another device than asked for")


def test_what_was_on_a_gpu_comes_back_to_the_cpu(bundle: Path) -> None:
    """With the autocast that was on for the GPU."""
    [outcome], lacking = run(bundle, "cpu", recorded_on("cuda:0", {"cuda": "bfloat16"}))
    found = answer(outcome)
    assert {found[name] for name in ("x", "length", *OWN)} == {"cpu"} and found["autocast"] is True
    assert "device: recorded on cuda:0, run on the CPU" in lacking


def test_each_model_runs_where_it_was_recorded(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle with one model on the CPU and one on a GPU: the second is not run on the CPU because of the first."""
    first, second = (recording.attach(places(), name=name, store=False) for name in ("first", "second"))
    for model in (first, second, first):
        model(torch.zeros(4), length=torch.tensor(3))
    monkeypatch.setattr(
        "replay.session.recorded_device", lambda call: "meta" if call.model == 1 else recorded_device(call)
    )
    with Bundle.open(recording.write()) as opened:
        jobs = plan_jobs(opened.manifest, opened.manifest.frames, model=(f"{MODELS}:places",), config=UserConfig())
        plans = {0: plan_worker(jobs[0].context.environment, "faithful", describe_cpu())}
        with Session(opened.tensor_bytes, plans, device=None, limits=Limits()) as session:
            ran: list[tuple[Job, Outcome]] = list(session.run(jobs))
            assert not any(each.startswith("device") for each in session.lacking(jobs[0]))
    assert [answer(outcome)["weight"] for _, outcome in ran] == ["cpu", "meta", "cpu"]


def test_arrays_stay_arrays_and_strides_are_kept() -> None:
    tensor = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    tagged, payload = describe_bytes((tensor, tensor.numpy(), 1.5))
    there, array, number = rebuild(tagged, memoryview(payload), placing=Placing(device="meta", from_cpu=True))
    assert (there.device.type, there.stride(), there.dtype) == ("meta", tensor.stride(), tensor.dtype)
    assert (array == tensor.numpy()).all() and number == 1.5
