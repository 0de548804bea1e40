"""``python -m benchmarks``: measure, print, and write docs/performance.md, drift.md and causes.md."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks import (
    bundle,
    causes,
    causes_page,
    drift,
    fleet,
    forward,
    layers,
    per_frame,
    replaying,
    sealing,
    soak,
)
from benchmarks.clips import LongFootageMissing
from benchmarks.results import Section

_BUSY = (
    "**The machine was busy with other work during this run**: caches were shared with it, latencies, seconds and "
    "ratios of whole processes say little. Run it again on a quiet one.\n\n"
)
DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    """Run what was asked for; a page is written only by a run of all that stands on it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="sections, or pages: performance, drift, causes")
    parser.add_argument("--frames", type=int, default=50_000, help="frames of the soak (default: 50000)")
    parser.add_argument("--rounds", type=int, default=600, help="rounds of the cost per frame (default: 600)")
    parser.add_argument("--window", type=int, default=64, help="frames that are sealed (default: 64)")
    options = parser.parse_args()
    sections: dict[str, Callable[[], Section]] = {
        "per-frame": lambda: per_frame.measure(options.rounds),
        "forward": lambda: forward.measure(max(20, options.rounds // 4)),
        "layers": lambda: layers.measure(max(20, options.rounds // 4)),
        "sealing": lambda: sealing.measure(options.window),
        "bundle": lambda: bundle.measure(options.window),
        "replaying": lambda: replaying.measure(32),
        "fleet": fleet.measure,
        "soak": lambda: soak.measure(options.frames),
    }
    pages = ("performance", "drift", "causes")
    asked = set(options.only or pages)
    if unknown := asked - {*sections, *pages}:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join((*sections, *pages))}")
    found = []
    for name, measure in sections.items():
        if asked & {name, "performance"}:
            found.append(measure())
            print(found[-1].markdown(), flush=True)
    if "performance" in asked:
        write(found)
    if "drift" in asked:
        drift.write(drift.measure())
    if "causes" in asked:
        try:
            causes_page.write(causes.measure())
        except LongFootageMissing as error:  # the other pages do not wait for a package
            print(error)


def write(sections: list[Section]) -> None:
    """Write the page and its pictures."""
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    head = (
        "# Performance\n\nWritten by `make bench`, never by hand. Only ratios within one run mean anything; this one "
        f"ran on {time.strftime('%Y-%m-%d')}, {platform.machine()}, {cpus} cores, Python {platform.python_version()}, "
        f"torch {version('torch').partition('+')[0]}, load {load:.1f} at its end.\n\n"
    )
    if load > cpus:
        head += _BUSY
    DOCS.joinpath("performance.md").write_text(head + "\n".join(section.markdown() for section in sections))
    for section in sections:
        for picture in section.pictures:
            DOCS.joinpath(f"{picture.name}.svg").write_text(picture.svg())


if __name__ == "__main__":
    main()
