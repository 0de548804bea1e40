"""How much memory the container still allows. tmpfs counts in it, and overdrawing it kills the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["memory_headroom_bytes"]

#: Version 1 has no word for "no limit": it says the largest number of whole pages, about 2**63. No machine has as much.
_NO_LIMIT_BYTES = 2**60


def memory_headroom_bytes(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that may still be used under the tightest limit of this process's cgroups, v1 or v2; None when unlimited.

    Page cache that the kernel can drop (``inactive_file``) does not count as used.
    """
    headrooms = [headroom for group in _groups(membership, root) if (headroom := _headroom(group)) is not None]
    return max(0, min(headrooms)) if headrooms else None


def _groups(membership: Path, root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Every group from ours up to the root, with its files of limit and usage and the key of droppable cache."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            yield from ((group, "memory.max", "memory.current", "inactive_file") for group in _upwards(root, path))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from ((group, *names) for group in _upwards(root / "memory", path))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    # Inside a container the path may be the host's and missing here; its limit then stands at the mounted root.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:depth])


def _headroom(group: tuple[Path, str, str, str]) -> int | None:
    directory, limit_name, usage_name, droppable_key = group
    try:
        limit = int((directory / limit_name).read_text())  # "max" is no integer: unlimited
        usage = int((directory / usage_name).read_text())
    except (OSError, ValueError):
        return None
    if limit >= _NO_LIMIT_BYTES:
        return None
    return limit - usage + _stat(directory / "memory.stat", droppable_key)


def _stat(path: Path, key: str) -> int:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        return 0
    return 0
