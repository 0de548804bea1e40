"""Endings that are no incident, sealers that die, leftovers that are sealed once and only once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorder.bundle import Bundle
from recorder.keeper import _is_served
from recorder.ring import RingReader
from recorder.ring.location import private_name
from recorder.sealer.process import serve
from recorder.settings import SealerSettings
from recorder.status import status_path
from recorder.track import track_path
from tests.waiting import halt, is_empty, sealers_of, wait_for

REPOSITORY = Path(__file__).parents[2]
HOST = textwrap.dedent("""
    import os, signal, sys, time
    import numpy as np
    from recorder import FlightRecorder

    recorder = FlightRecorder(
        sink=sys.argv[1], ring=sys.argv[2], post_seconds=float(sys.argv[3]),
        max_bytes=8 * 2**20, pre_frames=2, post_frames=2, overhead_budget=1,
    )
    def frame(number):
        with recorder.frame(image=np.full((4, 4), number, np.uint8), number=number):
            pass
    for number in range(5):
        frame(number)
    print("ready", flush=True)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
""")


class Host:
    """A recording process that does what it is told, a line of Python at a time."""

    def __init__(self, directory: Path, post_seconds: float) -> None:
        script = directory / "host.py"
        script.write_text(HOST)
        self.ring = directory / "ring" / "host.ring"
        self.sink = directory / "incidents"
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(directory), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.sink), str(self.ring), str(post_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def do(self, line: str) -> None:
        """Have it execute a line."""
        self.tell(line)
        assert self.process.stdout is not None and self.process.stdout.readline() == "done\n"

    def tell(self, line: str) -> None:
        """The same, without waiting."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def sealers(self) -> list[int]:
        """Process ids of the sealers of its ring directory."""
        return sealers_of(self.ring.parent)

    def die_with_its_sealer(self) -> None:
        """Kill both; the host is halted first, for one that still runs would start another sealer."""
        wait_for(self.served)
        halt(self.process)
        for sealer in self.sealers():
            os.kill(sealer, signal.SIGKILL)
        wait_for(lambda: not self.sealers())
        self.process.kill()
        self.process.wait()

    def served(self) -> bool:
        """Whether a sealer holds the ring directory: one that has only been started may still lose it to another."""
        return status_path(self.ring).exists()

    def bundles(self) -> list[Path]:
        """What is in its sink, oldest first: names say when it was."""
        return sorted(self.sink.glob("*.zst"))


@contextmanager
def recording(directory: Path, post_seconds: float = 0.2) -> Iterator[Host]:
    host = Host(directory, post_seconds)
    try:
        yield host
    finally:
        host.process.kill()
        host.process.communicate()
        wait_for(lambda: not host.sealers())


def settings(host: Host) -> SealerSettings:
    return SealerSettings(sink=str(host.sink), sink_options={}, notify=None, spool_bytes=2**20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_host_that_is_asked_to_end_without_a_handler_is_no_incident(tmp_path: Path, number: signal.Signals) -> None:
    with recording(tmp_path) as host:
        host.do(f"signal.signal({int(number)}, signal.SIG_DFL)")  # also where the tests run under nohup
        host.do("recorder.flush(120)")
        if number == signal.SIGTERM:  # as systemd does, which asks every process of a service
            os.kill(*host.sealers(), number)
        host.process.send_signal(number)
        wait_for(lambda: is_empty(host.ring.parent))  # reaped only then: before Linux 6.15 a zombie alone tells how
        assert host.process.wait(120) == -number
        assert host.bundles() == []


def test_the_reason_of_a_death_names_the_signal_or_the_exit_status(tmp_path: Path) -> None:
    with recording(tmp_path) as host:
        host.do("recorder.flush(120)")
        host.tell("os._exit(7)")
        wait_for(host.bundles)
        with Bundle.open(host.bundles()[0]) as bundle:
            assert bundle.manifest.incident.triggers[0].reason.endswith("died: with exit status 7")


def test_an_ended_multiprocessing_worker_is_no_incident(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing, numpy as np
        from recorder import FlightRecorder
        recorder = FlightRecorder(sink={str(tmp_path / "incidents")!r}, ring={str(tmp_path / "ring" / "a.ring")!r},
                                  max_bytes=8 * 2**20)
        def work(number):
            with recorder.frame(image=np.zeros((4, 4), np.uint8)):
                return number
        if __name__ == "__main__":
            processes = [multiprocessing.get_context("fork").Process(target=work, args=(n,)) for n in range(2)]
            for process in processes: process.start()
            for process in processes: process.join()
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True, check=True)
    assert "Traceback" not in done.stderr
    wait_for(lambda: is_empty(tmp_path / "ring"))
    assert not list((tmp_path / "incidents").glob("*.zst"))


def test_a_sealer_killed_in_the_middle_of_a_window_is_replaced_and_the_window_is_sealed_once(tmp_path: Path) -> None:
    with recording(tmp_path, post_seconds=600.0) as host:
        wait_for(host.served)
        host.do("handle = recorder.trigger('first'); frame(5); frame(6); handle.wait(120)")
        assert len(host.bundles()) == 1
        host.do("handle = recorder.trigger('second'); frame(7)")
        wait_for(lambda: status_path(host.ring).read_bytes().count(b'"opened"') == 2)
        [sealer] = host.sealers()
        os.kill(sealer, signal.SIGKILL)
        wait_for(lambda: host.sealers() not in ([], [sealer]))
        host.do("frame(8); handle.wait(120)")
        assert len(host.bundles()) == 2
        with Bundle.open(host.bundles()[-1]) as bundle:
            assert [trigger.reason for trigger in bundle.manifest.incident.triggers] == ["second"]
            assert [frame.metadata["number"] for frame in bundle.manifest.frames][-2:] == [7, 8]
            assert bundle.verify() == []
        host.do("recorder.close(120)")
        wait_for(lambda: is_empty(host.ring.parent))
        assert len(host.bundles()) == 2


def test_what_host_and_sealer_left_is_sealed_by_the_next_start(tmp_path: Path) -> None:
    with recording(tmp_path) as host:
        host.die_with_its_sealer()
    with recording(tmp_path) as later:
        assert len(list(later.ring.parent.glob("*.ring"))) in (1, 2)
        wait_for(later.bundles)
        wait_for(lambda: not later.ring.exists())
        later.do("recorder.close(120)")
        wait_for(lambda: is_empty(later.ring.parent))
        assert len(later.bundles()) == 1


def test_a_leftover_whose_bundle_was_published_before_the_sealer_died_is_not_sealed_again(tmp_path: Path) -> None:
    with recording(tmp_path) as host:
        host.die_with_its_sealer()
        ring = host.ring.read_bytes()
        for path in host.ring.parent.iterdir():
            if path != host.ring:
                path.unlink()
        assert serve(host.ring.parent, settings(host), once=True)
        assert is_empty(host.ring.parent)
        [published] = host.bundles()
        before = published.stat().st_mtime_ns
        # As if it had died after publishing and before taking the ring away.
        host.ring.write_bytes(ring)
        assert serve(host.ring.parent, settings(host), once=True)
        assert is_empty(host.ring.parent)
        assert host.bundles() == [published] and published.stat().st_mtime_ns == before


def test_of_directories_only_what_the_recorder_made_for_itself_is_taken_away(tmp_path: Path) -> None:
    """One that the user named may be a volume, and the next sidecar is told to watch it."""
    own, named = tmp_path / private_name() / "0123abcd", tmp_path / "rings" / "line-3"
    given = SealerSettings(sink=str(tmp_path / "incidents"), sink_options={}, notify=None, spool_bytes=2**20)
    for directory in (own, named):
        directory.mkdir(mode=0o700, parents=True)
        assert serve(directory, given, once=True)
    assert not own.parent.exists() and is_empty(named)


def test_sealing_what_is_left_leaves_living_processes_alone(tmp_path: Path) -> None:
    with recording(tmp_path) as host:
        wait_for(host.served)
        command = [sys.executable, "-m", "replay", "seal", "--watch", str(host.ring.parent), "--once", "--json"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
        done = subprocess.run(
            [*command, "--sink", str(host.sink)], env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 1 and json.loads(done.stdout)["served"] is False
        with RingReader(host.ring) as reader:
            assert reader.header.identity.pid == host.process.pid


def test_a_sidecar_seals_for_hosts_that_start_no_sealer_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "ring").mkdir(mode=0o700)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "replay", "seal", "--watch", str(tmp_path / "ring")]
    history = ["--history-seconds", "60", "--track-bytes", str(2**20)]
    with subprocess.Popen(
        [*command, "--sink", str(tmp_path / "incidents"), *history], env=environment, stderr=subprocess.DEVNULL
    ) as sidecar:
        try:
            wait_for(lambda: _is_served(tmp_path / "ring"))
            with recording(tmp_path, post_seconds=600.0) as host:
                host.do("recorder.trigger('seen by the sidecar'); frame(5); frame(6); recorder.flush(120)")
                assert host.sealers() == [] and len(host.bundles()) == 1
                assert 2**19 < track_path(host.ring).stat().st_size <= 2**20
                with Bundle.open(host.bundles()[0]) as bundle:
                    assert bundle.track()[0].level.rows == 7
                host.process.kill()
                host.process.wait()
                wait_for(lambda: len(host.bundles()) == 2)
                wait_for(lambda: not host.ring.exists())
        finally:
            sidecar.send_signal(signal.SIGTERM)
            assert sidecar.wait(120) == 0
    assert is_empty(tmp_path / "ring")
