"""The resident sealer: serves every ring of one directory, and ends when there is none left."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from recorder.keeper import lock_path, wake_path
from recorder.ring import RingError, RingReader, RingState, is_alive
from recorder.sealer.follower import ClosedWindow, Follower, salvage
from recorder.sealer.sealing import Sealing
from recorder.sealer.tracking import Tracking
from recorder.settings import SealerSettings
from recorder.sinks import open_sink
from recorder.status import StatusWriter, status_path
from recorder.track import track_path

__all__ = ["main"]

#: How long the sealer sleeps when nothing happens; a host that triggers wakes it at once.
IDLE_SECONDS = 0.1
BUSY_SECONDS = 0.01
#: A service that restarts finds its sealer still there.
LINGER_SECONDS = 2.0


class _Served:
    """One ring and what becomes of it."""

    def __init__(self, path: Path, settings: SealerSettings, sealing: Sealing) -> None:
        self.path = path
        self.reader = RingReader(path)
        self.status = StatusWriter(status_path(path))
        self._sealing = sealing
        self._gone = False
        self._left = 0
        self._flushes: list[tuple[int, int]] = []
        self._sealed = 0
        self._submitted = 0
        self._tracking = Tracking.of_ring(self.reader, settings)
        self.follower = Follower(
            self.reader, path.parent, settings.spool_bytes, self._report, self._submit, self._tracking
        )
        if settings.track_bytes and self._tracking is None:
            self.follower.lost.add("track-unavailable")
        self.pidfd = self._watch()

    def poll(self, now: float) -> bool:
        """Follow the ring; say whether there was anything new."""
        if self._gone:
            return False
        busy = self.follower.poll(now)
        header = self.reader.refresh()
        if header.state in (RingState.CLOSED, RingState.TERMINATED):
            self._gone = True
            self.follower.close("close", "closed", now)
        elif self._is_dead():
            self._gone = True
            self._seal_death(now)
        self._answer_flushes()
        return busy

    @property
    def is_over(self) -> bool:
        """Whether the host is gone and everything of it is sealed."""
        return self._gone and self._sealed == self._submitted

    def remove(self) -> None:
        """Take the ring away; it has been sealed."""
        self.close()
        for path in (self.path, status_path(self.path), track_path(self.path)):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files."""
        self.reader.close()
        if self._tracking is not None:
            self._tracking.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def _seal_death(self, now: float) -> None:
        self.follower.poll(now, skip_pending=True)
        earlier = self.follower.abandon()
        if not self.follower.has_frames:
            return
        identity = self.reader.header.identity
        # The same leftover sealed by another sealer gets the same id.
        seed = f"{identity.boot_id} {identity.pid} {identity.start_ticks} {self.path.name}"
        incident = hashlib.sha256(seed.encode()).hexdigest()[:32]
        self._submit(salvage(self.reader, incident, earlier, f"the recording process {identity.pid} died"))

    def _submit(self, window: ClosedWindow) -> None:
        self._submitted += 1
        self._sealing.submit(window, self.status.append, host_is_there=lambda: not self._gone, done=self._count)

    def _count(self, sealed: bool) -> None:
        self._sealed += 1

    def _report(self, event: dict[str, Any]) -> None:
        if event["event"] == "flush-requested":
            self._flushes.append((event["flush"], self._submitted))
        else:
            self.status.append(event)

    def _answer_flushes(self) -> None:
        while self._flushes and self._sealed >= self._flushes[0][1]:
            self.status.append({"event": "flushed", "flush": self._flushes.pop(0)[0]})

    def _watch(self) -> int | None:
        header = self.reader.header
        with contextlib.suppress(OSError, AttributeError):
            descriptor = os.pidfd_open(header.identity.pid)
            if is_alive(header):
                return descriptor
            os.close(descriptor)
        return None

    def _is_dead(self) -> bool:
        if self.pidfd is not None:
            return bool(select.select([self.pidfd], [], [], 0)[0])
        return is_alive(self.reader.header) is False


def main(arguments: list[str]) -> int:
    """Serve the directory named by the first argument; settings come as JSON on standard input."""
    directory = Path(arguments[0])
    settings = SealerSettings.from_json(sys.stdin.read())
    sys.path.extend(path for path in settings.python_path if path not in sys.path)
    with contextlib.suppress(OSError):
        os.nice(10)
    if _take_lock(lock_path(directory)):
        _Sealer(directory, settings).run()
    return 0


def _take_lock(path: Path) -> bool:
    """Become the directory's sealer; False when there is one. The lock is held until this process ends."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        # A sealer that has just ended removed the file under its lock: then ours is a lock on nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(lock).st_ino == path.stat().st_ino:
                return True
        os.close(lock)


class _Sealer:
    def __init__(self, directory: Path, settings: SealerSettings) -> None:
        self._directory = directory
        self._settings = settings
        self._sink = open_sink(settings.sink, **settings.sink_options)
        self._sealing = Sealing(self._sink, settings.notify)
        self._rings: dict[str, _Served] = {}
        self._refused: set[str] = set()
        self._wake = self._open_wake()

    def run(self) -> None:
        empty_since = time.monotonic()
        while True:
            now = time.monotonic()
            busy = self._poll(now)
            if self._rings or self._sealing.pending:
                empty_since = now
            elif now - empty_since > LINGER_SECONDS:
                break
            self._sleep(BUSY_SECONDS if busy else IDLE_SECONDS)
        self._sealing.stop()
        self._clean_up()

    def _poll(self, now: float) -> bool:
        self._adopt()
        busy = False
        for name, served in list(self._rings.items()):
            try:
                busy |= served.poll(now)
            except (RingError, OSError):
                # Damaged under us: nothing more can be had from it, and `replay recover` may try.
                self._refused.add(name)
                served.close()
                del self._rings[name]
                continue
            if served.is_over:
                served.remove()
                del self._rings[name]
        return busy

    def _adopt(self) -> None:
        try:
            names = [path.name for path in self._directory.iterdir() if path.suffix == ".ring"]
        except OSError:
            names = []
        for name in names:
            if name not in self._rings and name not in self._refused:
                try:
                    self._rings[name] = _Served(self._directory / name, self._settings, self._sealing)
                except (RingError, OSError):
                    self._refused.add(name)

    def _sleep(self, seconds: float) -> None:
        watched = [served.pidfd for served in self._rings.values() if served.pidfd is not None]
        if self._wake is not None:
            watched.append(self._wake)
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._wake in ready and self._wake is not None:
            with contextlib.suppress(OSError):
                os.read(self._wake, 4096)

    def _open_wake(self) -> int | None:
        path = wake_path(self._directory)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            # Opened for writing too, so that it never reads as closed while no host holds it.
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None

    def _clean_up(self) -> None:
        for path in (wake_path(self._directory), lock_path(self._directory)):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._directory.rmdir()
            self._directory.parent.rmdir()
