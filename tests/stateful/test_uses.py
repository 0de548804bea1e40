"""What else is done with the state of a recorded call: located, minimized, kept back, erased, made at deployment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest
from recorder.bundle.values import RemovedValue, tensors_of
from recorder.environment import describe_cpu
from recorder.models import ModelStore
from recorder.privacy import PrivacyPolicy
from replay.erasure.conditions import Where
from replay.erasure.frames import without_frames
from replay.jobs import plan_jobs
from replay.load import UserConfig
from replay.locate.bundle import LocateOptions, locate_bundle
from replay.locate.records import Watch
from replay.minimize import minimize_bundle
from replay.numerics.settings import plan_worker
from replay.process import Limits
from replay.redaction import redact_bundle
from replay.session import Returned, Session
from replay.worker.deploy import deploy
from tests.stateful import networks

FACTORY = ("tests.stateful.networks:buffer",)


def recorded(sink: Path, calls: int = 4, **options: object) -> Path:
    with FlightRecorder(sink=str(sink), pre_frames=calls, max_bytes=2**24, overhead_budget=1, **options) as recorder:  # type: ignore[arg-type]
        model = recorder.attach(networks.buffer(), name="stateful", state=("hidden",), store=False)
        with torch.no_grad():
            for number in range(calls):
                model(torch.full((1, 4), 0.2 * number))
        path = recorder.trigger("look").wait(120).path
    assert path is not None
    return Path(path)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("sink"))


def has_no_state(manifest: Manifest, first: int = 0) -> bool:
    """Whether of the calls from one on nothing but shapes is left of the state."""
    states = [call.state for call in manifest.calls[first:]]
    return all(
        state is not None
        and not list(tensors_of(state))
        and all(isinstance(value, RemovedValue) and value.digest is None for _, value in state.items)
        for state in states
    )


def test_locate_runs_each_call_from_its_recorded_state(path: Path) -> None:
    """So the last call, watched by itself, answers as it did live; with another layer inside, that layer is named."""
    with Bundle.open(path) as bundle:
        last = bundle.manifest.frames[-1]
        [job] = plan_jobs(bundle.manifest, [last], model=FACTORY, config=UserConfig())
        plan = plan_worker(job.context.environment, "faithful", describe_cpu())
        with Session(bundle.tensor_bytes, {job.context.id: plan}, device=None, limits=Limits()) as session:
            [(_, outcome)] = session.run([replace(job, watch=Watch())])
        assert isinstance(outcome, Returned) and outcome.seen is not None and job.call.output is not None
        [(_, answer)] = tensors_of(job.call.output)
        assert list(outcome.answer.tensors.values()) == [bundle.tensor_bytes(answer)]
        options = LocateOptions(
            against_model="tests.stateful.networks:faulty",
            model=FACTORY,
            frames=frozenset([last.id]),
            config=UserConfig(),
        )
        [located] = locate_bundle(bundle, options).located
    assert located.root is not None and located.root.key[0] == "cell", located


def test_a_state_is_kept_back_as_the_inputs_that_it_is_made_of(tmp_path: Path) -> None:
    """While recording, where the inputs are not to be in a bundle, and where the images are not that they come from."""
    for number, levels in enumerate(({"model_input": "digest-only"}, {"image": "digest-only"})):
        sealed = recorded(tmp_path / str(number), calls=2, privacy={"levels": levels})
        with Bundle.open(sealed) as bundle:
            assert has_no_state(bundle.manifest), levels


@pytest.mark.parametrize("field", ["model_input", "image"])
def test_redaction_takes_the_state_out_of_a_bundle(path: Path, field: str, tmp_path: Path) -> None:
    out = tmp_path / "redacted.zst"
    policy = PrivacyPolicy.from_json({"levels": {field: "digest-only"}})
    with Bundle.open(path) as bundle:
        redact_bundle(bundle, out, policy)
    with Bundle.open(out) as bundle:
        assert has_no_state(bundle.manifest) and bundle.verify() == []


def test_erasing_a_frame_erases_what_it_left_in_later_states(path: Path, tmp_path: Path) -> None:
    """The state before it stays: it is made of what stays."""
    out = tmp_path / "erased.zst"
    with Bundle.open(path) as bundle:
        second = bundle.manifest.frames[1].id
        without_frames(bundle, out, [second], Where({"camera": "x"}))
    with Bundle.open(out) as bundle:
        first, *later = bundle.manifest.calls
        assert first.state is not None and list(tensors_of(first.state))
        assert has_no_state(bundle.manifest, 1) and len(later) >= 2 and bundle.verify() == []


def test_minimize_cuts_the_state_with_its_batch(tmp_path: Path) -> None:
    """One row of four made the model raise, by what it remembered of it."""
    with FlightRecorder(
        sink=str(tmp_path), max_bytes=2**24, overhead_budget=1, post_frames=0, post_seconds=0.2
    ) as recorder:
        model = recorder.attach(networks.rows(), name="rows", state=("hidden",), store=False)
        rows = torch.rand(4, 4)
        model.hidden[2, 1] = 9.0
        with pytest.raises(ValueError, match="too large"), torch.no_grad():
            model(rows)
        recorder.flush(60)
    [sealed] = tmp_path.rglob("*.zst")
    out = tmp_path / "smallest"
    with Bundle.open(sealed) as bundle:
        done = minimize_bundle(bundle, out, model=("tests.stateful.networks:rows",), config=UserConfig())
    assert done.items == (2,) and done.items_before == 4
    with Bundle.open(out) as bundle:
        [call] = bundle.manifest.calls
        assert call.state is not None
        [(_, tensor)] = tensors_of(call.state)
        assert tensor.shape == (1, 4) and bundle.array(tensor)[0, 1] == 9.0 and bundle.verify() == []


def test_a_model_with_a_state_is_added_at_deployment(tmp_path: Path) -> None:
    """Its weights without the state, and a graph for its first call and for those after it."""
    store = ModelStore(tmp_path)
    answer = deploy("tests.stateful.networks:replaced", store, [{"shape": [2, 4], "dtype": "float32"}], ["hid*"])
    assert answer["problems"] == [] and answer["graph"] is not None
    assert len(list(tmp_path.glob("*.graph.json"))) == 2
    model = networks.replaced()
    model(torch.rand(2, 4))
    names = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("hid")}
    assert answer["weights"]["digest"] == store.put_weights(names).digest
