"""`replay seal`: the sealer in the foreground, as a sidecar or after a crash."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from pathlib import Path
from typing import Any

import click

from recorder.bundle.errors import BundleInvalid, BundleUnavailable
from recorder.counts import Counts
from replay.cli import ExitCode
from replay.commands.options import json_option
from replay.commands.types import Number
from replay.show.terminal import print_json, print_line, print_note
from replay.show.text import inert

__all__ = ["seal"]


@click.command(short_help="Seal the incidents of a ring directory, in the foreground.")
@click.option("--watch", "directory", required=True, metavar="DIR", help="Directory in which the rings are.")
@click.option(
    "--sink", default="incidents/", show_default=True, metavar="SINK", help="Where bundles go: a directory, or s3://…."
)
@click.option(
    "--sink-option",
    "sink_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the sink, as a recorder's sink_options; values are JSON, or text.",
)
@click.option("--once", is_flag=True, help="Seal what dead processes left, and end.")
@click.option(
    "--spool-bytes",
    type=click.IntRange(min=1),
    default=64 * 2**20,
    show_default=True,
    metavar="N",
    help="What the open windows of one ring may take in DIR.",
)
@click.option(
    "--max-bundle-bytes",
    type=click.IntRange(min=2**16),
    metavar="N",
    help="How large a bundle may be: payloads far from the trigger are left out. Default: no bound.",
)
@click.option("--sign-key", metavar="FILE", help="Sign bundles with this Ed25519 private key (PEM).")
@click.option("--encrypt-to", multiple=True, metavar="RECIPIENT", help="Encrypt bundles to this age recipient.")
@click.option(
    "--history-seconds",
    type=Number(min=0, max=86_400),
    default=3_600.0,
    show_default=True,
    metavar="S",
    help="How far back the compact track of a ring reaches that has none yet; 0: none is begun.",
)
@click.option(
    "--track-bytes",
    type=int,
    default=16 * 2**20,
    show_default=True,
    metavar="N",
    help="Size of such a track, in DIR.",
)
@click.option(
    "--profile", metavar="FILE", help="What is normal: drift triggers compare with it, and incidents name their cause."
)
@click.option(
    "--warmup-frames",
    type=click.IntRange(min=0, max=20_000),
    default=0,
    show_default=True,
    metavar="N",
    help="Of a stream without a reference, learn one from its first N frames (50 at least); 0: never.",
)
@json_option
@click.pass_context
def seal(
    context: click.Context,
    directory: str,
    sink: str,
    sink_options: tuple[str, ...],
    once: bool,
    spool_bytes: int,
    max_bundle_bytes: int | None,
    sign_key: str | None,
    encrypt_to: tuple[str, ...],
    history_seconds: float,
    track_bytes: int,
    profile: str | None,
    warmup_frames: int,
    as_json: bool,
) -> None:
    """Do what the recorder's own sealer does, for every ring in DIR that belongs to the same user.

    Rings of living processes are followed, those of dead ones sealed and removed; each incident once, also after a
    restart. While it runs, the services that record into DIR start no sealer of their own. A dead process's ring whose
    incident the sink could not take stays and is tried again.

    \b
    Exit code 0: ended when asked to, or nothing is left · 1: another sealer
    serves DIR · 3: with --once, an incident could not be sealed. Examples:

    \b
        replay seal --watch /rings --sink /incidents
        replay seal --watch /rings --sink /incidents --once
        replay seal --watch /rings --sink s3://incidents --sink-option service=l3
        replay seal --watch /rings --sink /incidents --profile line-3.profile
    """
    from recorder.track.layout import MAX_TRACK_BYTES, MIN_TRACK_BYTES

    if not MIN_TRACK_BYTES <= track_bytes <= MAX_TRACK_BYTES:
        raise click.BadParameter(f"--track-bytes is from {MIN_TRACK_BYTES} to {MAX_TRACK_BYTES}, not {track_bytes}")
    if 0 < warmup_frames < 50:
        raise click.BadParameter(
            f"--warmup-frames {warmup_frames} is too short to tell what is normal; use 50 at least"
        )
    from recorder.privacy import load_key
    from recorder.sealer.process import serve
    from recorder.settings import SealerSettings
    from recorder.sinks import SinkUnavailable

    path = Path(directory)
    if not path.is_dir():
        raise click.BadParameter(f"{directory} is no directory; name the one in which the rings are")
    try:
        key = load_key()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    where = str(Path(sink).absolute()) if "://" not in sink and ":" not in sink else sink
    options = _sink_options(where, sink_options)
    settings = SealerSettings(
        sink=where,
        sink_options=options,
        notify=None,
        spool_bytes=spool_bytes,
        max_bundle_bytes=max_bundle_bytes,
        sign_key=str(Path(sign_key).absolute()) if sign_key is not None else None,
        encrypt_to=_recipients(encrypt_to),
        track_bytes=track_bytes if history_seconds else 0,
        history_seconds=history_seconds,
        profile=_profile(profile) if profile is not None else None,
        warmup_frames=warmup_frames,
    )
    asked_to_end = _asked_to_end()
    if not once:
        print_note(f"replay: sealing the rings of {directory} into {sink}; end with Ctrl-C")
    account = _Account(as_json)
    try:
        served = serve(
            path.absolute(),
            settings,
            once=once,
            privacy_key=key,
            is_asked_to_end=asked_to_end.is_set,
            watch=account.note,
        )
    except SinkUnavailable as error:
        raise BundleUnavailable(str(error)) from error
    except OSError as error:
        raise BundleUnavailable(f"{directory} cannot be served: {error.strerror}; it must be writable") from error
    if as_json:
        print_json({"directory": directory, "sink": sink, "served": served, **account.counts()})
    elif not served:
        print_line(f"another sealer serves {directory}: there is nothing to do")
    elif once and not account.counts()["sealed"] and not account.counts()["failed"]:
        print_line(f"nothing is left to be sealed in {directory}")
    if not served:
        context.exit(ExitCode.NOT_OK)
    if once and account.counts()["failed"]:
        print_note(f"replay: what could not be sealed stays in {directory}: run this again when that is mended")
    context.exit(ExitCode.NOT_REPLAYABLE if once and account.counts()["failed"] else ExitCode.OK)


class _Account:
    """Says what becomes of each incident as it comes, for a sidecar's log, and counts; called by several threads."""

    def __init__(self, as_json: bool) -> None:
        self._write = print_note if as_json else print_line
        self._seen = Counts()

    def counts(self) -> dict[str, int]:
        """How many incidents were sealed, and how many could not be."""
        seen = self._seen.snapshot()
        return {name: seen.get(name, 0) for name in ("sealed", "failed")}

    def note(self, event: dict[str, Any]) -> None:
        """Print what a host is told, where it is about an incident or the sink."""
        name = str(event["event"])
        self._seen.add(name)
        with contextlib.suppress(OSError):  # nobody reads the log any more; sealing goes on
            self._print(name, event)

    def _print(self, name: str, event: dict[str, Any]) -> None:
        if name == "sealed":
            self._write(f"sealed   {inert(event['path'], 500)}")
        elif name == "failed":
            reason = str(event["reason"]).partition(": ")[2] or event["reason"]
            print_note(f"replay: an incident could not be sealed: {inert(reason, 500)}")
        elif name == "fault":
            print_note(f"replay: {inert(event['detail'], 500)}")


def _sink_options(sink: str, given: tuple[str, ...]) -> dict[str, Any]:
    """Parse the options, and have the sink check them before anything is served."""
    from recorder.sinks import SinkUnavailable, open_sink

    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in options:
            raise click.UsageError("--sink-option takes NAME=VALUE, each name once")
        try:
            options[name] = json.loads(value)
        except (ValueError, RecursionError):
            options[name] = value
    try:
        open_sink(sink, **options)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"--sink-option: {error}") from error
    except SinkUnavailable as error:
        raise BundleUnavailable(str(error).rstrip(".")) from error
    return options


def _profile(file: str) -> str:
    """The file's absolute path, once it is seen to be a profile, or a reference alone: a sealer can only count."""
    from recorder.drift.file import load_reference
    from recorder.profile import Profile

    path = Path(file).absolute()
    try:
        try:
            Profile.load(path)
        except ValueError as error:
            try:
                load_reference(path)
            except ValueError:
                raise BundleInvalid(f"{file}: {error}") from error
    except OSError as error:
        raise BundleUnavailable(f"{file} cannot be read: {error.strerror}") from error
    return str(path)


def _recipients(recipients: tuple[str, ...]) -> tuple[str, ...]:
    from recorder.trust.recipients import checked_recipients

    try:
        return checked_recipients(recipients)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _asked_to_end() -> threading.Event:
    """Set by the first Ctrl-C or SIGTERM, so that what is being sealed is finished; a second one ends at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        asked.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return asked
