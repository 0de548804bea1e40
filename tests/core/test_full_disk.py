"""A disk that is full ends one incident, not the recording."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np


def test_an_incident_that_finds_no_room_is_counted_and_the_next_one_is_sealed(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)

    def record() -> Any:
        with recorder.frame(image=noise):
            pass
        return recorder.trigger("look").wait(30)

    deadline = time.monotonic() + 30
    while (sealer := recorder._session._keeper._process) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    unlimited = resource.prlimit(sealer.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(sealer.pid, resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    record()
    # The window could not be copied: what is sealed says so.
    assert [bundle.manifest.incident.lost["spool-full"] > 0 for bundle in bundles()] == [True]
    resource.prlimit(sealer.pid, resource.RLIMIT_FSIZE, unlimited)
    assert record().state == "sealed"
    complete = bundles()[-1]
    assert [len(frame.images) for frame in complete.manifest.frames] == [1, 1] and complete.verify() == []
