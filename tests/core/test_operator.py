"""An operator asks from outside the process: by touching a file, by a signal the host does not use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from recorder import FlightRecorder
from recorder.operator_requests import OperatorRequests, checked_signal
from tests.core.test_bus import eventually


def requests(file: Path | None = None, number: int | None = None) -> tuple[OperatorRequests, list[str]]:
    """Requests, and why a signal was refused."""
    refused: list[str] = []
    return OperatorRequests(file, number, refused.append), refused


def touch(file: Path, time_ns: int) -> None:
    """Touch with a time of the test's own: two touches may fall into one tick of the file system's clock."""
    file.touch()
    os.utime(file, ns=(time_ns, time_ns))


def test_a_file_fires_when_it_appears_is_touched_or_replaced_and_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "incident"
    watch, _ = requests(file)
    assert watch.poll() == []
    touch(file, 10**18)
    assert [kind for kind, _ in watch.poll()] == ["operator_file"]
    assert watch.poll() == []
    touch(file, 2 * 10**18)
    assert len(watch.poll()) == 1
    file.unlink()
    assert watch.poll() == []
    file.write_text("anything")
    os.utime(file, ns=(2 * 10**18, 2 * 10**18))
    assert len(watch.poll()) == 1
    assert file.read_text() == "anything"


def test_a_file_that_was_there_before_is_no_request(tmp_path: Path) -> None:
    file = tmp_path / "incident"
    file.touch()
    watch, _ = requests(file)
    assert watch.poll() == []


@pytest.mark.parametrize("name", ["missing/incident", "x" * 400, "a\0b"])
def test_a_path_that_cannot_be_is_never_touched(tmp_path: Path, name: str) -> None:
    watch, _ = requests(tmp_path / name)
    assert watch.poll() == []


def test_a_pipe_or_directory_is_only_looked_at(tmp_path: Path) -> None:
    """Opening a pipe would hang; nothing is opened."""
    watch, _ = requests(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe")
    assert len(watch.poll()) == 1


def test_a_signal_is_counted_and_the_default_is_put_back_by_the_last_who_listens() -> None:
    first, _ = requests(number=signal.SIGUSR1)
    second, _ = requests(number=signal.SIGUSR1)
    try:
        assert first.poll() == []
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        eventually(lambda: first.poll() == [("signal", "an operator sent SIGUSR1")])
        assert first.poll() == []
        assert len(second.poll()) == 1
        first.close()
        first.close()
        assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
    finally:
        first.close()
        second.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_signal_the_host_handles_stays_the_hosts(handler: Any) -> None:
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        watch, refused = requests(number=signal.SIGUSR2)
        assert refused == ["trigger-signal-taken"]
        watch.close()
        assert signal.getsignal(signal.SIGUSR2) is handler
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_handler_that_the_host_installs_later_is_left_to_it() -> None:
    watch, _ = requests(number=signal.SIGUSR2)

    def theirs(number: int, frame: Any) -> None:
        pass

    signal.signal(signal.SIGUSR2, theirs)
    try:
        watch.close()
        assert signal.getsignal(signal.SIGUSR2) is theirs
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def test_only_the_main_thread_can_listen() -> None:
    refused: list[str] = []
    thread = threading.Thread(target=lambda: refused.extend(requests(number=signal.SIGUSR2)[1]))
    thread.start()
    thread.join()
    assert refused == ["trigger-signal-not-main-thread"]
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGCHLD, 0, 999, "USR1"])
def test_signals_with_a_meaning_are_refused(number: Any) -> None:
    with pytest.raises(ValueError, match="trigger_signal"):
        checked_signal(number)


def test_real_time_signals_are_the_applications_too() -> None:
    assert checked_signal(signal.SIGRTMIN + 3) == signal.SIGRTMIN + 3
    assert checked_signal(None) is None


def test_a_recorder_that_cannot_listen_warns_once_counts_it_and_records(make_recorder: Any, bundles: Any) -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with pytest.warns(RuntimeWarning, match="handles it already"):
            recorder = make_recorder(trigger_signal=signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert recorder.stats().errors["trigger-signal-taken"] == 1
    with recorder.frame():
        pass
    assert recorder.trigger("look").wait(20).state == "sealed"


def test_a_touched_file_and_a_signal_seal_an_incident(make_recorder: Any, bundles: Any, tmp_path: Path) -> None:
    file = tmp_path / "run" / "incident"
    file.parent.mkdir()
    recorder: FlightRecorder = make_recorder(trigger_file=file, trigger_signal=signal.SIGUSR1, post_frames=0)
    for camera in ("left", "right"):
        with recorder.frame(camera=camera):
            pass
    file.touch()
    eventually(lambda: recorder.stats().incidents_sealed == 2)
    os.kill(os.getpid(), signal.SIGUSR1)
    eventually(lambda: recorder.stats().incidents_sealed == 4)
    recorder.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    found = [(bundle.manifest.incident.triggers[0].kind, bundle.manifest.incident.stream) for bundle in bundles()]
    assert sorted(found) == [
        ("operator_file", "left"),
        ("operator_file", "right"),
        ("signal", "left"),
        ("signal", "right"),
    ]


FORKING = textwrap.dedent("""
    import os, signal, sys, time
    from recorder import FlightRecorder

    recorder = FlightRecorder(sink=sys.argv[1], ring=sys.argv[2], max_bytes=2**21, trigger_signal=signal.SIGUSR1)
    child = os.fork()
    if child == 0:
        # It records nothing: the signal means what it always meant.
        os._exit(10 if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL else 11)
    _, status = os.waitpid(child, 0)
    listening = signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
    recorder.close()
    sys.exit(os.waitstatus_to_exitcode(status) if listening else 12)
""")


def test_a_forked_child_does_not_inherit_the_handler(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", FORKING, str(tmp_path / "sink"), str(tmp_path / "ring" / "host.ring")]
    assert subprocess.run(arguments, timeout=60, check=False).returncode == 10


def test_a_disabled_recorder_installs_nothing(monkeypatch: pytest.MonkeyPatch, make_recorder: Any) -> None:
    monkeypatch.setenv("FLIGHT_RECORDER_DISABLED", "1")
    make_recorder(trigger_signal=signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
