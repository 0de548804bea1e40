"""`replay recover`: a bundle from what a dead process left behind, or from what is intact of a damaged bundle."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from recorder.bundle.errors import BundleError, BundleInvalid, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import json_option, open_bundle
from replay.show.terminal import print_json, print_line, print_note, print_wrapped, styled
from replay.show.text import inert

__all__ = ["recover"]

#: A bundle opens with a skippable zstd frame; nothing else the recorder writes does.
_BUNDLE_MAGIC = b"\x50\x2a\x4d\x18"
_AGE_MAGIC = b"age-encryption.o"


@click.command(short_help="A bundle from a dead process's ring or a damaged one.")
@click.argument("source", metavar="RING|BUNDLE")
@click.option(
    "-o", "--output", "directory", required=True, metavar="DIR", help="Directory to write into; made if missing."
)
@json_option
@click.pass_context
def recover(context: click.Context, source: str, directory: str, as_json: bool) -> None:
    """Seal what the ring of a dead process still holds, or salvage what is intact of a damaged bundle.

    The source is only read. Exit code 0: recovered, or the bundle is intact · 1: nothing to recover · 4: neither ring
    nor bundle, or too damaged · 6: recovered, but incomplete. Example:

    \b
        replay recover /dev/shm/…ring -o recovered/
        replay recover truncated.zst -o recovered/
    """
    path = Path(source)
    if _is_bundle(path):
        context.exit(_recover_bundle(source, Path(directory), as_json))
    from recorder.ring.errors import RingInvalid, RingUnavailable
    from recorder.sealer import recover_ring
    from recorder.sinks import SinkUnavailable

    target = Path(directory)
    try:
        bundles = recover_ring(path, target)  # makes the directory when there is something to put into it
    except RingInvalid as error:
        raise BundleInvalid(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
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
            beginning = file.read(16)
    except OSError as error:
        raise BundleUnavailable(f"{path} cannot be read: {error.strerror}; give a ring file or a bundle") from error
    if beginning == _AGE_MAGIC:
        raise BundleInvalid(f"{path} is encrypted, and damage to it cannot be salvaged; `replay decrypt` it first")
    return beginning[:4] == _BUNDLE_MAGIC


def _is_complete(path: Path) -> bool:
    with open_bundle(str(path)) as opened:
        return opened.manifest.complete


def _recover_bundle(source: str, directory: Path, as_json: bool) -> int:
    """Write what is intact of a damaged bundle; nothing when it is intact."""
    from recorder.bundle.salvage import salvage

    if _is_intact(source):
        if as_json:
            print_json({"recovered": [], "incomplete": []})
        else:
            print_wrapped("the bundle is intact: there is nothing to recover")
            print_note("replay: nothing was written")
        return ExitCode.OK
    is_new = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        target = _free_name(directory, Path(source))
        salvaged = salvage(source, target)
    except BundleError:
        if is_new:
            with contextlib.suppress(OSError):  # somebody put something into it
                directory.rmdir()
        raise
    except OSError as error:
        raise BundleUnavailable(f"{directory} cannot be written: {error.strerror}; name another directory") from error
    if as_json:
        kept = {"members_kept": salvaged.members_kept, "members_lost": len(salvaged.members_lost)}
        lost = {inert(reason, 200): count for reason, count in salvaged.lost.items()}
        print_json({"recovered": [str(target)], "incomplete": [str(target)], **kept, "lost": lost})
    else:
        print_line(styled("incomplete", fg="yellow", bold=True) + f"   {target}")
        gone = ", ".join(f"{reason.removeprefix('salvage:')} {count}" for reason, count in salvaged.lost.items())
        print_wrapped(
            f"{salvaged.members_kept} of {salvaged.members_kept + len(salvaged.members_lost)} members are intact"
            + (f"; lost: {gone}" if gone else "")
        )
    return ExitCode.INCOMPLETE


def _is_intact(source: str) -> bool:
    try:
        with open_bundle(source) as opened:
            return not opened.verify()
    except BundleInvalid:
        return False


def _free_name(directory: Path, source: Path) -> Path:
    """A name beside nothing of the same: an earlier salvage may have saved more."""
    stem = source.name.removesuffix(".zst")[:150] + "-recovered"
    names = (f"{stem}{suffix}.zst" for suffix in ("", *(f"-{number}" for number in range(2, 1000))))
    for name in names:
        if not (directory / name).exists():
            return directory / name
    raise BundleUnavailable(f"{directory} holds a thousand salvages of this bundle; name another directory")
