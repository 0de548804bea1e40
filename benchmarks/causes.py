"""Naming the cause on clips and corruptions that were not used in fitting or development; writes docs/causes.md.

A profile is fitted on the first part of each clip, and asked about corrupted and clean windows of the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import unseen
from benchmarks.clips import DEVELOPMENT, HELD_OUT, clip
from recorder.cause.corruptions import corrupted
from recorder.cause.model import fit_cause_model, windows_of
from recorder.cause.views import Views, views_of
from recorder.cause.vocabulary import CAUSES, FITTED, UNKNOWN

__all__ = ["measure_clip", "summarise", "write"]

DOCS = Path(__file__).parent.parent / "docs"
#: Part of a clip that a profile is fitted on.
LEARNT = 0.5
#: Windows of each cause and severity, of each clip.
WINDOWS = 2


def loaded(name: str, cache: Path | None) -> Views:
    """A clip's views; kept in a folder where one is given."""
    file = None if cache is None else cache / f"{name.replace(':', '-')}.npz"
    if file is not None and file.exists():
        held = np.load(file)
        return Views(
            held["wide"] / np.float32(255), held["detail"] / np.float32(255), float(held["scale"]), int(held["width"])
        )
    views = views_of(list(clip(name)))
    if file is not None:
        # Means of the reduced view are no whole levels; a test on them as saved is one on coarser numbers.
        wide, detail = (np.rint(each * 255).astype(np.uint8) for each in (views.wide, views.detail))
        np.savez_compressed(file, wide=wide, detail=detail, scale=views.scale, width=views.width)
    return views


def measure_clip(name: str, cache: Path | None = None) -> dict[str, Any]:
    """Fit on the first part of a clip and test on the rest."""
    views = loaded(name, cache)
    border = int(len(views) * LEARNT)
    began = time.process_time()
    model = fit_cause_model(windows_of(views.part(slice(0, border))))
    fit_seconds = time.process_time() - began
    tests = windows_of(views.part(slice(border, None)))
    rng = np.random.default_rng(20_000 + sum(name.encode()))
    answers: list[tuple[str, int, str, float]] = []

    def ask(window: Views, truth: str, severity: int) -> None:
        finding = model.find(window)
        answers.append((truth, severity, finding.cause, finding.probabilities.get(finding.cause, 0.0)))

    for window in tests:
        ask(window, "none", 0)
    began = time.process_time()
    for cause in FITTED:
        for severity in range(1, 6):
            for _ in range(WINDOWS):
                window = tests[rng.integers(len(tests))]
                ask(corrupted(window, cause, severity, int(rng.integers(2**31))), cause, severity)
    for severity in range(1, 6):
        still = tests[rng.integers(len(tests))]
        ask(still.part(np.zeros(len(still), int)), "frozen-feed", severity)
    for kind in unseen.UNSEEN:
        for _ in range(WINDOWS * 2):
            window = tests[rng.integers(len(tests))]
            ask(unseen.applied(window, kind, int(rng.integers(2**31))), UNKNOWN, 0)
    fixed = model.normal.thumb is not None
    return {"clip": name, "answers": answers, "fit_seconds": fit_seconds, "fixed": fixed, "windows": len(tests)}


def summarise(results: list[dict[str, Any]]) -> dict[str, float]:
    """The figures the goal is stated in."""
    answers = [answer for result in results for answer in result["answers"]]

    def share(rows: list[Any], right: Any) -> float:
        return sum(right(row) for row in rows) / max(1, len(rows))

    named = [row for row in answers if row[0] in (*FITTED, "frozen-feed")]
    clean = [row for row in answers if row[0] == "none"]
    strange = [row for row in answers if row[0] == UNKNOWN]
    return {
        "severe": share([row for row in named if row[1] >= 3], lambda row: row[0] == row[2]),
        "mild": share([row for row in named if row[1] <= 2], lambda row: row[0] == row[2]),
        "severe_misnamed": share(
            [row for row in named if row[1] >= 3], lambda row: row[2] not in (row[0], UNKNOWN, "none")
        ),
        "clean_windows": len(clean),
        "clean_misnamed": share(clean, lambda row: row[2] not in ("none", UNKNOWN)),
        "clean_unknown": share(clean, lambda row: row[2] == UNKNOWN),
        "unknown": share(strange, lambda row: row[2] == UNKNOWN),
        "unknown_windows": len(strange),
        "severe_windows": len([row for row in named if row[1] >= 3]),
    }


def write(results: list[dict[str, Any]]) -> None:
    """Write the page and the confusion matrix."""
    groups = {
        "development": [each for each in results if each["clip"] in DEVELOPMENT],
        "held out": [each for each in results if each["clip"] in HELD_OUT],
    }
    rows = []
    for label, group in groups.items():
        found = summarise(group)
        rows.append(
            f"| {label} ({len(group)}) | {found['severe']:.1%} of {found['severe_windows']} | {found['mild']:.1%} | "
            f"{found['severe_misnamed']:.1%} | {found['clean_misnamed']:.1%} of {found['clean_windows']} | "
            f"{found['clean_unknown']:.1%} | {found['unknown']:.1%} of {found['unknown_windows']} |"
        )
    held = [answer for result in groups["held out"] for answer in result["answers"]]
    table = [
        "| cause | 1 | 2 | 3 | 4 | 5 | taken for, severity 3 and up |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cause in (*FITTED, "frozen-feed"):
        cells = []
        for severity in range(1, 6):
            mine = [row for row in held if row[0] == cause and row[1] == severity]
            cells.append(f"{sum(row[2] == cause for row in mine)}/{len(mine)}")
        wrong = Counter(row[2] for row in held if row[0] == cause and row[1] >= 3 and row[2] != cause)
        taken = ", ".join(f"{name} {count}" for name, count in wrong.most_common(4))
        table.append(f"| {cause} | {' | '.join(cells)} | {taken} |")
    clips = [
        f"| {each['clip']} | {'yes' if each['fixed'] else 'no'} | {each['fit_seconds']:.0f} s | "
        f"{summarise([each])['severe']:.1%} | {summarise([each])['mild']:.1%} | "
        f"{summarise([each])['clean_misnamed']:.1%} of {each['windows']} |"
        for each in results
    ]
    page = _PAGE.format(rows="\n".join(rows), table="\n".join(table), clips="\n".join(clips))
    DOCS.joinpath("causes.md").write_text(page)
    DOCS.joinpath("causes.svg").write_text(_matrix(held))


def _matrix(answers: list[Any]) -> str:
    """The confusion matrix as a picture: a row is what was done, a column what was named."""
    names = list(CAUSES)
    side, left, top = 26, 130, 130
    size = left + side * len(names) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" font-family="sans-serif" '
        'font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, name in enumerate(names):
        x, y = left + side * number + side / 2, top + side * number + side / 2 + 4
        parts.append(f'<text x="{left - 6}" y="{y:.0f}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text transform="translate({x + 4:.0f},{top - 6}) rotate(-60)">{escape(name)}</text>')
    for row, truth in enumerate(names):
        mine = [answer for answer in answers if answer[0] == truth and (answer[1] >= 3 or answer[1] == 0)]
        for column, given in enumerate(names):
            share = sum(answer[2] == given for answer in mine) / max(1, len(mine))
            x, y = left + side * column, top + side * row
            colour = round(255 - 200 * share)
            parts.append(
                f'<rect x="{x}" y="{y}" width="{side - 1}" height="{side - 1}" fill="rgb({colour},{colour},255)"/>'
            )
            if share > 0.004:
                ink = "white" if share > 0.6 else "black"
                parts.append(
                    f'<text x="{x + side / 2:.0f}" y="{y + 17}" text-anchor="middle" fill="{ink}" font-size="9">'
                    f"{share * 100:.0f}</text>"
                )
    return "\n".join([*parts, "</svg>\n"])


_PAGE = """# Naming the cause

Written by `python -m benchmarks.causes`, never by hand.

A profile is fitted on the first half of each clip, by corrupting its clean frames; windows of 8 frames of the second
half are then corrupted by other draws, or left clean. *Development* clips were looked at while the method was made,
*held out* ones were not. There is little free video in packages: all three real clips were needed for development (two
of them with a moving camera and cuts), and the held-out ones are fixed cameras **staged** from photographs, with
passers-by, crowds and evenings. The corruptions are drawn anew but come from the generator the profile is fitted with,
so figures on faults of the real world will be lower. *Unknown* are kinds of corruption that no profile was shown. There
are far fewer clean windows than the 500 that could show a share below 1 %.

| clips | right at 3 and up | right at 1 and 2 | misnamed then | clean, misnamed | clean, unknown | unknown told |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

The prior art's method, mean embeddings projected on synthetic directions, named 26 % of 18 causes at severity 3 and up
(73 % of its own six), and misnamed 13 % of clean windows: measured earlier, on other clips, so not held against these
figures to the digit.

## By cause and severity, held-out clips

{table}

![Confusion, held-out clips, per cent](causes.svg)

Rows are what was done (severity 3 and up), columns what was named, in per cent.

## By clip

| clip | fixed camera | fit (processor) | right at 3 and up | right at 1 and 2 | clean windows misnamed |
| --- | --- | --- | --- | --- | --- |
{clips}
"""


def main() -> None:
    """Measure all clips, one process for each core."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.causes", description=__doc__)
    parser.add_argument("--clips", nargs="*", metavar="NAME", help="only these; the page is then left alone")
    parser.add_argument("--cache", type=Path, help="folder of reduced clips")
    parser.add_argument("--results", type=Path, help="write what was found here too")
    options = parser.parse_args()
    names = options.clips or [*DEVELOPMENT, *HELD_OUT]
    with ProcessPoolExecutor(min(len(names), len(os.sched_getaffinity(0)))) as workers:
        results = list(workers.map(measure_clip, names, [options.cache] * len(names)))
    for result in results:
        print(result["clip"], json.dumps(summarise([result])))
    if options.results:
        options.results.write_text(json.dumps(results))
    if not options.clips:
        write(results)


if __name__ == "__main__":
    main()
