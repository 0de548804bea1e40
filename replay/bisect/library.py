"""Another version of a library, in a directory that is thrown away: wheels only, nothing of a bundle is involved."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from replay.show.text import inert

__all__ = ["LibraryUnavailable", "installed", "is_requirement"]

#: A name (PEP 508) and an exact version (PEP 440), nothing else: no options, no addresses, no paths.
_REQUIREMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?==[0-9][A-Za-z0-9.!+_-]{0,62}")

#: torch with its dependencies is some hundred megabytes, over a slow line.
_TIMEOUT_SECONDS = 3600


class LibraryUnavailable(Exception):
    """That version cannot be had here; the message is one sentence with the remedy."""


def is_requirement(text: str) -> bool:
    """Whether a text names exactly one version of one distribution, such as ``torch==2.12.0``."""
    return _REQUIREMENT.fullmatch(text) is not None


@contextmanager
def installed(requirement: str) -> Iterator[str]:
    """Install wheels, without running any code of theirs, into a directory that is gone when the block ends.

    Args:
        requirement: as the user typed it (`is_requirement`).

    Yields:
        The directory, to be put first on a worker's import path.

    Raises:
        ValueError: it is not of that form.
        LibraryUnavailable: pip is not there, or found no wheel for this Python and machine.
    """
    if not is_requirement(requirement):
        raise ValueError(f"--with takes a name and an exact version, such as torch==2.12.0, not {requirement!r}")
    with tempfile.TemporaryDirectory(prefix="replay-with-") as directory:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--only-binary", ":all:", "--no-compile", "--target", directory, "--", requirement]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LibraryUnavailable(f"{requirement} could not be installed: {inert(error, 200)}") from error
        if done.returncode != 0:
            lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if "ERROR" in line]
            why = inert(lines[-1], 200) if lines else f"pip ended with {done.returncode}"
            raise LibraryUnavailable(f"{requirement} could not be installed here from wheels ({why})")
        yield directory
