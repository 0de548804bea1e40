"""The false-alarm rate that is stated is one that the reference keeps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from recorder.bundle.manifest import Trigger
from recorder.counts import Counts
from recorder.drift import Departure, Reference, Watcher
from recorder.drift.calibration import _turn
from recorder.drift.moments import Part
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.departure import Departed
from recorder.sealer.references import Watched
from tests.drift.conftest import NAMES, stream

DEFAULT = 100_000


@pytest.fixture(scope="module")
def short() -> Reference:
    """Of 60 frames."""
    return Reference.fit(stream(60, 0.3, 7), NAMES)


@pytest.fixture(scope="module")
def enough() -> Reference:
    """Of 120 frames."""
    return Reference.fit(stream(120, 0.3, 7), NAMES)


@pytest.mark.parametrize("seed", range(2))
def test_a_reference_that_is_short_for_its_memory_raises_no_alarm_for_ever(seed: int) -> None:
    """Its mean is off by half a deviation, so every distance is too large: a sum of them must fall all the same."""
    known = Reference.fit(stream(200, 0.97, 300 + seed), NAMES).streams[""]
    watcher, departure, zeros = Watcher(known, NAMES), Departure(), 0
    raw_sum = known.detectors.index("raw/image/cusum")
    for number, row in enumerate(stream(3_000, 0.97, 400 + seed)):
        watcher.update(number, row)
        assert not departure.begins(watcher.excess("drift", DEFAULT))
        zeros += number > 1_500 and watcher.statistics[raw_sum] == 0
    assert zeros > 100


def test_a_long_reference_has_the_level_that_was_measured() -> None:
    """Nothing is added for want of knowledge, and shifts are found as soon as ever."""
    signals = stream(1_000, 0.0, 5)
    known = Reference.fit(signals, NAMES).streams[""]
    scores = known.scores.of(signals[:, known.scores.columns(NAMES)], None)
    z = (scores - known.moments.mean) / known.moments.scale
    image = known.scores.singles
    distance = np.sqrt(((z[:, image] @ known.moments.whitening[0][image, image]) ** 2).mean(axis=1))
    assert known.moments.level[0, 0] == pytest.approx(distance.mean(), rel=0.01)


def test_an_embeddings_directions_are_chosen_by_what_varies_in_the_simulated_reference() -> None:
    random = np.random.default_rng(0)
    streams, scale = random.normal(size=(3, 90, 8)), np.array([1.0, 1.0, 3.0, 2.0, 2.0, 1.0, 0.5, 1.0])
    before = streams.copy()
    _turn(streams, 40, scale, (Part("signals", 2), Part("embedding", 6)))
    assert np.array_equal(streams[..., :2], before[..., :2]) and np.array_equal(streams[..., -1], before[..., -1])
    turned, own = streams[..., 2:-1] * scale[2:-1], before[..., 2:-1] * scale[2:-1]
    assert np.allclose((turned**2).sum(axis=2), (own**2).sum(axis=2))  # turned, not stretched
    for each in turned[:, :40]:
        covariance = np.cov(each.T)
        assert np.allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
        assert (np.diff(np.diag(covariance)) <= 0).all()


def test_a_short_reference_states_the_rate_that_it_keeps_and_what_to_do(short: Reference, enough: Reference) -> None:
    known = short.streams[""]
    assert known.kept(DEFAULT) == 10_000 and known.kept(1_000) == 1_000
    said = known.shortfall(DEFAULT)
    assert said is not None and "60 frames keeps 1 false alarm in 10,000" in said and "100 frames or more" in said
    assert known.shortfall(10_000) is None
    long = enough.streams[""]
    assert long.kept(10**9) == 10**9 and long.shortfall(10**9) is None


def test_the_rate_that_is_kept_is_written_and_one_from_before_keeps_that_of_a_short_one(
    short: Reference, enough: Reference
) -> None:
    assert Reference.from_document(short.document()).streams[""].rarest == 10_000
    old: dict[str, Any] = copy.deepcopy(enough.document())
    assert Reference.from_document(old).streams[""].rarest == 10**9
    del old["streams"][""]["rarest"]
    before = Reference.from_document(old).streams[""]
    assert before.rarest == 10_000 and "an older release" in str(before.shortfall(DEFAULT))
    for forged in (True, "many", -1, 1e9):
        old["streams"][""]["rarest"] = forged
        with pytest.raises(ValueError):
            Reference.from_document(old)


def fired(reference: Reference) -> Trigger:
    """What the trigger says of a stream that has left."""
    watcher, evaluator = Watcher(reference.streams[""], NAMES), Departed("drift", {})
    for number, row in enumerate(stream(30, 0.3, 8, shift=30.0)):
        watcher.update(number, row)
    found = evaluator.evaluate(EndedFrame("", 29, 0, (), Counts(), str, Watched(watcher, DEFAULT, 0, 10**9)))
    assert found is not None and found.parameters["hours_per_false_alarm"] is not None
    return found


def test_the_trigger_states_what_is_kept(short: Reference, enough: Reference) -> None:
    assert fired(short).parameters["frames_per_false_alarm"] == 10_000
    assert fired(short).reason.endswith("better a minute of video") and "\n" not in fired(short).reason
    assert fired(enough).parameters["frames_per_false_alarm"] == DEFAULT and "alarm" not in fired(enough).reason
