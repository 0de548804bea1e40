"""`replay bisect`: which setting explains the difference between here and the recording."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from replay.commands.options import (
    bundle_argument,
    json_option,
    model_options,
    open_bundle,
    parse_frame_ids,
    save_beside,
    save_option,
)
from replay.commands.types import MOST_SECONDS, Device, Number
from replay.opening import place_of
from replay.show.terminal import counting, print_heading, print_json, print_line, print_wrapped, styled
from replay.show.text import inert

if TYPE_CHECKING:
    from replay.bisect.bisection import Bisection

__all__ = ["bisect"]


@click.command(short_help="Find the setting that explains the recorded bits.")
@bundle_argument
@click.option("--frames", metavar="IDS", help="Only these frames: ids and ranges such as 3,7-9.")
@click.option(
    "--device",
    type=Device(),
    metavar="cpu|cuda[:n]",
    help="Where to run. Default: where it was recorded; elsewhere, the device is one of the settings.",
)
@model_options
@click.option(
    "--with",
    "library",
    metavar="NAME==VERSION",
    help="Try this version of a library too: wheels, installed for this run only.",
)
@click.option(
    "--budget",
    type=Number(min=1, max=MOST_SECONDS),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time for the search.",
)
@save_option
@json_option
@click.pass_context
def bisect(
    context: click.Context,
    bundle: str,
    frames: str | None,
    device: str | None,
    model: tuple[str, ...],
    model_dir: str | None,
    models: str | None,
    library: str | None,
    budget: float,
    timeout: float | None,
    save: bool,
    as_json: bool,
) -> None:
    """Restore the recorded settings one at a time and find the fewest that explain the recorded bits.

    \b
    Exit code 0: explained, or no setting matters · 1: all settings were
    restored and the bits still differ · 3: not everything could be restored,
    or nothing could be run · 5: two runs with the same settings differ.

    Example:

    \b
        replay bisect incidents/…bundle.zst
        replay bisect incidents/…bundle.zst --frames 7 --with torch==2.12.0
    """
    from replay.bisect.findings import exit_code, findings
    from replay.bisect.library import LibraryUnavailable, installed

    with open_bundle(bundle) as opened, contextlib.ExitStack() as stack:
        from replay.bisect.bisection import BisectOptions, bisect_bundle
        from replay.load import ConfigInvalid

        existing = tuple(frame.id for frame in opened.manifest.frames)
        wanted = None if frames is None else parse_frame_ids(frames, existing)
        try:
            directory = stack.enter_context(installed(library)) if library is not None else None
        except ValueError as error:
            raise click.UsageError(inert(error, 300)) from error
        except LibraryUnavailable as error:
            raise click.UsageError(inert(error, 600)) from error
        count = stack.enter_context(counting("bisecting"))
        try:
            options = BisectOptions(
                frames=wanted,
                device=device,
                model=model,
                model_directory=model_dir,
                models=models,
                bundle_path=place_of(bundle),
                timeout_seconds=timeout,
                budget_seconds=budget,
                library=(library, directory) if library is not None and directory is not None else None,
                progress=count,
            )
            found = bisect_bundle(opened, options)
            bundle_id = opened.id
        except ConfigInvalid as error:
            raise click.UsageError(inert(error, 600)) from error
    if save:
        from replay.findings import bisected
        from replay.result import save_findings

        save_beside(bundle, lambda path: save_findings(bisected(findings(found)), bundle_id, path))
    if as_json:
        print_json(findings(found))
    else:
        print_bisection(found)
    context.exit(exit_code(found))


def print_bisection(found: Bisection) -> None:
    """Print the conclusion, the factors and every cell that was tried."""
    from replay.bisect.findings import conclusion, exit_code
    from replay.show.table import print_table

    colour = "green" if exit_code(found) == 0 else "yellow"
    print_line(styled(found.outcome.value, fg=colour, bold=True))
    print_wrapped(inert(conclusion(found), 1000))
    if found.factors:
        print_heading("Not here as it was recorded")
        print_table(("setting", "recorded", "here"), [(each.name, each.recorded, each.here) for each in found.factors])
    if found.cells:
        print_heading("Tried")
        rows = []
        for cell in found.cells:
            restored = ", ".join(sorted(cell.restored)) or "nothing"
            if len(cell.restored) > 1 and cell.restored == frozenset(each.name for each in found.factors):
                restored = "everything"
            size = "" if cell.max_abs is None else f"{cell.max_abs:.2g}"
            changed = str(cell.changed_decisions) if cell.changed_decisions else ""
            rows.append((restored, f"{cell.exact} of {cell.calls}", size, changed, inert(cell.failed, 60)))
        print_table(("restored", "bit-exact", "max |Δ|", "changed decisions", "failed"), rows)
    for title, sentences in (("Not restored", found.not_restored),):
        if sentences:
            print_heading(title)
            for sentence in sentences:
                print_wrapped(inert(sentence, 400), indent="    ", first="  - ")
