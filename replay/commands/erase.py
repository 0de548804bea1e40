"""`replay erase`: what was recorded of somebody or something goes, from a sink and from spools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recorder.bundle.errors import BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import identity_option, json_option, open_bundle
from replay.show.terminal import print_json, print_line, print_wrapped, styled
from replay.show.text import id_ranges, inert

if TYPE_CHECKING:
    from replay.erasure.conditions import Where
    from replay.erasure.finding import Erasure, Found, Places

__all__ = ["erase"]


@click.command(short_help="Delete what was recorded of somebody, by metadata.")
@click.argument("sink", metavar="SINK")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    required=True,
    metavar="KEY=VALUE",
    help="Metadata of the frames that go; several must all hold.",
)
@click.option(
    "--spool",
    "spools",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Also look here and below: spools, scratch directories.",
)
@click.option(
    "--whole", is_flag=True, help="Delete bundles in which only some frames match, instead of rewriting them."
)
@click.option("--yes", "is_meant", is_flag=True, help="Do it. Without, it is only said what would be done.")
@click.option(
    "--privacy-key",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Find values that stand as pseudonyms under this key, too.",
)
@identity_option
@json_option
@click.pass_context
def erase(
    context: click.Context,
    sink: str,
    conditions: tuple[str, ...],
    spools: tuple[str, ...],
    whole: bool,
    is_meant: bool,
    privacy_key: str | None,
    as_json: bool,
) -> None:
    """Delete bundles by the metadata of their frames, with saved replays of them.

    A bundle in which only some frames match is replaced by one without them, without its history and without the
    values of batches they shared. In a bucket older versions of an object go too. Copies elsewhere (tickets, caches,
    backups) are not reached. Exit code 0: nothing else holds it here · 1: something may, each named: damaged or
    encrypted bundles, rings, uploads, copies made from an erased bundle. Examples:

    \b
        replay erase incidents/ --where patient=4711
        replay erase incidents/ --where patient=4711 --spool /rings --yes
        replay erase s3://incidents/prod --where patient=4711 --yes
    """
    from replay.erasure.finding import find

    where, places = _where(conditions, privacy_key), _places(sink, [Path(spool) for spool in spools])
    try:
        erasure = find(places, where, open_bundle, whole=whole)
    except OSError as error:
        raise BundleUnavailable(f"{error.filename or sink} cannot be read: {error.strerror}") from error
    if is_meant:
        erasure.carry_out(open_bundle, where, places)
    if as_json:
        print_json(_as_json(sink, where, erasure, is_meant))
    else:
        _print(erasure, is_meant)
    context.exit(ExitCode.OK if erasure.is_complete else ExitCode.NOT_OK)


def _places(sink: str, spools: list[Path]) -> Places:
    from replay.erasure.files import Directories
    from replay.opening import place_of

    place = place_of(sink)
    if not isinstance(place, Path):
        from replay.erasure.objects import Bucket

        return Bucket(place, Directories(None, spools))
    if not place.is_dir():
        raise BundleUnavailable(f"{sink} is no directory; name the directory of the sink, or s3://bucket/prefix")
    return Directories(place, spools)


def _where(conditions: tuple[str, ...], privacy_key: str | None) -> Where:
    from recorder.privacy import load_key
    from replay.erasure.conditions import Where

    parsed: dict[str, str] = {}
    for text in conditions:
        key, equals, value = text.partition("=")
        if not equals or not key or not value or key in parsed:
            raise click.UsageError(f"--where {text!r} must read KEY=VALUE, each key once")
        parsed[key] = value
    try:
        return Where(parsed, load_key(privacy_key))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _as_json(sink: str, where: Where, erasure: Erasure, is_meant: bool) -> dict[str, Any]:
    return {
        "sink": sink,
        "where": dict(where.conditions),
        "done": is_meant,
        "bundles": [
            {
                "path": str(each.path),
                "bundle": each.bundle,
                "action": "delete" if each.whole else "rewrite",
                "frames": list(each.frames),
                "problem": None if each.problem is None else inert(each.problem, 400),
            }
            for each in erasure.found
        ],
        "untouched": erasure.untouched,
        "unreadable": [{"path": str(path), "problem": inert(reason, 400)} for path, reason in erasure.unreadable],
        "descendants": [{"path": str(path), "of": bundle} for path, bundle in erasure.descendants],
        "complete": erasure.is_complete,
    }


def _print(erasure: Erasure, is_meant: bool) -> None:
    for each in erasure.found:
        print_line(styled(_done(each, is_meant), bold=True) + f"   {inert(each.path, 4096)}")
        if each.problem is not None:
            print_wrapped(inert(each.problem, 400), indent="    ")
        elif not each.whole:
            print_wrapped(f"without frames {id_ranges(each.frames)}", indent="    ")
    for path, reason in erasure.unreadable:
        print_line(styled("may hold it", fg="yellow", bold=True) + f"   {inert(path, 4096)}")
        print_wrapped(inert(reason, 400), indent="    ")
    for path, bundle in erasure.descendants:
        print_line(styled("may hold it", fg="yellow", bold=True) + f"   {inert(path, 4096)}")
        print_wrapped(
            f"made from bundle {bundle[:16]}, which goes, without the metadata that was asked for", indent="    "
        )
    print_line(f"{len(erasure.found)} with such frames, {erasure.untouched} without")
    if erasure.found and not is_meant:
        print_line("Nothing was changed: add --yes to do it.")


def _done(found: Found, is_meant: bool) -> str:
    if found.problem is not None:
        return "not done"
    words = ("deleted", "rewritten") if is_meant else ("would delete", "would rewrite")
    return words[0] if found.whole else words[1]
