"""`replay report`: an incident as one HTML file."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.commands.options import bundle_argument, json_option, new_file, open_bundle, opening
from replay.show.terminal import counting, print_json, print_line, print_note
from replay.show.text import inert, size

__all__ = ["report"]


@click.command(short_help="One self-contained HTML page of an incident.")
@bundle_argument
@click.option("-o", "--output", required=True, metavar="FILE", help="The page to write; nothing is overwritten.")
@click.option("--against", metavar="OTHER", help="A bundle from before: what changed since then stands on the page.")
@json_option
def report(bundle: str, output: str, against: str | None, as_json: bool) -> None:
    """Write what happened as one HTML file that works from a mail attachment.

    \b
    It needs no network and no server. The verdict is that of the last
    `replay run BUNDLE --save`.

    Example:

    \b
        replay run incident.zst --save
        replay report incident.zst -o report.html
    """
    from replay.report.page import page

    path = new_file(output)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_bundle(bundle))
        other = stack.enter_context(open_bundle(against)) if against is not None else None
        result, problem = _result(bundle, opened.id)
        if problem:
            print_note(problem)
        count = stack.enter_context(counting("drawing"))
        text = page(
            opened,
            location=bundle,
            signed=opening().signed(opened),
            result=result,
            result_problem=problem,
            against=None if other is None else other.manifest,
            count=count,
        )
    data = text.encode("utf-8", "replace")
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise BundleUnavailable(f"the page cannot be written to {output}: {error.strerror}") from error
    if as_json:
        print_json({"report": str(path), "size_bytes": len(data), "verdict": result["verdict"] if result else None})
    else:
        print_line(f"{inert(path, 300)}, {size(len(data))}")


def _result(bundle: str, bundle_id: str) -> tuple[dict[str, Any] | None, str]:
    """Return the saved result of a bundle's replay, or why one that is there is not used."""
    from replay.result import read_result, result_path

    path = result_path(bundle)
    if not path.exists():
        return None, ""
    try:
        result = read_result(path)
    except BundleError as error:
        return None, f"The saved result is not used: {inert(error, 300)}"
    if result["bundle"] != bundle_id:
        return None, "The saved result is not used: it is that of another bundle."
    return result, ""
