"""What `benchmarks.causes` found, as docs/causes.md and the confusion matrix docs/causes.svg."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.clips import DEVELOPMENT, HELD_OUT
from benchmarks.foreign import FOREIGN
from benchmarks.imagenet_c import IMAGENET_C
from benchmarks.results import Table
from recorder.cause.vocabulary import CAUSES, FITTED, NONE, UNKNOWN

__all__ = ["summarise", "upper_bound", "write"]

DOCS = Path(__file__).parent.parent / "docs"
#: A one-sided bound of 95 %.
_Z = 1.645
#: Edges of the bins of confidence.
_BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.001)
_BUSY = "\n\nThe machine was busy with other work during this run, so that these times are longer than on a quiet one."
Answer = Sequence[Any]  # truth, kind, severity, unit, said, confidence


def upper_bound(count: int, of: int) -> float:
    """Wilson's upper bound of a share at 95 %, one-sided."""
    share, z = count / of, _Z**2 / of
    return float((share + z / 2 + _Z * (share * (1 - share) / of + z / of / 4) ** 0.5) / (1 + z))


def _share(rows: Sequence[Answer], right: Callable[[Answer], bool]) -> float:
    return sum(map(right, rows)) / max(1, len(rows))


def _is_right(row: Answer) -> bool:
    return bool(row[0] == row[4])


def _is_misnamed(row: Answer) -> bool:
    return row[4] not in (row[0], NONE, UNKNOWN)


def _is_foreign(row: Answer) -> bool:
    """Whether a corruption was made by others."""
    return ":" in row[1]


def summarise(answers: Sequence[Answer], unit: str) -> dict[str, float]:
    """The figures that goals are stated in.

    Args:
        answers: of any clips.
        unit: "incident" or "window".
    """
    mine = [row for row in answers if row[3] == unit]
    own = [row for row in mine if row[1] == "own"]
    severe, mild = [row for row in own if row[2] >= 3], [row for row in own if row[2] <= 2]
    clean, strange = ([row for row in mine if row[0] == truth and not _is_foreign(row)] for truth in (NONE, UNKNOWN))
    return {
        "severe": _share(severe, _is_right),
        "severe_count": len(severe),
        "mild": _share(mild, _is_right),
        "misnamed": _share(own, _is_misnamed),
        "clean": len(clean),
        "clean_misnamed": sum(map(_is_misnamed, clean)),
        "clean_unknown": _share(clean, lambda row: row[4] == UNKNOWN),
        "unknown": _share(strange, _is_right),
        "unknown_count": len(strange),
        "foreign": _share([row for row in mine if row[1].startswith("albumentations")], _is_right),
    }


def write(results: Sequence[dict[str, Any]]) -> None:
    """Write the page and its picture."""
    held = [row for each in results if each["clip"] in HELD_OUT for row in each["answers"]]
    parts = {
        "goals": _goals(results),
        "severities": _severities(held),
        "reliability": _reliability(held),
        "foreign": _foreign(held),
        "imagenet_c": _imagenet_c(held),
        "clips": _clips(results),
        "kinds": _kinds(held),
        "misses": _misses(held),
        "development": ", ".join(DEVELOPMENT),
        "held_out": ", ".join(HELD_OUT),
        "busy": _BUSY if os.getloadavg()[0] > len(os.sched_getaffinity(0)) else "",
    }
    page = Path(__file__).with_name("causes_page.md").read_text()
    for name, text in parts.items():
        page = page.replace("{" + name + "}", text)
    DOCS.joinpath("causes.md").write_text(page)
    incidents = [row for row in held if row[3] == "incident" and (row[2] >= 3 or row[0] in (NONE, UNKNOWN))]
    DOCS.joinpath("causes.svg").write_text(_matrix([row for row in incidents if not _is_foreign(row)]))


def _goals(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for label, names in (("held out", HELD_OUT), ("development", DEVELOPMENT)):
        mine = [row for each in results if each["clip"] in names for row in each["answers"]]
        for unit in ("incident", "window") if mine else ():
            found = summarise(mine, unit)
            wrong, clean = int(found["clean_misnamed"]), int(found["clean"])
            rows.append(
                [
                    f"{label}, each {unit}",
                    f"{found['severe']:.1%} of {found['severe_count']}",
                    f"{found['mild']:.1%}",
                    f"{found['misnamed']:.1%}",
                    f"{wrong} of {clean}: {wrong / max(1, clean):.2%}, below {upper_bound(wrong, max(1, clean)):.2%}",
                    f"{found['clean_unknown']:.1%}",
                    f"{found['unknown']:.1%} of {found['unknown_count']}",
                ]
            )
    rows.append(["*goal*", "*95 %*", "*80 %*", "", "*1 %*", "", "*60 %*"])
    columns = ["clips", "right at 3 and up", "right at 1 and 2", "misnamed", "clean, misnamed", "clean, unknown"]
    return Table([*columns, "unknown told"], rows).markdown()


def _severities(held: Sequence[Answer]) -> str:
    rows = []
    for cause in (*FITTED, "frozen-feed"):
        mine = [row for row in held if row[0] == cause and row[1] == "own" and row[3] == "incident"]
        levels = [[row for row in mine if row[2] == severity] for severity in range(1, 6)]
        wrong = Counter(row[4] for row in mine if not _is_right(row))
        taken = ", ".join(f"{name} {count}" for name, count in wrong.most_common(4))
        rows.append([cause, *(f"{sum(map(_is_right, level))}/{len(level)}" for level in levels), taken])
    return Table(["cause", "1", "2", "3", "4", "5", "else taken for"], rows).markdown()


def _reliability(held: Sequence[Answer]) -> str:
    mine = [row for row in held if row[3] == "incident" and row[0] != "frozen-feed" and not _is_foreign(row)]
    rows, error = [], 0.0
    for low, high in pairwise(_BINS):
        inside = [row for row in mine if low <= row[5] < high]
        if inside:
            said, right = sum(row[5] for row in inside) / len(inside), _share(inside, _is_right)
            error += abs(said - right) * len(inside) / len(mine)
            rows.append([f"{low:.2f} to {min(high, 1):.2f}", str(len(inside)), f"{said:.1%}", f"{right:.1%}"])
    table = Table(["confidence", "incidents", "mean confidence", "right"], rows).markdown()
    return f"{table}\n\nExpected calibration error: {error:.3f}."


def _foreign(held: Sequence[Answer]) -> str:
    rows = []
    for kind, (cause, _, _) in FOREIGN.items():
        mine = [row for row in held if row[1] == f"albumentations: {kind}" and row[3] == "incident"]
        shares = [[row for row in mine if row[2] == strength] for strength in (1, 2)]
        wrong = Counter(row[4] for row in mine if not _is_right(row))
        taken = ", ".join(f"{name} {count}" for name, count in wrong.most_common(4))
        rows.append([kind, cause, *(f"{sum(map(_is_right, each))}/{len(each)}" for each in shares), taken])
    mine = [row for row in held if row[1].startswith("album") and row[3] == "incident"]
    both = [[row for row in mine if row[2] == strength] for strength in (1, 2)]
    rows.append(["*all*", "", *(f"{_share(each, _is_right):.1%}" for each in both), ""])
    return Table(["made with", "is", "mild", "strong", "else taken for"], rows).markdown()


def _imagenet_c(held: Sequence[Answer]) -> str:
    mine = [row for row in held if row[1].startswith("ImageNet-C")]
    if not mine:
        return "Not measured in this run: imagecorruptions was not installed."
    rows = []
    for kind, (cause, _) in IMAGENET_C.items():
        each = [row for row in mine if row[1] == f"ImageNet-C: {kind}"]
        levels = [[row for row in each if row[2] == severity] for severity in range(1, 6)]
        wrong = Counter(row[4] for row in each if not _is_right(row))
        taken = ", ".join(f"{name} {count}" for name, count in wrong.most_common(4))
        rows.append([kind, cause, *(f"{sum(map(_is_right, level))}/{len(level)}" for level in levels), taken])
    table = Table(["corruption", "is", "1", "2", "3", "4", "5", "else taken for"], rows).markdown()
    said = []
    for label, part in (
        ("with a name in the vocabulary", [row for row in mine if row[0] != UNKNOWN]),
        ("outside the vocabulary", [row for row in mine if row[0] == UNKNOWN]),
    ):
        severe, mild = [row for row in part if row[2] >= 3], [row for row in part if row[2] <= 2]
        said.append(
            f"Kinds {label}: {_share(severe, _is_right):.1%} of {len(severe)} right at severity 3 and up, "
            f"{_share(mild, _is_right):.1%} of {len(mild)} at 1 and 2; misnamed {_share(part, _is_misnamed):.1%}."
        )
    return f"{table}\n\n" + " ".join(said)


def _kinds(held: Sequence[Answer]) -> str:
    mine = [row for row in held if row[0] == UNKNOWN and row[3] == "incident" and not _is_foreign(row)]
    rows = []
    for kind in dict.fromkeys(row[1] for row in mine):
        each = [row for row in mine if row[1] == kind]
        wrong = Counter(row[4] for row in each if not _is_right(row))
        taken = ", ".join(f"{name} {count}" for name, count in wrong.most_common(3))
        rows.append([kind, f"{sum(map(_is_right, each))}/{len(each)}", taken])
    return Table(["kind", "called unknown", "else taken for"], rows).markdown()


def _misses(held: Sequence[Answer]) -> str:
    own = [row for row in held if row[1] == "own" and row[3] == "incident"]
    said = []
    for label, mine in (
        ("1 and 2", [row for row in own if row[2] <= 2]),
        ("3 and up", [row for row in own if row[2] >= 3]),
    ):
        wrong = [row for row in mine if not _is_right(row)]
        none, unknown = (sum(row[4] == name for row in wrong) for name in (NONE, UNKNOWN))
        most = ", ".join(f"{name} ({count})" for name, count in Counter(row[0] for row in wrong).most_common(4))
        said.append(
            f"Of {len(mine)} incidents at severity {label}, {len(wrong)} were not named: {none} were called none, "
            f"{unknown} unknown and {len(wrong) - none - unknown} by another name; most of them {most}."
        )
    return " ".join(said)


def _clips(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for each in results:
        found = summarise(each["answers"], "incident")
        window = summarise(each["answers"], "window")
        rows.append(
            [
                each["clip"],
                "held out" if each["clip"] in HELD_OUT else "development",
                "yes" if each["fixed"] else "no",
                f"{found['severe']:.1%}",
                f"{found['mild']:.1%}",
                f"{found['unknown']:.1%}",
                f"{found['foreign']:.1%}",
                f"{int(window['clean_misnamed'])} of {int(window['clean'])}",
                f"{each['fit_seconds']:.0f} s",
                f"{each['reducing_ms']:.2f} + {each['looking_ms']:.2f} ms",
            ]
        )
    columns = ["clip", "used", "fixed camera", "3 and up", "1 and 2", "unknown", "albumentations", "clean misnamed"]
    return Table([*columns, "fit", "each frame"], rows).markdown()


def _matrix(answers: Sequence[Answer]) -> str:
    """The confusion matrix as a picture: a row is what was done, a column what was named."""
    names = list(CAUSES)
    side, left, top = 26, 120, 110
    width, height = left + side * len(names) + 70, top + side * len(names) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, name in enumerate(names):
        x, y = left + side * number + side / 2, top + side * number + side / 2 + 4
        parts.append(f'<text x="{left - 6}" y="{y:.0f}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text transform="translate({x + 4:.0f},{top - 6}) rotate(-60)">{escape(name)}</text>')
    for row, truth in enumerate(names):
        mine = [answer for answer in answers if answer[0] == truth]
        for column, given in enumerate(names):
            share = _share(mine, lambda answer, given=given: answer[4] == given)  # type: ignore[misc]
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
