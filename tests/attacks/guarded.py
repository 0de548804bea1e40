"""Runs `replay` as a program and measures what the kernel says it used."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Used", "run_replay"]

ROOT = Path(__file__).parents[2]

#: The peak is the program's own: what the kernel tells its parent would include the parent's before the program began.
_PROGRAM = """
import atexit, os, sys
from pathlib import Path
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    used = os.times()
    cpu = used.user + used.system + used.children_user + used.children_system
    os.write(int(sys.argv[1]), next(line for line in lines if line.startswith("VmHWM")).encode() + f" {cpu}".encode())
atexit.register(peak)
from replay.cli import cli
cli(sys.argv[2:], prog_name="replay")
"""


@dataclass(frozen=True)
class Used:
    """How the program ended and what it took."""

    code: int
    out: str
    err: str
    peak_bytes: int
    cpu_seconds: float


def run_replay(*arguments: object, cwd: Path) -> Used:
    """Run `replay`; CPU time is measured, not the clock: the machine may be busy with other things."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(cwd)}
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(writing), *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120, pass_fds=(writing,),
    )  # fmt: skip
    os.close(writing)
    with os.fdopen(reading) as pipe:
        peak = pipe.read().split()
    return Used(
        code=done.returncode,
        out=done.stdout,
        err=done.stderr,
        peak_bytes=int(peak[1]) * 1024,
        cpu_seconds=float(peak[3]),
    )
