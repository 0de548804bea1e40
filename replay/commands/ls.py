"""`replay ls`: the incidents of a sink."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Incident, Manifest
from recorder.cause.vocabulary import CAUSES
from recorder.sinks.s3.address import is_s3
from replay.commands.options import identity_option, json_option, opening, parse_since
from replay.listing import bundles_of, read_each
from replay.show.terminal import print_json, print_line, print_note, print_wrapped, progress, styled
from replay.show.text import cells, fit, inert, iso, utc

__all__ = ["ls"]


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    bundle: str
    size_bytes: int
    manifest: Manifest

    @property
    def incident(self) -> Incident:
        return self.manifest.incident


@click.command(short_help="Incidents of a directory or bucket, newest first.")
@click.argument("sink", metavar="SINK")
@click.option("--since", metavar="WHEN", help="Only incidents opened since: 90s, 15m, 1h, 2d, or an ISO date (UTC).")
@click.option("--stream", metavar="NAME", help="Only incidents of this stream.")
@click.option("--cause", metavar="NAME", help='Only incidents with this diagnosed cause, such as "darker".')
@identity_option
@json_option
def ls(sink: str, since: str | None, stream: str | None, cause: str | None, as_json: bool) -> None:
    """List the incidents that were sealed into a directory or bucket, newest first.

    Bundles that are damaged are named on stderr. Example:

    \b
        replay ls incidents/ --since 1h --stream line-3
        replay ls s3://bucket/prefix --since 1d
    """
    since_ns = None if since is None else parse_since(since)
    entries, unreadable = [], []
    listed = bundles_of(sink, since_ns)
    read = read_each(listed, opening(), lambda opened: (opened.id, opened.size_bytes, opened.manifest))
    with progress(zip(listed, read, strict=True), "reading", len(listed)) as results:
        for listing, found in results:
            if isinstance(found, BundleError):
                unreadable.append({"path": listing.location, "problem": inert(found, 400)})
            else:
                entries.append(_Entry(listing.location, *found))
    if cause is not None and cause not in (*CAUSES, *(_named(entry.incident) for entry in entries)):
        raise click.UsageError(f"there is no cause {cause!r}; one of {', '.join(CAUSES)}")
    kept = [entry for entry in entries if _is_wanted(entry.incident, since_ns, stream, cause)]
    kept.sort(key=lambda entry: entry.incident.opened_ns, reverse=True)
    if as_json:
        print_json({"sink": sink, "incidents": [_as_json(entry) for entry in kept], "unreadable": unreadable})
        return
    _print(kept, len(entries), sink)
    for problem in unreadable:
        print_note(f"{inert(Path(problem['path']).name, 100)}: {problem['problem']}")


def _is_wanted(incident: Incident, since_ns: int | None, stream: str | None, cause: str | None) -> bool:
    return (
        (since_ns is None or incident.opened_ns >= since_ns)
        and (stream is None or incident.stream == stream)
        and (cause is None or _named(incident) == cause)
    )


def _named(incident: Incident) -> Any:
    """The diagnosed cause; a newer recorder may know causes that this reader does not."""
    return incident.cause.get("cause") if incident.cause else None


def _print(kept: list[_Entry], total: int, sink: str) -> None:
    if not kept:
        print_line("no incidents" if not total else f"none of the {total} incidents matches")
        return
    columns = [_columns(entry) for entry in kept]
    widths = [max(cells(row[column]) for row in columns) for column in range(len(columns[0]))]
    for entry, row in zip(kept, columns, strict=True):
        line = "  ".join(fit(cell, width) for cell, width in zip(row, widths, strict=True) if width)
        print_line(styled(line.rstrip(), bold=True))
        print_line(f"    {inert(_typed(entry.path, sink), 4096)}")  # never cut or folded: the next command takes it
        if entry.incident.triggers:
            print_wrapped(inert(entry.incident.triggers[0].reason, 140), indent="    ")


def _typed(path: str, sink: str) -> str:
    """The path as it is typed next: from where the sink was named from. JSON has it from the root."""
    return path if is_s3(sink) else str(Path(sink) / Path(path).relative_to(Path(sink).absolute()))


def _columns(entry: _Entry) -> tuple[str, ...]:
    incident, frames = entry.incident, len(entry.manifest.frames)
    return (
        utc(incident.opened_ns),
        inert(incident.stream, 12),
        inert(incident.triggers[0].kind if incident.triggers else "", 14),
        inert(_named(incident) or "", 12),
        f"{frames} frame{'' if frames == 1 else 's'}",
    )


def _as_json(entry: _Entry) -> dict[str, Any]:
    incident = entry.incident
    first = incident.triggers[0] if incident.triggers else None
    return {
        "path": entry.path,
        "bundle": entry.bundle,
        "opened": iso(incident.opened_ns),
        "created": iso(entry.manifest.created_ns),
        "stream": incident.stream,
        "severity": incident.severity,
        "trigger": None if first is None else {"kind": first.kind, "reason": first.reason, "frame": first.frame},
        "cause": _named(incident),
        "frames": len(entry.manifest.frames),
        "complete": entry.manifest.complete,
        "size_bytes": entry.size_bytes,
    }
