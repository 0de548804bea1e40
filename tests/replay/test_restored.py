"""Each recorded setting is really restored in a worker, or it is told that it was not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from recorder.bundle.manifest import CallSettings, Environment
from recorder.bundle.values import JsonValue
from recorder.environment import describe_cpu
from recorder.torch_settings import SETTINGS, Setting, read_settings
from replay.numerics.settings import WorkerPlan, plan_worker
from replay.numerics.surroundings import compare_surroundings
from replay.process import Worker
from replay.verdict import Level
from tests.replay.bundles_of_calls import Recording
from tests.replay.models_for_tests import classifier, echo, noisy

#: Another number of threads can only be asked for before torch starts its pool, so each worker gets it as it starts.
AT_START = "torch.num_interop_threads"


def other(setting: Setting, now: JsonValue) -> JsonValue:
    """A permitted value that is not the present one."""
    if setting.kind is bool:
        return not now
    if setting.kind is int:
        return int(str(now)) + 1
    assert isinstance(setting.kind, tuple)
    choices = {"torch.default_dtype": ("float64", "float32"), "torch.quantized.engine": ("onednn", "x86", "fbgemm")}
    return next(each for each in choices.get(setting.name, setting.kind) if each not in (now, "none", "tf32"))


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(WorkerPlan(profile="faithful", settings={AT_START: 3})) as running:
        assert running.environment.settings[AT_START] == 3
        yield running


HERE = read_settings(torch)


@pytest.mark.parametrize("name", [each.name for each in SETTINGS if each.name in HERE and each.name != AT_START])
def test_a_flag_has_the_recorded_value_in_the_worker(worker: Worker, name: str) -> None:
    """Set to something else than here, read back by the worker itself; what cannot be set here is told."""
    setting = next(each for each in SETTINGS if each.name == name)
    wanted = other(setting, worker.environment.settings.get(name))
    before = dict(worker.environment.settings)
    plan = WorkerPlan(profile="faithful", settings={name: wanted})
    worker.switch(plan)
    restored = worker.environment.settings.get(name) == wanted
    recorded = dataclasses.replace(worker.environment, settings={name: wanted})
    told = compare_surroundings(recorded, worker.environment)
    worker.switch(WorkerPlan(profile="faithful", settings={key: before[key] for key in before if key != AT_START}))
    assert restored or setting.cuda or told, f"{name} was neither restored nor told"
    assert restored is not bool(told)
    assert restored or setting.cuda or name.startswith("torch.fp32_precision"), name


def test_variables_that_precede_torch_are_in_the_workers_environment() -> None:
    """All of them at once; the worker tells what it was started with and which kernels torch took."""
    here = Environment(
        python="",
        platform="linux-x86_64",
        cpu=describe_cpu(),
        gpus=(),
        packages={},
        variables={
            "MKL_CBWR": "COMPATIBLE",
            "MKL_DYNAMIC": "false",
            "OMP_DYNAMIC": "false",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "ONEDNN_CPU_ISA_HINTS": "PREFER_YMM",
            "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
            "PYTHONHASHSEED": "7",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        },
        libraries={"torch.cpu_capability": "DEFAULT"},
        settings={"torch.num_threads": 2},
    )
    plan = plan_worker(here, "faithful", describe_cpu())
    assert plan.not_restored == ()
    with Worker(plan) as running:
        assert running.environment.variables.items() >= here.variables.items()
        assert running.environment.libraries["torch.cpu_capability"] in ("DEFAULT", "NO AVX")
        assert running.environment.settings["torch.num_threads"] == 2


def test_autocast_that_replay_does_not_know_is_told(recording: Recording, replayed: Any) -> None:
    model = recording.attach(echo())
    model(torch.zeros(2))
    record = recording.calls[0]["settings"]
    recording.calls[0]["settings"] = dataclasses.replace(record, autocast={"xpu": "bfloat16", "cpu": "float8\x1b[1m"})
    result = replayed(recording.write(), "echo")
    assert "autocast to bfloat16 on xpu is not one that replay knows" in result.not_restored
    assert any(sentence.startswith("autocast to float8 on cpu") for sentence in result.not_restored)


def test_a_generator_state_that_torch_refuses_is_told(recording: Recording, replayed: Any) -> None:
    """Other numbers are drawn then, and the difference proves nothing."""
    model = recording.attach(noisy())
    model(torch.zeros(4))
    recording.calls[0]["rng"] = torch.zeros(7, dtype=torch.uint8)
    result = replayed(recording.write(), "noisy")
    assert result.verdict is Level.INCONCLUSIVE
    assert any(sentence.startswith("torch's generator") for sentence in result.not_restored)


def test_a_compiled_model_is_told_to_run_eagerly(recording: Recording, replayed: Any) -> None:
    recording.attach(classifier())(torch.rand(2, 3, 32, 32))
    recording.set_models(type="torch._dynamo.eval_frame.OptimizedModule")
    result = replayed(recording.write(), "classifier")
    assert any(sentence.startswith("compile: the recorded model was compiled") for sentence in result.not_restored)


def test_weights_of_the_factory_lie_where_the_recorded_ones_lay(recording: Recording, replayed: Any) -> None:
    """No store holds them: the factory's own, of the recorded digest, are moved to the recorded strides and address."""
    module = classifier().to(memory_format=torch.channels_last)
    memory = torch.zeros(module.head.weight.numel() + 32)
    odd = memory[5 : 5 + module.head.weight.numel()].view_as(module.head.weight)
    module.head.weight = torch.nn.Parameter(odd.copy_(module.head.weight.detach()))
    model = recording.attach(module, store=False)
    digest = _digest(module)
    recording.set_models(weights=digest)
    with torch.inference_mode():
        model(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)))
    assert set(recording.models[0].layouts) >= {"conv.weight", "head.weight"}
    assert replayed(recording.write(), "classifier", repeat=2).verdict is Level.BIT_EXACT


def _digest(module: torch.nn.Module) -> Any:
    from recorder.bundle.manifest import Weights
    from recorder.models import stream_weights, tensors_of_module

    streamed = stream_weights(tensors_of_module(module))
    return Weights(digest=streamed.digest, size_bytes=streamed.size_bytes, stored=False)


def test_modes_are_those_of_the_call() -> None:
    """The thread-local ones, which the manifest keeps per call: the test of a call that echoes them is in test_run."""
    assert {field.name for field in dataclasses.fields(CallSettings)} == {
        "training",
        "grad_enabled",
        "inference_mode",
        "autocast",
    }


def test_the_autocast_cache_changes_no_bits() -> None:
    """Why it is not recorded: it keeps the cast weights, which are the same when they are cast again."""
    module, batch = classifier(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    answers = []
    for cache in (True, False):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache):
            module(batch)
            answers.append(module(batch))
    assert torch.equal(*answers)
