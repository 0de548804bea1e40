"""Bad surroundings: one clear warning, a count, a recorder that does what it still can; never a crash, never a hang."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recorder import FlightRecorder
from recorder.bundle import Bundle
from tests.waiting import wait_for

MakeRecorder = Callable[..., FlightRecorder]
REPOSITORY = Path(__file__).parents[2]
#: A watchdog: whatever hangs is killed and fails the test.
HANGS_SECONDS = 240


def run_host(directory: Path, body: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a script that records, in a process of its own that may die of what is done to it."""
    script = directory / "host.py"
    beginning = """
        import os, sys, threading, time, warnings
        from pathlib import Path
        import numpy as np
        from recorder import FlightRecorder
        here = Path(sys.argv[1])
        image = np.zeros((64, 64, 3), np.uint8)
        def make(**arguments):
            return FlightRecorder(**{"sink": here / "incidents", "ring": here / "ring" / "a.ring",
                                     "max_bytes": 8 * 2**20, "post_seconds": 0.2, "overhead_budget": 1.0, **arguments})
    """
    script.write_text(textwrap.dedent(beginning) + textwrap.dedent(body))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(directory), "PYTHONWARNINGS": "always"}
    return subprocess.run(
        [*before, sys.executable, str(script), str(directory)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )


def test_a_ring_truncated_under_recording_threads_ends_the_recording_not_the_host(tmp_path: Path) -> None:
    done = run_host(
        tmp_path,
        """
        recorder = make()
        ended = threading.Event()
        def work():
            while not ended.is_set():
                with recorder.frame(image=image):
                    pass
                time.sleep(0.001)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        recorder.flush(120)
        # Between two records: a cut in the middle of a copy cannot be survived by anyone.
        with recorder._session._ring._lock:
            time.sleep(0.05)
            os.truncate(here / "ring" / "a.ring", 4096)
        while not recorder.stats().errors.get("ring-truncated"):
            time.sleep(0.05)
        ended.set()
        for thread in threads: thread.join()
        recorder.trigger("after").wait(0.1)
        stats = recorder.stats()
        assert stats.errors.get("ring-truncated") == 1, stats
        recorder.close(1)
        print("alive")
        """,
    )
    assert done.returncode == 0 and done.stdout == "alive\n", done.stderr
    assert done.stderr.count("RuntimeWarning") == 1 and "truncated" in done.stderr
    wait_for(lambda: not list(tmp_path.rglob("*.ring")))


def test_a_second_process_on_the_same_ring_path_records_beside_it_and_says_so(tmp_path: Path) -> None:
    done = run_host(
        tmp_path,
        """
        first = make()
        with first.frame(image=image): pass
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            second = make()
        assert len(caught) == 1 and "belongs to another process" in str(caught[0].message), caught
        with second.frame(image=image): pass
        second.trigger("of the second")
        first.trigger("of the first")
        assert first.flush(120) and second.flush(120)
        first.close(); second.close()
        """,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "incidents").glob("*.zst"))) == 2


def test_a_clock_that_jumps_backwards_neither_stops_nor_confuses_the_recording(
    make_recorder: MakeRecorder, bundles: Callable[[], list[Bundle]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    recorder = make_recorder(post_frames=1, post_seconds=60)
    with recorder.frame(image=np.zeros((4, 4), np.uint8), number=0):
        pass
    now = time.time_ns()
    monkeypatch.setattr("time.time_ns", lambda: now - 3_600 * 10**9)
    monkeypatch.setattr("recorder.frame.time_ns", lambda: now - 3_600 * 10**9)
    for number in (1, 2):
        with recorder.frame(image=np.zeros((4, 4), np.uint8), number=number):
            pass
    incident = recorder.trigger("an hour earlier")
    with recorder.frame(image=np.zeros((4, 4), np.uint8), number=3):
        pass
    assert incident.wait(120).state == "sealed"
    [bundle] = bundles()
    with bundle:
        assert [frame.metadata["number"] for frame in bundle.manifest.frames] == [0, 1, 2, 3]
        assert bundle.verify() == []


def test_a_host_that_forks_while_an_incident_is_sealed_records_on_in_both_processes(tmp_path: Path) -> None:
    done = run_host(
        tmp_path,
        """
        recorder = make(pre_frames=50)
        for _ in range(50):
            with recorder.frame(image=image): pass
        for number in range(5):
            recorder.trigger(f"request {number}")
            child = os.fork()
            if child == 0:
                with recorder.frame(image=image): pass
                ok = recorder.trigger("in the child").wait(120).state == "sealed"
                recorder.close(120)
                os._exit(0 if ok else 1)
            with recorder.frame(image=image): pass
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert recorder.flush(120)
        recorder.close(120)
        """,
    )
    assert done.returncode == 0, done.stderr
    reasons = []
    for path in (tmp_path / "incidents").glob("*.zst"):
        with Bundle.open(path) as bundle:
            assert bundle.verify() == []
            reasons += [trigger.reason for trigger in bundle.manifest.incident.triggers]
    assert sorted(reasons) == sorted([*(f"request {number}" for number in range(5)), *["in the child"] * 5])


def test_a_working_directory_that_was_removed_costs_nothing_but_its_git_commit(
    make_recorder: MakeRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version was deployed over the one that runs; workers are still forked in what is left of it."""
    gone = tmp_path / "release-1"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.syspath_prepend("")
    gone.rmdir()
    recorder = make_recorder(notify="builtins:print")
    with recorder.frame():
        pass
    assert recorder.trigger("look").wait(120).state == "sealed" and recorder.stats().errors == {}
    with pytest.raises(ValueError, match="sink='incidents' is relative to a working directory that is gone"):
        make_recorder(sink="incidents")


def test_a_process_that_may_have_no_more_threads_is_told_that_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.warns(RuntimeWarning, match="records nothing: can't start new thread"):
        recorder = FlightRecorder(sink=tmp_path, ring=tmp_path / "ring" / "host.ring", max_bytes=8 * 2**20)
    with recorder.frame(image=np.zeros((4, 4), np.uint8)):
        pass
    assert recorder.stats().errors == {"session: RuntimeError": 1}
    assert not list((tmp_path / "ring").iterdir())  # a ring that nobody reads is memory


def test_a_directory_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run_host(
        tmp_path,
        """
        recorder = make(ring=here / "file" / "a.ring")
        with recorder.frame(image=image): pass
        assert recorder.trigger("nobody hears it").wait(0.1).path is None
        assert recorder.stats().errors == {"no-ring": 1}, recorder.stats()
        recorder.close(1)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuntimeWarning") == 1 and "records nothing" in done.stderr


@pytest.mark.parametrize("size_mib", [1, 64])
def test_a_shared_memory_of_64_mib_or_a_full_one_never_kills_the_host(tmp_path: Path, size_mib: int) -> None:
    """On a real tmpfs where this process may mount one, else on a directory that stands for it."""
    small = tmp_path / "shm"
    small.mkdir()
    script = f"""
        import recorder.opening
        from recorder.ring.location import choose_directory
        recorder.opening.choose_directory = lambda wanted: choose_directory(
            wanted, shared_memory=Path({str(small)!r}), temporary=here)
        recorder = make(ring=None, max_bytes=256 * 2**20)
        for _ in range(3000):
            with recorder.frame(image=np.zeros((200, 200, 3), np.uint8)): pass
        assert recorder.trigger("works").wait(120).state == "sealed", recorder.stats()
        print(recorder.stats().ring_bytes)
        recorder.close(120)
        while list(Path({str(small)!r}).rglob("*.ring")): time.sleep(0.05)
        time.sleep(2.5)
    """
    mount = f'mount -t tmpfs -o size={size_mib}m tmpfs {small} && exec "$@"'
    may_mount = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    done = run_host(tmp_path, script, ("unshare", "-m", "sh", "-c", mount, "sh") if may_mount else ())
    assert done.returncode == 0, done.stderr
    assert 2**20 < int(done.stdout) <= (32 if may_mount and size_mib == 64 else 256) * 2**20
    assert done.stderr.count("RuntimeWarning") == (2 if may_mount and size_mib == 1 else may_mount)
