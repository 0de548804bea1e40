"""The resident sealer: serves every ring of one directory, and ends when there is none left."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.keeper import lock_path, wake_path
from recorder.limits import Limits, limits_path
from recorder.operator_requests import OperatorFile
from recorder.privacy import PrivacyKey
from recorder.ring import RingError, RingReader, RingState, is_alive
from recorder.sealer.exit_status import ending_of, exit_status, is_orderly
from recorder.sealer.follower import Follower
from recorder.sealer.leftover import salvage
from recorder.sealer.memory import give_back
from recorder.sealer.progress import Progress, progress_path, sealed_before
from recorder.sealer.scratch import close_scratch, open_scratch
from recorder.sealer.sealing import Sealing
from recorder.sealer.tracking import Tracking
from recorder.sealer.window import ClosedWindow, incident_name
from recorder.settings import SealerSettings
from recorder.sinks import Sink, open_sink
from recorder.status import StatusWriter, status_path
from recorder.track import track_path
from recorder.trust.protection import Protection

if TYPE_CHECKING:
    from recorder.sealer.references import References

__all__ = ["main", "serve"]

#: How long the sealer sleeps when nothing happens; a host that triggers wakes it at once.
IDLE_SECONDS = 0.1
BUSY_SECONDS = 0.01
#: After so long without anything new, what reading and measuring took is given back.
CALM_SECONDS = 1.0
#: A service that restarts finds its sealer still there.
LINGER_SECONDS = 2.0
#: How often a host is told what its history costs: seldom enough that its other news stay in the file.
TELL_SECONDS = 10.0


class _Served:
    """One ring and what becomes of it."""

    def __init__(
        self,
        path: Path,
        settings: SealerSettings,
        sink: Sink,
        sealing: Sealing,
        limits: Limits,
        references: References | None,
    ) -> None:
        self.path = path
        self.reader = RingReader(path)
        self.status = StatusWriter(status_path(path))
        self._sink = sink
        self._sealing = sealing
        self._gone = False
        self._flushes: list[tuple[int, int]] = []
        self._sealed = 0
        self._submitted = 0
        self._told_at = time.monotonic()
        self._told_rows = 0
        self._progress = Progress(path)
        self._sealed_before = sealed_before(path)
        self._resumed = self._progress.found != (0, 0)
        self._tracking = Tracking.of_ring(self.reader, settings)
        self.follower = Follower(
            self.reader,
            path.parent,
            settings.spool_bytes,
            self._report,
            self._submit,
            resume=self._progress.found,
            tracking=self._tracking,
            limits=limits,
            references=references,
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
            if self.reader.refresh().state is not RingState.LIVE:
                return True  # it closed in order just after the first look
            self._gone = True
            status = exit_status(self.pidfd, self.reader.header.identity.pid) if self.pidfd is not None else None
            if is_orderly(status):
                self.follower.close("close", "closed", now)
            else:
                self._seal_death(now, status)
        if now - self._told_at >= TELL_SECONDS:
            self._tell_cost(now)
        self._answer_flushes(now)
        self._progress.store(self.follower.settled)
        return busy

    def ask(self, kind: str, reason: str, now: float) -> None:
        """Seal an incident of every stream, unless the host is gone."""
        if not self._gone:
            self.follower.ask(kind, reason, now)

    @property
    def is_gone(self) -> bool:
        """Whether the host has ended."""
        return self._gone

    @property
    def is_over(self) -> bool:
        """Whether the host is gone and everything of it is sealed."""
        return self._gone and self._sealed == self._submitted

    def remove(self) -> None:
        """Take the ring away; it has been sealed."""
        self.close()
        # The ring first: without it the rest is of no use to anyone, with it the rest keeps it from being sealed again.
        for path in (self.path, status_path(self.path), progress_path(self.path), track_path(self.path)):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files."""
        self.reader.close()
        self._progress.close()
        if self._tracking is not None:
            self._tracking.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def _seal_death(self, now: float, status: int | None) -> None:
        self.follower.poll(now, skip_pending=True)
        if not self.follower.has_frames:
            self.follower.abandon()
            return
        identity, ending = self.reader.header.identity, ending_of(status)
        reason = f"the recording process {identity.pid} died: {ending}"
        window = salvage(self.reader, incident_name(self.reader), reason, ending=ending)
        if not self.follower.admit_death(window.incident, now):
            # One more of a crash loop. What was triggered before it is sealed all the same.
            self.follower.close("death", "died", now)
            return
        earlier = self.follower.abandon()
        recurrences = self.follower.note_death(window.incident, now)
        window.incident = dataclasses.replace(
            window.incident,
            triggers=(*window.incident.triggers, *earlier),
            recurrences_since_last=recurrences,
        )
        self._submit(window, once=True)

    def _submit(self, window: ClosedWindow, once: bool = False) -> None:
        incident = window.incident.id
        if incident in self._sealed_before:  # by the sealer before us, which died before it could note that
            window.release()
            self.follower.settle(incident)
            return
        self._submitted += 1

        def done(sealed: bool) -> None:
            self._sealed += 1
            self.follower.settle(incident)

        self._sealing.submit(
            window,
            self.status.append,
            host_is_there=lambda: not self._gone,
            once=once or self._resumed,
            done=done,
        )

    def _report(self, event: dict[str, Any]) -> None:
        if event["event"] == "flush-requested":
            self._flushes.append((event["flush"], self._submitted))
        else:
            self.status.append(event)

    def _tell_cost(self, now: float) -> None:
        """Tell the host what its history costs, when there is news."""
        self._told_at = now
        if self._tracking is not None and self._tracking.frames != self._told_rows:
            self._told_rows = self._tracking.frames
            cost = round(self._tracking.measuring.spent_seconds, 6)
            self.status.append({"event": "track", "rows": self._told_rows, "seconds": cost})

    def _answer_flushes(self, now: float) -> None:
        if not self._flushes or self._sealed < self._flushes[0][1] or self._sink.waiting():
            return
        self._tell_cost(now)
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
    """Serve the directory named by the first argument; on standard input come the settings, then the privacy key.

    The settings are a line of JSON, the key a line of hexadecimal digits, empty where there is none.
    """
    directory = Path(arguments[0])
    given, _, secret = sys.stdin.read().partition("\n")
    settings = SealerSettings.from_json(given)
    key = PrivacyKey(bytes.fromhex(secret)) if secret else None
    sys.path.extend(path for path in settings.python_path if path not in sys.path)
    with contextlib.suppress(OSError):
        os.nice(10)
    if _take_lock(lock_path(directory)):
        sealer = _Sealer(directory, settings, key)
        sealer.run()
        sealer.end()
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


def serve(
    directory: Path, settings: SealerSettings, *, once: bool = False, privacy_key: PrivacyKey | None = None
) -> bool:
    """Seal what is and what comes into a ring directory, in this process, until interrupted.

    Args:
        directory: where the rings are.
        settings: sink and bounds.
        once: seal what dead processes have left, and return.
        privacy_key: for pseudonyms and digests.

    Returns:
        Whether there was anything to do here: False when another sealer serves the directory.

    Raises:
        SinkUnavailable: there is no such sink.
        OSError: the directory cannot be written.
    """
    if not _take_lock(lock_path(directory)):
        return False
    sealer = _Sealer(directory, settings, privacy_key, linger=once, leftovers_only=once)
    try:
        sealer.run()
    finally:
        sealer.end()
    return True


class _Sealer:
    """Serves one directory.

    Args:
        directory: where the rings are.
        settings: sink and bounds.
        privacy_key: for pseudonyms and digests.
        linger: whether to end when there is no ring left.
        leftovers_only: leave the rings of living processes alone.
    """

    def __init__(
        self,
        directory: Path,
        settings: SealerSettings,
        privacy_key: PrivacyKey | None = None,
        *,
        linger: bool = True,
        leftovers_only: bool = False,
    ) -> None:
        self._linger = linger
        self._leftovers_only = leftovers_only
        self._scratch = open_scratch(directory)
        self._directory = directory
        self._settings = settings
        self._sink = open_sink(settings.sink, **settings.sink_options).apart()
        self._rings: dict[str, _Served] = {}
        self._sealing = Sealing(
            self._sink,
            settings.notify,
            self._scratch,
            settings.privacy_policy,
            privacy_key,
            Protection(sign_key=settings.sign_key, encrypt_to=tuple(settings.encrypt_to)),
            max_bundle_bytes=settings.max_bundle_bytes,
            profile=Path(settings.profile) if settings.profile is not None else None,
            tell=self._tell,
            # A factory's sink is made by code and options that another process does not have.
            sink_spec=settings.sink if "://" in settings.sink or settings.sink.startswith("/") else None,
        )
        kept = self._sink.state_directory()
        self._limits = Limits(limits_path(kept, directory) if kept is not None else None)
        self._references = self._open_references(kept)
        self._refused: set[str] = set()
        self._wake = self._open_wake()
        touched, seen = settings.trigger_file, settings.trigger_file_seen
        self._file = OperatorFile(Path(touched), seen) if touched is not None else None

    def _open_references(self, kept: Path | None) -> References | None:
        """What streams are compared with; imported where there is something, since a sealer is to be small."""
        settings = self._settings
        if settings.profile is None and not settings.warmup_frames:
            return None
        from recorder.sealer.references import References, learnt_path

        return References(
            Path(settings.profile) if settings.profile is not None else None,
            settings.warmup_frames,
            learnt_path(kept, self._directory) if kept is not None else None,
            self._tell,
        )

    def run(self) -> None:
        empty_since = time.monotonic()
        busy_at: float | None = empty_since
        while True:
            now = time.monotonic()
            busy = self._poll(now)
            if busy or self._sealing.pending:
                busy_at = now
            elif busy_at is not None and now - busy_at > CALM_SECONDS:
                busy_at = None
                give_back()
            if self._rings or self._sealing.pending or self._sink.is_busy():
                empty_since = now
            elif self._linger and now - empty_since > (0.0 if self._leftovers_only else LINGER_SECONDS):
                break
            self._sleep(BUSY_SECONDS if busy else IDLE_SECONDS)

    def end(self) -> None:
        """Finish what is being sealed, and take away what is the sealer's own."""
        self._sealing.stop()
        self._limits.store(time.monotonic(), at_once=True)
        for served in self._rings.values():
            served.close()
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
        # After the rings have been read: the request is about what was recorded by now.
        if self._file is not None and self._file.was_touched(now):
            for served in self._rings.values():
                served.ask("operator_file", self._file.reason, now)
        self._limits.store(now)
        return busy

    def _tell(self, event: dict[str, Any]) -> None:
        """Tell every host; called by threads of the sink and of the sealing too."""
        for served in list(self._rings.values()):
            served.status.append(event)

    def _adopt(self) -> None:
        try:
            names = [path.name for path in self._directory.iterdir() if path.suffix == ".ring"]
        except OSError:
            names = []
        for name in names:
            if name not in self._rings and name not in self._refused:
                try:
                    if self._leftovers_only and not _is_leftover(self._directory / name):
                        continue
                    self._rings[name] = _Served(
                        self._directory / name,
                        self._settings,
                        self._sink,
                        self._sealing,
                        self._limits,
                        self._references,
                    )
                except (RingError, OSError):
                    self._refused.add(name)

    def _sleep(self, seconds: float) -> None:
        watched = [served.pidfd for served in self._rings.values() if served.pidfd is not None and not served.is_gone]
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
        close_scratch(self._scratch)
        if self._wake is not None:
            os.close(self._wake)
        for path in (wake_path(self._directory), lock_path(self._directory)):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._directory.rmdir()
            self._directory.parent.rmdir()


def _is_leftover(path: Path) -> bool:
    with RingReader(path) as reader:
        return reader.header.state is not RingState.LIVE or is_alive(reader.header) is False
