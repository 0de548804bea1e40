"""Sealing under a container's CPU quota: what the sealer takes, the service lacks."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["Pace", "cpu_quota"]

#: Of a container's quota; at low priority the sealer yields to the service, but a quota is spent by both alike.
QUOTA_SHARE = 0.25
#: One pause is never longer, so that a clock that jumped does no harm.
_MAX_PAUSE_SECONDS = 1.0


def cpu_quota(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many CPUs' time the tightest cgroup of this process allows; None when there is no limit."""
    quotas = []
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            if controllers == "":
                quotas.append(_ratio(root.joinpath(*parts[:depth], "cpu.max")))
            elif "cpu" in controllers.split(","):
                group = (root / "cpu").joinpath(*parts[:depth])
                quotas.append(_ratio(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"))
    return min((quota for quota in quotas if quota is not None), default=None)


def _ratio(*files: Path) -> float | None:
    try:
        words = " ".join(file.read_text() for file in files).split()
        quota, period = int(words[0]), int(words[1])  # "max" is no integer: unlimited, as is -1
    except (OSError, ValueError, IndexError):
        return None
    return quota / period if quota > 0 and period > 0 else None


class Pace:
    """Call it between pieces of work; it sleeps as long as it takes to stay within a share of the quota."""

    def __init__(self, quota: float | None) -> None:
        self._share = quota * QUOTA_SHARE if quota is not None else None
        self._began = time.monotonic()
        self._used = time.thread_time()

    def __call__(self) -> None:
        if self._share is None:
            return
        used = time.thread_time() - self._used
        pause = used / self._share - (time.monotonic() - self._began)
        if pause > 0:
            time.sleep(min(pause, _MAX_PAUSE_SECONDS))
        self._began = time.monotonic()
        self._used = time.thread_time()
