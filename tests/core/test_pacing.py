"""Under a container's CPU quota the sealer takes its part and no more."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from recorder.sealer import pacing
from recorder.sealer.pacing import QUOTA_SHARE, Pace, cpu_quota


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_tightest_quota_of_all_ancestors_counts(tmp_path: Path) -> None:
    """Version 2, as in a pod with a limit around a container with one."""
    membership, root = tmp_path / "cgroup", tmp_path / "root"
    write(membership, "0::/pod/container\n")
    assert cpu_quota(membership, root) is None
    write(root / "cpu.max", "max 100000\n")
    write(root / "pod" / "container" / "cpu.max", "400000 100000\n")
    assert cpu_quota(membership, root) == 4.0
    write(root / "pod" / "cpu.max", "50000 100000\n")
    assert cpu_quota(membership, root) == 0.5
    write(root / "pod" / "cpu.max", "max 100000\n")
    write(root / "pod" / "container" / "cpu.max", "max 100000\n")
    assert cpu_quota(membership, root) is None


def test_version_one_says_no_limit_with_minus_one(tmp_path: Path) -> None:
    """Its controllers have trees of their own; inside a container the path may be the host's and missing here."""
    membership, root = tmp_path / "cgroup", tmp_path / "root"
    write(membership, "7:memory:/x\n4:cpu,cpuacct:/kubepods/pod1\n")
    write(root / "cpu" / "cpu.cfs_quota_us", "-1\n")
    write(root / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert cpu_quota(membership, root) is None
    write(root / "cpu" / "cpu.cfs_quota_us", "20000\n")
    assert cpu_quota(membership, root) == 0.2


@pytest.mark.parametrize("text", ["", "max", "0 0", "1", "many 100000", "-5 100000", "\0", "100000 0"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    """Nothing here may keep a sealer from sealing."""
    write(tmp_path / "cgroup", "0::/../..\n:::\n\n")
    write(tmp_path / "root" / "cpu.max", text)
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "root") is None
    assert cpu_quota(tmp_path / "missing", tmp_path / "root") is None


class Clock:
    """Time that passes when somebody works or sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.cpu, self.slept = 100.0, 1.0, 0.0
        monkeypatch.setattr(
            pacing,
            "time",
            SimpleNamespace(monotonic=lambda: self.wall, thread_time=lambda: self.cpu, sleep=self.sleep),
        )

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.slept += seconds

    def work(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds


@pytest.mark.parametrize("quota", [0.5, 1.0, 4.0])
def test_work_is_spread_to_a_quarter_of_the_quota(monkeypatch: pytest.MonkeyPatch, quota: float) -> None:
    """Whatever the pieces: a core's second takes 1 / (quota / 4) seconds, and not less than a second."""
    clock = Clock(monkeypatch)
    pace, began = Pace(quota), clock.wall
    for _ in range(100):
        clock.work(0.01)
        pace()
    assert clock.wall - began == pytest.approx(max(1.0, 1.0 / (quota * QUOTA_SHARE)), rel=1e-6)


def test_without_a_quota_nobody_waits_and_a_clock_that_jumped_costs_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A suspended machine moves clocks apart."""
    clock = Clock(monkeypatch)
    free = Pace(None)
    clock.work(10.0)
    free()
    assert clock.slept == 0.0
    pace = Pace(0.1)
    clock.cpu += 1_000.0
    pace()
    assert clock.slept == 1.0
    assert time.monotonic() > 0
