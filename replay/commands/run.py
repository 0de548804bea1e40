"""`replay run`: re-runs every frame and says how exactly the recorded answers came back."""

from __future__ import annotations

from collections import Counter

import click

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
from replay.show.terminal import counting, print_json, print_line, print_wrapped, styled
from replay.show.text import id_ranges, inert
from replay.verdict import Difference, FrameVerdict, Level, ReplayResult, WhatIf

__all__ = ["run"]

#: Lines about frames that differ; frames that differ in the same way share one. The JSON form has all of them.
_LINES_SHOWN = 12

_SENTENCES_SHOWN = 12

_COLOURS = {
    Level.BIT_EXACT: "green",
    Level.WITHIN_TOLERANCE: "green",
    Level.SAME_DECISION: "green",
    Level.INCONCLUSIVE: "yellow",
    Level.NOT_REPLAYABLE: "yellow",
    Level.NONDETERMINISTIC: "yellow",
    Level.DIVERGED: "red",
}


#: As a shell has it for SIGINT.
_INTERRUPTED = 130

_OUTCOME_COLOURS = {"fixed": "green", "newly wrong": "red", "still wrong": "red", "changed": "yellow"}


@click.command(short_help="Re-run every frame and say whether the answers come back.")
@bundle_argument
@click.option(
    "--numerics",
    type=click.Choice(["faithful", "portable", "here"]),
    default="faithful",
    show_default=True,
    help="faithful: the recorded settings · portable: settings every x86 machine has · here: this machine's own.",
)
@click.option("--device", type=Device(), metavar="cpu|cuda[:n]", help="Where to run. Default: where it was recorded.")
@click.option("--frames", metavar="IDS", help="Only these frames: ids and ranges such as 3,7-9.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="Runs; more than one shows nondeterminism.",
)
@model_options
@click.option(
    "--require",
    type=click.Choice(["bit-exact", "tolerance", "decision"]),
    default="decision",
    show_default=True,
    help="What counts as reproduced for the exit code.",
)
@click.option(
    "--task",
    metavar="TASK",
    help="Comparator of decisions: classification, detection, segmentation, embedding, text, none, or one that an "
    "installed package registers. Default: by the answer's structure.",
)
@click.option(
    "--pipeline",
    type=Factory(),
    metavar="pkg.mod:predict",
    help="Your function from the raw image to the answer: says which stage differs. Its code is run: trust it.",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=VALUE",
    help="What if: image.brightness=1.3 and others (with --pipeline), or a setting such as torch.num_threads=2.",
)
@click.option(
    "--weights",
    metavar="FILE|own",
    help="What if: these weights (safetensors or ONNX), or those of --model's own code.",
)
@click.option(
    "--truth",
    metavar="KEY",
    default="ground_truth",
    show_default=True,
    help="Metadata key that holds the right answer, to say what a change fixes.",
)
@save_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    bundle: str,
    numerics: str,
    device: str | None,
    frames: str | None,
    repeat: int,
    model: tuple[str, ...],
    model_dir: str | None,
    models: str | None,
    timeout: float | None,
    require: str,
    task: str | None,
    pipeline: str | None,
    sets: tuple[str, ...],
    weights: str | None,
    truth: str,
    save: bool,
    as_json: bool,
) -> None:
    """Re-run every frame of a bundle and compare with what was recorded.

    \b
    Exit code 0: reproduced · 1: diverged · 3: not replayable here, or
    inconclusive · 4: invalid bundle · 5: nondeterministic here. With --set or
    --weights: 0 when no answer is wrong any more, 1 when one is.

    Example:

    \b
        replay incidents/…bundle.zst
        replay run incidents/…bundle.zst --frames 3,7-9 --require bit-exact --save
        replay run incidents/…bundle.zst --pipeline service:predict --model-dir .
        replay run incidents/…bundle.zst --weights retrained.safetensors
    """
    from replay.result import result_to_json, save_result

    with open_bundle(bundle) as opened, counting("replaying") as count:
        from replay.load import ConfigInvalid
        from replay.options import ReplayOptions
        from replay.run import replay_bundle
        from replay.whatif import parse_changes

        existing = tuple(frame.id for frame in opened.manifest.frames)
        wanted = None if frames is None else parse_frame_ids(frames, existing)
        try:
            options = ReplayOptions(
                numerics=numerics,
                device=device,
                frames=wanted,
                repeat=repeat,
                model=model,
                model_directory=model_dir,
                models=models,
                bundle_path=place_of(bundle),
                timeout_seconds=timeout,
                require=require,
                task=task,
                pipeline=pipeline,
                changes=parse_changes(sets, weights),
                truth=truth,
                progress=count,
            )
        except ValueError as error:
            raise click.UsageError(inert(error, 1200)) from error
        try:
            result = replay_bundle(opened, options)
        except ValueError as error:
            if not isinstance(error, ConfigInvalid) and not str(error).startswith("--"):
                raise
            raise click.UsageError(inert(error, 600)) from error
    data = result_to_json(result)
    if as_json:
        print_json(data)
    else:
        print_result(result)
    if save:
        save_beside(bundle, lambda path: save_result(data, path))
    context.exit(_INTERRUPTED if result.interrupted else result.exit_code)


def print_result(result: ReplayResult) -> None:
    """Print the verdict first, then what is worth reading about it."""
    if result.what_if is not None:
        _print_what_if(result.what_if)
        print_line()
        print_wrapped(inert(result.conclusion, 1000))
        _print_sentences("What to do:", result.remedies)
        return
    print_line(styled(result.verdict.value, fg=_COLOURS[result.verdict], bold=True) + f"   {_counts(result)}")
    groups: dict[tuple[Level, str], list[int]] = {}
    for frame in result.frames:
        if frame.level is not Level.BIT_EXACT:
            groups.setdefault((frame.level, _why(frame)), []).append(frame.id)
    for (level, why), ids in list(groups.items())[:_LINES_SHOWN]:
        name = f"frame{'' if len(ids) == 1 else 's'} {id_ranges(ids)}"
        print_wrapped(why, indent="      ", first=f"  {name}  {level.value}  ")
    left_out = sum(map(len, list(groups.values())[_LINES_SHOWN:]))
    if left_out:
        print_line(f"  and {left_out} more frames; --json lists all")
    _print_sentences("Not restored:", result.not_restored)
    print_line()
    print_wrapped(inert(result.conclusion, 1000))
    _print_sentences("What to do:", result.remedies)


def _print_what_if(what_if: WhatIf) -> None:
    """The changes, then the frames whose decision says something, wrong ones first."""
    print_line(styled("what if", bold=True) + f"   {', '.join(inert(change, 100) for change in what_if.changes)}")
    groups: dict[tuple[str, str, str], list[int]] = {}
    for frame in what_if.frames:
        groups.setdefault((frame.outcome, frame.recorded, frame.replayed), []).append(frame.id)
    order = ("newly wrong", "still wrong", "fixed", "changed", "unknown", "still right", "unchanged")
    shown = sorted(groups.items(), key=lambda group: (order.index(group[0][0]), group[1]))
    for (outcome, recorded, replayed), ids in shown[:_LINES_SHOWN]:
        name = f"frame{'' if len(ids) == 1 else 's'} {id_ranges(ids)}"
        answers = f"{inert(recorded, 60) or 'an answer'} → {inert(replayed, 60) or 'an answer'}"
        if outcome == "unknown":
            answers = "could not be run"
        first = f"  {name}  {styled(outcome, fg=_OUTCOME_COLOURS.get(outcome))}  "
        print_wrapped(answers, indent="      ", first=first)
    left_out = sum(len(ids) for _, ids in shown[_LINES_SHOWN:])
    if left_out:
        print_line(f"  and {left_out} more frames; --json lists all")


def _counts(result: ReplayResult) -> str:
    levels = Counter(frame.level for frame in result.frames)
    total = len(result.frames)
    if len(levels) == 1:
        return f"{total} of {total} frame{'' if total == 1 else 's'}, numerics {result.numerics}"
    parts = [f"{levels[level]} {level.value}" for level in Level if levels[level]]
    return f"{', '.join(parts)} of {total} frames" if parts else "no frames"


def _why(frame: FrameVerdict) -> str:
    return _described(frame.first_difference) if frame.first_difference else inert(frame.reason, 400)


def _described(difference: Difference) -> str:
    text = f"{inert(difference.where, 200)}: {inert(difference.what, 400)}"
    numbers = []
    if difference.max_abs is not None:
        numbers.append(f"max |Δ| {difference.max_abs:.2g}")
    if difference.rel_l2 is not None:
        numbers.append(f"relative L2 {difference.rel_l2:.2g}")
    if difference.margin_over_delta is not None:
        tie = ", a near-tie" if difference.margin_over_delta < 2 else ""
        numbers.append(f"margin {difference.margin_over_delta:.3g} times |Δ|{tie}")
    text += f" ({'; '.join(numbers)})" if numbers else ""
    if difference.recorded is not None or difference.replayed is not None:
        text += f"; recorded {inert(difference.recorded, 120)}, replayed {inert(difference.replayed, 120)}"
    return text


def _print_sentences(title: str, sentences: tuple[str, ...]) -> None:
    if not sentences:
        return
    print_line()
    print_line(styled(title, bold=True))
    for sentence in sentences[:_SENTENCES_SHOWN]:
        print_wrapped(inert(sentence, 400), indent="    ", first="  - ")
    if len(sentences) > _SENTENCES_SHOWN:
        print_line(f"  and {len(sentences) - _SENTENCES_SHOWN} more; --json lists all")
