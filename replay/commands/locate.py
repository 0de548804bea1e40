"""`replay locate`: the layer in which two replays of a frame part."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recorder.bundle.errors import BundleUnavailable
from replay.commands.options import (
    bundle_argument,
    json_option,
    model_options,
    open_bundle,
    parse_frame_ids,
    save_beside,
    save_option,
)
from replay.commands.types import Device, Factory
from replay.opening import place_of
from replay.show.terminal import (
    counting,
    print_heading,
    print_json,
    print_line,
    print_note,
    print_wrapped,
    shows_blocks,
    styled,
)
from replay.show.text import id_ranges, inert

if TYPE_CHECKING:
    from replay.locate.bundle import LocateResult
    from replay.locate.locating import Located

__all__ = ["locate"]

#: Calls whose tree is printed; the JSON form has all.
_TREES_SHOWN = 3


@click.command(short_help="Say in which layer two replays of a frame part.")
@bundle_argument
@click.option(
    "--against",
    multiple=True,
    metavar="SIDE",
    help="The other side: portable, here, faithful, recorded (layers captured in production), itself, cpu, cuda[:n], "
    "default-isa, avx2-isa, or NAME=VALUE of a setting. May be given several times.",
)
@click.option(
    "--against-model",
    type=Factory(),
    metavar="pkg.mod:factory",
    help="Another model, with its own weights. Its code is run: trust it.",
)
@click.option(
    "--against-weights",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Other weights, a safetensors file.",
)
@click.option(
    "--with",
    "library",
    metavar="NAME==VERSION",
    help="Another version of a library on the other side: wheels, installed for this run only.",
)
@click.option("--frames", metavar="IDS", help="Only these frames. Default: the incident's first, until one differs.")
@click.option(
    "--numerics",
    type=click.Choice(["faithful", "portable", "here"]),
    default="faithful",
    show_default=True,
    help="Settings of the reference.",
)
@click.option("--device", type=Device(), metavar="cpu|cuda[:n]", help="Where the reference runs.")
@model_options
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a plot, SVG.")
@click.option("--all", "everything", is_flag=True, help="Open the parts of the tree in which nothing differs, too.")
@save_option
@json_option
@click.pass_context
def locate(
    context: click.Context,
    bundle: str,
    against: tuple[str, ...],
    against_model: str | None,
    against_weights: Path | None,
    library: str | None,
    frames: str | None,
    numerics: str,
    device: str | None,
    model: tuple[str, ...],
    model_dir: str | None,
    models: str | None,
    timeout: float | None,
    plot: Path | None,
    everything: bool,
    save: bool,
    as_json: bool,
) -> None:
    """Say where a replay first differs: the layer whose output differs while its inputs are the same.

    Runs a frame under two settings, or with two models, and compares every
    layer. Exit code 0: every layer gives the same · 1: they differ · 3: not
    replayable here.

    Example:

    \b
        replay locate incidents/…bundle.zst --against portable --save
        replay locate incidents/…bundle.zst --with torch==2.12.0
        replay locate incidents/…bundle.zst --model app:model_v1 \\
            --against-model app:model_v2 --plot where.svg
    """
    with open_bundle(bundle) as opened, contextlib.ExitStack() as stack:
        from replay.bisect.library import LibraryUnavailable, installed
        from replay.locate.bundle import LocateOptions, locate_bundle

        existing = tuple(frame.id for frame in opened.manifest.frames)
        try:
            options = LocateOptions(
                against=against,
                against_model=against_model,
                against_weights=against_weights,
                library=None if library is None else (library, ""),
                frames=None if frames is None else parse_frame_ids(frames, existing),
                numerics=numerics,
                device=device,
                model=model,
                model_directory=model_dir,
                models=models,
                bundle_path=place_of(bundle),
                timeout_seconds=timeout,
            )
            if library is not None:
                options = replace(options, library=(library, stack.enter_context(installed(library))))
            count = stack.enter_context(counting("locating"))
            result = locate_bundle(opened, replace(options, progress=count))
        except (ValueError, LibraryUnavailable) as error:
            raise click.UsageError(inert(error, 600)) from error
    if plot is not None:
        _write_plot(result, plot)
    if save:
        from replay.findings import located
        from replay.result import save_findings

        save_beside(bundle, lambda path: save_findings(located(result.form()), result.bundle, path))
    if as_json:
        print_json(result.form())
    else:
        _print_result(result, everything)
    context.exit(result.exit_code)


def _print_result(result: LocateResult, everything: bool) -> None:
    from replay.locate.tree import tree_lines
    from replay.locate.wording import describe_root

    print_wrapped(inert(" against ".join(result.names), 400))
    print_line()
    shown = [each for each in result.located if each.differs]
    for each in shown[:_TREES_SHOWN]:
        print_line(styled(_title(each), bold=True))
        print_wrapped(describe_root(each), indent="  ")
        print_line()
        for line in tree_lines(each, blocks=shows_blocks(), everything=everything):
            print_line(styled(line, fg="red") if line.startswith("> ") else line)
        print_line()
    if len(shown) > _TREES_SHOWN:
        print_line(f"and {len(shown) - _TREES_SHOWN} more calls differ; --json lists all")
    if not shown:
        print_wrapped(inert(result.conclusion, 1000))
    if result.not_restored:
        print_heading("Not restored:")
        for sentence in result.not_restored:
            print_wrapped(inert(sentence, 400), indent="    ", first="  - ")


def _title(located: Located) -> str:
    frames = id_ranges(located.job.call.frames)
    return f"frame {frames}, call {located.job.call.id} ({inert(located.job.model.name, 40)})"


def _write_plot(result: LocateResult, path: Path) -> None:
    from replay.locate.plot import plot_svg

    located = result.first or next((each for each in result.located if each.parting is not None), None)
    if located is None:
        print_note("no plot was written: nothing could be compared")
        return
    try:
        path.write_text(plot_svg(located, result.names), encoding="utf-8")
    except OSError as error:
        raise BundleUnavailable(f"the plot cannot be written to {path}: {error.strerror}") from error
