"""`replay run`: re-runs every frame and says how exactly the recorded answers came back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from recorder.bundle.errors import BundleUnavailable
from replay.commands.options import Device, Factory, bundle_argument, json_option, open_bundle, parse_frame_ids
from replay.show.terminal import counting, print_json, print_line, print_wrapped, styled
from replay.show.text import id_ranges, inert
from replay.verdict import Difference, FrameVerdict, Level, ReplayResult

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
@click.option(
    "--model",
    type=Factory(),
    multiple=True,
    metavar="[NAME=]pkg.mod:factory",
    help="Function that builds the model, for NAME or for all. Its code is run: trust it.",
)
@click.option(
    "--model-dir", metavar="DIR", help="Directory that --model may be imported from, besides what is installed."
)
@click.option(
    "--models", metavar="LOCATION", help="Model store. Default: REPLAY_MODELS, your config, models/ beside the bundle."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Longest time for one call of a model.",
)
@click.option(
    "--require",
    type=click.Choice(["bit-exact", "tolerance", "decision"]),
    default="decision",
    show_default=True,
    help="What counts as reproduced for the exit code.",
)
@click.option("--save", is_flag=True, help="Write the result to BUNDLE.replay.json.")
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
    save: bool,
    as_json: bool,
) -> None:
    """Re-run every frame of a bundle and compare with what was recorded.

    \b
    Exit code 0: reproduced · 1: diverged · 3: not replayable here, or
    inconclusive · 4: invalid bundle · 5: nondeterministic here.

    Example:

    \b
        replay incidents/…bundle.zst
        replay run incidents/…bundle.zst --frames 3,7-9 --require bit-exact --save
    """
    from replay.result import result_path, result_to_json, save_result

    with open_bundle(bundle) as opened, counting("replaying") as count:
        from replay.load import ConfigInvalid
        from replay.run import ReplayOptions, replay_bundle

        existing = tuple(frame.id for frame in opened.manifest.frames)
        try:
            options = ReplayOptions(
                numerics=numerics,
                device=device,
                frames=None if frames is None else parse_frame_ids(frames, existing),
                repeat=repeat,
                model=model,
                model_directory=model_dir,
                models=models,
                bundle_path=Path(bundle),
                timeout_seconds=timeout,
                require=require,
                progress=count,
            )
            result = replay_bundle(opened, options)
        except ConfigInvalid as error:
            raise click.UsageError(inert(error, 600)) from error
    data = result_to_json(result)
    if as_json:
        print_json(data)
    else:
        print_result(result)
    if save:
        path = result_path(bundle)
        try:
            save_result(data, path)
        except OSError as error:
            raise BundleUnavailable(f"the result cannot be written to {path}: {error.strerror}") from error
    context.exit(result.exit_code)


def print_result(result: ReplayResult) -> None:
    """Print the verdict first, then what is worth reading about it."""
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
