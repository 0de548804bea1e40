"""`replay ls`: the incidents of a sink."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from recorder.bundle.errors import BundleError, BundleUnavailable
from recorder.bundle.manifest import Incident, Manifest
from replay.commands.options import json_option, open_bundle, parse_since
from replay.terminal import print_json, print_line, print_note, progress
from replay.text import inert, iso, size, utc

__all__ = ["ls"]


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    bundle: str
    size_bytes: int
    manifest: Manifest

    @property
    def incident(self) -> Incident:
        return self.manifest.incident


@click.command(short_help="Incidents of a directory, newest first.")
@click.argument("sink", metavar="SINK")
@click.option("--since", metavar="WHEN", help="Only incidents opened since: 90s, 15m, 1h, 2d, or an ISO date (UTC).")
@click.option("--stream", metavar="NAME", help="Only incidents of this stream.")
@click.option("--cause", metavar="NAME", help='Only incidents with this diagnosed cause, such as "darker".')
@json_option
def ls(sink: str, since: str | None, stream: str | None, cause: str | None, as_json: bool) -> None:
    """List the incidents that were sealed into a directory, newest first.

    Files that are no intact bundle are named on stderr. Example:

    \b
        replay ls incidents/ --since 1h --stream line-3
    """
    since_ns = parse_since(since) if since else None
    entries, unreadable = [], []
    with progress(_bundles_of(sink), "reading") as paths:
        for path in paths:
            try:
                with open_bundle(str(path)) as opened:
                    entries.append(_Entry(path, opened.id, opened.size_bytes, opened.manifest))
            except BundleError as error:
                unreadable.append({"path": str(path), "problem": inert(error, 400)})
    kept = [entry for entry in entries if _is_wanted(entry.incident, since_ns, stream, cause)]
    kept.sort(key=lambda entry: entry.incident.opened_ns, reverse=True)
    if as_json:
        print_json({"sink": sink, "incidents": [_as_json(entry) for entry in kept], "unreadable": unreadable})
        return
    _print(kept, len(entries))
    for problem in unreadable:
        print_note(f"{inert(Path(problem['path']).name, 100)}: {problem['problem']}")


def _bundles_of(sink: str) -> list[Path]:
    if "://" in sink:
        raise BundleUnavailable(f"{sink}: only directories can be listed; copy the bundles to this machine first")
    directory = Path(sink)
    if not directory.exists():
        raise BundleUnavailable(f"{sink} does not exist; give the directory that the recorder seals into")
    if not directory.is_dir():
        raise BundleUnavailable(f"{sink} is a file; `replay show` shows one bundle, ls lists a directory")
    return sorted(path for path in directory.glob("*.zst") if path.is_file())


def _is_wanted(incident: Incident, since_ns: int | None, stream: str | None, cause: str | None) -> bool:
    named = incident.cause.get("cause") if incident.cause else None
    return (
        (since_ns is None or incident.opened_ns >= since_ns)
        and (stream is None or incident.stream == stream)
        and (cause is None or named == cause)
    )


def _print(kept: list[_Entry], total: int) -> None:
    from replay.table import print_table

    if not kept:
        print_line("no incidents" if not total else f"none of the {total} incidents matches")
        return
    rows = [
        (
            utc(entry.incident.opened_ns).removesuffix(" UTC"),
            inert(entry.incident.stream, 16),
            inert(entry.incident.triggers[0].kind if entry.incident.triggers else "", 16),
            inert(entry.incident.cause.get("cause") if entry.incident.cause else "", 14),
            str(len(entry.manifest.frames)),
            size(entry.size_bytes),
            inert(entry.path.name, 80),
        )
        for entry in kept
    ]
    print_table(("opened (UTC)", "stream", "trigger", "cause", "frames", "size", "file"), rows)


def _as_json(entry: _Entry) -> dict[str, Any]:
    incident = entry.incident
    first = incident.triggers[0] if incident.triggers else None
    return {
        "path": str(entry.path),
        "bundle": entry.bundle,
        "opened": iso(incident.opened_ns),
        "created": iso(entry.manifest.created_ns),
        "stream": incident.stream,
        "severity": incident.severity,
        "trigger": None if first is None else {"kind": first.kind, "reason": first.reason, "frame": first.frame},
        "cause": incident.cause.get("cause") if incident.cause else None,
        "frames": len(entry.manifest.frames),
        "complete": entry.manifest.complete,
        "size_bytes": entry.size_bytes,
    }
