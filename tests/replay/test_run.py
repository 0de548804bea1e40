"""A replay's verdict, end to end, on tiny models."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from recorder.bundle import Bundle, BundleWriter, Manifest
from recorder.bundle.manifest import Environment, Trigger
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import OpaqueValue, SequenceValue
from replay.load import UserConfig
from replay.verdict import Level
from replay.whatif import Changes
from tests.replay.bundles_of_calls import T0_NS, images
from tests.replay.conftest import MODELS
from tests.replay.models_for_tests import (
    classifier,
    counting,
    echo,
    function,
    noisy,
    raising,
)


def test_the_same_machine_gives_the_recorded_bits(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    with torch.inference_mode():
        for batch in images():
            model(batch)
    result = replayed(recording.write(), "classifier", repeat=2)
    assert result.verdict is Level.BIT_EXACT, result
    assert (result.exit_code, result.reproduced, result.not_restored) == (0, True, ())
    assert "preprocessing was not re-run: no --pipeline" in result.conclusion
    assert result.failure_reproduced is None


def test_the_callers_own_settings_do_not_reach_a_faithful_replay(
    recording: Any, replayed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = recording.attach(classifier())
    for batch in images():
        model(batch)
    path = recording.write()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert replayed(path, "classifier").verdict is Level.BIT_EXACT
    here = replayed(path, "classifier", numerics="here")
    assert here.verdict in (Level.WITHIN_TOLERANCE, Level.BIT_EXACT)
    assert any("CPU capability was AVX" in sentence for sentence in here.not_restored), here.not_restored
    assert any("oneDNN" in sentence for sentence in here.not_restored), here.not_restored
    assert here.numerics == "here"


def test_portable_numerics_stay_within_tolerance_and_say_what_they_fix(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    model(images(1)[0])
    result = replayed(recording.write(), "classifier", numerics="portable", repeat=2)
    assert result.verdict in (Level.WITHIN_TOLERANCE, Level.BIT_EXACT)
    assert any(sentence.startswith("MKL_CBWR") for sentence in result.not_restored)


def test_other_weights_in_place_of_the_recorded_ones_are_refused(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    model(images(1)[0])
    path = recording.write()
    [weights] = (recording.directory / "models").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    result = replayed(path, "classifier")
    assert result.verdict is Level.NOT_REPLAYABLE and result.exit_code == 3
    assert "digest" in result.frames[0].reason


def test_missing_weights_name_the_place_and_the_remedy(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    model(images(1)[0])
    path = recording.write()
    [weights] = (recording.directory / "models").glob("*.safetensors")
    weights.unlink()
    result = replayed(path)
    assert result.exit_code == 3
    assert "--models LOCATION" in result.frames[0].reason or "--model pkg.mod:factory" in result.frames[0].reason
    changed = replayed(path, "echo")
    assert changed.exit_code == 3 and "has weights" in changed.frames[0].reason
    assert replayed(path, "classifier").verdict is Level.BIT_EXACT, "its own weights have the recorded digest"


def test_an_answer_that_differs_on_the_same_surroundings_has_diverged(recording: Any, replayed: Any) -> None:
    model = recording.attach(counting())
    model(torch.zeros(4))
    model(torch.zeros(4))
    result = replayed(recording.write(), "counting", frames=frozenset({2}))
    assert result.verdict is Level.DIVERGED and result.exit_code == 1
    assert result.frames[0].first_difference is not None
    assert result.frames[0].first_difference.where == "call 1 (model) output"


def test_a_difference_under_other_surroundings_is_inconclusive(recording: Any, replayed: Any) -> None:
    model = recording.attach(counting())
    model(torch.zeros(4))
    model(torch.zeros(4))

    def elsewhere(environment: Environment) -> Environment:
        return dataclasses.replace(environment, libraries={**environment.libraries, "torch.version": "1.0\x1b[31m"})

    recording.change_environment = elsewhere
    path = recording.write()
    result = replayed(path, "counting", frames=frozenset({2}))
    assert result.verdict is Level.INCONCLUSIVE and result.exit_code == 3
    assert result.not_restored[0].startswith("torch: version 1.0 was recorded")
    assert "\x1b" not in repr(result)
    assert replayed(path, "counting").exit_code == 0, "the same bits elsewhere are still reproduced"


def test_state_kept_from_call_to_call_is_replayed_in_order_and_anew_in_each_pass(recording: Any, replayed: Any) -> None:
    model = recording.attach(counting())
    for _ in range(3):
        model(torch.zeros(4))
    assert replayed(recording.write(), "counting", repeat=3).verdict is Level.BIT_EXACT


def test_a_model_that_draws_unrecorded_numbers_is_nondeterministic(recording: Any, replayed: Any) -> None:
    model = recording.attach(noisy())
    model(torch.zeros(4))
    result = replayed(recording.write(), "noisy", repeat=2)
    assert result.verdict is Level.NONDETERMINISTIC and result.exit_code == 5
    assert "two passes" in result.frames[0].first_difference.what


def test_a_recorded_generator_state_makes_drawn_numbers_repeat(recording: Any, replayed: Any) -> None:
    model = recording.attach(noisy())
    state = torch.get_rng_state()
    model(torch.zeros(4))
    recording.calls[0]["rng"] = state
    assert replayed(recording.write(), "noisy", repeat=2).verdict is Level.BIT_EXACT


def test_a_recorded_exception_is_reproduced_by_the_same_type(recording: Any, replayed: Any) -> None:
    model = recording.attach(raising())
    model(torch.ones(3))
    model(-torch.ones(3))
    recording.triggers.append(Trigger(kind="exception", reason="ValueError", frame=2, time_ns=T0_NS))
    result = replayed(recording.write(), "raising", repeat=2)
    assert result.verdict is Level.BIT_EXACT
    assert result.failure_reproduced is True


def test_an_exception_that_does_not_come_again_has_diverged(recording: Any, replayed: Any) -> None:
    model = recording.attach(raising())
    model(-torch.ones(3))
    recording.triggers.append(Trigger(kind="exception", reason="ValueError", frame=1, time_ns=T0_NS))
    result = replayed(recording.write(), "strides")
    assert result.verdict is Level.DIVERGED
    assert result.failure_reproduced is False
    assert result.frames[0].first_difference.stage == "exception"
    assert "the failure does not show again" in result.conclusion


def test_a_trigger_is_evaluated_on_what_replay_gave(recording: Any, replayed: Any) -> None:
    model = recording.attach(counting())
    model(torch.full((4,), float("nan")))
    recording.triggers.append(Trigger(kind="non_finite", reason="NaN", frame=1, time_ns=T0_NS))
    assert replayed(recording.write(), "counting").failure_reproduced is True


def test_a_failure_within_a_nested_call_is_not_said_to_be_gone(recording: Any, replayed: Any, tmp_path: Any) -> None:
    model, inner = recording.attach(counting()), recording.attach(lambda values: values * float("nan"), "inner")
    model(torch.ones(4))
    inner(torch.ones(4))
    recording.triggers.append(Trigger(kind="non_finite", reason="NaN", frame=1, time_ns=T0_NS))

    def nest(manifest: Manifest, _: BundleWriter) -> Manifest:
        outer, nested = manifest.calls
        nested = dataclasses.replace(nested, parent=outer.id, frames=outer.frames)
        return dataclasses.replace(
            manifest, frames=(dataclasses.replace(manifest.frames[0], calls=(0, 1)),), calls=(outer, nested)
        )

    with Bundle.open(recording.write()) as bundle:
        rewrite(bundle, tmp_path / "nested.zst", operation="redact", transform=nest)
    result = replayed(tmp_path / "nested.zst", "counting")
    assert result.verdict is Level.BIT_EXACT and result.failure_reproduced is None
    assert "given by a call within another one" in result.conclusion


def test_weights_of_code_that_names_another_model_are_said_to_be_missing(recording: Any, replayed: Any) -> None:
    recording.attach(counting(), "covered")
    recording.attach(counting(), "bare")(torch.ones(4))
    code = ("covered=tests.replay.models_for_tests:counting",)
    result = replayed(recording.write(), model=code, changes=Changes(weights="own"))
    assert result.frames[0].level is Level.NOT_REPLAYABLE and "add --model bare=pkg" in result.frames[0].reason


def test_a_call_in_flight_is_run_and_reported(recording: Any, replayed: Any) -> None:
    recording.attach(counting())
    recording.in_flight(0, torch.zeros(4))
    result = replayed(recording.write(), "counting")
    assert result.verdict is Level.NOT_REPLAYABLE and result.exit_code == 3
    assert "replay returned an answer" in result.frames[0].reason


def test_modes_of_the_calling_thread_are_restored(recording: Any, replayed: Any) -> None:
    model = recording.attach(echo())
    with torch.no_grad():
        model(1, named=2.5)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(float("nan"), [None, "text", {"deep": (True, 2)}])
    assert replayed(recording.write(), "echo").verdict is Level.BIT_EXACT


def test_only_wanted_frames_are_run_and_an_unknown_one_is_refused(recording: Any, replayed: Any) -> None:
    model = recording.attach(raising())
    for _ in range(3):
        model(torch.ones(3))
    path = recording.write()
    assert [frame.id for frame in replayed(path, "raising", frames=frozenset({2})).frames] == [2]
    with pytest.raises(ValueError, match="no frame 9; it holds frames 1 to 3"):
        replayed(path, "raising", frames=frozenset({9}))


def test_a_factory_named_by_the_bundle_runs_only_when_the_user_has_listed_it(recording: Any, replayed: Any) -> None:
    model = recording.attach(raising(), factory=f"{MODELS}:raising")
    model(torch.ones(3))
    path = recording.write()
    assert replayed(path).verdict is Level.NOT_REPLAYABLE
    trusting = UserConfig(trusted_factories=frozenset({f"{MODELS}:raising"}))
    assert replayed(path, config=trusting).verdict is Level.BIT_EXACT
    other = UserConfig(trusted_factories=frozenset({f"{MODELS}:rais"}))
    assert replayed(path, config=other).verdict is Level.NOT_REPLAYABLE


def test_several_models_take_a_factory_each(recording: Any, replayed: Any) -> None:
    first, second = recording.attach(raising(), "first"), recording.attach(classifier(), "second")
    for batch in images(2):
        first(batch)
        second(batch)
    models = (f"first={MODELS}:raising", f"second={MODELS}:classifier")
    assert replayed(recording.write(), model=models, repeat=2).verdict is Level.BIT_EXACT


def test_a_watched_function_needs_its_code(recording: Any, replayed: Any) -> None:
    predict = recording.attach(function(), "predict")
    predict(torch.ones(2))
    path = recording.write()
    without = replayed(path)
    assert without.verdict is Level.NOT_REPLAYABLE and "--model pkg.mod:factory" in without.frames[0].reason
    assert any("--model" in remedy for remedy in without.remedies)
    assert replayed(path, "function").verdict is Level.BIT_EXACT


def test_progress_counts_calls_of_all_passes(recording: Any, replayed: Any) -> None:
    model = recording.attach(raising())
    for _ in range(3):
        model(torch.ones(3))
    seen: list[tuple[int, int]] = []
    replayed(recording.write(), "raising", repeat=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"numerics": "exact"},
        {"require": "all"},
        {"repeat": 0},
        {"timeout_seconds": -1.0},
        {"device": "tpu"},
        {"model": ("os.system",)},
        {"model": ("os:system('x')",)},
    ],
)
def test_wrong_options_are_one_sentence(recording: Any, replayed: Any, wrong: dict[str, Any]) -> None:
    recording.attach(raising())(torch.ones(1))
    with pytest.raises(ValueError, match=r"^--"):
        replayed(recording.write(), **wrong)


def test_an_interrupted_replay_says_what_it_knew_by_then(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    for batch in [*images(), *images()]:
        model(batch)

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    result = replayed(recording.write(), "classifier", progress=interrupt)
    assert result.interrupted and result.verdict is Level.BIT_EXACT
    assert [frame.compared for frame in result.frames][:3] == [True, True, False]
    assert f"interrupted after 2 of {len(result.frames)} runs" in result.conclusion


def test_a_thinned_bundle_gives_a_verdict_on_the_frames_that_are_there(recording: Any, replayed: Any) -> None:
    """The others are counted, with the reason, and do not count in the verdict."""
    model = recording.attach(echo())
    for seed in range(12):
        model(torch.rand(1, 8192, generator=torch.Generator().manual_seed(seed)))
    recording.triggers = [Trigger(kind="manual", reason="asked for", frame=6, time_ns=T0_NS)]
    path = recording.write(max_bundle_bytes=150_000)
    assert path.stat().st_size <= 150_000
    result = replayed(path, "echo")
    kept = [frame.id for frame in result.frames if not frame.thinned]
    assert (len(result.frames), 6 in kept, len(kept) + result.thinned) == (12, True, 12)
    assert result.verdict is Level.BIT_EXACT, result
    assert (result.exit_code, result.thinned > 4) == (0, True)
    assert f"{result.thinned} of 12 frames were not replayed: thinned" in result.conclusion
    assert "nothing to compare with" not in result.conclusion
    only = replayed(path, "echo", frames=frozenset({frame.id for frame in result.frames if frame.thinned}))
    assert (only.verdict, only.exit_code, only.thinned) == (Level.NOT_REPLAYABLE, 3, result.thinned)
    assert all(frame.reason.startswith("thinned: ") for frame in only.frames)


def test_an_exception_of_the_service_itself_is_said_not_to_have_run(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    model(images(1)[0])
    recording.triggers.append(Trigger(kind="exception", reason="ValueError: bad part", frame=1, time_ns=T0_NS))
    result = replayed(recording.write(), "classifier")
    assert result.failure_reproduced is None
    assert "the exception was raised outside of the models and was not run" in result.conclusion


def test_an_input_that_is_lost_is_not_blamed_on_the_model(recording: Any, replayed: Any) -> None:
    """No code that the user could name would bring it back."""
    recording.attach(classifier())(images(1)[0])
    with Bundle.open(recording.write("whole.zst")) as whole:

        def lose(manifest: Manifest, _: BundleWriter) -> Manifest:
            args = SequenceValue(form="tuple", items=(OpaqueValue(type="torch.Tensor"),))
            return dataclasses.replace(manifest, calls=(dataclasses.replace(manifest.calls[0], args=args),))

        rewrite(whole, recording.directory / "lost.zst", operation="minimize", transform=lose)
    result = replayed(recording.directory / "lost.zst")
    assert "args[0] was an object of type torch.Tensor" in result.frames[0].reason
    assert result.exit_code == 3 and result.remedies == ()
