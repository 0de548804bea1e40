"""Which environment and flags a worker gets for a recorded context, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.manifest import Environment
from recorder.environment import VARIABLES
from replay.numerics.instruction_sets import aten_native, onednn_level
from replay.numerics.settings import PORTABLE_VARIABLES, plan_worker, worker_environment
from replay.numerics.surroundings import compare_surroundings

AVX2 = ["sse4_1", "avx", "avx2", "fma"]
AVX512 = [*AVX2, "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd", "avx512_vnni"]


def environment(flags: list[str] = AVX512, **parts: object) -> Environment:
    plain = Environment(
        python="3.11.2",
        platform="linux-x86_64",
        cpu={"model": "CPU", "vendor": "GenuineIntel", "flags": list(flags), "count": 2},
        gpus=(),
        packages={},
        variables={},
        libraries={"torch.version": "2.13.0", "torch.cpu_capability": "AVX512" if "avx512f" in flags else "AVX2"},
        settings={"torch.num_threads": 4, "torch.mkldnn.enabled": True},
    )
    return dataclasses.replace(plain, **parts)


def cpu(flags: list[str]) -> dict[str, object]:
    return dict(environment(flags).cpu)


def test_faithful_sets_the_recorded_number_of_threads_and_drops_the_callers_settings() -> None:
    plan = plan_worker(environment(variables={"OMP_NUM_THREADS": "8"}), "faithful", cpu(AVX512))
    assert plan.variables == {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
    assert plan.settings == {"torch.num_threads": 4, "torch.mkldnn.enabled": True}
    caller = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "HOME": "/home/me", "SECRET": "x"}
    assert worker_environment(plan, caller) == {"HOME": "/home/me", **plan.variables}


def test_a_better_cpu_is_held_down_to_the_recorded_instruction_sets() -> None:
    plan = plan_worker(environment(AVX2), "faithful", cpu(AVX512))
    assert plan.variables["ATEN_CPU_CAPABILITY"] == "avx2"
    assert plan.variables["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert plan.variables["MKL_ENABLE_INSTRUCTIONS"] == "AVX2"
    assert plan.not_restored == ()


def test_a_lesser_cpu_is_never_asked_for_instructions_it_lacks() -> None:
    recorded = environment(AVX512, variables={"ATEN_CPU_CAPABILITY": "avx512"})
    plan = plan_worker(recorded, "faithful", cpu(AVX2))
    assert "ATEN_CPU_CAPABILITY" not in plan.variables
    assert "torch used AVX512 kernels, this CPU has AVX2 only" in plan.not_restored
    assert any(sentence.startswith("oneDNN used AVX512_CORE_VNNI") for sentence in plan.not_restored)


def test_a_capability_that_was_lowered_in_production_is_lowered_again() -> None:
    recorded = environment(libraries={"torch.cpu_capability": "DEFAULT"})
    assert plan_worker(recorded, "faithful", cpu(AVX512)).variables["ATEN_CPU_CAPABILITY"] == "default"
    capped = environment(variables={"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2,STRICT"})
    variables = plan_worker(capped, "faithful", cpu(AVX512)).variables
    assert variables["ONEDNN_MAX_CPU_ISA"] == "AVX2" and variables["MKL_CBWR"] == "AVX2,STRICT"


def test_portable_is_the_same_everywhere() -> None:
    for recorded in (environment(AVX2), environment(AVX512, variables={"MKL_CBWR": "AVX2"})):
        plan = plan_worker(recorded, "portable", cpu(AVX512))
        assert plan.variables == PORTABLE_VARIABLES
        assert plan.settings["torch.num_threads"] == 1


def test_here_takes_the_callers_environment_as_it_is() -> None:
    plan = plan_worker(environment(), "here", cpu(AVX2))
    assert worker_environment(plan, {"A": "1", "MKL_CBWR": "AVX"}) == {"A": "1", "MKL_CBWR": "AVX"}
    assert plan.settings == {}
    with pytest.raises(ValueError, match="numerics are one of"):
        plan_worker(environment(), "exact", cpu(AVX2))


HOSTILE = [
    {"LD_PRELOAD": "/tmp/evil.so"},
    {"PYTHONPATH": "/tmp"},
    {"MKL_CBWR": "COMPATIBLE\nLD_PRELOAD=/tmp/evil.so"},
    {"OMP_NUM_THREADS": "99999999"},
    {"ONEDNN_MAX_CPU_ISA": "../../x"},
    {"CUBLAS_WORKSPACE_CONFIG": ":4096:8;rm"},
    {"PYTHONHASHSEED": "0\x00"},
]


@pytest.mark.parametrize("variables", HOSTILE)
def test_hostile_variables_go_nowhere(variables: dict[str, str]) -> None:
    plan = plan_worker(environment(variables=variables), "faithful", cpu(AVX512))
    assert plan.variables == {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
    [told] = plan.not_restored
    [name] = variables
    known = f"the recorded value of {name} is not one that replay passes on"
    assert told == (known if name in VARIABLES else f"this version of replay does not know the recorded setting {name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("torch.num_threads", 10**9),
        ("torch.num_threads", True),
        ("torch.num_threads", "4"),
        ("torch.mkldnn.enabled", "yes"),
        ("torch.float32_matmul_precision", "__import__('os')"),
        ("torch.quantized.engine", ["x86"]),
    ],
)
def test_hostile_settings_go_nowhere_and_are_told(name: str, value: object) -> None:
    plan = plan_worker(environment(settings={name: value, "torch.set_num_threads": 5}), "faithful", cpu(AVX512))
    assert plan.settings == {}
    assert plan.not_restored == (
        f"the recorded value of {name} is not one that replay passes on",
        "this version of replay does not know the recorded setting torch.set_num_threads",
    )


def test_a_thousand_unknown_settings_are_told_in_ten_lines() -> None:
    """What a newer recorder knows is not passed over, and a hostile bundle does not fill the screen."""
    plan = plan_worker(environment(settings={f"x{i}\x1b[1m": i for i in range(1000)}), "faithful", cpu(AVX512))
    assert len(plan.not_restored) == 11 and plan.not_restored[-1] == "nor 990 more"
    assert all(sentence.isprintable() for sentence in plan.not_restored)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from([*VARIABLES, "PATH"]), st.text(max_size=12)),
    st.dictionaries(st.sampled_from(["torch.num_threads", "torch.sdp.math", "x"]), anything),
    st.dictionaries(st.sampled_from(["torch.cpu_capability", "torch.version", "torch.config"]), anything),
    st.dictionaries(st.sampled_from(["flags", "model", "vendor"]), anything),
)
def test_whatever_a_bundle_says_only_listed_values_reach_a_worker(
    variables: dict[str, str], settings: dict[str, object], libraries: dict[str, object], machine: dict[str, object]
) -> None:
    recorded = environment(variables=variables, settings=settings, libraries=libraries, cpu=machine)
    plan = plan_worker(recorded, "faithful", cpu(AVX512))
    assert all(VARIABLES[name].fullmatch(value) for name, value in plan.variables.items())
    for sentence in compare_surroundings(recorded, environment()):
        assert sentence.isprintable()


def test_equal_surroundings_have_nothing_to_tell() -> None:
    assert compare_surroundings(environment(), environment()) == []


def test_differences_are_told_in_sentences() -> None:
    recorded = environment(
        AVX512,
        gpus=({"name": "GPU \x1b[1mA", "compute_capability": "9.0"},),
        variables={"MKL_CBWR": "AVX2"},
        libraries={"torch.version": "2.12.0", "torch.cpu_capability": "AVX512"},
    )
    now = environment(AVX2, platform="linux-aarch64", settings={"torch.num_threads": 2, "torch.mkldnn.enabled": True})
    assert compare_surroundings(recorded, now) == [
        "platform: recorded on linux-x86_64, this is linux-aarch64",
        "oneDNN: its instruction set was AVX512_CORE_VNNI, here it is AVX2",
        "GPU: recorded on GPU A, none is used here",
        "torch: version 2.12.0 was recorded, 2.13.0 runs here",
        "torch: its CPU capability was AVX512, here it is AVX2",
        "torch.num_threads: it was 4, here it is 2",
        "MKL_CBWR: it was AVX2, here it is not set",
    ]


def test_another_build_of_the_same_version_names_what_changed() -> None:
    then = {"torch.version": "2.13.0", "torch.config": "PyTorch built with:\n  - oneDNN v3.12\n"}
    now = {"torch.version": "2.13.0", "torch.config": "PyTorch built with:\n  - oneDNN v3.13\n"}
    [sentence] = compare_surroundings(environment(libraries=then), environment(libraries=now))
    assert sentence == "torch: another build of version 2.13.0: it had - oneDNN v3.12, here - oneDNN v3.13"


@pytest.mark.parametrize(
    ("flags", "aten", "onednn"),
    [
        ([], "DEFAULT", None),
        (["sse4_1"], "DEFAULT", "SSE41"),
        (AVX2, "AVX2", "AVX2"),
        ([*AVX2, "avx_vnni"], "AVX2", "AVX2_VNNI"),
        (AVX512, "AVX512", "AVX512_CORE_VNNI"),
        ([*AVX512, "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"], "AVX512", "AVX512_CORE_AMX"),
    ],
)
def test_instruction_sets_follow_from_flags(flags: list[str], aten: str, onednn: str | None) -> None:
    assert aten_native(frozenset(flags)) == aten
    assert onednn_level(frozenset(flags), {}) == onednn
