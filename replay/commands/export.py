"""`replay export`: recorded frames in the formats of other tools."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import json_option, open_bundle, opening_options, parse_frame_ids
from replay.commands.types import Number
from replay.show.terminal import counting, print_json, print_line, print_wrapped
from replay.show.text import inert

if TYPE_CHECKING:
    from replay.export.source import Exported

__all__ = ["export"]

_FOLDERS = ("coco", "imagefolder", "parquet")
_FILES = ("mcap", "rrd")
#: `replay.export.source.BOXES_IN`, which is not imported for --help.
_BOXES_IN = ("image", "input-stretched", "input-letterboxed", "input-padded", "fractions")


@click.command(short_help="Recorded frames for labelling and viewing tools.")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True)
@opening_options
@click.option("--to", "form", required=True, type=click.Choice([*_FOLDERS, *_FILES]), help="The format.")
@click.option("-o", "--output", required=True, metavar="PATH", help="A new directory; of mcap and rrd a new file.")
@click.option("--frames", metavar="IDS", help="Only these frames of one bundle: ids and ranges such as 3,7-9.")
@click.option(
    "--truth", default="ground_truth", show_default=True, metavar="KEY", help="Metadata that holds what is right."
)
@click.option(
    "--by",
    type=click.Choice(["truth", "truth-only", "prediction"]),
    default="truth",
    show_default=True,
    help="Labels of coco and imagefolder: the truth where it is known, else the prediction; only the truth; or "
    "the prediction.",
)
@click.option("--labels", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="Names of the classes.")
@click.option(
    "--boxes-in",
    type=click.Choice(_BOXES_IN),
    help="Coordinates of a model's own boxes and masks: of the recorded picture, of one stretched, fitted into the "
    "middle or the upper left of the model's input, or fractions of it.",
)
@click.option(
    "--min-score",
    type=Number(0, 1),
    default=0.5,
    show_default=True,
    help="Boxes below it are no labels and are not drawn; coco keeps them as predictions.",
)
@json_option
@click.pass_context
def export(
    context: click.Context,
    bundles: tuple[str, ...],
    form: str,
    output: str,
    frames: str | None,
    truth: str,
    by: str,
    labels: str | None,
    boxes_in: str | None,
    min_score: float,
    as_json: bool,
) -> None:
    """Write the frames of incidents for other tools: labelling and validation sets, tables, viewers.

    What is not there (thinned, redacted, not recorded, without a known place in the picture) is counted by reason,
    not made up. Nothing is overwritten. Formats mcap, parquet and rrd need the extra "export". Examples:

    \b
        replay export incidents/*.zst --to imagefolder -o wrong/
        replay export incidents/…bundle.zst --to rrd -o incident.rrd
    """
    from replay.class_names import ClassNames, listed_in, read_labels
    from replay.export.source import CannotExport, Exported, Options, Source
    from replay.export.writing import write_export

    out = Path(output)
    if out.exists() or out.is_symlink():
        raise click.BadParameter(f"{out} exists; name a new {'directory' if form in _FOLDERS else 'file'}")
    if not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no directory; make it first")
    if frames is not None and len(bundles) > 1:
        raise click.UsageError("--frames takes one bundle: ids of frames are those of one recording")
    try:
        named = None if labels is None else read_labels(Path(labels))
    except ValueError as error:
        raise click.BadParameter(inert(error, 300)) from error
    exported = Exported()
    with contextlib.ExitStack() as stack, counting("reading") as count:
        opened = [stack.enter_context(open_bundle(each)) for each in bundles]
        if named is None:
            named = {name: index for bundle in reversed(opened) for name, index in listed_in(bundle).items()}
        total = sum(len(bundle.manifest.frames) for bundle in opened)
        progress = None if count is None else lambda: count(exported.frames, total)
        options = Options(truth=truth, by=by, boxes_in=boxes_in, least_score=min_score, names=ClassNames(named))
        sources = []
        for bundle, location in zip(opened, bundles, strict=True):
            existing = tuple(frame.id for frame in bundle.manifest.frames)
            wanted = None if frames is None else parse_frame_ids(frames, existing)
            source = Source(bundle, exported, location=location, wanted=wanted, options=options, progress=progress)
            sources.append(source)
        try:
            write_export(form, sources, out)
        except CannotExport as cannot:
            raise BundleError(inert(cannot, 300)) from cannot
        except OSError as error:
            raise BundleUnavailable(f"{out} cannot be written: {error.strerror or error}; free the place") from error
    _print(exported, out, as_json)
    context.exit(ExitCode.OK)


def _print(exported: Exported, out: Path, as_json: bool) -> None:
    reasons = {"left_out": exported.left_out, "changed": exported.changed}
    counted = {name: {reason: count for reason, count in told.most_common() if count} for name, told in reasons.items()}
    if as_json:
        totals = {"frames": exported.frames, "images": exported.images, "labels": dict(exported.labels)}
        print_json({"path": str(out), **totals, **counted})
        return
    print_line(f"{exported.frames} frames, {exported.images} pictures   {out}")
    if exported.labels:
        print_line("labels: " + ", ".join(f"{origin} {count}" for origin, count in exported.labels.most_common()))
    for name, title in (("left_out", "left out"), ("changed", "not as recorded")):
        if counted[name]:
            print_line(f"{title}:")
        for reason, count in counted[name].items():
            print_wrapped(f"{count}: {inert(reason, 160)}", indent="    ", first="  - ")
