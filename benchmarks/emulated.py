"""The portable profile on emulated CPUs: ``python -m benchmarks.emulated`` with Debian's ``qemu-user`` installed.

A small convolutional network and a transformer block run natively and under ``qemu-x86_64 -cpu …``, with the portable
settings and without any. Portable bits have to be the same everywhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from benchmarks.results import Table
from recorder.environment import VARIABLES
from replay.numerics.settings import PORTABLE_VARIABLES

__all__ = ["main"]

#: A server of 2013 and one of 2017; the emulator of Debian 12 has no AVX-512.
CPUS = ("Haswell", "EPYC", "Nehalem")

#: Importing torch under the emulator takes fifteen seconds on a quiet core.
_TIMEOUT_SECONDS = 900

#: Weights from numpy's generator, whose bits depend on no instruction set.
_PROGRAM = """
import hashlib, numpy, torch
torch.set_num_threads(1)
numbers = numpy.random.default_rng(0)
def tensor(*shape): return torch.from_numpy(numbers.standard_normal(shape).astype(numpy.float32) / 8)
with torch.inference_mode():
    x = tensor(2, 3, 64, 64)
    y = torch.nn.functional.gelu(torch.nn.functional.conv2d(x, tensor(32, 3, 3, 3), stride=2))
    y = torch.nn.functional.conv2d(y, tensor(64, 32, 3, 3), stride=2).flatten(2).transpose(1, 2)
    y = torch.nn.functional.layer_norm(y, (64,))
    q, k, v = (torch.nn.functional.linear(y, tensor(64, 64)) for _ in range(3))
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    y = torch.softmax(torch.nn.functional.linear(y.mean(1), tensor(100, 64)), 1)
print(torch.backends.cpu.get_cpu_capability(), hashlib.sha256(y.numpy().tobytes()).hexdigest()[:16])
"""


def main() -> int:
    """Print a table; 0 where the portable bits are the same on every CPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emulated", description=__doc__)
    parser.add_argument("--cpus", nargs="*", default=list(CPUS), help="models that `qemu-x86_64 -cpu help` lists")
    options = parser.parse_args()
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        print("qemu-x86_64 is not installed: apt-get install qemu-user", file=sys.stderr)
        return 3
    rows, portable = [], set()
    for cpu in ("this machine", *options.cpus):
        prefix = [] if cpu == "this machine" else [emulator, "-cpu", cpu]
        found = [_run(prefix, variables) for variables in ({"OMP_NUM_THREADS": "1"}, PORTABLE_VARIABLES)]
        rows.append([cpu, *found])
        portable.add(found[1].split()[-1])
        print(" | ".join(rows[-1]), flush=True)
    print(Table(["CPU", "no settings", "portable"], rows).markdown())
    return 0 if len(portable) == 1 else 1


def _run(prefix: list[str], variables: dict[str, str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    done = subprocess.run(
        [*prefix, sys.executable, "-c", _PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else f"ended with {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
