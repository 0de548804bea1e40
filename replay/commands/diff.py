"""`replay diff`: what changed between two bundles, or between two results of replays."""

from __future__ import annotations

import click

from replay.commands.options import json_option
from replay.show.terminal import print_json, print_line, print_wrapped, styled
from replay.show.text import inert

__all__ = ["diff"]

_LINES_SHOWN = 12


@click.command(short_help="What changed between two bundles, or two replay results.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@json_option
@click.pass_context
def diff(context: click.Context, a: str, b: str, as_json: bool) -> None:
    """Say what changed from A to B: two bundles, or two results of `replay run --save`.

    \b
    Exit code 0: the same · 1: something changed · 2: a bundle and a result
    cannot be compared · 4: one of them is invalid.

    Example:

    \b
        replay diff yesterday.zst today.zst
        replay diff before.zst.replay.json after.zst.replay.json
    """
    from replay.diff import Unlike, compare_files

    try:
        found = compare_files(a, b)
    except Unlike as error:
        raise click.UsageError(inert(error, 400)) from error
    if as_json:
        print_json([each.to_json() for each in found])
    else:
        changed = [each for each in found if not each.passed]
        for each in changed:
            print_line(styled(inert(each.name, 200), bold=True))
            for line in each.lines[:_LINES_SHOWN]:
                print_wrapped(inert(line, 400), indent="      ", first="  - ")
            if len(each.lines) > _LINES_SHOWN:
                print_line(f"  and {len(each.lines) - _LINES_SHOWN} more; --json lists all")
        same = [each.name for each in found if each.passed]
        if same:
            print_wrapped(inert(", ".join(same), 400), indent="    ", first="the same: ")
    context.exit(0 if all(each.passed for each in found) else 1)
