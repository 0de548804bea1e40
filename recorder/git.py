"""The git commit a directory's code stands at, read from the repository's own files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

__all__ = ["git_state"]

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
#: A reference names a file below the repository; nothing that could climb out of it is followed.
_REFERENCE = re.compile(r"refs/[A-Za-z0-9][A-Za-z0-9._/+@-]{0,200}")

#: A slow network file system must not hold the background thread; not knowing whether the tree is dirty is no harm.
_TIMEOUT_SECONDS = 5.0


def git_state(directory: Path) -> tuple[str | None, bool | None]:
    """Return the commit a directory's repository has checked out, and whether tracked files differ from it.

    Either is None where it cannot be told: no repository, no git.
    """
    try:
        commit = _commit(directory.absolute())
    except (OSError, UnicodeDecodeError):
        return None, None
    return (commit, _dirty(directory)) if commit else (None, None)


def _commit(directory: Path) -> str | None:
    for place in (directory, *directory.parents):
        marker = place / ".git"
        if marker.is_file():  # a worktree or submodule: the file says where its repository is
            target = marker.read_text(encoding="utf-8").strip().removeprefix("gitdir:").strip()
            return _head(place / target)
        if marker.is_dir():
            return _head(marker)
    return None


def _head(repository: Path) -> str | None:
    head = (repository / "HEAD").read_text(encoding="utf-8").strip()
    if _COMMIT.fullmatch(head):
        return head
    reference = head.removeprefix("ref:").strip()
    if not _REFERENCE.fullmatch(reference) or ".." in reference:
        return None
    shared = repository
    if (repository / "commondir").is_file():
        shared = repository / (repository / "commondir").read_text(encoding="utf-8").strip()
    for root in (repository, shared):
        if (root / reference).is_file():
            commit = (root / reference).read_text(encoding="utf-8").strip()
            return commit if _COMMIT.fullmatch(commit) else None
    for line in (shared / "packed-refs").read_text(encoding="utf-8").splitlines():
        commit, _, name = line.partition(" ")
        if name == reference and _COMMIT.fullmatch(commit):
            return commit
    return None


def _dirty(directory: Path) -> bool | None:
    """Ask git, without its optional writes and without running the monitor a repository may configure."""
    command = ["git", "-c", "core.fsmonitor=false", "status", "--porcelain", "--untracked-files=no"]
    try:
        done = subprocess.run(  # git is found as the other tools of the host are
            command,
            cwd=directory,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(done.stdout.strip()) if done.returncode == 0 else None
