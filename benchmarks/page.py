"""``python -m benchmarks.page``: how large a report of many frames is, and how long a browser takes to open it.

Goals: 64 frames of 720p below 8 MB, loaded in less than a second. Needs Chromium, like the tests of the report.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from click.testing import CliRunner

from benchmarks.payload import model_input, model_output, natural_frames, scratch
from recorder import FlightRecorder
from replay.cli import cli
from tests.report.chromium import Chromium, Page

__all__ = ["main"]

_OPENED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    """Make a bundle and its page, open it some times, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--times", type=int, default=5, help="how often the page is opened")
    options = parser.parse_args()
    with scratch() as folder, Chromium() as browser:
        bundle = _recorded(folder, options.frames)
        page, begin = folder / "page.html", time.perf_counter()
        made = CliRunner().invoke(cli, ["report", str(bundle), "-o", str(page)])
        took = time.perf_counter() - begin
        if made.exit_code != 0:
            raise SystemExit(made.output)
        opened = []
        for _ in range(options.times):
            tab = Page(browser, page)
            opened.append(float(tab.value(_OPENED)))
            tab.close()
        print(
            f"{options.frames} natural frames of 720p: {page.stat().st_size / 1e6:.2f} MB, made in "
            f"{took:.1f} s, loaded in {statistics.median(opened):.0f} ms (median of {options.times}; "
            f"{min(opened):.0f} to {max(opened):.0f})"
        )


def _recorded(folder: Path, frames: int) -> Path:
    """Record natural frames with a classifier's answers and seal them."""
    given, answer = model_input(), model_output()
    with FlightRecorder(sink=str(folder / "sink"), pre_frames=frames, max_bytes=2**30) as recorder:
        model = recorder.attach(lambda x: answer)
        for picture in natural_frames(frames):
            with recorder.frame(image=picture, camera="line-3"):
                model(given)
        path = recorder.trigger("measured").wait(300).path
    if path is None:
        raise SystemExit("the incident was not sealed within five minutes; run it on a quieter machine")
    return Path(path)


if __name__ == "__main__":
    main()
