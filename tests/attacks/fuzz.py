"""The coverage-guided fuzzer: ``python -m tests.attacks.fuzz --seconds 60`` runs every target and prints its counts.

Each target runs in a process of its own under libFuzzer (atheris), from a corpus of honest files. A crash is printed
with the path of the input that makes it again: ``python -m tests.attacks.fuzz --target NAME --input FILE``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Campaign", "fuzz"]

_ROOT = Path(__file__).parents[2]
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED = re.compile(r"cov: (\d+)")
#: What torch, Pillow and the interpreter take at most, and on top what a hostile input may: 64 MiB above the caps.
_RSS_LIMIT_MIB = 1536
#: The contract allows two seconds of CPU time; the clock of a busy machine runs several times as fast.
_TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Campaign:
    """What came of one target."""

    target: str
    runs: int
    covered: int  #: edges of our own code
    crash: str  #: the end of what the fuzzer said; "": none


def fuzz(target: str, corpus: Path, *, seconds: int, runs: int = -1) -> Campaign:
    """Fuzz one target in a process of its own, until the time or the number of runs is over."""
    command = [sys.executable, "-m", "tests.attacks.fuzz", "--target", target, "--corpus", str(corpus)]
    command += ["--seconds", str(seconds), "--runs", str(runs)]
    # A fuzzer leaves without cleaning up; what it wrote goes with the corpus.
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(corpus)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    said = done.stderr + done.stdout
    counted, covered = _DONE.search(said), _COVERED.findall(said)
    crashed = done.returncode != 0 or counted is None
    return Campaign(
        target, int(counted[1]) if counted else 0, int(covered[-1]) if covered else 0, said[-3000:] if crashed else ""
    )


def _run(target: str, corpus: Path, options: Sequence[str]) -> None:
    """Become the fuzzer of one target; does not return."""
    import atheris

    with atheris.instrument_imports(include=["recorder", "replay"]):
        from tests.attacks.targets import MAX_INPUT_BYTES, TARGETS

        chosen = TARGETS[target]
        seeds = corpus / target
        seeds.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(chosen.seeds()):
            (seeds / f"seed-{number:03}").write_bytes(data)
            chosen(data)  # imports what it needs while imports are instrumented
    largest = max(len(data) for data in chosen.seeds())
    limits = [f"-max_len={max(4096, min(2 * largest, MAX_INPUT_BYTES))}", f"-timeout={_TIMEOUT_SECONDS}"]
    limits += [f"-rss_limit_mb={_RSS_LIMIT_MIB}", f"-artifact_prefix={corpus}/{target}-", "-print_final_stats=1"]
    arguments = ["fuzz", *limits, *options, str(seeds)]
    atheris.Setup(arguments, chosen)
    atheris.Fuzz()


def main() -> None:
    """Run one target here, or all of them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", help="this one alone, in this process")
    parser.add_argument("--input", type=Path, help="feed the target this file and nothing else")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--corpus", type=Path, help="kept and extended between runs")
    given = parser.parse_args()
    with _folder(given.corpus) as corpus:
        if given.target and not given.input:  # before anything of ours is imported: imports are instrumented
            _run(given.target, corpus, [f"-max_total_time={given.seconds}", f"-runs={given.runs}"])
        from tests.attacks.targets import TARGETS

        if given.input:
            TARGETS[given.target](given.input.read_bytes())
            return
        failed = False
        for target in TARGETS:
            campaign = fuzz(target, corpus, seconds=given.seconds, runs=given.runs)
            failed |= bool(campaign.crash)
            print(json.dumps(asdict(campaign)), flush=True)
    sys.exit(failed)


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
    else:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            yield Path(folder)


if __name__ == "__main__":
    main()
