"""How tests wait: for the condition itself, for as long as a busy machine takes."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["WAIT_SECONDS", "free_port", "halt", "is_empty", "sealers_of", "wait_for"]

#: Nothing here takes more than a few seconds; what has not come true by now never will.
WAIT_SECONDS = 120.0
#: Below what any system hands out to outgoing connections, so that nobody is given the port before its server binds it.
PORTS = range(10_240, 20_000)


def wait_for(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Return when the condition holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_empty(directory: Path) -> bool:
    """Whether a sealer has taken everything away and ended; its lock is the last that goes."""
    return not any(directory.iterdir())


def free_port(*, above: int = 0) -> int:
    """A port of this machine that nobody listens on; with ``above``, the one so much higher is free too."""
    while True:
        port = random.choice(PORTS)
        try:
            for number in {port, port + above}:
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


def halt(process: subprocess.Popen[str]) -> None:
    """Stop a process, and return when each of its threads has stopped: the signal alone only asks for it."""
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: all(_state(task) in "Tt" for task in Path(f"/proc/{process.pid}/task").iterdir()))


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def sealers_of(directory: Path) -> list[int]:
    """Process ids of the sealers whose command line or environment names the directory."""
    return [pid for pid, said in _sealers() if str(directory).encode() in said]


def _sealers() -> Iterator[tuple[int, bytes]]:
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"recorder.sealer" in command:
                yield int(entry.name), command + (entry / "environ").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
