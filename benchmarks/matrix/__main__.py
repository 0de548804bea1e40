"""``python -m benchmarks.matrix``: every model under every setting this CPU has; writes docs/matrix.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.matrix.cells import CELLS, cells_of_this_machine
from benchmarks.matrix.models import MODELS
from benchmarks.matrix.run import Entry, examine, record_cells
from benchmarks.payload import scratch
from benchmarks.results import Table
from replay.bisect.findings import conclusion

_PAGE = Path(__file__).parents[2] / "docs" / "matrix.md"

_HEAD = """# What replay restores and bisect names

Written by `python -m benchmarks.matrix`, never by hand. Each model is recorded under one planted setting in a
process of its own and replayed from a shell with another. *Bits differ* is told from two recordings alone; *faithful*
is the level of `replay run`; *bisect* is what `replay bisect` says explains the recorded bits. Where the planted
setting changes no bit of a model, the right answer is that no setting matters.

"""


def main() -> None:
    """Run what was asked for; the page is written only by a run of everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix", description=__doc__)
    parser.add_argument("--cells", nargs="*", choices=cells_of_this_machine(), help="default: all")
    parser.add_argument("--models", nargs="*", choices=list(MODELS), help="default: all")
    options = parser.parse_args()
    cells, models = options.cells or cells_of_this_machine(), options.models or list(MODELS)
    entries = []
    with scratch() as directory:
        record_cells(directory, cells, models)
        for model in models:
            for cell in cells:
                if CELLS[cell].batch and not MODELS[model].batches:
                    continue
                entries.append(examine(directory, cell, model))
                print(" | ".join(row(entries[-1])), flush=True)
    if not (options.cells or options.models):
        columns = ["model", "planted", "bits differ", "faithful", "bisect"]
        good = sum(entry.faithful and entry.named for entry in entries)
        tail = f"\n\n{good} of {len(entries)} cells are as they should be.\n"
        _PAGE.write_text(_HEAD + Table(columns, [row(entry) for entry in entries]).markdown() + tail)


def row(entry: Entry) -> list[str]:
    """One line of the table."""
    said = conclusion(entry.bisected).partition(":")[0]
    level = entry.replayed.verdict.value + ("" if not entry.replayed.not_restored else ", not all restored")
    return [entry.model, entry.cell, "yes" if entry.differs else "no", level, said + ("" if entry.named else " (!)")]


if __name__ == "__main__":
    main()
