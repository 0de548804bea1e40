"""A disk that is full ends one incident, not the recording."""

from __future__ import annotations

import resource
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

#: A directory on a disk that is full until somebody makes room.
FULL_SINK = textwrap.dedent("""
    import errno, os
    from pathlib import Path
    from recorder.sinks import DirectorySink

    HERE = Path(__file__).parent


    class Full(DirectorySink):
        def _place_or_copy(self, local_file, name):
            if not (HERE / "room").exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super()._place_or_copy(local_file, name)


    def make():
        return Full(HERE / "incidents")
""")


def test_a_sink_on_a_full_disk_is_counted_by_its_reason_and_the_host_goes_on(
    make_recorder: Any, bundles: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That incident is lost, with the remedy said; nothing half-made stays, and the next one is sealed."""
    (tmp_path / "full_sink.py").write_text(FULL_SINK)
    monkeypatch.syspath_prepend(str(tmp_path))
    recorder = make_recorder(sink="full_sink:make", triggers=[])
    with recorder.frame(image=np.zeros((8, 8), np.uint8)):
        pass
    assert recorder.trigger("look").wait(120).state == "failed"
    [(reason, number)] = recorder.stats().errors.items()
    assert "No space left on device; free some room" in reason and number == 1
    assert [path.name for path in (tmp_path / "incidents").iterdir() if not path.name.startswith(".limits")] == []
    (tmp_path / "room").touch()
    with recorder.frame(image=np.zeros((8, 8), np.uint8)):
        pass
    assert recorder.trigger("look again").wait(120).state == "sealed" and bundles()[0].verify() == []


def test_an_incident_that_finds_no_room_is_counted_and_the_next_one_is_sealed(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)

    def record() -> Any:
        with recorder.frame(image=noise):
            pass
        return recorder.trigger("look").wait(120)

    deadline = time.monotonic() + 120
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
