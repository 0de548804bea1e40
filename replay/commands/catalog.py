"""`replay catalog`: have we seen this before?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recorder.bundle.errors import BundleError, BundleInvalid, BundleUnavailable
from replay.catalog.shown import entry_as_json, print_entries
from replay.cli import ExitCode
from replay.commands.options import (
    bundle_argument,
    identity_option,
    json_option,
    open_bundle,
    opening,
    opening_options,
    parse_since,
)
from replay.show.table import print_facts, print_table
from replay.show.terminal import counting, print_heading, print_json, print_line, print_note, print_wrapped, styled
from replay.show.text import inert

if TYPE_CHECKING:
    from replay.catalog.database import Catalog
    from replay.catalog.entries import Entry

__all__ = ["catalog"]

_PROBLEMS_SHOWN = 12


def _database_option(command: Any) -> Any:
    return click.option(
        "--db",
        envvar="REPLAY_CATALOG",
        default="catalog.db",
        show_default=True,
        metavar="FILE",
        help="The catalogue (also REPLAY_CATALOG).",
    )(command)


@click.group(short_help="Have we seen this before?")
def catalog() -> None:
    """Incidents by cause, signature and likeness, with labels. Example: `replay catalog similar incidents/…zst`."""


@catalog.command()
@click.argument("sink", metavar="SINK")
@_database_option
@identity_option
@json_option
def add(sink: str, db: str, as_json: bool) -> None:
    """Add what is new in a directory or bucket; only manifests and one answer each are read. Damaged bundles are
    counted and named. Example:

    \b
        replay catalog add incidents/
        replay catalog add s3://bucket/prefix --db failures.db
    """
    from replay.catalog.adding import add_listed
    from replay.listing import bundles_of

    listed = bundles_of(sink)  # before a catalogue is made: a sink that is none leaves none
    with _opened(db, create=True) as found:
        with counting("reading") as count:
            added = add_listed(found, listed, opening(), count)
        total = found.count
    if as_json:
        problems = [{"path": path, "problem": problem} for path, problem in added.problems]
        counts = {"listed": added.listed, "new": added.new, "unchanged": added.known, "incidents": total}
        print_json({"sink": sink, **counts, "unreadable": problems})
        return
    print_line(f"{added.new} new of {added.listed} bundles; the catalogue has {total} incidents")
    if added.problems:
        print_note(f"{len(added.problems)} cannot be read:")
    for path, problem in added.problems[:_PROBLEMS_SHOWN]:
        print_note(f"  {inert(Path(path).name, 100)}: {problem}")
    if len(added.problems) > _PROBLEMS_SHOWN:
        print_note(f"  and {len(added.problems) - _PROBLEMS_SHOWN} more; --json lists all")


@catalog.command("ls")
@_database_option
@click.option("--cause", metavar="NAME", help="Only with this diagnosed cause.")
@click.option("--signature", metavar="HEX", help="Only this defect.")
@click.option("--stream", metavar="NAME", help="Only of this stream.")
@click.option("--since", metavar="WHEN", help="Only opened since: 90s, 1h, 2d, or an ISO date (UTC).")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only with this label.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Newest so many.")
@json_option
def list_entries(
    db: str,
    cause: str | None,
    signature: str | None,
    stream: str | None,
    since: str | None,
    labels: tuple[str, ...],
    limit: int,
    as_json: bool,
) -> None:
    """List incidents, newest first. Example: `replay catalog ls --since 2d --label owner=ann`."""
    since_ns = 0 if since is None else parse_since(since)
    pairs = [(name, value) for name, equals, value in (label.partition("=") for label in labels) if equals]
    if len(pairs) < len(labels):
        raise click.BadParameter("--label takes NAME=VALUE")
    with _opened(db) as found:
        entries = found.newest(
            limit=limit, cause=cause, signature=signature, stream=stream, since_ns=since_ns, labels=pairs
        )
    if as_json:
        print_json({"incidents": [entry_as_json(entry) for entry in entries]})
        return
    print_entries([(entry, ()) for entry in entries], ())


@catalog.command()
@click.argument("incident", metavar="ID|BUNDLE")
@_database_option
@json_option
def show(incident: str, db: str, as_json: bool) -> None:
    """Show an incident, by the beginning of its bundle's id or its file. Example: `replay catalog show 7ed6592b`."""
    with _opened(db) as found:
        entry = _chosen(found, incident)
    if as_json:
        print_json(entry_as_json(entry))
        return
    facts = [
        (name.replace("_", " "), inert(value, 400)) for name, value in entry_as_json(entry).items() if name != "labels"
    ]
    print_facts([*((name, value) for name, value in facts if value), *_labels(entry)])


@catalog.command()
@bundle_argument
@_database_option
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="The best so many.")
@json_option
@click.pass_context
def similar(context: click.Context, bundle: str, db: str, limit: int, as_json: bool) -> None:
    """Say whether BUNDLE has been seen before, and list what is most like it. Exit code 0: seen · 1: not. Example:

    \b
        replay catalog similar incidents/…bundle.zst
    """
    from replay.catalog.embedding import embedding_of
    from replay.catalog.entries import entry_of
    from replay.catalog.similar import has_been_seen, similar_to

    with open_bundle(bundle) as opened:
        vector = embedding_of(opened)
        entry = entry_of(opened.manifest, bundle=opened.id, path=bundle, size_bytes=0, modified=0, vector=vector)
    with _opened(db) as found:
        best = similar_to(found, entry, limit)
    seen = has_been_seen(best)
    compared = any(each.is_the_same and each.cosine is not None for each in best) if seen else vector is not None
    if as_json:
        alike = [
            {
                **entry_as_json(each.entry),
                "same_signature": each.same_signature,
                "same_cause": each.same_cause,
                "cosine": each.cosine,
                "score": each.score,
            }
            for each in best
        ]
        print_json({"bundle": entry.bundle, "seen": seen, "compared_answers": compared, "similar": alike})
    else:
        print_line(styled("seen before" if seen else "not seen before", bold=True))
        if vector is None:
            print_line("compared by signature only: its trigger frame has no answer that makes a vector")
        elif not compared:
            print_wrapped("compared by signature only: no answer of that defect can be compared with this one's")
        cosines = [f"{each.cosine:.2f}" if each.cosine is not None else "-" for each in best]
        rows = [
            (each.entry, ("same" if each.same_signature and each.same_cause is not False else "other", cosine))
            for each, cosine in zip(best, cosines, strict=True)
        ]
        print_entries(rows, ("defect", "cosine"))
    context.exit(ExitCode.OK if seen else ExitCode.NOT_OK)


@catalog.command()
@_database_option
@json_option
def stats(db: str, as_json: bool) -> None:
    """Count incidents by group, cause, trigger and stream. Example: `replay catalog stats`."""
    with _opened(db) as found:
        total, groups, problems = found.count, found.groups(20), found.problems()
        counts = {name: found.counts(name) for name in ("cause", "kind", "stream")}
    if as_json:
        told = [
            {"incidents": count, "suppressed": again, "first": entry_as_json(first)} for count, again, first in groups
        ]
        unreadable = [{"path": path, "problem": inert(problem, 400)} for path, problem in problems]
        print_json(
            {
                "incidents": total,
                "groups": told,
                **{name: dict(found) for name, found in counts.items()},
                "unreadable": unreadable,
            }
        )
        return
    print_line(f"{total} incidents, {len(problems)} bundles that cannot be read")
    print_heading("Recurring")
    rows = [
        (
            str(count),
            str(again),
            inert(first.kind, 20),
            inert(first.cause, 20),
            inert(first.labels.get("root-cause", ""), 30),
            inert(first.reason, 60),
        )
        for count, again, first in groups
    ]
    print_table(("times", "besides", "trigger", "cause", "root cause", "first"), rows)
    for name, title in (("cause", "Causes"), ("kind", "Triggers"), ("stream", "Streams")):
        print_heading(title)
        print_table(("", "incidents"), [(inert(value, 40) or "none", str(count)) for value, count in counts[name][:12]])


@catalog.command()
@click.argument("incident", metavar="ID|BUNDLE")
@click.option("--root-cause", metavar="TEXT", help="What it was.")
@click.option("--fix", metavar="TEXT", help="What was done: a commit, a version.")
@click.option("--owner", metavar="NAME", help="Who looks after it.")
@click.option("--ticket", metavar="KEY", help="Where it is discussed.")
@click.option("--consent", type=click.Choice(["yes", "no", ""]), help="Whether its frames may be exported.")
@_database_option
@json_option
def label(incident: str, db: str, as_json: bool, **labels: str | None) -> None:
    """Label an incident; an empty text takes a label away. Example: `replay catalog label 7ed6 --fix v2.1`."""
    given = {name.replace("_", "-"): inert(value, 300) for name, value in labels.items() if value is not None}
    if not given:
        raise click.UsageError("say which label: --root-cause, --fix, --owner, --ticket or --consent")
    with _opened(db) as found:
        entry = _chosen(found, incident)
        found.label(entry.bundle, given)
        entry = _chosen(found, entry.bundle)
    if as_json:
        print_json(entry_as_json(entry))
    else:
        print_facts([("bundle", entry.bundle), *_labels(entry)])


@catalog.command()
@click.argument("folder", metavar="DIR")
@_database_option
@opening_options
@click.option("--per-class", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Newest kept.")
@click.option("--truth", default="ground_truth", show_default=True, metavar="KEY", help="Metadata key of the class.")
@click.option("--consent-key", default="consent", show_default=True, metavar="KEY", help="Metadata key that allows it.")
@click.option(
    "--slice",
    "slice_by",
    default="camera",
    show_default=True,
    metavar="KEY",
    help="Metadata key whose values take turns.",
)
@json_option
def export(folder: str, db: str, per_class: int, truth: str, consent_key: str, slice_by: str, as_json: bool) -> None:
    """Bring the validation set in DIR up to date: the newest frames of each class that may be used. Example:

    \b
        replay catalog export validation/ --per-class 200
    """
    from replay.catalog.exporting import Wanted, export_samples

    wanted = Wanted(per_class=per_class, truth=truth, consent=consent_key, slice_by=slice_by)
    with _opened(db) as found:
        done = export_samples(found.newest(limit=10**9), Path(folder), wanted, opening())
    if as_json:
        print_json(
            {
                "added": done.added,
                "removed": done.removed,
                "samples": done.kept,
                "left_out": dict(done.left_out),
                "classes": dict(done.classes),
                "slices": dict(done.slices),
                "unreadable": [{"path": path, "problem": problem} for path, problem in done.problems],
            }
        )
        return
    print_line(f"{done.kept} samples: {done.added} added, {done.removed} removed")
    for title, counts in (("class", done.classes), (inert(slice_by, 40), done.slices), ("left out", done.left_out)):
        total = sum(counts.values())
        rows = [
            (inert(name, 40) or "none", str(count), f"{count / total:.0%}") for name, count in counts.most_common(20)
        ]
        print_table((title, "frames", "share"), rows)
    for path, problem in done.problems[:_PROBLEMS_SHOWN]:
        print_note(f"{inert(Path(path).name, 100)}: {problem}")


def _labels(entry: Entry) -> list[tuple[str, str]]:
    return [(name, inert(value, 300)) for name, value in entry.labels.items()]


@contextlib.contextmanager
def _opened(db: str, *, create: bool = False) -> Iterator[Catalog]:
    from replay.catalog.database import Catalog
    from replay.catalog.errors import CatalogInvalid, CatalogUnavailable

    try:
        with Catalog(Path(db), create=create) as found:
            yield found
    except CatalogUnavailable as error:
        raise BundleUnavailable(inert(error, 400)) from error
    except FileNotFoundError:
        raise BundleUnavailable(f"there is no catalogue {db}; `replay catalog add SINK --db {db}` makes it") from None
    except CatalogInvalid as error:
        raise BundleInvalid(inert(error, 400)) from error


def _chosen(found: Catalog, name: str) -> Entry:
    entries = found.find(name)
    if not entries:
        raise BundleUnavailable(f"the catalogue has no incident {inert(name, 100)}; `replay catalog ls` lists them")
    if len(entries) > 1:
        raise BundleError(f"{inert(name, 80)} is the beginning of several ids; give more of it")
    return entries[0]
