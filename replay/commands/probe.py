"""`replay probe`: did the model look at the right thing?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import (
    bundle_argument,
    json_option,
    model_options,
    new_file,
    open_bundle,
    parse_frame_ids,
    save_beside,
    save_option,
)
from replay.commands.types import MOST_SECONDS, Number
from replay.opening import place_of
from replay.show.terminal import counting, print_json, print_line, print_note, print_wrapped, styled
from replay.show.text import id_ranges, inert

if TYPE_CHECKING:
    from replay.probe.finding import Finding
    from replay.probe.probing import Probed
    from replay.probe.tensor_image import Normalisation

__all__ = ["probe"]


@click.command(short_help="Did the model look at the right thing?")
@bundle_argument
@click.option("--only", multiple=True, metavar="PROBE", help="Only this probe; may be given several times.")
@click.option("--cause", is_flag=True, help="Confirm the incident's cause instead: take it back, and bring it about.")
@click.option("--suspect", metavar="CAUSE", help="The same for this cause, such as darker or camera-shift.")
@click.option("--frames", metavar="IDS", help="Only these frames: ids and ranges such as 3,7-9. Default: up to 8.")
@click.option(
    "--budget",
    type=Number(min=1, max=MOST_SECONDS),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Probes that would take longer are left out.",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "detection", "segmentation"]),
    help="What the answers are. Default: seen from their structure.",
)
@click.option(
    "--object",
    "region",
    metavar="L,T,R,B",
    help="Where the object is, as shares of the picture. Default: what was detected, else the middle.",
)
@click.option("--mean", metavar="NUMBERS", help="Normalisation of the model's input, with --std. Default: guessed.")
@click.option("--std", metavar="NUMBERS", help="The same.")
@click.option(
    "--truth", default="ground_truth", show_default=True, metavar="KEY", help="Metadata that holds the class."
)
@click.option("--labels", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="Names of the classes.")
@click.option("--pipeline", metavar="pkg.mod:predict", help="Probe this from the raw picture, instead of the model.")
@click.option(
    "-o", "--output", metavar="FILE", help="Write a page with the pictures and curves; nothing is overwritten."
)
@model_options
@save_option
@json_option
@click.pass_context
def probe(
    context: click.Context,
    bundle: str,
    only: tuple[str, ...],
    cause: bool,
    suspect: str | None,
    frames: str | None,
    budget: float,
    task: str | None,
    region: str | None,
    mean: str | None,
    std: str | None,
    truth: str,
    labels: str | None,
    pipeline: str | None,
    output: str | None,
    model: tuple[str, ...],
    model_dir: str | None,
    models: str | None,
    timeout: float | None,
    save: bool,
    as_json: bool,
) -> None:
    """Change what the model sees in the recorded frames, and say what its decisions rest on.

    Each probe is a test with a threshold: pictures without information, hidden objects and backgrounds, channel order,
    normalisation, neighbours in the batch, light, camera and compression, occlusion, calibration. With --cause, whether
    the incident's cause is the cause: answers that recover without it, or fail with it.

    \b
    Exit code 0: every probe that was decided passed · 1: one failed ·
    3: nothing could be probed, with the remedy. Example:

    \b
        replay probe incidents/…bundle.zst -o probes.html
        replay probe incidents/…bundle.zst --only random-input --json
        replay probe incidents/…bundle.zst --cause -o cause.html
    """
    from replay.class_names import read_labels
    from replay.load import ConfigInvalid, is_factory
    from replay.probe.finding import to_json
    from replay.probe.probing import PROBES, ProbeOptions, probe_bundle
    from replay.probe.subject import CannotProbe

    if only and (cause or suspect is not None):
        raise click.UsageError("--cause and --suspect run no other probe: leave out --only")
    for name in only:
        if name not in PROBES:
            raise click.BadParameter(f"{name!r} is no probe: choose from {', '.join(PROBES)}")
    if pipeline is not None and not is_factory(pipeline):
        raise click.BadParameter(f"--pipeline takes pkg.mod:predict, not {pipeline!r}")
    page = None if output is None else new_file(output)
    try:
        known = None if labels is None else read_labels(Path(labels))
    except ValueError as error:
        raise click.UsageError(inert(error, 600)) from error
    with open_bundle(bundle) as opened, counting("probing") as count:
        existing = tuple(frame.id for frame in opened.manifest.frames)
        options = ProbeOptions(
            probes=tuple(name for name in PROBES if not only or name in only),
            frames=None if frames is None else parse_frame_ids(frames, existing),
            budget_seconds=budget,
            task=task,
            region=_region(region),
            normalisation=_normalisation(mean, std),
            truth=truth,
            labels=known,
            model=model,
            model_directory=model_dir,
            models=models,
            bundle_path=place_of(bundle),
            pipeline=pipeline,
            cause=cause,
            suspect=suspect,
            timeout_seconds=timeout,
            progress=count,
            announce=print_note,
        )
        try:
            probed = probe_bundle(opened, options)
        except CannotProbe as cannot:
            raise BundleError(inert(cannot, 600)) from cannot
        except (ConfigInvalid, ValueError) as error:
            raise click.UsageError(inert(error, 600)) from error
        bundle_id = opened.id
        if page is not None:
            from replay.probe.page import page as rendered

            try:
                with page.open("x", encoding="utf-8") as file:
                    file.write(rendered(opened, probed, Path(bundle).name))
            except OSError as error:
                raise BundleUnavailable(f"{page} cannot be written: {error.strerror}; name another file") from error
    if save:
        from replay.findings import probed as kept
        from replay.result import save_findings

        found = kept([to_json(finding) for finding in probed.findings], probed.task, probed.frames)
        save_beside(bundle, lambda path: save_findings(found, bundle_id, path))
    if as_json:
        print_json([to_json(finding) for finding in probed.findings])
    else:
        _print(probed, page)
    if as_json and probed.left_out:
        print_note(_left_out(probed))
    decided = {finding.passed for finding in probed.findings} - {None}
    if not decided:
        print_note("no probe could be decided, so nothing is known of the model")
    failed = False in decided
    context.exit(ExitCode.NOT_OK if failed else ExitCode.OK if decided else ExitCode.NOT_REPLAYABLE)


def _print(probed: Probed, page: Path | None) -> None:
    frames = f"frame{'' if len(probed.frames) == 1 else 's'} {id_ranges(probed.frames)}"
    asked = f" by {inert(probed.models, 80)}" if probed.models else ""
    print_wrapped(f"{probed.task}{asked}, {frames}, {probed.runs} runs in {probed.seconds:.1f} s")
    for reason, number in probed.frames_left_out.items():
        print_wrapped(f"left out: {number} frame{'' if number == 1 else 's'} {reason}")
    for finding in probed.findings:
        print_line()
        print_line(_mark(finding) + "  " + styled(finding.name, bold=True))
        print_wrapped(inert(finding.sentence, 600), indent="      ")
        if finding.threshold:
            print_wrapped(f"asked for: {finding.threshold}", indent="      ")
        if finding.passed is False:
            print_wrapped(f"what it proves: {finding.proves}", indent="      ")
            print_wrapped(f"what not: {finding.limits}", indent="      ")
    if probed.left_out:
        print_line()
        print_wrapped(_left_out(probed))
    failed = [finding.name for finding in probed.findings if finding.passed is False]
    if failed and len(probed.findings) > 1:
        print_line()
        print_wrapped(f"{len(failed)} of {len(probed.findings)} fail: {', '.join(failed)}")
    if page is not None:
        print_line()
        print_line(f"pictures and curves: {page}")


def _left_out(probed: Probed) -> str:
    return f"Left out, for which the budget has no time: {', '.join(probed.left_out)}. Raise --budget."


def _mark(finding: Finding) -> str:
    match finding.passed:
        case True:
            return styled("pass", fg="green")
        case False:
            return styled("FAIL", fg="red", bold=True)
    return styled("  - ", dim=True)


def _numbers(text: str, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{name} takes numbers with commas between them, not {text!r}") from None


def _region(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    match _numbers(text, "--object"):
        case (left, top, right, bottom) if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
            return left, top, right, bottom
    raise click.BadParameter("--object takes left,top,right,bottom as shares of the picture, such as 0.2,0.2,0.8,0.8")


def _normalisation(mean: str | None, std: str | None) -> Normalisation | None:
    from replay.probe.tensor_image import Normalisation

    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise click.BadParameter("--mean and --std go together")
    means, stds = _numbers(mean, "--mean"), _numbers(std, "--std")
    if len(means) != len(stds) or not all(each > 0 for each in stds):
        raise click.BadParameter("--mean and --std take as many numbers as there are channels, or one; --std above 0")
    return Normalisation("as stated", means, stds)
