"""Sealers that race or die at the worst moment: nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.ring import RingReader, location
from recorder.ring.cgroup import memory_headroom_bytes
from recorder.sealer.process import serve
from recorder.sealer.progress import Told
from recorder.sealer.window import incident_name
from recorder.settings import SealerSettings
from recorder.status import StatusWriter, status_path
from tests.core.test_limits import HOUR, REPOSITORY, die
from tests.waiting import is_empty

KILLING_SINK = '''
import os, signal
from pathlib import Path
from recorder.sinks import DirectorySink


class Killing(DirectorySink):
    """Kills its sealer in the middle of the first publication."""

    def publish(self, local_file, name):
        marker = Path(os.environ["MARKER"])
        if marker.exists():
            return super().publish(local_file, name)
        marker.touch()
        if os.environ["MOMENT"] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ["MOMENT"] == "between":
            # The bundle has its name; the local file, the progress and the ring are as before.
            os.link(local_file, self.path / name)
            os.kill(os.getpid(), signal.SIGKILL)
        location = super().publish(local_file, name)
        os.kill(os.getpid(), signal.SIGKILL)


def make():
    Path(os.environ["SINK"]).mkdir(exist_ok=True)
    return Killing(os.environ["SINK"])
'''


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(REPOSITORY), str(tmp_path)])
    return {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", **more}


def command(tmp_path: Path, sink: str) -> list[str]:
    return [sys.executable, "-m", "replay", "seal", "--watch", str(tmp_path / "ring"), "--once", "--sink", sink]


def reasons(sink: Path) -> list[list[str]]:
    """The kinds of the triggers of each bundle, all of which are whole."""
    found = []
    for path in sorted(sink.glob("*.zst")):
        with Bundle.open(path) as bundle:
            assert bundle.verify() == [] and len(bundle.manifest.frames) == 3
            found.append([trigger.kind for trigger in bundle.manifest.incident.triggers])
    return found


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_sealer_killed_while_it_publishes_loses_nothing_and_doubles_nothing(tmp_path: Path, moment: str) -> None:
    """The account of incidents holds the death already; that must not make it a duplicate of itself."""
    (tmp_path / "killing_sink.py").write_text(KILLING_SINK)
    die(tmp_path, 1, HOUR)
    given = environment(tmp_path, MARKER=str(tmp_path / "marker"), MOMENT=moment, SINK=str(tmp_path / "incidents"))
    first = subprocess.run(command(tmp_path, "killing_sink:make"), env=given, check=False)
    assert first.returncode == -signal.SIGKILL and list((tmp_path / "ring").glob("*.ring"))
    second = subprocess.run(command(tmp_path, "killing_sink:make"), env=given, check=False)
    assert second.returncode == 0
    assert reasons(tmp_path / "incidents") == [["process_died"]]
    assert is_empty(tmp_path / "ring") and not list(tmp_path.glob("flight-recorder-*"))


def test_an_incident_that_ends_every_sealer_does_not_keep_the_others_from_being_sealed(tmp_path: Path) -> None:
    die(tmp_path, 2, 0.0)
    deadly, other = sorted((tmp_path / "ring").glob("*.ring"))
    with RingReader(deadly) as reader:
        incident = incident_name(reader)
    for number in range(3):
        assert Told.about(deadly).begun.get(incident, 0) == number
        StatusWriter(status_path(deadly)).append({"event": "sealing", "incident": incident})
    told: list[dict[str, Any]] = []
    given = SealerSettings(sink=str(tmp_path / "incidents"), sink_options={}, notify=None, spool_bytes=2**20)
    assert serve(tmp_path / "ring", given, once=True, watch=told.append)
    [failed] = [each for each in told if each["event"] == "failed"]
    assert failed["incident"] == incident
    assert "3 sealers ended in the middle of it; `replay recover`" in failed["reason"]
    assert [each["event"] for each in told if each.get("incident") not in (None, incident)] == ["sealing", "sealed"]
    assert reasons(tmp_path / "incidents") == [["process_died"]]
    assert deadly.exists() and not other.exists(), "what could not be sealed stays"
    assert Told.about(deadly).begun == {incident: 3}, "nor is it tried by the next start"


def test_sealers_that_race_for_one_directory_seal_each_death_once(tmp_path: Path) -> None:
    """Four at once; those that come too late say so, or find nothing left."""
    die(tmp_path, 2, 0.0)
    sink = tmp_path / "incidents"
    racing = [subprocess.Popen(command(tmp_path, str(sink)), env=environment(tmp_path)) for _ in range(4)]
    codes = [process.wait(120) for process in racing]
    assert 0 in codes and set(codes) <= {0, 1}
    assert reasons(sink) == [["process_died"]] * 2
    assert is_empty(tmp_path / "ring")


def test_a_container_with_less_memory_than_max_bytes_gets_a_smaller_ring_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundles: Callable[[], list[Bundle]]
) -> None:
    """A limit of 96 MiB, 32 of them in use: half of what is left, said in one warning; and an incident is sealed."""
    tree = tmp_path / "cgroup"
    for group, limit in (("", "max"), ("pod", str(96 * 2**20))):
        (tree / group).mkdir(exist_ok=True)
        (tree / group / "memory.max").write_text(f"{limit}\n")
        (tree / group / "memory.current").write_text(f"{32 * 2**20}\n")
    membership = tmp_path / "membership"
    membership.write_text("0::/pod\n")
    monkeypatch.setattr(location, "memory_headroom_bytes", lambda: memory_headroom_bytes(membership, tree))
    with pytest.warns(RuntimeWarning, match="was reduced from .* bytes, half of what is free") as warned:
        recorder = FlightRecorder(sink=tmp_path / "incidents", max_bytes=256 * 2**20, triggers=[])
    with recorder:
        assert len(warned) == 1 and 24 * 2**20 < recorder.stats().ring_bytes <= 32 * 2**20
        with recorder.frame(number=1):
            pass
        assert recorder.trigger("look").wait(120).state == "sealed"
    assert [frame.metadata for frame in bundles()[0].manifest.frames] == [{"number": 1}]
