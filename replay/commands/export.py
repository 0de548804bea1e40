"""`replay export`: recorded frames in the formats of other tools."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import bundle_argument, json_option, open_bundle, parse_frame_ids
from replay.opening import local_name
from replay.show.terminal import print_json, print_line, print_wrapped
from replay.show.text import inert

if TYPE_CHECKING:
    from replay.export.source import Source

__all__ = ["export"]

_FOLDERS = ("coco", "imagefolder", "parquet")
_FILES = ("mcap", "rrd")


@click.command(short_help="Recorded frames for labelling and viewing tools.")
@bundle_argument
@click.option("--to", "form", required=True, type=click.Choice([*_FOLDERS, *_FILES]), help="The format.")
@click.option("-o", "--output", required=True, metavar="PATH", help="A new directory; of mcap and rrd a new file.")
@click.option("--frames", metavar="IDS", help="Only these frames: ids and ranges such as 3,7-9.")
@click.option(
    "--truth", default="ground_truth", show_default=True, metavar="KEY", help="Metadata that holds the class."
)
@click.option(
    "--by",
    type=click.Choice(["truth", "prediction"]),
    default="truth",
    show_default=True,
    help="Folders of imagefolder: the truth where it is known, else the prediction; or the prediction.",
)
@json_option
@click.pass_context
def export(
    context: click.Context,
    bundle: str,
    form: str,
    output: str,
    frames: str | None,
    truth: str,
    by: str,
    as_json: bool,
) -> None:
    """Write the frames of an incident for other tools: labelling and validation sets, tables, viewers.

    What a bundle does not hold (thinned, redacted, not recorded) is counted, not made up. Nothing is overwritten.
    Formats mcap, parquet and rrd need the extra "export". Examples:

    \b
        replay export incidents/…bundle.zst --to imagefolder -o wrong/
        replay export incidents/…bundle.zst --to rrd -o incident.rrd
    """
    from replay.export.source import CannotExport, Exported, Source

    out = Path(output)
    if out.exists() or out.is_symlink():
        raise click.BadParameter(f"{out} exists; name a new {'directory' if form in _FOLDERS else 'file'}")
    if not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no directory; make it first")
    exported = Exported()
    with open_bundle(bundle) as opened:
        existing = tuple(frame.id for frame in opened.manifest.frames)
        wanted = None if frames is None else parse_frame_ids(frames, existing)
        try:
            _write(form, Source(opened, wanted, exported), out, local_name(bundle), truth, by)
        except CannotExport as cannot:
            raise BundleError(inert(cannot, 300)) from cannot
        except OSError as error:
            raise BundleUnavailable(f"{out} cannot be written: {error.strerror or error}; free the place") from error
    if as_json:
        left_out = dict(exported.left_out)
        print_json({"path": str(out), "frames": exported.frames, "images": exported.images, "left_out": left_out})
    else:
        print_line(f"{exported.frames} frames, {exported.images} pictures   {out}")
        for reason, count in exported.left_out.most_common():
            print_wrapped(f"{count} {inert(reason, 100)}", indent="    ", first="  - ")
    context.exit(ExitCode.OK)


def _write(form: str, source: Source, out: Path, location: str, truth: str, by: str) -> None:
    """Write all of it or nothing."""
    from replay.export import folders, recordings, tables

    try:
        if form in _FOLDERS:
            out.mkdir()
        match form:
            case "imagefolder":
                folders.imagefolder(source, out, truth, by)
            case "coco":
                folders.coco(source, out)
            case "parquet":
                tables.parquet(source, out, location)
            case "mcap":
                recordings.mcap(source, out)
            case "rrd":
                recordings.rrd(source, out)
    except FileExistsError:  # somebody was quicker: what stands there is theirs
        raise
    except BaseException:
        shutil.rmtree(out, ignore_errors=True) if form in _FOLDERS else out.unlink(missing_ok=True)
        raise
