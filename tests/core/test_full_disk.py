"""A disk that is full ends one incident, not the recording."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.keeper import _is_served
from recorder.sealer.process import serve
from recorder.settings import SealerSettings
from tests.core.test_limits import die
from tests.waiting import is_empty, wait_for

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
    incident = recorder.trigger("look")
    assert recorder.flush(120) and incident.state == "failed"
    [(reason, number)] = recorder.stats().errors.items()
    assert "No space left on device; free some room" in reason and number == 1
    assert [path.name for path in (tmp_path / "incidents").iterdir() if not path.name.startswith(".limits")] == []
    (tmp_path / "room").touch()
    with recorder.frame(image=np.zeros((8, 8), np.uint8)):
        pass
    assert recorder.trigger("look again").wait(120).state == "sealed" and bundles()[0].verify() == []


def seal(
    ring: Path, *, once: bool, is_asked_to_end: Callable[[], bool] = lambda: False
) -> tuple[list[str], list[dict[str, Any]]]:
    """Serve a ring directory into that sink; return the rings that are left, and what was told of incidents."""
    told: list[dict[str, Any]] = []
    given = SealerSettings(sink="full_sink:make", sink_options={}, notify=None, spool_bytes=2**20)
    assert serve(ring, given, once=once, is_asked_to_end=is_asked_to_end, watch=told.append)
    return [path.name for path in ring.glob("*.ring")], [each for each in told if each["event"] in ("sealed", "failed")]


def test_what_a_dead_process_left_waits_for_room(bundles: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last frames before a crash are in its ring alone: it goes when they are in the sink, and not before."""
    (tmp_path / "full_sink.py").write_text(FULL_SINK)
    monkeypatch.syspath_prepend(str(tmp_path))
    die(tmp_path, 3, 0.0, "ask")
    ring = tmp_path / "ring"
    left, told = seal(ring, once=True)
    assert len(left) == 3 and [each["event"] for each in told] == ["failed"] * 3
    assert "No space left on device; free some room" in told[0]["reason"]

    def are_tried() -> bool:
        return len(list(ring.glob("*.ring"))) == 1

    # A sealer that nobody looks at keeps one: rings are memory, and a service may die again and again.
    kept, told = seal(ring, once=False, is_asked_to_end=are_tried)
    assert len(kept) == 1 and len(told) == 3
    (tmp_path / "room").touch()
    left, told = seal(ring, once=True)
    assert (left, [each["event"] for each in told]) == ([], ["sealed"]) and is_empty(ring)
    [bundle] = bundles()
    assert bundle.verify() == [] and len(bundle.manifest.frames) == 3
    assert [trigger.kind for trigger in bundle.manifest.incident.triggers] == ["process_died", "manual"]


def test_an_incident_that_finds_no_room_is_counted_and_the_next_one_is_sealed(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[])
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)

    def record() -> Any:
        with recorder.frame(image=noise):
            pass
        return recorder.trigger("look").wait(120)

    session = recorder._session
    wait_for(lambda: session._keeper._process is not None and _is_served(session.ring_path.parent))
    sealer = session._keeper._process
    unlimited = resource.prlimit(sealer.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(sealer.pid, resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    record()
    # The window could not be copied: what is sealed says so.
    assert [bundle.manifest.incident.lost["spool-full"] > 0 for bundle in bundles()] == [True]
    resource.prlimit(sealer.pid, resource.RLIMIT_FSIZE, unlimited)
    assert record().state == "sealed"
    complete = bundles()[-1]
    assert [len(frame.images) for frame in complete.manifest.frames] == [1, 1] and complete.verify() == []


def test_a_temp_directory_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("recorder.sealer.sealing.assemble", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    die(tmp_path, 1, 0.0)
    told: list[dict[str, Any]] = []
    given = SealerSettings(sink=str(tmp_path / "incidents"), sink_options={}, notify=None, spool_bytes=2**20)
    assert serve(tmp_path / "ring", given, once=True, watch=told.append)
    [reason] = [each["reason"] for each in told if each["event"] == "failed"]
    assert f"in {tmp_path}" in reason and "No space left on device; free some room, or set TMPDIR" in reason
    assert list((tmp_path / "ring").glob("*.ring"))
