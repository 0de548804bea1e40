"""The sink that is a directory."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from recorder.sinks import DirectorySink, Sink, SinkUnavailable
from tests.sinks.conformance import BUNDLE_HEAD, RetentionConformance


class TestDirectorySink(RetentionConformance):
    """A directory does what every sink does."""

    def make(self, tmp_path: Path, **options: object) -> Sink:
        return DirectorySink(tmp_path / "deep" / "incidents", **options)  # type: ignore[arg-type]

    def make_unreachable(self, tmp_path: Path) -> Sink:
        (tmp_path / "file").touch()
        return DirectorySink(tmp_path / "file")

    def read(self, sink: Sink, location: str) -> bytes:
        return Path(location).read_bytes()

    def age(self, sink: Sink, location: str, seconds: float) -> None:
        then = time.time() - seconds
        os.utime(location, (then, then))


class TestDirectorySinkAcrossFileSystems(TestDirectorySink):
    """The same when the spool is on another file system, so that bundles are copied."""

    @pytest.fixture(autouse=True)
    def _another_file_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        genuine = os.link

        def link(source: Path, target: Path) -> None:
            if Path(source).parent.name == "spool":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            genuine(source, target)

        monkeypatch.setattr(os, "link", link)


class TestDirectorySinkWithoutLinks(TestDirectorySink):
    """The same on a file system that knows no hard links."""

    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def link(source: Path, target: Path) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", link)


def publish(sink: Sink, tmp_path: Path, name: str, size_bytes: int = 100) -> str:
    """Publish a bundle of a size."""
    local = tmp_path / f"local-{name}"
    local.write_bytes(BUNDLE_HEAD.ljust(size_bytes, b"."))
    return sink.publish(local, name)


def test_making_a_sink_touches_nothing(tmp_path: Path) -> None:
    """Listing an empty place does not create it."""
    sink = DirectorySink(tmp_path / "incidents")
    with pytest.raises(SinkUnavailable, match="make it, or name another"):
        list(sink.bundles())
    assert list(tmp_path.iterdir()) == []


def test_collisions_are_counted(tmp_path: Path) -> None:
    """They say that names are not unique enough."""
    sink = DirectorySink(tmp_path / "incidents")
    for _ in range(3):
        publish(sink, tmp_path, "same.zst")
    assert sink.collisions == 2


def test_publishing_again_after_a_crash_makes_no_second_bundle(tmp_path: Path) -> None:
    """The process died between the link and removing the local file."""
    sink = DirectorySink(tmp_path / "incidents")
    local = tmp_path / "local.zst"
    local.write_bytes(BUNDLE_HEAD)
    sink.path.mkdir()
    os.link(local, sink.path / "a.zst")
    assert sink.publish(local, "a.zst") == str(sink.path / "a.zst")
    assert [listing.name for listing in sink.bundles()] == ["a.zst"] and not local.exists()


def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, the local file kept, no partial file."""
    sink = DirectorySink(tmp_path / "incidents")
    local = tmp_path / "local.zst"
    local.write_bytes(BUNDLE_HEAD)

    def refuse(number: int) -> object:
        def fail(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return fail

    monkeypatch.setattr(os, "link", refuse(errno.EXDEV))
    monkeypatch.setattr("recorder.sinks.directory.shutil.copyfileobj", refuse(errno.ENOSPC))
    with pytest.raises(SinkUnavailable, match="free some room"):
        sink.publish(local, "a.zst")
    assert local.exists() and list(sink.path.iterdir()) == []


def test_a_copy_keeps_the_age_and_mode_of_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention goes by when it was sealed."""

    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)
    sink = DirectorySink(tmp_path / "incidents")
    local = tmp_path / "local.zst"
    local.write_bytes(BUNDLE_HEAD)
    local.chmod(0o640)
    os.utime(local, (1000, 1000))
    status = Path(sink.publish(local, "a.zst")).stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (1000, 0o640)


def test_retention_touches_only_bundles_of_ours(tmp_path: Path) -> None:
    """A directory may hold other people's files, links, and the model store."""
    sink = DirectorySink(tmp_path / "incidents", max_total_bytes=1, max_age_seconds=1)
    mine = publish(sink, tmp_path, "a.zst")
    outside = tmp_path / "outside.zst"
    outside.write_bytes(BUNDLE_HEAD)
    (sink.path / "link.zst").symlink_to(outside)
    (sink.path / "backup.tar.zst").write_bytes(b"\x28\xb5\x2f\xfdsomeone else's")
    (sink.path / "short.zst").write_bytes(b"")
    (sink.path / "notes.txt").write_bytes(BUNDLE_HEAD)
    sink.models_directory().mkdir()
    (sink.models_directory() / "weights.zst").write_bytes(BUNDLE_HEAD)
    for path in sink.path.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    assert sink.sweep() == (mine,)
    assert sorted(path.name for path in sink.path.iterdir()) == [
        "backup.tar.zst",
        "link.zst",
        "models",
        "notes.txt",
        "short.zst",
    ]
    assert outside.exists()


def test_what_was_published_before_the_clock_was_set_is_as_old_as_the_right_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a battery clock begins in 1970, and sets its clock when it has a network."""
    sink = DirectorySink(tmp_path / "incidents", max_age_seconds=3600)
    location = publish(sink, tmp_path, "a.zst")
    os.utime(location, (60.0, 60.0))
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 120.0)
        assert sink.sweep() == () and Path(location).stat().st_mtime == 60.0
    assert sink.sweep() == () and Path(location).stat().st_mtime >= now - 1
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    assert sink.sweep() == (location,)


def test_copies_left_by_a_dead_process_are_swept_and_running_ones_are_not(tmp_path: Path) -> None:
    """Nothing accumulates."""
    sink = DirectorySink(tmp_path / "incidents")
    sink.path.mkdir()
    dead, running = sink.path / ".a.zst.00000000.partial", sink.path / ".b.zst.00000000.partial"
    dead.touch()
    running.touch()
    os.utime(dead, (1000, 1000))
    assert sink.sweep() == ()
    assert list(sink.path.iterdir()) == [running] and list(sink.bundles()) == []


def test_encrypted_bundles_are_kept_listed_and_swept_like_others(tmp_path: Path) -> None:
    """Their name ends in .zst.age and collides as others do; a foreign file of that name is left alone."""
    sink = DirectorySink(tmp_path / "incidents", max_age_seconds=60)
    for _ in range(2):
        (tmp_path / "spooled").write_bytes(b"age-encryption.org/v1\n" + bytes(50))
        sink.publish(tmp_path / "spooled", "a.zst.age")
    foreign = tmp_path / "incidents" / "notes.zst.age"
    foreign.write_bytes(b"not ours, and long enough to be looked at")
    assert [listing.name for listing in sink.bundles()] == ["a.zst.age", "a-1.zst.age", "notes.zst.age"]
    then = time.time() - 3600
    for listing in sink.bundles():
        os.utime(listing.location, (then, then))
    sink.sweep()
    assert [listing.name for listing in sink.bundles()] == ["notes.zst.age"]
