"""`replay redact`: a copy of a bundle without what others must not see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from recorder.bundle.errors import BundleInvalid, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import bundle_argument, json_option, new_file, open_bundle
from replay.show.terminal import print_json, print_line, print_note, print_wrapped, styled
from replay.show.text import inert

if TYPE_CHECKING:
    from recorder.bundle.manifest import Manifest
    from recorder.privacy import PrivacyKey, PrivacyPolicy
    from replay.redaction import Redacted

__all__ = ["redact"]

#: Edge of a pixelated square, and the longer side of a downscaled image, in pixels.
_BLOCK, _SIDE = 16, 64


@click.command(short_help="A copy without what others must not see.")
@bundle_argument
@click.option("-o", "--output", required=True, metavar="FILE", help="The redacted bundle.")
@click.option(
    "--images",
    type=click.Choice(["pixelate", "fill", "downscale", "remove"]),
    help="What to do to images; what was made from them goes.",
)
@click.option("--boxes", metavar="KEY", help="Only inside the boxes that stand under this metadata key.")
@click.option(
    "--size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help=f"Square of pixelate (default {_BLOCK}), longer side of downscale (default {_SIDE}).",
)
@click.option("--drop", "dropped", multiple=True, metavar="FIELD", help="Remove: metadata.KEY, track, thumbnails …")
@click.option("--level", "levels", multiple=True, metavar="FIELD=LEVEL", help="full, redacted or digest-only.")
@click.option(
    "--privacy-key",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Key of digests and pseudonyms; else FLIGHT_RECORDER_PRIVACY_KEY.",
)
@json_option
@click.pass_context
def redact(
    context: click.Context,
    bundle: str,
    output: str,
    images: str | None,
    boxes: str | None,
    size: int | None,
    dropped: tuple[str, ...],
    levels: tuple[str, ...],
    privacy_key: str | None,
    as_json: bool,
) -> None:
    """Write a copy of a bundle in which images, values and metadata are redacted or removed.

    Fields are image (of several: image.left), thumbnails, track, model_input, model_output, output, metadata,
    metadata.KEY, sensor_time and exception_message. A field without a level of its own takes that of what it was made
    from: with the images go model inputs and outputs. Credentials in texts and metadata go always. Without a privacy
    key, removed values leave no digest. The copy names its parent and is not signed. Examples:

    \b
        replay redact …zst -o out.zst --images pixelate --boxes faces
        replay redact …zst -o out.zst --images remove --drop metadata.operator
        replay redact …zst -o out.zst --images fill --level output=full
    """
    target = new_file(output)
    try:
        policy, key = _policy(images, boxes, size, dropped, levels), _key(privacy_key)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    from replay.redaction import redact_bundle

    with open_bundle(bundle) as opened:
        parent, absent = opened.id, _absent(policy, opened.manifest)
        if problems := opened.verify():
            raise BundleInvalid(f"nothing was written, the bundle is damaged: {problems[0]}")
        try:
            redacted = redact_bundle(opened, target, policy, key)
        except OSError as error:
            raise BundleUnavailable(f"{target} cannot be written: {error.strerror}; name another file") from error
    for field in absent:
        print_note(f"{inert(field, 100)} is in none of its frames, so nothing went by that name: is it spelt so?")
    if as_json:
        print_json(
            {
                "path": str(target),
                "bundle": redacted.id,
                "parent": parent,
                "redactions": [
                    {
                        "field": inert(each.field, 200),
                        "level": each.level,
                        "method": each.method,
                        "count": each.count,
                        "derived_from": list(each.derived_from),
                    }
                    for each in redacted.redactions
                ],
                "absent": [inert(field, 200) for field in absent],
                "key": None if key is None else key.id,
                "calls": redacted.calls,
                "calls_replayable": redacted.calls_replayable,
            }
        )
    else:
        _print(redacted, str(target), key)
    context.exit(ExitCode.OK)


def _policy(
    images: str | None, boxes: str | None, size: int | None, dropped: tuple[str, ...], levels: tuple[str, ...]
) -> PrivacyPolicy:
    """Return what the options mean.

    Raises:
        ValueError: they contradict each other, or name what does not exist.
    """
    from recorder.privacy import PrivacyPolicy, Redactor

    if boxes is not None and images not in ("pixelate", "fill"):
        raise ValueError("--boxes needs --images pixelate or --images fill")
    if size is not None and images not in ("pixelate", "downscale"):
        raise ValueError("--size needs --images pixelate or --images downscale")
    chosen: dict[str, str] = {}
    redactors: dict[str, tuple[Redactor, ...]] = {}
    if images == "remove":
        chosen["image"] = "digest-only"
    elif images is not None:
        chosen["image"] = "redacted"
        if images == "pixelate":
            step = Redactor.pixelate(boxes=boxes, block=size or _BLOCK)
        else:
            step = Redactor.fill(boxes=boxes) if images == "fill" else Redactor.downscale(max_side=size or _SIDE)
        redactors["image"] = (step,)
    for field in dropped:
        chosen[field] = "digest-only"
    for text in levels:
        field, equals, level = text.rpartition("=")
        if not equals:
            raise ValueError(f"--level {text!r} must read FIELD=LEVEL, such as model_input=full")
        chosen[field] = level
    return PrivacyPolicy(levels=chosen, redactors=redactors)


def _absent(policy: PrivacyPolicy, manifest: Manifest) -> list[str]:
    """Fields that are to be redacted and that no frame has: a name that was mistyped leaves what was meant."""
    held = {f"metadata.{key}" for frame in manifest.frames for key in frame.metadata}
    held |= {f"image.{image.name}" for frame in manifest.frames for image in frame.images}
    held |= {f"image.{image.name}" for frame in manifest.frames for image in frame.images_left_out}
    named = [name for name, level in policy.levels.items() if level != "full"]
    return [name for name in named if name.startswith(("metadata.", "image.")) and name not in held]


def _key(path: str | None) -> PrivacyKey | None:
    from recorder.privacy import load_key

    return load_key(path)


def _print(redacted: Redacted, target: str, key: PrivacyKey | None) -> None:
    print_line(styled("redacted", fg="green", bold=True) + f"   {target}")
    for each in redacted.redactions:
        why = f", made from {', '.join(each.derived_from)}" if each.derived_from else ""
        print_wrapped(f"{inert(each.field, 60)}: {each.method}, {each.count}{why}", indent="    ", first="  - ")
    if not redacted.redactions:
        print_line("nothing in it had to be removed")
    if key is None:
        print_wrapped("Without a privacy key removed values leave no digest: --privacy-key FILE.")
    print_wrapped(_replayable(redacted))


def _replayable(redacted: Redacted) -> str:
    """What a replay can still do."""
    lost = redacted.calls - redacted.calls_replayable
    if not redacted.calls:
        return "There is no model call to replay."
    if not lost:
        return f"All {redacted.calls} model calls still have their inputs and can be replayed."
    return (
        f"{redacted.calls_replayable} of {redacted.calls} model calls can still be replayed; the others' inputs were "
        "removed (keep them with --level model_input=full)."
    )
