"""The sink that is a directory: bundles appear in it complete and durable, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from recorder.sinks.base import BundleListing, Sink, SinkUnavailable, check_name
from recorder.sinks.claims import DirectoryClaims

__all__ = ["DirectorySink"]

_PARTIAL_SUFFIX = ".partial"
#: A copy that has not grown for an hour belongs to a process that died.
_PARTIAL_SECONDS = 3600.0
#: The first second of 2020: a date before it is that of a machine without a battery clock, which begins at 1970.
_CLOCK_SET = 1_577_836_800.0
#: The file system cannot make this link; the bundle must be copied, or given its name another way.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
#: A thousand bundles of one name mean that something else is wrong.
_MAX_COLLISIONS = 1000
#: How a bundle begins (schemas/FORMAT.md): a skippable zstd frame, its length, and the format's own magic.
_SKIPPABLE = b"\x50\x2a\x4d\x18"
_BUNDLE_MAGIC = b"\x89VFR\r\n\x1a\n"
#: How an encrypted one does (https://age-encryption.org/v1).
_AGE_MAGIC = b"age-encryption.o"
#: What bundles are called; the longer one stands first, as it ends in no other.
_SUFFIXES = (".zst.age", ".zst")


class DirectorySink(Sink):
    """Bundles as files of a directory, made when the first one is published.

    Retention keeps the total under ``max_total_bytes`` and every age under ``max_age_seconds``; None is no limit.
    ``collisions`` counts the bundles that got a suffix because their name was taken.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_total_bytes: int | None = None,
        max_age_seconds: float | None = None,
    ) -> None:
        if max_total_bytes is not None and max_total_bytes <= 0:
            raise ValueError(f"max_total_bytes must be positive, not {max_total_bytes}.")
        if max_age_seconds is not None and max_age_seconds <= 0:
            raise ValueError(f"max_age_seconds must be positive, not {max_age_seconds}.")
        self.path = Path(path).absolute()
        self.max_total_bytes = max_total_bytes
        self.max_age_seconds = max_age_seconds
        self.collisions = 0

    def check(self) -> None:
        """Make the directory and a file in it."""
        probe = self._partial("check")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.touch(mode=0o600, exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise self._unavailable("written", error) from error

    def publish(self, local_file: Path, name: str) -> str:
        """Link the file into the directory, or copy it there under a hidden name first; flushed before it shows."""
        check_name(name)
        with local_file.open("rb") as file:
            os.fsync(file.fileno())
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            target = self._place_or_copy(local_file, name)
            _flush_directory(self.path)
        except OSError as error:
            raise self._unavailable("written", error) from error
        with suppress(OSError):
            local_file.unlink()
        return str(target)

    def sweep(self) -> tuple[str, ...]:
        """Delete expired and surplus bundles, and the remains of copies that were never finished."""
        now = time.time()
        removed: list[str] = []
        try:
            self._remove_stale_partials(now)
            ours = [listing for listing in self.bundles() if _is_bundle(Path(listing.location))]
            total_bytes = sum(listing.size_bytes for listing in ours)
            for listing in ours:
                age = now - (listing.modified if listing.modified >= _CLOCK_SET else self._dated(listing, now))
                expired = self.max_age_seconds is not None and age > self.max_age_seconds
                surplus = self.max_total_bytes is not None and total_bytes > self.max_total_bytes
                if expired or (surplus and listing is not ours[-1]):
                    total_bytes -= listing.size_bytes
                    with suppress(FileNotFoundError):  # another process sweeps too
                        Path(listing.location).unlink()
                        removed.append(listing.location)
        except OSError as error:
            raise self._unavailable("swept", error) from error
        return tuple(removed)

    def bundles(self) -> Iterator[BundleListing]:
        """Ordinary files named ``*.zst[.age]``, oldest first; whether one is intact is for its reader to say."""
        listings: list[BundleListing] = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or not entry.name.endswith(_SUFFIXES):
                        continue
                    with suppress(FileNotFoundError):  # swept by another process meanwhile
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            listings.append(BundleListing(entry.path, entry.name, status.st_size, status.st_mtime))
        except OSError as error:
            raise self._unavailable("listed", error) from error
        yield from sorted(listings, key=lambda listing: (listing.modified, listing.name))

    def models_directory(self) -> Path:
        """``models/`` beside the bundles; not made here."""
        return self.path / "models"

    def state_directory(self) -> Path:
        """The directory itself: what is hidden in it is no bundle."""
        return self.path

    def claims(self) -> DirectoryClaims:
        """Files in ``.claims``."""
        return DirectoryClaims(self.path / ".claims")

    def _place_or_copy(self, local_file: Path, name: str) -> Path:
        try:
            return self._place(local_file, name)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        partial = self._partial(name)
        try:
            with local_file.open("rb") as source, partial.open("xb") as copy:
                os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(source.fileno()).st_mode))
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            try:
                target = self._place(partial, name)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                target = self._place_without_link(partial, name)
            # Its age is the bundle's, not the copy's; set last, or a sweep would take the copy for a stale one.
            status = local_file.stat()
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
            return target
        finally:
            partial.unlink(missing_ok=True)

    def _place(self, source: Path, name: str) -> Path:
        """Give a file of the same file system its name here; unlike a rename, a link never overwrites."""
        for target in self._targets(name):
            try:
                os.link(source, target)
            except FileExistsError:
                if target.samefile(source):  # published before, by a process that died before it could tidy up
                    return target
                continue
            return self._placed(target, name)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _place_without_link(self, partial: Path, name: str) -> Path:
        """The same where there are no hard links: hold the name with an empty file and rename over that."""
        for target in self._targets(name):
            try:
                target.touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                continue
            try:
                partial.replace(target)
            except OSError:
                target.unlink(missing_ok=True)
                raise
            return self._placed(target, name)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _targets(self, name: str) -> Iterator[Path]:
        stem, suffix = next((name.removesuffix(each), each) for each in _SUFFIXES if name.endswith(each))
        yield self.path / name
        for number in range(1, _MAX_COLLISIONS):
            yield self.path / f"{stem}-{number}{suffix}"

    def _placed(self, target: Path, name: str) -> Path:
        if target.name != name:
            self.collisions += 1
        return target

    def _partial(self, name: str) -> Path:
        return self.path / f".{name}.{secrets.token_hex(4)}{_PARTIAL_SUFFIX}"

    @staticmethod
    def _dated(listing: BundleListing, now: float) -> float:
        """Begin the age of what was published before the machine's clock was set, once that is; return its date."""
        if now < _CLOCK_SET:
            return listing.modified
        with suppress(FileNotFoundError):
            os.utime(listing.location, (now, now), follow_symlinks=False)
        return now

    def _remove_stale_partials(self, now: float) -> None:
        for path in self.path.glob(f".*{_PARTIAL_SUFFIX}"):
            with suppress(FileNotFoundError):
                if now - path.lstat().st_mtime > _PARTIAL_SECONDS:
                    path.unlink()

    def _unavailable(self, what: str, error: OSError) -> SinkUnavailable:
        remedy = {
            errno.ENOENT: "make it, or name another",
            errno.ENOTDIR: "name a directory",
            errno.EEXIST: "name a directory that has no file in its way",
            errno.ENOSPC: "free some room, or set max_total_bytes",
            errno.EDQUOT: "free some room, or set max_total_bytes",
        }.get(error.errno or 0, "check its permissions, or name another")
        return SinkUnavailable(f"The directory {self.path} cannot be {what}: {error.strerror}; {remedy}.")


def _is_bundle(path: Path) -> bool:
    """Whether a file begins as our bundles do: retention must never touch anyone else's ``.zst``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        beginning = os.read(descriptor, 16)
    finally:
        os.close(descriptor)
    encrypted = path.name.endswith(".age") and beginning == _AGE_MAGIC
    return encrypted or (beginning[:4] == _SKIPPABLE and beginning[8:] == _BUNDLE_MAGIC)


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
