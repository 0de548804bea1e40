"""`replay suite`: incidents as a regression suite."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recorder.bundle.errors import BundleInvalid, BundleUnavailable
from replay.commands.options import bundle_argument, json_option, model_options, open_bundle, opening, opening_options
from replay.commands.types import Device, Factory
from replay.opening import place_of
from replay.show.terminal import counting, print_json, print_line, print_note, print_wrapped, styled
from replay.show.text import inert

if TYPE_CHECKING:
    from replay.suite.document import Suite
    from replay.suite.running import CaseResult

__all__ = ["suite"]


@click.group(short_help="Incidents as a regression suite.")
def suite() -> None:
    """Keep understood incidents as tests of every candidate model. Example: `replay suite run incidents/suite`."""


@suite.command()
@bundle_argument
@click.option("--to", "folder", required=True, type=click.Path(file_okay=False), metavar="DIR", help="The suite.")
@click.option(
    "--expect",
    "expect",
    multiple=True,
    required=True,
    metavar="EXPECTATION",
    help="class=NAME, not=NAME, confidence>=.8, boxes~FILE.json, same-as-recorded, no-failure or "
    "stable:image.brightness=0.8..1.2; several must all hold.",
)
@click.option("--name", metavar="NAME", help="Of the case. Default: trigger and incident.")
@click.option("--frame", type=int, metavar="ID", help="The frame that is judged. Default: that of the trigger.")
@click.option("--labels", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="Names of the classes.")
@click.option("--note", default="", metavar="TEXT", help="For people. Default: the trigger's reason.")
@click.option("--whole", is_flag=True, help="Keep all frames instead of the fewest that fail.")
@click.option("--replace", "replace_case", is_flag=True, help="Take the place of a case of that name.")
@model_options
@json_option
def add(
    bundle: str,
    folder: str,
    expect: tuple[str, ...],
    name: str | None,
    frame: int | None,
    labels: str | None,
    note: str,
    whole: bool,
    replace_case: bool,
    model: tuple[str, ...],
    model_dir: str | None,
    models: str | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Keep the smallest part of an incident that still fails, and what is expected of a candidate. Example:

    \b
        replay suite add …bundle.zst --to suite --expect no-failure
        replay suite add …bundle.zst --to suite --expect class=scratch \\
            --labels classes.txt
    """
    from replay.class_names import read_labels
    from replay.suite.adding import add_case
    from replay.suite.document import SuiteInvalid

    with open_bundle(bundle) as opened:
        try:
            added = add_case(
                opened,
                Path(folder),
                expect,
                name=name,
                frame=frame,
                labels=read_labels(Path(labels)) if labels else None,
                minimize=not whole,
                note=inert(note, 500),
                replace_case=replace_case,
                progress=(lambda part: print_note(f"trying {part}")) if sys.stderr.isatty() else None,
                model=model,
                model_directory=model_dir,
                models=models,
                bundle_path=place_of(bundle),
                timeout_seconds=timeout,
            )
        except SuiteInvalid as error:
            raise BundleInvalid(inert(error, 500)) from error
        except ValueError as error:
            raise click.UsageError(inert(error, 600)) from error
        except OSError as error:
            raise BundleUnavailable(f"{folder} cannot be written: {error.strerror}; name another directory") from error
    case = added.case
    if bundle.endswith(".age"):
        print_note(f"The incident is encrypted, {added.path} is not: keep it where its pictures may be seen.")
    if as_json:
        print_json(
            {
                "case": case.name,
                "path": str(added.path),
                "bundle": case.bundle,
                "frame": case.frame,
                "expect": [each.text for each in case.expect],
                "frames": added.frames,
                "frames_before": added.frames_before,
                "remark": added.remark,
            }
        )
        return
    print_line(styled("added", fg="green", bold=True) + f"   {case.name}")
    print_line(f"{added.frames} of {added.frames_before} frames are kept in {added.path}")
    print_wrapped(f"expected of frame {case.frame}: {', '.join(each.text for each in case.expect)}")
    if added.remark:
        print_wrapped(inert(added.remark, 600))


@suite.command(short_help="Run every case against a candidate model.")
@click.argument("folder", metavar="DIR")
@opening_options
@click.option("--weights", metavar="FILE|own|recorded", help="Weights of the candidate. With --model default: own.")
@click.option(
    "--pipeline",
    type=Factory(),
    metavar="pkg.mod:predict",
    help="Candidate that takes the recorded image. Its code is run: trust it.",
)
@model_options
@click.option("--device", type=Device(), metavar="cpu|cuda[:n]", help="Where to run. Default: where it was recorded.")
@click.option("--repeat", type=click.IntRange(1, 100), default=2, show_default=True, help="Passes over every case.")
@click.option("--only", metavar="PATTERN", help="Only cases whose name fits, such as 'scratch-*'.")
@click.option("--junit", type=click.Path(dir_okay=False), metavar="FILE", help="Write JUnit XML for the CI.")
@json_option
@click.pass_context
def run(
    context: click.Context,
    folder: str,
    weights: str | None,
    pipeline: str | None,
    model: tuple[str, ...],
    model_dir: str | None,
    models: str | None,
    timeout: float | None,
    device: str | None,
    repeat: int,
    only: str | None,
    junit: str | None,
    as_json: bool,
) -> None:
    """Run every case of the suite in DIR, and say what changed since the last run.

    \b
    Exit code 0: all pass · 1: some fail · 5: none fails, some are flaky · 3:
    some cannot be run, or there is none · 4: the suite itself is invalid.

    Example:

    \b
        replay suite run incidents/suite --weights retrained.safetensors
        replay suite run incidents/suite --model nets:build --junit suite.xml
    """
    from replay.load import ConfigInvalid
    from replay.suite.candidate import candidate_options
    from replay.suite.history import compare_runs, keep_run, last_run
    from replay.suite.junit import is_junit, write_junit
    from replay.suite.running import SuiteRunner, exit_code_of
    from replay.suite.shown import print_run, run_as_json

    read = _read(folder)
    if junit is not None and not Path(junit).parent.is_dir():  # said before an hour of cases, not after it
        raise click.BadParameter(f"{Path(junit).parent} is no directory; make it first")
    if junit is not None and Path(junit).is_file():
        try:
            mine = is_junit(Path(junit))
        except OSError as error:
            raise BundleUnavailable(f"{junit} cannot be read: {error.strerror}; name another file") from error
        if not mine:
            raise click.BadParameter(f"{junit} is no JUnit XML and is not overwritten; name another file for --junit")
    chosen = [case for case in read.cases if only is None or fnmatch.fnmatchcase(case.name, only)]
    results: list[CaseResult] = []
    try:
        options = candidate_options(
            model=model,
            model_directory=model_dir,
            weights=weights,
            pipeline=pipeline,
            models=models,
            device=device,
            timeout_seconds=timeout,
            repeat=repeat,
        )
        with counting("running") as count, SuiteRunner(read, options, opening()) as runner:
            for case in chosen:
                results.append(runner.run(case))
                if count is not None:
                    count(len(results), len(chosen))
    except (ConfigInvalid, ValueError) as error:
        raise click.UsageError(inert(error, 600)) from error
    then = last_run(read.folder)
    change = compare_runs(then, results) if then is not None and only is None else None
    if only is None:
        try:
            keep_run(read.folder, results)
        except OSError as error:
            print_note(f"this run is not remembered: {error.strerror}")
    if junit is not None:
        try:
            write_junit(results, read.folder.absolute().name, Path(junit))
        except OSError as error:
            raise BundleUnavailable(f"{junit} cannot be written: {error.strerror}; name another file") from error
    code = exit_code_of(results)
    if as_json:
        print_json(run_as_json(read, results, change, code))
    else:
        print_run(folder, results, change)
    context.exit(code)


@suite.command("ls", short_help="The cases of a suite.")
@click.argument("folder", metavar="DIR")
@json_option
def list_cases(folder: str, as_json: bool) -> None:
    """List the cases of the suite in DIR and what they expect. Example: `replay suite ls incidents/suite`."""
    from replay.suite.history import last_run
    from replay.suite.shown import COLOURS

    read = _read(folder)
    then = last_run(read.folder) or {}
    if as_json:
        cases = [
            {
                "case": case.name,
                "bundle": case.bundle,
                "frame": case.frame,
                "expect": [each.text for each in case.expect],
                "note": case.note,
                "last": then.get(case.name),
            }
            for case in read.cases
        ]
        print_json({"suite": folder, "cases": cases})
        return
    if not read.cases:
        print_line("no cases: `replay suite add BUNDLE --to DIR --expect …`")
    for case in read.cases:
        last = then.get(case.name)
        print_line(styled(case.name, bold=True) + (f"   {styled(last, fg=COLOURS[last])}" if last else ""))
        print_wrapped(", ".join(each.text for each in case.expect), indent="    ")
        if case.note:
            print_wrapped(inert(case.note, 200), indent="    ")


def _read(folder: str) -> Suite:
    from replay.suite.document import SuiteInvalid, read_suite

    try:
        return read_suite(Path(folder))
    except FileNotFoundError:
        raise BundleUnavailable(f"{folder} is no directory; `replay suite add … --to {folder}` makes one") from None
    except SuiteInvalid as error:
        raise BundleInvalid(inert(error, 600)) from error
