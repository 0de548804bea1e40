"""The resident sealer: serves every ring of one directory, and ends when there is none left."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.keeper import lock_path, wake_path
from recorder.limits import Limits, limits_path
from recorder.operator_requests import OperatorFile
from recorder.privacy import PrivacyKey
from recorder.ring import RingError, RingInvalid, RingReader, RingState, is_alive
from recorder.ring.location import BESIDE_SUFFIXES, RING_SUFFIX, private_name
from recorder.sealer.memory import give_back
from recorder.sealer.own_process import SealerLock, fall_silent, settle_in
from recorder.sealer.scratch import close_scratch, open_scratch
from recorder.sealer.sealing import Sealing
from recorder.sealer.served import Served, readable
from recorder.settings import SealerSettings
from recorder.sinks import open_sink
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
#: A ring whose incident could not be brought to the sink is tried again.
RETRY_SECONDS = 60.0
#: One that could not be opened or read for want of files or memory, or that is not ours, is looked at again.
REOPEN_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Serve the directory named by the first argument; on standard input come the settings, then the privacy key.

    The settings are a line of JSON, the key a line of hexadecimal digits, empty where there is none.
    """
    directory = Path(arguments[0])
    given, _, secret = sys.stdin.read().partition("\n")
    settings = SealerSettings.from_json(given)
    key = PrivacyKey(bytes.fromhex(secret)) if secret else None
    sys.path.extend(path for path in settings.python_path if path not in sys.path)
    settle_in()
    if (lock := SealerLock.take(lock_path(directory))) is not None:
        sealer = _Sealer(directory, settings, lock, key)
        fall_silent()
        sealer.run()
        sealer.end()
    return 0


def serve(
    directory: Path,
    settings: SealerSettings,
    *,
    once: bool = False,
    privacy_key: PrivacyKey | None = None,
    is_asked_to_end: Callable[[], bool] = lambda: False,
    watch: Callable[[dict[str, Any]], None] = lambda event: None,
) -> bool:
    """Seal what is and what comes into a ring directory, in this process, until asked to end.

    Args:
        directory: where the rings are.
        settings: sink and bounds.
        once: seal what dead processes have left, and return.
        privacy_key: for pseudonyms and digests.
        is_asked_to_end: looked at ten times a second, between two steps of the work: a ring is taken away as a whole.
        watch: told of every event that a host is told of, from any thread: {"event": "sealed", "path": …} and others.

    Returns:
        Whether there was anything to do here: False when another sealer serves the directory.

    Raises:
        SinkUnavailable: there is no such sink.
        OSError: the directory cannot be written.
    """
    lock = SealerLock.take(lock_path(directory))
    if lock is None:
        return False
    sealer = _Sealer(directory, settings, lock, privacy_key, linger=once, leftovers_only=once, watch=watch)
    try:
        sealer.run(is_asked_to_end)
    finally:
        sealer.end()
    return True


class _Sealer:
    """Serves one directory.

    Args:
        directory: where the rings are.
        settings: sink and bounds.
        lock: of the directory.
        privacy_key: for pseudonyms and digests.
        linger: whether to end when there is no ring left.
        leftovers_only: leave the rings of living processes alone.
        watch: told of every event.
    """

    def __init__(
        self,
        directory: Path,
        settings: SealerSettings,
        lock: SealerLock,
        privacy_key: PrivacyKey | None = None,
        *,
        linger: bool = True,
        leftovers_only: bool = False,
        watch: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> None:
        self._lock = lock
        self._linger = linger
        self._watch = watch
        self._leftovers_only = leftovers_only
        self._directory = directory
        self._settings = settings
        self._sink = open_sink(settings.sink, **settings.sink_options).apart()
        self._scratch = open_scratch(directory)  # after the sink: one that cannot be had leaves no directory behind
        self._rings: dict[str, Served] = {}
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
        self._refused: dict[str, float] = {}  # rings that cannot be served, and until when
        self._kept: dict[str, float] = {}  # rings that wait for another try, and until when
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

    def run(self, is_asked_to_end: Callable[[], bool] = lambda: False) -> None:
        empty_since = time.monotonic()
        busy_at: float | None = empty_since
        while not is_asked_to_end():
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
        """Finish what is being sealed, take away what is the sealer's own, and wait for notifications."""
        self._sealing.stop()
        self._limits.store(time.monotonic(), at_once=True)
        for served in self._rings.values():
            served.close()
        self._clean_up()
        # Last, when the directory is free for another sealer: this may take minutes.
        self._sealing.finish_notifying()

    def _poll(self, now: float) -> bool:
        self._adopt(now)
        busy = False
        for name, served in list(self._rings.items()):
            try:
                busy |= served.poll(now)
            except (RingError, OSError) as error:
                self._refuse(name, error, now)
                served.close()
                del self._rings[name]
                continue
            if served.is_over:
                self._let_go(name, served, now)
        # After the rings have been read: the request is about what was recorded by now.
        if self._file is not None and self._file.was_touched(now):
            for served in self._rings.values():
                served.ask("operator_file", self._file.reason, now)
        self._limits.store(now)
        return busy

    def _let_go(self, name: str, served: Served, now: float) -> None:
        """Take a ring away that is sealed; keep one whose incident could not be brought to the sink.

        Rings are memory: beside a sink that stays full, a service that dies again and again leaves one, not many.
        """
        if served.is_unsettled and (self._leftovers_only or self._kept.keys() <= {name}):
            served.close()
            self._kept[name] = now + RETRY_SECONDS
        else:
            served.remove()
            self._kept.pop(name, None)
        del self._rings[name]

    def _tell(self, event: dict[str, Any]) -> None:
        """Tell every host; called by threads of the sink and of the sealing too."""
        self._watch(event)
        for served in list(self._rings.values()):
            served.status.append(event)

    def _adopt(self, now: float) -> None:
        if not self._lock.is_held:
            return  # somebody removed it: another sealer serves what is new
        try:
            names = [path.name for path in self._directory.iterdir() if path.suffix == ".ring"]
        except OSError:
            names = []
        self._kept = {name: until for name, until in self._kept.items() if name in names}
        self._refused = {name: until for name, until in self._refused.items() if name in names}
        for name in names:
            if name not in self._rings and max(self._refused.get(name, now), self._kept.get(name, now)) <= now:
                try:
                    if self._leftovers_only and not _is_leftover(self._directory / name):
                        continue
                    self._rings[name] = Served(
                        self._directory / name,
                        self._settings,
                        self._sink,
                        self._sealing,
                        self._limits,
                        self._references,
                        self._watch,
                    )
                except (RingError, OSError) as error:
                    self._refuse(name, error, now)

    def _refuse(self, name: str, error: Exception, now: float) -> None:
        """Leave a ring alone: for good where it is damaged (`replay recover` may try), else for a while."""
        if name not in self._refused:
            self._watch({"event": "failed", "incident": "", "reason": f"{type(error).__name__}: {error}"[:500]})
        self._refused[name] = math.inf if isinstance(error, RingInvalid) else now + REOPEN_SECONDS

    def _sleep(self, seconds: float) -> None:
        watched = [served.pidfd for served in self._rings.values() if served.pidfd is not None and not served.is_gone]
        if self._wake is not None:
            watched.append(self._wake)
        ready = readable(watched, seconds)
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

    def _remove_orphans(self) -> None:
        """Take away what a sealer left that was killed between a ring and the files beside it."""
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                if _is_orphan(path):
                    path.unlink(missing_ok=True)

    def _clean_up(self) -> None:
        close_scratch(self._scratch)
        if self._wake is not None:
            os.close(self._wake)
        if self._lock.is_held:
            self._remove_orphans()
            for path in (wake_path(self._directory), lock_path(self._directory)):
                path.unlink(missing_ok=True)
        # A directory that the user named stays: it may be a volume, or what the next sidecar is told to watch.
        if self._directory.parent.name == private_name():
            with contextlib.suppress(OSError):
                self._directory.rmdir()
                self._directory.parent.rmdir()


def _is_orphan(path: Path) -> bool:
    """Whether it was written beside a ring that is gone."""
    rings = [path.name.removesuffix(suffix) for suffix in BESIDE_SUFFIXES if path.name.endswith(suffix)]
    return any(ring.endswith(RING_SUFFIX) and not path.with_name(ring).exists() for ring in rings)


def _is_leftover(path: Path) -> bool:
    with RingReader(path) as reader:
        return reader.header.state is not RingState.LIVE or is_alive(reader.header) is False
