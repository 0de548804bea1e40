"""The thread that empties the spool: one upload at a time, with patience, whatever the bucket does."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from recorder.sinks.base import SinkUnavailable
from recorder.sinks.directory import DirectorySink
from recorder.sinks.s3.address import S3Address
from recorder.sinks.s3.client import connect, reason_of, sentence_of
from recorder.sinks.s3.options import S3Options
from recorder.sinks.s3.pace import Bandwidth, Stopped
from recorder.sinks.s3.upload import Content, KeyTaken, Upload, content_of

__all__ = ["LOOK_SECONDS", "Uploading", "own_directory", "waiting_models"]

#: How often the spool is looked at unasked: another process may have left something, or grown too old.
LOOK_SECONDS = 10.0
#: While another process empties the spool.
_ELSEWHERE_SECONDS = 0.5
#: A thousand bundles of one name mean that something else is wrong.
_MAX_COLLISIONS = 1000
#: Bundles go before models, until they have failed so often.
_STUBBORN_FAILURES = 3
_NOTE_SUFFIX = ".upload"
_MODEL = re.compile(r"([0-9a-f]{64})(?:\.safetensors|\.graph\.json|\.onnx)")


@dataclass(frozen=True, slots=True)
class _Item:
    path: Path
    is_model: bool

    @property
    def note(self) -> Path:
        return self.path.with_name(f".{self.path.name}{_NOTE_SUFFIX}")


class Uploading:
    """A thread over one spool.

    Args:
        address: bucket and prefix.
        options: see there.
        spool: the bundles that wait.
        settled_models: names of model files that are in the bucket; those that are found there or brought join them.
        arrived: told the location of each bundle that is in the bucket, at least once.
        fault: told the reason, by which it is counted, and a sentence, of what went wrong.
    """

    def __init__(
        self,
        address: S3Address,
        options: S3Options,
        spool: DirectorySink,
        settled_models: set[str],
        *,
        arrived: Callable[[str], None],
        fault: Callable[[str, str], None],
    ) -> None:
        self._address, self._options, self._spool = address, options, spool
        self._arrived, self._fault = arrived, fault
        self._stopping, self._news = threading.Event(), threading.Event()
        self._bandwidth = Bandwidth(options.bytes_per_second, self._stopping)
        self._failures: dict[Path, int] = {}
        self._settled_models = settled_models
        self._current: Path | None = None
        self._swept: Path | None = None  #: the current file, when it was removed from the spool
        self._failing_since: float | None = None
        self._client: Any = None
        self._thread = threading.Thread(target=self._run, name="uploading", daemon=True)
        self._thread.start()

    @property
    def failing_seconds(self) -> float:
        """For how long nothing has worked; 0: the last attempt did, or there was none."""
        since = self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    def wake(self) -> None:
        """Say that there is something in the spool."""
        self._news.set()

    def stop(self) -> None:
        """End the thread; an upload under way is cut off, to be resumed."""
        self._stopping.set()
        self._news.set()
        self._thread.join()

    def sweep(self) -> tuple[str, ...]:
        """Keep the spool within its bounds; return what went without having arrived."""
        removed = self._spool.sweep()
        for path in removed:
            if Path(path) == self._current:  # it may arrive all the same
                self._swept = self._current
            else:
                self._lost(Path(path))
        return removed

    def _lost(self, path: Path) -> None:
        self._fault("spool-full", f"{path} was removed before it could be brought to {self._address}")

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._news.clear()
            pause = LOOK_SECONDS
            try:
                with self._turn() as ours:
                    if not ours:
                        pause = _ELSEWHERE_SECONDS
                    else:
                        with suppress(SinkUnavailable):
                            self.sweep()
                        worked = self._next()
                        self._failing_since, failures = None, 0
                        if worked:
                            continue
                        self._tidy()
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001  # whatever the bucket does, the next attempt may work
                if self._stopping.is_set():
                    return
                failures += 1
                self._failing_since = self._failing_since or time.monotonic()
                self._client = None  # the next one looks for credentials anew
                self._fault(f"upload: {reason_of(error)}", sentence_of(error, self._address))
                self._stopping.wait(self._options.pause_seconds(failures))  # news do not shorten it
                continue
            self._news.wait(pause)

    def _next(self) -> bool:
        """Bring the next file away; False: there is none."""
        models = waiting_models(self._spool.path, self._settled_models)
        items = [*self._bundles(), *(_Item(path, is_model=True) for path in models)]
        if not items:
            return False
        # One that cannot be brought away must not keep the others here, and a few bundles not all models.
        item = min(items, key=self._turn_of)
        self._current = item.path
        try:
            with _open(item.path) as file:
                content = content_of(file)
                if item.is_model:
                    self._bring_model(file, content, item)
                else:
                    self._arrived(self._bring_bundle(file, content, item))
                    item.path.unlink(missing_ok=True)
            self._failures.pop(item.path, None)
        except Exception as error:
            if self._swept == item.path:
                self._lost(item.path)
            # Swept meanwhile; credentials whose file or program is gone raise the same, and must not be tried at once.
            if isinstance(error, FileNotFoundError) and not item.path.exists():
                return True
            self._failures[item.path] = self._failures.get(item.path, 0) + 1
            raise
        finally:
            self._current = self._swept = None
        return True

    def _turn_of(self, item: _Item) -> tuple[bool, bool, int]:
        failures = self._failures.get(item.path, 0)
        return failures >= _STUBBORN_FAILURES, item.is_model, failures

    def _bring_bundle(self, file: BinaryIO, content: Content, item: _Item) -> str:
        modified = os.fstat(file.fileno()).st_mtime
        for key in _alternatives(self._options.key_of(item.path.name, modified)):
            location = self._address.within(key)
            try:
                self._upload().put(file, content, location.key, item.note)
            except KeyTaken:
                self._fault("key-taken", f"{location} holds something else; the bundle gets another key")
                continue
            return str(location)
        raise RuntimeError("no key is free")

    def _bring_model(self, file: BinaryIO, content: Content, item: _Item) -> None:
        """Its name is its digest, so that whoever was first has brought the same bytes."""
        name = item.path.name
        location = self._address.within("models", name)
        if content.sha256 != name[:64]:
            self._fault("model-damaged", f"{item.path} is not what its name says; remove it")
        else:
            upload = self._upload()
            # Asked before: a conditional write is refused only after its body has been sent.
            stands = upload.stands(location.key, content)
            try:
                if stands is None:
                    upload.put(file, content, location.key, item.note)
                elif not stands:
                    raise KeyTaken
            except KeyTaken:
                self._fault("model-key-taken", f"{location} is not what its name says; remove it")
        self._settled_models.add(name)

    def _upload(self) -> Upload:
        if self._client is None:
            self._client = connect(endpoint_url=self._options.endpoint_url, region=self._options.region)
        return Upload(self._client, self._address.bucket, self._options, self._bandwidth)

    def _bundles(self) -> Iterator[_Item]:
        with suppress(SinkUnavailable):
            for listing in self._spool.bundles():
                yield _Item(Path(listing.location), is_model=False)

    def _tidy(self) -> None:
        """Give up uploads whose file is gone: it was swept."""
        for directory in (self._spool.path, self._spool.path / "models"):
            for note in directory.glob(f".*{_NOTE_SUFFIX}"):
                if not note.with_name(note.name[1 : -len(_NOTE_SUFFIX)]).exists():
                    self._upload().give_up(note)

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Hold the spool's lock, for one upload at a time of all processes; False when another holds it."""
        try:
            descriptor = os.open(
                self._spool.path / ".uploading.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except FileNotFoundError:  # no spool yet
            yield False
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)


def waiting_models(spool: Path, settled: Collection[str]) -> Iterator[Path]:
    """Give the model files of a spool, by name, but those that are settled."""
    with suppress(OSError):
        for path in sorted((spool / "models").iterdir()):
            if _MODEL.fullmatch(path.name) and path.name not in settled:
                yield path


def own_directory(path: Path) -> None:
    """Make a directory that is only ours to read and write, or make sure of it.

    Raises:
        SinkUnavailable: it cannot be made, or belongs to somebody else, who could put something into it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise SinkUnavailable(
            f"The spool {path} cannot be made: {error.strerror}; name another, option spool."
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise SinkUnavailable(f"The spool {path} is not a directory of this user's own; name another, option spool.")


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _alternatives(key: str) -> Iterator[str]:
    suffix = ".zst.age" if key.endswith(".age") else ".zst"
    yield key
    for number in range(1, _MAX_COLLISIONS):
        yield f"{key.removesuffix(suffix)}-{number}{suffix}"
