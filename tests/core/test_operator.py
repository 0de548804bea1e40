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
from recorder.bundle import Bundle
from recorder.operator_requests import OperatorFile, OperatorSignal, checked_signal
from tests.waiting import is_empty, wait_for


class Watch:
    """A file and a clock that goes on by a second at every look."""

    def __init__(self, path: Path) -> None:
        self._file, self._now = OperatorFile(path), 0.0

    def touched(self) -> bool:
        """Look once more."""
        self._now += 1.0
        return self._file.was_touched(self._now)


def listen(number: int) -> tuple[OperatorSignal, list[str]]:
    """A listener, and why it was refused."""
    refused: list[str] = []
    return OperatorSignal(number, refused.append), refused


def touch(file: Path, time_ns: int) -> None:
    """Touch with a time of the test's own: two touches may fall into one tick of the file system's clock."""
    file.touch()
    os.utime(file, ns=(time_ns, time_ns))


def test_a_file_fires_when_it_appears_is_touched_or_replaced_and_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "incident"
    watch = Watch(file)
    assert not watch.touched()
    touch(file, 10**18)
    assert watch.touched() and not watch.touched()
    touch(file, 2 * 10**18)
    assert watch.touched()
    file.unlink()
    assert not watch.touched()
    file.write_text("anything")
    os.utime(file, ns=(2 * 10**18, 2 * 10**18))
    assert watch.touched()
    assert file.read_text() == "anything"


def test_a_file_is_looked_at_once_a_second_however_often_the_sealer_wakes(tmp_path: Path) -> None:
    file = OperatorFile(tmp_path / "incident")
    assert not file.was_touched(10.0)
    (tmp_path / "incident").touch()
    assert [file.was_touched(now) for now in (10.1, 10.9, 11.0, 11.1)] == [False, False, True, False]


def test_a_file_that_was_there_before_is_no_request(tmp_path: Path) -> None:
    file = tmp_path / "incident"
    file.touch()
    assert not Watch(file).touched()


@pytest.mark.parametrize("name", ["missing/incident", "x" * 400, "a\0b"])
def test_a_path_that_cannot_be_is_never_touched(tmp_path: Path, name: str) -> None:
    assert not Watch(tmp_path / name).touched()


def test_a_pipe_or_directory_is_only_looked_at(tmp_path: Path) -> None:
    """Opening a pipe would hang; nothing is opened."""
    watch = Watch(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe")
    assert watch.touched()


def test_a_signal_is_counted_and_the_default_is_put_back_by_the_last_who_listens() -> None:
    first, _ = listen(signal.SIGUSR1)
    second, _ = listen(signal.SIGUSR1)
    try:
        assert not first.has_arrived()
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_for(first.has_arrived)
        assert first.reason == "an operator sent SIGUSR1"
        assert second.has_arrived() and not second.has_arrived()
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
        watch, refused = listen(signal.SIGUSR2)
        assert refused == ["trigger-signal-taken"]
        watch.close()
        assert signal.getsignal(signal.SIGUSR2) is handler
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_handler_that_the_host_installs_later_is_left_to_it() -> None:
    """As gunicorn does when it has loaded the application."""
    watch, refused = listen(signal.SIGUSR2)
    assert not watch.has_arrived() and refused == []

    def theirs(number: int, frame: Any) -> None:
        pass

    signal.signal(signal.SIGUSR2, theirs)
    try:
        assert not watch.has_arrived() and not watch.has_arrived()
        assert refused == ["trigger-signal-taken"]
        watch.close()
        assert signal.getsignal(signal.SIGUSR2) is theirs
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def test_only_the_main_thread_can_listen() -> None:
    refused: list[str] = []
    thread = threading.Thread(target=lambda: refused.extend(listen(signal.SIGUSR2)[1]))
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
    assert recorder.trigger("look").wait(120).state == "sealed"


def test_a_touched_file_and_a_signal_seal_an_incident(make_recorder: Any, bundles: Any, tmp_path: Path) -> None:
    file = tmp_path / "run" / "incident"
    file.parent.mkdir()
    recorder: FlightRecorder = make_recorder(trigger_file=file, trigger_signal=signal.SIGUSR1, post_frames=0)
    for camera in ("left", "right"):
        with recorder.frame(camera=camera):
            pass
    file.touch()
    wait_for(lambda: recorder.stats().incidents_sealed == 2)
    os.kill(os.getpid(), signal.SIGUSR1)
    wait_for(lambda: recorder.stats().incidents_sealed == 4)
    recorder.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    found = [(bundle.manifest.incident.triggers[0].kind, bundle.manifest.incident.stream) for bundle in bundles()]
    assert sorted(found) == [
        ("operator_file", "left"),
        ("operator_file", "right"),
        ("signal", "left"),
        ("signal", "right"),
    ]


HANGING = textwrap.dedent("""
    import ctypes, sys
    from recorder import FlightRecorder

    sink, ring, file = sys.argv[1:]
    recorder = FlightRecorder(sink, ring=ring, max_bytes=2**21, trigger_file=file, post_seconds=0.2, overhead_budget=1)
    with recorder.frame(camera="left", n=1):
        pass
    recorder.flush(120)  # a sealer is there
    with recorder.frame(camera="right", n=2):
        print("hanging", flush=True)
        ctypes.PyDLL(None).sleep(600)  # keeps the interpreter's lock: no thread of the process runs any more
""")


def test_a_host_that_hangs_with_the_interpreters_lock_can_still_be_asked(tmp_path: Path) -> None:
    sink, file = tmp_path / "sink", tmp_path / "incident"
    arguments = [sys.executable, "-c", HANGING, str(sink), str(tmp_path / "ring" / "host.ring"), str(file)]
    host = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert host.stdout is not None and host.stdout.readline() == "hanging\n"
        file.touch()
        wait_for(lambda: len(list(sink.glob("*.zst"))) == 2)
        frames = []
        for path in sink.glob("*.zst"):
            with Bundle.open(path) as bundle:
                frames.append(bundle.manifest.frames)
    finally:
        host.kill()
        host.communicate()
    assert sorted((frame.stream, frame.status) for window in frames for frame in window) == [
        ("left", "complete"),
        ("right", "open"),
    ]
    wait_for(lambda: is_empty(tmp_path / "ring"))


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
    assert subprocess.run(arguments, timeout=240, check=False).returncode == 10


def test_a_disabled_recorder_installs_nothing(monkeypatch: pytest.MonkeyPatch, make_recorder: Any) -> None:
    monkeypatch.setenv("FLIGHT_RECORDER_DISABLED", "1")
    make_recorder(trigger_signal=signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
