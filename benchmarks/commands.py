"""Commands of `replay` as a user starts them, timed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ran", "run_replay"]

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended well."""

    seconds: float  #: of wall time, from start to end
    cpu_seconds: float  #: of processors, its workers with it; says something on a busy machine too
    out: str


def run_replay(*words: str) -> Ran:
    """Run ``replay WORDS`` with the examples in reach.

    Raises:
        RuntimeError: it ended with another exit code than 0; the message holds what it said.
    """
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "replay", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")])},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"replay {words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(seconds, cpu, done.stdout)
