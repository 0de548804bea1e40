"""Factors and variants: nothing that is recorded is forgotten, and taking a call apart loses no bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recorder.bundle import Bundle
from recorder.bundle.values import tensors_of
from recorder.environment import VARIABLES
from recorder.torch_settings import SETTINGS
from replay.bisect.factors import CALL_FACTORS, ENVIRONMENT_FACTORS, group_of
from replay.bisect.variants import Variants, batch_of, joined, plain
from replay.exchange import recorded_answer
from replay.jobs import plan_jobs
from replay.load import UserConfig
from replay.session import Job
from tests.compare.answers import answer
from tests.replay.bundles_of_calls import Recording
from tests.replay.models_for_tests import classifier

EVERYTHING = frozenset(CALL_FACTORS)


@pytest.mark.parametrize("name", [*(setting.name for setting in SETTINGS), *VARIABLES])
def test_every_recorded_setting_belongs_to_one_factor(name: str) -> None:
    """A flag that joins the recorder joins the bisection, or this fails."""
    homes = [
        factor
        for factor, members in ENVIRONMENT_FACTORS.items()
        if any(name == member or (member.endswith(".") and name.startswith(member)) for member in members)
    ]
    assert homes == [group_of(name)]


@pytest.fixture
def job(tmp_path: Any) -> Any:
    """A channels_last batch of two at an odd address, and the bundle it is in."""
    recording = Recording(tmp_path)
    model = recording.attach(classifier())
    memory = torch.zeros(2 * 3 * 32 * 32 + 16)
    batch = memory[3 : 3 + 6144].as_strided((2, 3, 32, 32), (3072, 1, 96, 3))
    batch.copy_(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(batch)
    with Bundle.open(recording.write()) as bundle:
        manifest = bundle.manifest
        [planned] = plan_jobs(manifest, manifest.frames, config=UserConfig(), bundle_path=tmp_path / "incident.zst")
        yield planned, bundle


def test_with_everything_restored_a_call_is_what_was_recorded(job: tuple[Job, Bundle]) -> None:
    planned, bundle = job
    [same] = Variants(bundle.tensor_bytes).jobs(planned, EVERYTHING)
    assert same == planned


def test_with_nothing_restored_it_is_what_a_developer_would_run(job: tuple[Job, Bundle]) -> None:
    """One image at a time, contiguous, aligned, with gradients and without autocast; the pixels are the same."""
    planned, bundle = job
    variants = Variants(bundle.tensor_bytes)
    singles = variants.jobs(planned, frozenset())
    assert batch_of(planned.call) == len(singles) == 2
    [(_, whole)] = tensors_of(planned.call.args)
    pixels = np.frombuffer(bundle.tensor_bytes(whole), "<f4").reshape(2, 32, 32, 3).transpose(0, 3, 1, 2)
    for index, single in enumerate(singles):
        [(_, tensor)] = tensors_of(single.call.args)
        assert (tensor.shape, tensor.strides, tensor.alignment) == ((1, 3, 32, 32), (3072, 1024, 32, 1), 0)
        assert np.array_equal(np.frombuffer(variants.read(tensor), "<f4").reshape(3, 32, 32), pixels[index])
        assert single.call.settings.autocast == {}
        assert (single.call.settings.inference_mode, single.call.settings.grad_enabled) == (False, True)
        assert single.variant and single.model.layouts == {}


def test_single_items_keep_their_layout_and_address_where_these_are_restored(job: tuple[Job, Bundle]) -> None:
    planned, bundle = job
    [(_, whole)] = tensors_of(planned.call.args)
    _, second = Variants(bundle.tensor_bytes).jobs(planned, EVERYTHING - {"batch"})
    [(_, tensor)] = tensors_of(second.call.args)
    assert tensor.strides == whole.strides
    assert tensor.alignment == (whole.alignment + 3072 * 4) % 64


def test_answers_for_single_items_make_the_answer_for_the_batch() -> None:
    """Whatever memory order the items came in."""
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    items = [answer({"scores": np.asfortranarray(whole[i : i + 1])}) for i in range(2)]
    together = joined(items)
    assert together is not None and together.tensors == plain(answer({"scores": whole})).tensors
    assert joined([items[0], answer({"scores": np.zeros((1, 5), np.float32)})]) is None


def test_a_batch_is_taken_apart_only_where_every_answer_has_its_items(tmp_path: Any) -> None:
    """A model that sums over its batch has no items."""
    recording = Recording(tmp_path)
    recording.attach(lambda x: x.sum())(torch.rand(4, 3, 8, 8))
    recording.attach(lambda x: x * 2)(torch.rand(4, 8))  # one frame of a first axis that may be time
    recording.attach(lambda x: x * 2)(torch.rand(4, 3, 8, 8))
    with Bundle.open(recording.write()) as bundle:
        assert [batch_of(call) for call in bundle.manifest.calls] == [1, 1, 4]
        read = recorded_answer(bundle.manifest.calls[2].output, bundle.tensor_bytes)
        assert plain(read).tensors[""] == read.tensors[""]
