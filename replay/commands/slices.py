"""`replay slices`: which camera, class, hour or metadata value carries the shift."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recorder.bundle.errors import BundleError
from replay.cli import ExitCode
from replay.commands.options import identity_option, json_option, opening, parse_since
from replay.show.terminal import print_json, print_line, print_note, print_wrapped, progress, styled
from replay.show.text import inert

if TYPE_CHECKING:
    from recorder.drift.slices import Ranking

__all__ = ["slices"]

_SHOWN = 8
_FILES = (".zst", ".age")


@click.command(short_help="Which camera, class, hour or metadata value carries the shift.")
@click.argument("sources", nargs=-1, required=True, metavar="BUNDLE|SINK...")
@click.option("--since", metavar="WHEN", help="Of a SINK, only incidents since: 90s, 15m, 1h, 2d, or a date (UTC).")
@click.option("--stream", metavar="NAME", help="Only incidents of this stream.")
@identity_option
@json_option
@click.pass_context
def slices(
    context: click.Context, sources: tuple[str, ...], since: str | None, stream: str | None, as_json: bool
) -> None:
    """Compare the frames since the onset with those before, slice by slice: of one incident, or of all of a sink.

    A slice is named where it moved more than all other frames, beyond what chance does to slices of its size when so
    many are looked at. Slices are streams, predicted classes, hours, and values of metadata and answers.

    \b
    Exit code 0: no slice carries the shift more than the others · 1: some do ·
    3: there are too few frames to tell. Examples:

    \b
        replay slices incidents/…bundle.zst
        replay slices incidents/ --since 1d
    """
    from replay.slices import Sliced, finding, slice_incidents

    gathered, count = Sliced(), 0
    locations = list(_locations(sources, since))
    with progress(locations, "reading", len(locations)) as each:
        for location, is_named in each:
            try:
                with opening().open(location) as opened:
                    if stream is None or opened.manifest.incident.stream == stream:
                        slice_incidents(opened, gathered)
                        count += 1
            except BundleError as error:
                if is_named:
                    raise
                print_note(f"{inert(Path(location).name, 100)}: {inert(error, 400)}")
    ranking = gathered.ranking()
    for reason, number in gathered.left_out.items():
        print_note(f"{number} of {count} incidents left out: {inert(reason, 200)}")
    if as_json:
        print_json([finding(each) for each in ranking.slices])
    else:
        _print(ranking)
    if not ranking.slices:
        context.exit(ExitCode.NOT_REPLAYABLE)
    context.exit(ExitCode.NOT_OK if any(each.carries for each in ranking.slices) else ExitCode.OK)


def _locations(sources: tuple[str, ...], since: str | None) -> Iterator[tuple[str, bool]]:
    """Every bundle, and whether it was named itself."""
    from replay.listing import bundles_of

    since_ns = parse_since(since) if since else None
    for source in sources:
        if Path(source).is_dir() or ("://" in source and not source.endswith(_FILES)):
            yield from ((listing.location, False) for listing in bundles_of(source, since_ns))
        else:
            yield source, True


def _print(ranking: Ranking) -> None:
    from replay.slices import sentences

    telling = [each for each in ranking.slices if each.carries]
    of = f"{ranking.frames} frames since the onset, {ranking.before} before"
    if not ranking.slices:
        print_line(styled("no slice has frames enough to be compared", bold=True) + f" ({of})")
        print_line("    give a directory with more incidents, or record more post_frames")
        return
    if not telling:
        print_line(styled("no slice carries it more than the others", bold=True))
        print_line(f"    {len(ranking.slices)} looked at, {of}")
        return
    for each in telling[:_SHOWN]:
        first, *more = sentences(each)
        print_wrapped(styled(inert(first, 400), bold=True), indent="    ", first="")
        for sentence in more:
            print_wrapped(inert(sentence, 400), indent="      ", first="    ")
    if len(telling) > _SHOWN:
        print_line(f"and {len(telling) - _SHOWN} more; --json lists all")
    print_line(f"{len(ranking.slices)} slices looked at, {of}")
