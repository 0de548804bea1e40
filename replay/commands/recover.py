"""`replay recover`: a bundle from what a dead process left behind."""

from __future__ import annotations

from pathlib import Path

import click

from recorder.bundle.errors import BundleInvalid, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import json_option, open_bundle
from replay.terminal import print_json, print_line, print_note, print_wrapped, styled
from replay.text import inert

__all__ = ["recover"]

#: A bundle opens with a skippable zstd frame; nothing else the recorder writes does.
_BUNDLE_MAGIC = b"\x50\x2a\x4d\x18"


@click.command(short_help="A bundle from the ring of a dead process.")
@click.argument("source", metavar="RING|BUNDLE")
@click.option(
    "-o", "--output", "directory", required=True, metavar="DIR", help="Directory to write into; made if missing."
)
@json_option
@click.pass_context
def recover(context: click.Context, source: str, directory: str, as_json: bool) -> None:
    """Seal what the ring file of a dead process still holds. The ring is only read.

    Exit code 0: recovered · 1: nothing to recover · 4: no ring, or too damaged · 6: recovered, but incomplete. Example:

    \b
        replay recover /dev/shm/…ring -o recovered/
    """
    path = Path(source)
    if _is_bundle(path):
        _explain_bundle(source, as_json)
        context.exit(ExitCode.OK)
    from recorder.ring.errors import RingInvalid, RingUnavailable
    from recorder.sealer import recover_ring
    from recorder.sinks import SinkUnavailable

    target = Path(directory)
    try:
        target.mkdir(parents=True, exist_ok=True)
        bundles = recover_ring(path, target)
    except RingInvalid as error:
        raise BundleInvalid(str(error)) from error
    except (RingUnavailable, SinkUnavailable) as error:
        raise BundleUnavailable(str(error)) from error
    except OSError as error:
        raise BundleUnavailable(f"{directory} cannot be written: {error.strerror}; name another directory") from error
    incomplete = [bundle for bundle in bundles if not _is_complete(bundle)]
    code = ExitCode.NOT_OK if not bundles else ExitCode.INCOMPLETE if incomplete else ExitCode.OK
    if as_json:
        print_json({"recovered": [str(bundle) for bundle in bundles], "incomplete": [str(each) for each in incomplete]})
        context.exit(code)
    if not bundles:
        print_line("nothing to recover: the ring holds no frame")
    for bundle in bundles:
        state = "incomplete" if bundle in incomplete else "complete"
        print_line(styled(state, fg="yellow" if bundle in incomplete else "green", bold=True) + f"   {bundle}")
    context.exit(code)


def _is_bundle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == _BUNDLE_MAGIC
    except OSError as error:
        raise BundleUnavailable(f"{path} cannot be read: {error.strerror}; give a ring file or a bundle") from error


def _is_complete(path: Path) -> bool:
    with open_bundle(str(path)) as opened:
        return opened.manifest.complete


def _explain_bundle(source: str, as_json: bool) -> None:
    """Say what can be done for a bundle: nothing is needed when it is intact, little is possible when it is not."""
    try:
        with open_bundle(source) as opened:
            problems = opened.verify()
    except BundleInvalid as error:
        problems = [str(error)]
    if problems:
        raise BundleInvalid(
            f"{inert(problems[0], 200).rstrip('.')}. This version does not salvage damaged bundles: fetch it again "
            "from the sink, recover it from the ring if that is still there, or see what `tar --zstd -xf` unpacks"
        )
    if as_json:
        print_json({"recovered": [], "incomplete": []})
        return
    print_wrapped("the bundle is intact: there is nothing to recover")
    print_note("replay: nothing was written")
