"""`replay verify`: complete, intact, signed by whom."""

from __future__ import annotations

import click

from recorder.bundle.errors import BundleInvalid
from replay.cli import ExitCode
from replay.commands.options import bundle_argument, json_option, open_bundle
from replay.show.terminal import print_json, print_line, print_wrapped, styled
from replay.show.text import inert, size

__all__ = ["verify"]

#: A bundle of ten thousand broken members is as broken as one of ten.
_PROBLEMS_SHOWN = 20


@click.command(short_help="Is it complete and intact?")
@bundle_argument
@json_option
@click.pass_context
def verify(context: click.Context, bundle: str, as_json: bool) -> None:
    """Read every byte of a bundle and check it against its digests.

    Exit code 0: intact · 4: damaged or no bundle · 6: intact, but salvaged and incomplete. Example:

    \b
        replay verify incidents/…bundle.zst
    """
    facts, complete = "", False
    try:
        with open_bundle(bundle) as opened:
            complete = opened.manifest.complete
            facts = f"bundle {opened.id[:12]}, {len(opened.manifest.members)} members, {size(opened.size_bytes)}"
            problems = [inert(problem, 400) for problem in opened.verify()]
    except BundleInvalid as error:
        problems = [inert(error, 400)]
    valid = not problems
    code = ExitCode.INVALID if not valid else ExitCode.OK if complete else ExitCode.INCOMPLETE
    if as_json:
        print_json({"valid": valid, "complete": complete and valid, "signed": "none", "problems": problems})
        context.exit(code)
    if valid:
        state = "intact and complete" if complete else "intact, but salvaged and incomplete"
        print_line(styled(state, fg="green" if complete else "yellow", bold=True) + f"   {facts}")
        print_line("Not signed: this says that nothing was damaged, not who made it.")
    else:
        print_line(styled("not valid", fg="red", bold=True) + (f"   {facts}" if facts else ""))
        for problem in problems[:_PROBLEMS_SHOWN]:
            print_wrapped(problem, indent="    ", first="  - ")
        if len(problems) > _PROBLEMS_SHOWN:
            print_line(f"  and {len(problems) - _PROBLEMS_SHOWN} more")
    context.exit(code)
