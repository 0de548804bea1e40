"""The recorder's own thread in the host: the heartbeat, and a sealer process that is there when it is needed."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import struct
import subprocess
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO

from recorder.counts import Counts
from recorder.export import python_executable
from recorder.operator_requests import mark_of
from recorder.privacy import PrivacyKey
from recorder.ring import RingState, RingWriter
from recorder.settings import SealerSettings

__all__ = ["Keeper", "lock_path", "wake_path"]

HEARTBEAT_SECONDS = 1.0
#: A sealer that dies at once, again and again, is not started more often than this.
RESTART_SECONDS = 10.0
#: Of what a sealer that cannot start has to say, the end.
MAX_SAID_BYTES = 4_096
#: Linux's struct flock: type, whence, start, length, process.
_FLOCK = struct.Struct("hhqqi")


def lock_path(directory: Path) -> Path:
    """The file whose POSIX record lock says that a sealer serves the directory."""
    return directory / "sealer.lock"


def wake_path(directory: Path) -> Path:
    """The named pipe by which hosts wake the sealer."""
    return directory / "sealer.wake"


class Keeper:
    """Beats, reports and restarts. A daemon thread: a host that exits does not wait for it."""

    def __init__(
        self,
        ring: RingWriter,
        settings: SealerSettings,
        report: Callable[[], None],
        errors: Counts,
        privacy_key: PrivacyKey | None = None,
        ring_is_gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._ring = ring
        self._ring_is_gone = ring_is_gone
        self._privacy_key = privacy_key
        self._directory = ring.path.parent
        self._settings = settings
        self._report = report
        self._errors = errors
        self._stopping = threading.Event()
        self._file_seen = mark_of(settings.trigger_file) if settings.trigger_file is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        self._has_complained = False
        self._ring_file = _file_number(ring.path)
        self._started_at = -RESTART_SECONDS
        self._thread = threading.Thread(target=self._run, name="flight-recorder-keeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake_sealer(self) -> None:
        """Tell the sealer that something urgent is in a ring; a sealer that is not there yet will see it anyway."""
        try:
            descriptor = os.open(wake_path(self._directory), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.write(descriptor, b"!")
        except OSError:
            return
        finally:
            os.close(descriptor)

    def stop(self) -> None:
        """Say in the ring that the host closed in order, and end the thread."""
        self._stopping.set()
        self._thread.join(timeout=5.0)
        self._ring.set_state(RingState.CLOSED)
        self.wake_sealer()

    def _run(self) -> None:
        try:
            self._ensure_sealer()
            self._ring.prefault()
        except Exception as error:  # noqa: BLE001  # a host without our thread still records
            self._errors.add(f"keeper: {type(error).__name__}")
        while not self._stopping.wait(HEARTBEAT_SECONDS):
            try:
                if not self._ring.heartbeat():
                    self._give_up_ring()
                    return
                self._look_for_ring()
                self._report()
                self._ensure_sealer()
            except Exception as error:  # noqa: BLE001  # see above
                self._errors.add(f"keeper: {type(error).__name__}")

    def _give_up_ring(self) -> None:
        """Somebody cut the ring's file short: what it held is gone, and nobody could read the rest."""
        if self._stopping.is_set():
            return
        self._errors.add("ring-truncated")
        with contextlib.suppress(OSError):
            self._ring.path.unlink()
        with contextlib.suppress(Exception):  # a host may turn warnings into errors
            warnings.warn(
                f"The flight recorder records nothing any more: its ring {self._ring.path} was truncated by someone.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _look_for_ring(self) -> None:
        """Say that the ring's file is gone: the sealer that has it open may seal it, no other can find it."""
        if self._ring_file is None or _file_number(self._ring.path) == self._ring_file or self._stopping.is_set():
            return
        self._ring_file = None
        self._errors.add("ring-removed")
        self._ring_is_gone()
        with contextlib.suppress(Exception):  # a host may turn warnings into errors
            warnings.warn(
                f"Someone removed the flight recorder's ring {self._ring.path}; another is begun. systemd does this to "
                "shared memory when a user logs out: set RemoveIPC=no in logind.conf, or name ring=.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _ensure_sealer(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if time.monotonic() - self._started_at < RESTART_SECONDS or _is_served(self._directory):
            return
        if self._process is not None and self._process.returncode == 0:
            self._errors.add("sealer-ended: 0")
        self._started_at = time.monotonic()
        said = _unnamed()
        try:
            settings = dataclasses.replace(self._settings, trigger_file_seen=self._file_seen)
            self._file_seen = None  # a later sealer must not answer what this one has answered
            self._process = _start_sealer(self._directory, settings, self._privacy_key, said)
        except OSError as error:
            said.close()
            self._errors.add("sealer-not-started")
            self._complain(f"could not be started ({error.strerror})")
            return
        # The sealer outlives the recorder; somebody must be there to reap it whenever it ends.
        reaper = threading.Thread(
            target=_reap,
            args=(self._process, said, self._errors, weakref.WeakMethod(self._complain_of_end)),
            name="flight-recorder-reaper",
            daemon=True,
        )
        reaper.start()

    def _complain_of_end(self, code: int, last_line: str) -> None:
        if code > 0 and not self._stopping.is_set():  # one that was killed is just started again
            self._complain(f"ended with exit status {code} ({last_line or 'it said nothing'})")

    def _complain(self, what: str) -> None:
        """Warn, once."""
        if self._has_complained:
            return
        self._has_complained = True
        with contextlib.suppress(Exception):  # a host may turn warnings into errors
            warnings.warn(
                f"The flight recorder's sealer {what}: no incident is sealed until one can be started, "
                f"which is tried every {RESTART_SECONDS:.0f} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )


def _reap(
    process: subprocess.Popen[bytes],
    said: IO[bytes],
    errors: Counts,
    complain: weakref.WeakMethod[Callable[[int, str], None]],
) -> None:
    """Wait for a sealer's end; count one that was not in order, and say once why it ends, if it has told.

    The sealer may be other processes' too, and outlives the recorder, which is not kept for as long.
    """
    code = process.wait()
    with said:
        text = os.pread(said.fileno(), MAX_SAID_BYTES, max(0, os.fstat(said.fileno()).st_size - MAX_SAID_BYTES))
    if code == 0:
        return
    errors.add(f"sealer-ended: {code}")
    lines = text.decode(errors="replace").strip().splitlines()
    if (tell := complain()) is not None:
        tell(code, lines[-1][:500] if lines else "")


def _file_number(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _is_served(directory: Path) -> bool:
    """Whether some process holds the sealer's lock."""
    try:
        descriptor = os.open(lock_path(directory), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    if os.uname().sysname == "Linux":
        # Asked, not tried: a sealer that starts while we held the lock would take us for another one, and end.
        with contextlib.suppress(OSError):
            asked = fcntl.fcntl(descriptor, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            return bool(_FLOCK.unpack(asked)[0] != fcntl.F_UNLCK)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


#: Where we were imported from comes last: for a host that found us by a path of its own, and shadowing nothing.
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); from recorder.sealer.process import main; sys.exit(main(sys.argv[2:]))"
)


def _unnamed() -> IO[bytes]:
    """A file in memory, where the system has such, else one without a name."""
    with contextlib.suppress(AttributeError, OSError):
        return os.fdopen(os.memfd_create("flight-recorder-settings"), "w+b")
    return tempfile.TemporaryFile()


def _start_sealer(
    directory: Path, settings: SealerSettings, key: PrivacyKey | None, said: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start the sealer by exec: it inherits no descriptor, no thread, no CUDA context, no main module of the host."""
    packages = str(Path(__file__).resolve().parent.parent)
    # The settings wait in memory that has no name: a host that dies right now leaves a sealer that has all it needs.
    # The privacy key follows them on a line of its own; it never touches a disk, an argument or a variable.
    with _unnamed() as given:
        given.write(settings.to_json().encode() + b"\n" + (key.secret.hex().encode() if key is not None else b""))
        given.seek(0)
        return subprocess.Popen(
            # -P: the host's working directory is no place to import from.
            [python_executable(), "-P", "-c", _BOOT, packages, str(directory)],
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            cwd="/",
            # Two arenas: its threads need no more, and each keeps what it once held.
            env={"MALLOC_ARENA_MAX": "2", **os.environ, "OMP_NUM_THREADS": "1"},
        )
