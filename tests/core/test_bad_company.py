"""What a sealer lives beside: functions that hang, sinks that raise, temp directories that are swept. No incident is
lost to any of them.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder import FlightRecorder, keeper
from recorder.keeper import lock_path
from recorder.ring import RingReader, RingUnavailable
from recorder.sealer import notifying, process
from recorder.sealer.process import serve
from recorder.settings import SealerSettings
from tests.core.test_limits import die
from tests.waiting import wait_for

Told = list[dict[str, Any]]


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The rings of two processes that died."""
    directory = tmp_path_factory.mktemp("dead")
    die(directory, 2, 0.0)
    return sorted((directory / "ring").glob("*.ring"))


@pytest.fixture
def seal(dead: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Told]]:
    """A function that seals what the dead have left; it returns how many rings are left, and what was told."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    ring = tmp_path / "ring"

    def sealed(
        code: str = "", is_asked_to_end: Callable[[], bool] = lambda: False, once: bool = True, **given: Any
    ) -> tuple[int, Told]:
        (tmp_path / "theirs.py").write_text(textwrap.dedent(code))
        ring.mkdir(mode=0o700, exist_ok=True)
        for path in dead:
            shutil.copy(path, ring)
        options = {"sink": str(tmp_path / "incidents"), "sink_options": {}, "notify": None, "spool_bytes": 2**20}
        told: Told = []
        settings = SealerSettings(**{**options, **given})
        assert serve(ring, settings, once=once, is_asked_to_end=is_asked_to_end, watch=told.append)
        sys.modules.pop("theirs", None)
        return len(list(ring.glob("*.ring"))), told

    return sealed


def events(told: Told) -> list[str]:
    return [str(each["event"]) for each in told if each["event"] != "track"]


def test_a_notify_that_exits_ends_neither_the_sealer_nor_later_incidents(seal: Callable[..., Any]) -> None:
    left, told = seal("import sys\ndef exits(location): sys.exit(location)\n", notify="theirs:exits")
    assert left == 0 and sorted(events(told)) == ["notify-failed"] * 2 + ["sealed"] * 2
    assert {each["reason"] for each in told if each["event"] == "notify-failed"} == {"SystemExit"}


def test_incidents_are_sealed_while_notify_hangs(
    seal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It returns when all is sealed and another sealer may serve the directory; then it is called for the others."""
    monkeypatch.setattr(notifying, "PATIENCE_SECONDS", 0.01)
    code = f"""
        import json, pathlib
        from tests.waiting import wait_for
        def hangs(location):
            wait_for(lambda: not pathlib.Path({str(lock_path(tmp_path / "ring"))!r}).exists())
            with open({str(tmp_path / "called")!r}, "a") as file:
                file.write(json.dumps(location) + "\\n")
    """
    left, told = seal(code, notify="theirs:hangs")
    sealed = [each["path"] for each in told if each["event"] == "sealed"]
    assert (
        left == 0
        and len(sealed) == 2
        and [each["reason"] for each in told if each["event"] == "fault"] == ["notify-hangs"]
    )
    assert [json.loads(line) for line in (tmp_path / "called").read_text().splitlines()] == sealed


def test_a_notify_that_never_returns_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PATIENCE_SECONDS": 0.01, "END_SECONDS": 0.01, "MAX_WAITING": 2}.items():
        monkeypatch.setattr(notifying, name, value)
    called, never = threading.Event(), threading.Event()

    def of_theirs(location: str) -> None:
        called.set()
        never.wait(120)

    monkeypatch.setattr(threading, "of_theirs", of_theirs, raising=False)
    told: Told = []
    calls = notifying.Notifying("threading:of_theirs")
    calls.call("0", told.append)
    assert called.wait(120)  # the others wait in the queue behind it
    for number in range(1, 4):
        calls.call(str(number), told.append)
    calls.stop()
    assert [str(each["reason"]) for each in told] == [
        "notify-hangs",
        "too many wait for a call that hangs",
        *["a call before it hangs"] * 2,
    ]
    never.set()


def test_a_temp_directory_that_was_swept_is_made_again(seal: Callable[..., Any], tmp_path: Path) -> None:
    """Systems remove from it what nobody has used for days, and a service may run for months between two incidents."""

    made: list[Path] = []

    def sweep() -> bool:
        if not made:
            made.extend(tmp_path.glob("flight-recorder-*"))
            shutil.rmtree(made[0])
        return False

    left, told = seal(is_asked_to_end=sweep)
    assert left == 0 and events(told) == ["sealed"] * 2


def test_a_temp_directory_that_is_gone_is_named_and_the_rings_stay(
    seal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    left, told = seal(is_asked_to_end=lambda: bool(shutil.rmtree(tmp_path / "t", ignore_errors=True)))
    assert left == 2 and events(told) == ["failed"] * 2
    assert f"{tmp_path / 't'}: No such file or directory; mend that, or set TMPDIR" in told[0]["reason"]


SINKS = """
    from recorder.sinks import DirectorySink
    class NeverSwept(DirectorySink):
        def sweep(self): raise PermissionError("theirs")
    class Raises(DirectorySink):
        def publish(self, local_file, name): raise LookupError("theirs")
    class Exits(DirectorySink):
        def publish(self, local_file, name): raise SystemExit
    def never_swept(path): return NeverSwept(path)
    def raises(path): return Raises(path)
    def exits(path): return Exits(path)
"""


def test_what_is_in_the_sink_counts_as_sealed_even_if_nothing_old_can_be_deleted(
    seal: Callable[..., Any], tmp_path: Path
) -> None:
    left, told = seal(SINKS, sink="theirs:never_swept", sink_options={"path": str(tmp_path / "incidents")})
    assert left == 0 and events(told) == ["fault", "sealed"] * 2
    assert told[0]["reason"] == "sink-not-swept" and len(list((tmp_path / "incidents").glob("*.zst"))) == 2


@pytest.mark.parametrize(("sink", "error"), [("raises", "LookupError: theirs"), ("exits", "SystemExit")])
def test_a_sink_that_raises_anything_leaves_the_rings(
    seal: Callable[..., Any], tmp_path: Path, sink: str, error: str
) -> None:
    left, told = seal(SINKS, sink=f"theirs:{sink}", sink_options={"path": str(tmp_path / "incidents")})
    assert left == 2 and events(told) == ["failed"] * 2 and error in told[0]["reason"]


def test_what_cannot_be_encrypted_stays_in_the_ring(seal: Callable[..., Any]) -> None:
    """A recipient or a library can be mended; the crash cannot be had again."""
    left, told = seal(encrypt_to=("age1nobody",))
    assert left == 2 and events(told) == ["failed"] * 2 and "TrustError" in told[0]["reason"]


def test_a_sealer_that_cannot_start_says_why(
    make_recorder: Callable[..., FlightRecorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "RESTART_SECONDS", 3_600.0)  # one is counted, however long the test takes
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.warns(RuntimeWarning, match="no incident is sealed.*") as said:
        recorder = make_recorder(sink="no_such_package:sink")
        wait_for(lambda: recorder.stats().errors)
        wait_for(lambda: said.list)
    [warning] = said.list
    assert "exit status 1" in str(warning.message) and "No module named 'no_such_package'" in str(warning.message)
    with recorder.frame(image=np.zeros((4, 4), np.uint8)):
        pass
    assert recorder.stats().errors == {"sealer-ended: 1": 1}
    assert not list(tmp_path.glob("flight-recorder-*"))
    recorder.close(timeout=0)


def test_a_ring_that_cannot_be_opened_is_told_and_tried_again(
    seal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, no memory: a matter of a moment, after which its incidents must not be lost."""
    failures = iter([1, 2])

    def opened(path: Path) -> RingReader:
        if next(failures, None) is not None:
            raise RingUnavailable(f"The ring {path} cannot be opened: Too many open files.")
        return RingReader(path)

    monkeypatch.setattr(process, "REOPEN_SECONDS", 0.0)
    monkeypatch.setattr("recorder.sealer.served.RingReader", opened)
    ring = tmp_path / "ring"
    left, told = seal(once=False, is_asked_to_end=lambda: ring.exists() and not list(ring.glob("*.ring")))
    assert left == 0 and events(told) == ["failed"] * 2 + ["sealed"] * 2 and "Too many open files" in told[0]["reason"]


def test_sealing_what_is_left_does_not_pass_over_what_is_no_ring(seal: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "ring").mkdir(mode=0o700)
    (tmp_path / "ring" / "damaged.ring").write_bytes(b"?" * 8192)
    left, told = seal()
    assert left == 1 and sorted(events(told)) == ["failed", "sealed", "sealed"]


def test_a_ring_that_somebody_removed_is_sealed_and_another_begun(
    make_recorder: Callable[..., FlightRecorder], bundles: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd does it, with all that is beside it, to a user who logs out; a sidecar to a host that seemed dead."""
    monkeypatch.setattr(keeper, "HEARTBEAT_SECONDS", 0.02)
    recorder = make_recorder(post_seconds=600.0)
    with recorder.frame(image=np.zeros((4, 4), np.uint8)):
        pass
    assert recorder.flush(120)
    recorder.trigger("before")
    with pytest.warns(RuntimeWarning, match="removed the flight recorder's ring") as said:
        shutil.rmtree(tmp_path / "ring-0", ignore_errors=True)  # the sealer may be writing into it
        wait_for(lambda: list((tmp_path / "ring-0").glob("*.ring")) and len(said.list))
    with recorder.frame(image=np.zeros((4, 4), np.uint8)):
        pass
    after = recorder.trigger("after")
    assert recorder.flush(120) and after.state == "sealed"
    wait_for(lambda: recorder.stats().frames_recorded == 2)
    assert recorder.stats().errors == {"ring-removed": 1} and len(said.list) == 1
    wait_for(lambda: len(bundles()) == 2)
    reasons = [bundle.manifest.incident.triggers[0].reason for bundle in bundles()]
    assert sorted(reasons) == ["after", "before"]


def test_what_a_new_process_put_in_the_place_of_a_ring_is_not_taken_away(dead: list[Path], tmp_path: Path) -> None:
    ring = tmp_path / "host.ring"
    shutil.copy(dead[0], ring)
    with RingReader(ring) as reader:
        assert not reader.is_replaced
        ring.unlink()
        assert not reader.is_replaced
        shutil.copy(dead[1], ring)
        assert reader.is_replaced
