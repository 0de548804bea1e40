"""Real servers recycle their workers and shut down: that is an end, no death, and their signals stay theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorder.bundle import Bundle
from tests.waiting import WAIT_SECONDS, free_port, sealers_of, wait_for

ROOT = Path(__file__).parents[2]
SERVICE = textwrap.dedent("""
    import json, os
    from recorder import FlightRecorder

    number = os.environ.get("TRIGGER_SIGNAL")
    recorder = FlightRecorder(
        sink=os.environ["INCIDENTS"], triggers=[], max_bytes=8 * 2**20, post_seconds=0.2,
        trigger_signal=int(number) if number else None,
    )

    def answer(path):
        with recorder.frame(path=path):
            pass
        recorder.flush(120)  # so that a sealer is there: who dies before it has begun, dies unseen
        return json.dumps([os.getpid(), recorder.stats().errors]).encode()

    def wsgi(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [answer(environ["PATH_INFO"])]

    async def asgi(scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer(scope["path"])})
""")
GUNICORN = ["gunicorn", "-w", "2", "--graceful-timeout", "120", "--timeout", "240", "service:wsgi", "-b"]
UVICORN = ["uvicorn", "service:asgi", "--port"]


class Server:
    """A server process, its address and what its workers answered."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, sink: Path) -> None:
        self.process = process
        self.port = port
        self.sink = sink

    def ask(self, path: str = "") -> tuple[int, dict[str, int]]:
        """Return who answered, and the errors its recorder counts."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=120) as answer:
                    pid, errors = json.load(answer)
                    return pid, errors
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.1)

    def kinds(self) -> list[str]:
        """The kinds of the incidents sealed so far."""
        found = []
        for path in sorted(self.sink.glob("*.zst")):
            with Bundle.open(path) as bundle:
                trigger = bundle.manifest.incident.triggers[0]
                found.append(trigger.kind if "not known" not in trigger.reason else trigger.reason)
        return found


@contextmanager
def serving(tmp_path: Path, command: list[str], *more: str, **variables: str) -> Iterator[Server]:
    (tmp_path / "service.py").write_text(SERVICE)
    port = free_port()
    address = f"127.0.0.1:{port}" if command[0] == "gunicorn" else str(port)
    given = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, address, *more],
            cwd=tmp_path,
            env={**given, "INCIDENTS": str(tmp_path / "incidents"), **variables},
            stdout=log,
            stderr=log,
        )
    try:
        yield Server(process, port, tmp_path / "incidents")
    finally:
        process.kill()
        process.wait()


def wait_until_no_sealer_is_left(tmp_path: Path) -> None:
    """The sealer of these workers ends when all of them have, and everything of them is sealed."""
    wait_for(lambda: not sealers_of(tmp_path))


def test_gunicorn_recycles_its_workers_and_shuts_down_without_an_incident(tmp_path: Path) -> None:
    with serving(tmp_path, GUNICORN, "--max-requests", "2") as server:
        assert len({server.ask(str(number))[0] for number in range(8)}) >= 3
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
    wait_until_no_sealer_is_left(tmp_path)
    assert server.kinds() == []


def test_a_worker_that_is_killed_by_gunicorns_timeout_is_a_death(tmp_path: Path) -> None:
    """SIGABRT or SIGKILL, from whomever: the service did hang."""
    with serving(tmp_path, GUNICORN) as server:
        pid, _ = server.ask()
        os.kill(pid, signal.SIGKILL)
        wait_for(server.kinds)  # whichever worker's sealer it is: the one that was killed may not have started its own
        server.ask()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
    wait_until_no_sealer_is_left(tmp_path)
    assert server.kinds() == ["process_died"]


@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["one process", "workers"])
def test_uvicorn_shuts_down_without_an_incident(tmp_path: Path, more: list[str]) -> None:
    """Alone it raises SIGTERM once more when it is done, and dies of it: asked for, as the sealer can tell."""
    with serving(tmp_path, UVICORN, *more) as server:
        server.ask()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) in (0, -signal.SIGTERM)
    wait_until_no_sealer_is_left(tmp_path)
    assert server.kinds() == []


def test_the_signals_that_gunicorn_uses_stay_its_own(tmp_path: Path) -> None:
    """A worker reopens its log on SIGUSR1, so that it is refused there; SIGUSR2 is the master's alone, and free."""
    with serving(tmp_path, GUNICORN, TRIGGER_SIGNAL=str(int(signal.SIGUSR1))) as server:
        _, errors = server.ask()
        assert errors == {"trigger-signal-taken": 1}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
    with serving(tmp_path, GUNICORN, TRIGGER_SIGNAL=str(int(signal.SIGUSR2))) as server:
        pid, errors = server.ask()
        assert errors == {}
        os.kill(pid, signal.SIGUSR2)
        wait_for(server.kinds)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
    wait_until_no_sealer_is_left(tmp_path)
    assert server.kinds() == ["signal"]
