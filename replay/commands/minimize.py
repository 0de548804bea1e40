"""`replay minimize`: the smallest set of frames that still fails."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import bundle_argument, json_option, model_options, new_file, open_bundle
from replay.show.terminal import print_json, print_line, print_note, print_wrapped, styled
from replay.show.text import id_ranges, inert

__all__ = ["minimize"]


@click.command(short_help="The smallest set of frames that still fails.")
@bundle_argument
@click.option("-o", "--output", required=True, metavar="FILE", help="The new bundle.")
@click.option("--frame", type=int, metavar="ID", help="The frame that fails. Default: that of the trigger.")
@model_options
@json_option
@click.pass_context
def minimize(
    context: click.Context,
    bundle: str,
    output: str,
    frame: int | None,
    model: tuple[str, ...],
    model_dir: str | None,
    models: str | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Write a bundle of the fewest frames, and the fewest items of the failing batch, that still fail.

    Parts of the incident are run again and again, each in models loaded anew, until no frame can be spared. It fails
    when the trigger fires on the replayed answer; where no single answer decides that, when the recorded answer comes
    back. Exit code 1: it does not fail here at all. Example:

    \b
        replay minimize incidents/…bundle.zst -o smallest.zst
    """
    from replay.load import ConfigInvalid
    from replay.minimize import NothingFails, minimize_bundle

    target = new_file(output)
    with open_bundle(bundle) as opened:
        try:
            done = minimize_bundle(
                opened,
                target,
                frame=frame,
                model=model,
                model_directory=model_dir,
                models=models,
                bundle_path=Path(bundle),
                timeout_seconds=timeout,
                progress=_tell if sys.stderr.isatty() else None,
            )
        except NothingFails as nothing:
            cannot = "cannot be run here" in str(nothing) or "nothing to run again" in str(nothing)
            if cannot:
                raise BundleError(str(nothing)) from nothing
            if as_json:
                print_json({"path": None, "reason": str(nothing)})
            else:
                print_wrapped(inert(nothing, 600))
            context.exit(ExitCode.NOT_OK)
        except (ConfigInvalid, ValueError) as error:
            raise click.UsageError(inert(error, 600)) from error
        except OSError as error:
            raise BundleUnavailable(f"{target} cannot be written: {error.strerror}; name another file") from error
    if as_json:
        print_json(
            {
                "path": str(target),
                "bundle": done.bundle,
                "frames": list(done.frames),
                "frames_before": done.frames_before,
                "items": None if done.items is None else list(done.items),
                "items_before": done.items_before,
                "fails_by": done.fails_by,
                "replays": done.replays,
            }
        )
        context.exit(ExitCode.OK)
    print_line(styled("minimized", fg="green", bold=True) + f"   {target}")
    print_line(f"{len(done.frames)} of {done.frames_before} frames are left: {id_ranges(done.frames)}")
    if done.items is not None:
        print_line(
            f"{len(done.items)} of {done.items_before} items of the failing batch are left: {id_ranges(done.items)}"
        )
    print_wrapped(f"It still fails: {done.fails_by}. {done.replays} parts were run.")
    context.exit(ExitCode.OK)


def _tell(part: str) -> None:
    print_note(f"trying {part}")
