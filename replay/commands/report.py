"""`replay report`: an incident as one HTML file."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.commands.options import bundle_argument, json_option, new_file, open_bundle, opening, parse_since
from replay.show.terminal import counting, print_json, print_line, print_note
from replay.show.text import inert, size

__all__ = ["report"]


@click.command(short_help="One self-contained HTML page of an incident, or a list of them in the browser.")
@bundle_argument
@click.option("-o", "--output", metavar="FILE", help="The page to write; nothing is overwritten.")
@click.option("--against", metavar="OTHER", help="A bundle from before: what changed since then stands on the page.")
@click.option("--serve", is_flag=True, help="BUNDLE is a directory or bucket: list its incidents in the browser.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --serve: the address to listen on.")
@click.option(
    "--port", default=0, type=click.IntRange(0, 65535), show_default="a free one", help="With --serve: its port."
)
@json_option
def report(
    bundle: str, output: str | None, against: str | None, serve: bool, host: str, port: int, as_json: bool
) -> None:
    """Write what happened as one HTML file that works from a mail attachment.

    \b
    It needs no network and no server. The verdict is that of the last
    `replay run BUNDLE --save`. With --serve, the incidents of a directory
    or bucket are listed in the browser until Ctrl-C.

    Example:

    \b
        replay run incident.zst --save
        replay report incident.zst -o report.html
        replay report --serve incidents/
    """
    if serve:
        if output is not None or against is not None:
            raise click.UsageError("--serve writes no page: leave out -o and --against")
        _serve(bundle, host, port, as_json)
        return
    if output is None:
        raise click.UsageError("name the page to write: -o report.html (or --serve for a directory of incidents)")
    path = new_file(output)
    data, result = _page(bundle, against)
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError as error:  # made while the page was: it is somebody else's
        raise click.BadParameter(f"{output} exists by now; nothing is overwritten, so name a new file") from error
    except OSError as error:
        path.unlink(missing_ok=True)
        raise BundleUnavailable(
            f"the page cannot be written to {output}: {error.strerror}; name another file"
        ) from error
    if as_json:
        print_json({"report": str(path), "size_bytes": len(data), "verdict": result["verdict"] if result else None})
    else:
        print_line(f"{inert(path, 300)}, {size(len(data))}")


def _page(bundle: str, against: str | None) -> tuple[bytes, dict[str, Any] | None]:
    from replay.report.page import page

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
    return text.encode("utf-8", "replace"), result


def _serve(sink: str, host: str, port: int, as_json: bool) -> None:
    from recorder.bundle.reader import Bundle
    from replay.listing import bundles_of
    from replay.live.pages import Pages
    from replay.live.server import Server
    from replay.report.page import page

    asked = opening()  # of this thread's command: those that answer have none

    def made(opened: Bundle, location: str) -> bytes:
        result, problem = _result(location, opened.id)
        signed = asked.signed(opened)
        text = page(opened, location=location, signed=signed, result=result, result_problem=problem)
        return text.encode("utf-8", "replace")

    def since(text: str) -> int:
        try:
            return parse_since(text)
        except click.BadParameter as error:
            raise ValueError(str(error)) from error

    bundles_of(sink)  # a sink that is none is an error now, not a line in the list
    with contextlib.suppress(KeyboardInterrupt), Server(Pages(sink, asked, made, since), host, port) as server:
        if server.place.is_everywhere:
            print_note(f"From elsewhere, open it by an IP address of this machine in place of {server.place.shown}.")
        if not server.place.is_here:
            print_note(f"{host} is not this machine alone: who has the address sees the incidents, unencrypted.")
        if as_json:
            print_json({"address": server.address})
        else:
            print_line(f"{server.address}  (Ctrl-C ends)")
        server.serve_forever(poll_interval=0.2)


def _result(bundle: str, bundle_id: str) -> tuple[dict[str, Any] | None, str]:
    """Return the saved result of a bundle's replay, or why one that is there is not used."""
    from replay.opening import local_name
    from replay.result import read_result, result_path

    path = result_path(local_name(bundle))
    if not path.exists():
        return None, ""
    try:
        result = read_result(path)
    except BundleError as error:
        return None, f"The saved result is not used: {inert(error, 300)}"
    if result["bundle"] != bundle_id:
        return None, "The saved result is not used: it is that of another bundle."
    return result, ""
