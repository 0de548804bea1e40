"""`replay fleet`: many incidents against one candidate."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import json_option, model_options, opening, opening_options, parse_since
from replay.commands.types import Factory
from replay.show.terminal import counting, print_json, print_line, print_note, print_wrapped, styled
from replay.show.text import inert

__all__ = ["fleet"]

_LINES_SHOWN = 20
_INTERRUPTED = 130
_COLOURS = {
    "newly wrong": "red",
    "still wrong": "red",
    "diverged": "red",
    "cannot run": "yellow",
    "unreadable": "yellow",
}


@click.group(short_help="Many incidents against one candidate.")
def fleet() -> None:
    """Replay what happened against a fix before it is rolled out. Example: `replay fleet run incidents/ -o tried/`."""


@fleet.command()
@click.argument("sink", metavar="SINK")
@click.option("-o", "--output", required=True, metavar="DIR", help="Results; what is there already is not run again.")
@model_options
@click.option("--weights", metavar="FILE|own|recorded", help="Of the candidate; with --model default own.")
@click.option("--pipeline", type=Factory(), metavar="pkg.mod:predict", help="The candidate, from the raw image.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="A change, as of `replay run`.")
@click.option(
    "--truth", default="ground_truth", show_default=True, metavar="KEY", help="Metadata with the right answer."
)
@click.option("--repeat", type=click.IntRange(1, 100), default=1, show_default=True, help="Runs of every frame.")
@click.option("--since", metavar="WHEN", help="Only incidents since: 90s, 15m, 1h, 2d, or a date.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Bundles at a time. Default: processors.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Who replays.")
@click.option("--ray-address", metavar="ADDRESS", help="Of a Ray cluster. Default: one is started here.")
@click.option("--parquet", is_flag=True, help="Write DIR/results.parquet too.")
@opening_options
@json_option
@click.pass_context
def run(
    context: click.Context,
    sink: str,
    output: str,
    model: tuple[str, ...],
    model_dir: str | None,
    models: str | None,
    timeout: float | None,
    weights: str | None,
    pipeline: str | None,
    sets: tuple[str, ...],
    truth: str,
    repeat: int,
    since: str | None,
    jobs: int | None,
    engine: str,
    ray_address: str | None,
    parquet: bool,
    as_json: bool,
) -> None:
    """Replay every incident of SINK, a directory or s3:// prefix, against a candidate.

    A bundle that is damaged, a model that dies or never returns: each is counted and named, and the others are replayed
    all the same. Interrupted, it goes on where it was.

    \b
    Exit code 0: nothing is wrong that was right before · 1: something is, or
    diverged · 3: some could not be run or read. Examples:

    \b
        replay fleet run incidents/ --weights retrained.safetensors -o tried/
        replay fleet run s3://incidents/prod --model zoo:v2 -o tried/ --jobs 8
    """
    from replay.fleet.candidate import Candidate
    from replay.fleet.results import Results
    from replay.listing import bundles_of

    if weights is None and model and pipeline is None:
        weights = "own"
    candidate = Candidate(
        model=model,
        model_directory=model_dir,
        models=models,
        weights=None if weights == "recorded" else weights,
        pipeline=pipeline,
        sets=sets,
        truth=truth,
        repeat=repeat,
        timeout_seconds=timeout,
    )
    try:
        candidate.options("incident.zst")  # what is wrong with the options is wrong for every bundle
        key = candidate.key(opening())
        listings = {each.location: each for each in bundles_of(sink, None if since is None else parse_since(since))}
        results = Results(Path(output), key)  # after the sink: one that is none leaves no folder
    except ValueError as error:
        raise click.UsageError(inert(error, 1200)) from error
    except OSError as error:
        raise BundleUnavailable(f"{error.filename}: {error.strerror}; name another file or directory") from error
    waiting = [location for location, listing in listings.items() if not results.has(listing)]
    if len(waiting) < len(listings):
        print_note(f"{len(listings) - len(waiting)} of {len(listings)} are known from an earlier run")
    interrupted = False
    found = _engine(engine, waiting, candidate, jobs, ray_address)
    with contextlib.closing(found), counting("replaying") as count:
        try:
            for done, (location, result) in enumerate(found, 1):
                results.add(listings[location], result)
                if count is not None:
                    count(done, len(waiting))
        except KeyboardInterrupt:
            interrupted = True
            print_note("interrupted: the bundles under way are finished, then the same command goes on here")
    shown = {location: results.known[location] for location in listings if location in results.known}
    _written(Path(output), shown, key, parquet)
    if as_json:
        print_json({"results": str(results.path), **_counted(shown, key), "interrupted": interrupted})
    else:
        _print(shown, results.path)
    context.exit(_INTERRUPTED if interrupted else _exit_code(shown))


def _engine(
    name: str, locations: list[str], candidate: Any, jobs: int | None, address: str | None
) -> Generator[tuple[str, dict[str, Any]]]:
    from replay.fleet.engines import EngineMissing, local, on_ray

    jobs = jobs or os.cpu_count() or 1
    if name == "local":
        yield from local(locations, candidate, opening(), jobs)
        return
    try:
        yield from on_ray(locations, candidate, opening(), jobs, address)
    except EngineMissing as missing:
        raise BundleError(str(missing)) from missing


def _written(directory: Path, results: Mapping[str, Mapping[str, Any]], key: str, parquet: bool) -> None:
    from replay.fleet.page import page
    from replay.fleet.results import write_parquet

    try:
        (directory / "summary.html").write_text(page(results, key), "utf-8")
        if parquet and results:
            write_parquet(results, directory / "results.parquet")
    except ImportError as error:
        raise BundleError("--parquet needs pyarrow: pip install 'vision-flight-recorder[export]'") from error
    except OSError as error:
        raise BundleUnavailable(f"{error.filename} cannot be written: {error.strerror}; free the place") from error


def _counted(results: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, Any]:
    from replay.fleet.results import headline

    counts = Counter(str(each["outcome"]) for each in results.values())
    return {"candidate": key, "headline": headline(results), "incidents": len(results), "outcomes": dict(counts)}


def _exit_code(results: Mapping[str, Mapping[str, Any]]) -> int:
    outcomes = {str(each["outcome"]) for each in results.values()}
    if outcomes & {"newly wrong", "diverged"}:
        return ExitCode.NOT_OK
    if outcomes & {"cannot run", "unreadable", "nondeterministic"} or not outcomes:
        return ExitCode.NOT_REPLAYABLE
    return ExitCode.OK


def _print(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    from replay.fleet.results import headline

    print_line(styled(headline(results), bold=True) + f"   {len(results)} incidents")
    telling = [(location, each) for location, each in sorted(results.items()) if each["outcome"] in _COLOURS]
    for location, each in telling[:_LINES_SHOWN]:
        print_line(f"  {styled(each['outcome'], fg=_COLOURS[each['outcome']])}  {inert(location, 200)}")
        if each.get("reason"):
            print_wrapped(inert(each["reason"], 400), indent="      ")
    if len(telling) > _LINES_SHOWN:
        print_line(f"  and {len(telling) - _LINES_SHOWN} more")
    print_line(f"{path} · {path.parent / 'summary.html'}")
