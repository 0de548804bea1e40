"""Where a ring may live, and whether its process still does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from recorder.ring import RingHeader, RingIdentity, RingReader, RingUnavailable, choose_directory, is_alive, ring_name
from recorder.ring.cgroup import memory_headroom_bytes
from recorder.ring.identity import start_ticks_of
from recorder.ring.location import _rings_bytes, private_directory
from tests.ring.rings import make_ring

MIB = 2**20
NAME = f"flight-recorder-{os.geteuid()}"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free bytes by name of the parent directory, as ``statvfs`` would tell; no cgroup limit unless set."""
    free: dict[str, int] = {"shm": 1000 * MIB, "tmp": 1000 * MIB}
    monkeypatch.setattr(
        os,
        "statvfs",
        lambda path: SimpleNamespace(f_bavail=free[Path(path).parent.name] // 4096, f_blocks=2**40, f_frsize=4096),
    )
    monkeypatch.setattr("recorder.ring.location.memory_headroom_bytes", lambda: free.get("cgroup"))
    return free


@pytest.fixture
def parents(directory: Path) -> tuple[Path, Path]:
    """Stand-ins for /dev/shm and the temp directory."""
    shm, tmp = directory / "shm", directory / "tmp"
    shm.mkdir()
    tmp.mkdir()
    return shm, tmp


def choose(parents: tuple[Path, Path], wanted_bytes: int) -> tuple[Path, int, tuple[str, ...]]:
    """The choice between the stand-ins."""
    return choose_directory(wanted_bytes, shared_memory=parents[0], temporary=parents[1])


def test_memory_with_room_is_taken_without_a_word(parents: tuple[Path, Path], room: dict[str, int]) -> None:
    """The ordinary case, twice: the directory is ours and private."""
    for _ in range(2):
        directory, usable, warnings = choose(parents, 256 * MIB)
        assert (directory, usable, warnings) == (parents[0] / NAME, 256 * MIB, ())
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_small_shared_memory_shrinks_the_ring_loudly(parents: tuple[Path, Path], room: dict[str, int]) -> None:
    """Docker's 64 MiB: half of it, with the remedy."""
    room["shm"] = 64 * MIB
    directory, usable, (warning,) = choose(parents, 256 * MIB)
    assert (directory, usable) == (parents[0] / NAME, 32 * MIB)
    assert "--shm-size" in warning


def test_the_containers_memory_limit_counts(parents: tuple[Path, Path], room: dict[str, int]) -> None:
    """tmpfs is charged to the cgroup: a full one would have the host killed."""
    room["cgroup"] = 100 * MIB
    assert choose(parents, 256 * MIB)[1] == 50 * MIB


def test_a_tiny_shared_memory_falls_back_to_the_temp_directory_loudly(
    parents: tuple[Path, Path], room: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says that recording can stall there."""
    monkeypatch.setattr("recorder.ring.location._is_tmpfs", lambda _: False)
    room["shm"] = 8 * MIB
    directory, usable, warnings = choose(parents, 256 * MIB)
    assert (directory, usable) == (parents[1] / NAME, 256 * MIB)
    assert "Only" in warnings[0] and "can stall" in warnings[1]


def test_without_shared_memory_the_temp_directory_serves(parents: tuple[Path, Path], room: dict[str, int]) -> None:
    """As on macOS."""
    parents[0].rmdir()
    assert choose(parents, 16 * MIB)[:2] == (parents[1] / NAME, 16 * MIB)


def test_no_place_at_all_is_one_error_that_names_them(parents: tuple[Path, Path], room: dict[str, int]) -> None:
    """The host is told once, with what to do."""
    room.update(shm=8 * MIB, tmp=8 * MIB)
    with pytest.raises(RingUnavailable, match="ring=PATH"):
        choose(parents, 256 * MIB)


@pytest.mark.parametrize("trap", ["link", "file", "open to others"])
def test_a_directory_placed_by_someone_else_is_not_entered(
    parents: tuple[Path, Path], room: dict[str, int], trap: str
) -> None:
    """/dev/shm is world-writable: whoever came first may not be a friend."""
    place = parents[0] / NAME
    if trap == "link":
        (parents[1] / "elsewhere").mkdir()
        place.symlink_to(parents[1] / "elsewhere")
    elif trap == "file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    directory, _, warnings = choose(parents, 16 * MIB)
    assert directory == parents[1] / NAME and NAME in warnings[0]


def test_a_directory_of_another_user_is_not_entered(
    parents: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, room: dict[str, int]
) -> None:
    """Even with the right name and mode."""
    choose(parents, 16 * MIB)[0].rename(parents[0] / "flight-recorder-12345")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(RingUnavailable, match="12345 can be entered by others"):
        private_directory(parents[0])


def test_names_cannot_be_guessed() -> None:
    """64 random bits."""
    assert len({ring_name() for _ in range(100)}) == 100 and len(ring_name()) == 21


def test_memory_limits_of_both_cgroup_versions_are_read(directory: Path) -> None:
    """The tightest limit of all ancestors, cache that can be dropped not counted as used."""
    membership = directory / "cgroup"
    membership.write_text("0::/pod/container\n")
    for group, limit, current in (("", "max", 1), ("pod", 1000, 900), ("pod/container", 5000, 100)):
        path = directory / "v2" / group
        path.mkdir(parents=True)
        (path / "memory.max").write_text(f"{limit}\n")
        (path / "memory.current").write_text(f"{current}\n")
        (path / "memory.stat").write_text("anon 5\ninactive_file 50\n")
    assert memory_headroom_bytes(membership, directory / "v2") == 150
    membership.write_text("4:cpu:/x\n5:memory:/host/path\n")
    (directory / "v1" / "memory").mkdir(parents=True)
    (directory / "v1" / "memory" / "memory.limit_in_bytes").write_text("700\n")
    (directory / "v1" / "memory" / "memory.usage_in_bytes").write_text("900\n")
    assert memory_headroom_bytes(membership, directory / "v1") == 0
    # Version 1 says "no limit" with the largest number of whole pages.
    (directory / "v1" / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_headroom_bytes(membership, directory / "v1") is None
    assert memory_headroom_bytes(membership, directory / "nothing") is None
    assert memory_headroom_bytes(directory / "missing", directory / "v1") is None


@pytest.fixture
def header(directory: Path) -> RingHeader:
    """Of a ring of this process, whose heartbeat is long past."""
    ring = make_ring(directory / "a.ring")
    with RingReader(ring.path) as reader:
        long_ago = 10**12
        return replace(reader.header, heartbeat_ns=time.time_ns() - long_ago, heartbeat_monotonic_ns=-long_ago)


def of(header: RingHeader, **changes: object) -> RingHeader:
    """The same ring, made by another."""
    return replace(header, identity=replace(header.identity, **changes))  # type: ignore[arg-type]


def test_a_process_is_known_by_pid_and_start_time(header: RingHeader) -> None:
    """A heartbeat that stopped proves nothing while the process is there to be seen."""
    assert is_alive(header) is True
    assert is_alive(of(header, start_ticks=header.identity.start_ticks - 1)) is False


def test_an_unreaped_process_is_dead(header: RingHeader) -> None:
    """Its parent may never ask."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        child_header = of(header, pid=child.pid, start_ticks=start_ticks_of(child.pid))
        assert is_alive(child_header) is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{child.pid}").exists()
        assert is_alive(child_header) is False
    assert is_alive(child_header) is False


def test_in_a_foreign_namespace_only_an_old_heartbeat_proves_death(header: RingHeader) -> None:
    """Pids repeat across containers that share a volume."""
    foreign = of(header, pid_namespace=1)
    assert is_alive(foreign) is False
    assert is_alive(replace(foreign, heartbeat_monotonic_ns=time.monotonic_ns())) is None


def test_on_another_machine_or_after_a_reboot_the_wall_clock_decides(header: RingHeader) -> None:
    """A clock that was set back never declares a ring dead."""
    foreign = of(header, boot_id="another")
    assert is_alive(foreign) is False
    assert is_alive(replace(foreign, heartbeat_ns=time.time_ns())) is None
    assert is_alive(replace(foreign, heartbeat_ns=time.time_ns() + 10**15)) is None


def test_without_proc_the_pid_alone_decides(header: RingHeader, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    nowhere = RingIdentity(boot_id="", pid=1, start_ticks=0, pid_namespace=0, uid=0)
    monkeypatch.setattr("recorder.ring.location.RingIdentity", SimpleNamespace(of_this_process=lambda: nowhere))
    elsewhere = of(header, boot_id="", start_ticks=0, pid_namespace=0)
    assert is_alive(elsewhere) is True
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert is_alive(of(elsewhere, pid=child.pid)) is False
    assert is_alive(of(elsewhere, pid=2**63)) is False


def test_a_directory_that_an_ending_sealer_takes_away_is_made_again_without_a_word(
    parents: tuple[Path, Path], room: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealers remove their empty directories; a host that starts right then keeps its ring in memory all the same."""
    status_of, sealers = Path.lstat, iter([1, 2])

    def lstat(path: Path) -> os.stat_result:
        if path == parents[0] / NAME and next(sealers, None):
            path.rmdir()
        return status_of(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    assert choose(parents, 16 * MIB) == (parents[0] / NAME, 16 * MIB, ())
    assert next(sealers, None) is None


def test_a_sealers_directory_that_goes_while_rings_are_counted_is_passed_over(
    parents: tuple[Path, Path], room: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = choose(parents, 16 * MIB)[0]
    (directory / "gone").mkdir()
    (directory / "kept").mkdir()
    (directory / "kept" / "a.ring").write_bytes(b"four")
    entries_of = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        entries = list(entries_of(path))
        if path == directory:
            (directory / "gone").rmdir()
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert _rings_bytes(directory) == 4
