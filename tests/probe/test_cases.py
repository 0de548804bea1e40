"""Which frames are asked about: a detector's, from the picture to its boxes, and none on which it found nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest
from replay.probe.cases import cases_of
from replay.probe.costs import Counter
from replay.probe.probing import ProbeOptions, probe_bundle
from replay.probe.subject import CannotProbe
from tests.probe.networks import find_bright, scenes
from tests.probe.test_truth import Sees, manifest

__all__ = ["manifest"]  # a fixture


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames with a box each, and then one with nothing on it."""
    pictures = [np.rint(each[0].numpy() * 255).astype(np.uint8) for each in scenes(3, 3)]
    with FlightRecorder(
        sink=str(tmp_path_factory.mktemp("boxes")), pre_frames=4, max_bytes=2**25, overhead_budget=1
    ) as recorder:
        for image in (*pictures, np.full((28, 28), 20, np.uint8)):
            with recorder.frame(image=image) as frame:
                frame.output = find_bright(image)
        path = recorder.trigger("look").wait(120).path
    assert path is not None
    return Path(path)


def test_a_detector_is_probed_by_its_pipeline_where_it_found_something(detected: Path) -> None:
    with Bundle.open(detected) as bundle:
        ids = [frame.id for frame in bundle.manifest.frames]
        names = ("random-input", "object-hidden", "background", "camera-shift", "occlusion", "batch")
        options = ProbeOptions(probes=names, bundle_path=detected, pipeline="tests.probe.networks:find_bright")
        told: list[str] = []
        done = probe_bundle(bundle, replace(options, announce=told.append))
        with pytest.raises(CannotProbe, match="nothing was found on any of 1 frames"):
            probe_bundle(bundle, replace(options, frames=frozenset(ids[-1:])))
    found = {finding.name: finding for finding in done.findings}
    assert done.task == "detection" and list(done.frames) == ids[:3] and done.models == ""
    assert done.frames_left_out == {"on which nothing was found": 1}
    assert found["random-input"].passed is True and found["random-input"].evidence["kept"]["noise"] == 0.0  # type: ignore[index,call-overload]
    assert found["object-hidden"].passed is True and "the boxes that were found" in found["object-hidden"].sentence
    assert found["background"].passed is True and found["camera-shift"].passed is True
    assert "batch" not in found, "a pipeline has no batch"
    assert told[0].startswith("201 runs on 3 frames, about ")


def test_choosing_frames_stops_when_there_is_one_and_its_time_is_up(manifest: Manifest) -> None:
    subject = Sees(manifest.frames)
    asked = iter([False, False, True])
    chosen = cases_of(subject, manifest.frames, None, lambda: next(asked))
    assert len(chosen.cases) == 3 and chosen.left_out == {"for which the budget has no time": 21}


def test_the_first_run_loads_and_tells_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("replay.probe.costs.time.monotonic", lambda: now[0])
    counter = Counter(60.0)
    for seconds in (30.0, 1.0, 1.0):
        now[0] += seconds
        counter.count()
    assert counter.of_one_seconds == 1.0 and counter.affords(28) and not counter.affords(29)
    now[0] += 20.0
    counter.count(200)  # a request that is worth so many runs
    assert counter.of_one_seconds == 1.0 and counter.done == 203
