"""`replay diff`: what changed between two bundles, or between two results of replays."""

from __future__ import annotations

from pathlib import Path

import click

from replay.commands.options import json_option, open_bundle, opening_options
from replay.show.terminal import print_json, print_line, print_wrapped, styled
from replay.show.text import inert

__all__ = ["diff"]

_LINES_SHOWN = 12


@click.command(short_help="What changed between two bundles, or two replay results.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@opening_options
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
    from replay.diff.files import compare_bundles, compare_results, is_result
    from replay.result import read_result

    kinds = [is_result(each) for each in (a, b)]
    if kinds[0] != kinds[1]:
        result = inert(a if kinds[0] else b, 300)
        raise click.UsageError(f"{result} is a replay's result and the other a bundle; compare two of one kind")
    if kinds[0]:
        found = compare_results(read_result(Path(a)), read_result(Path(b)))
    else:
        with open_bundle(a) as first, open_bundle(b) as second:
            found = list(compare_bundles(first.manifest, second.manifest))
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
