"""`replay profile`: make a profile of clean frames, look at one, and ask it what is wrong with an incident."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recorder.bundle.errors import BundleInvalid, BundleUnavailable
from replay.cli import ExitCode
from replay.commands.options import bundle_argument, json_option, new_file, open_bundle
from replay.show.terminal import print_json, print_line, print_note, print_wrapped, styled
from replay.show.text import inert

if TYPE_CHECKING:
    from recorder.profile import Profile

__all__ = ["diagnose", "profile"]

_FILES = (".png", ".jpg", ".jpeg", ".webp")
#: An image of a directory that claims to be larger is not opened.
_MAX_PIXELS = 2**26


@click.group(short_help="Make and show profiles of what is normal.")
def profile() -> None:
    """A profile holds what clean frames are like, and what faults make of them.

    Example:

    \b
        replay profile build frames/ -o line-3.profile
        replay diagnose incidents/…bundle.zst --profile line-3.profile
    """


@profile.command(short_help="Learn a profile from clean frames.")
@click.argument("sources", nargs=-1, required=True, metavar="DIR|BUNDLE...")
@click.option("-o", "--output", required=True, metavar="FILE", help="The new profile.")
@click.option("--model-digest", metavar="SHA256", help="Of the weights it goes with: of another model it says nothing.")
@click.option("--no-thumbnail", is_flag=True, help="Keep no picture of the view; camera moves are then told less well.")
@json_option
def build(sources: tuple[str, ...], output: str, model_digest: str | None, no_thumbnail: bool, as_json: bool) -> None:
    """Learn what is normal from directories of images (in order of their names) or the frames of bundles.

    Neighbouring files must be neighbouring frames of the video; each bundle's stream becomes a camera of the profile.
    Takes about a minute for each camera. Example:

    \b
        replay profile build frames/ -o line-3.profile
    """
    from recorder.profile import Profile

    target = new_file(output)
    keys: list[str] = []

    def frames() -> Iterator[Any]:
        """One at a time: an hour of frames does not fit into memory. Each frame's key is there when it is."""
        for source in sources:
            for key, pixels in _frames_of(source):
                keys.append(key)
                yield pixels

    try:
        made = Profile.fit(
            frames(),
            keys=None if all(Path(source).is_dir() for source in sources) else keys,
            model_digest=model_digest,
            keep_thumbnail=not no_thumbnail,
        )
    except ValueError as error:
        raise click.ClickException(inert(str(error), 400)) from error
    made.save(target)
    for key, why in made.refused.items():
        print_note(f"{inert(key, 80) or 'the camera'}: {inert(why, 300)}")
    learnt = _drift(made)
    for each in learnt:
        if each["shortfall"]:
            print_note(f"{inert(each['key'], 80) or 'the camera'}: {each['shortfall']}")
    if as_json:
        print_json({"profile": str(target), "frames": len(keys), **_summary(made), "drift": learnt})
        return
    print_line(styled(f"{target}: {len(keys)} frames, {len(made.cameras)} camera(s)", bold=True))


@profile.command(short_help="What a profile holds.")
@click.argument("file", metavar="FILE")
@json_option
def show(file: str, as_json: bool) -> None:
    """Show a profile: its cameras, their frame sizes, whether they stand fixed, and the false alarms of drift.

    Example:

    \b
        replay profile show line-3.profile
    """
    found = _load(file)
    learnt = _drift(found)
    if as_json:
        print_json({"profile": file, **_summary(found), "drift": learnt})
        return
    print_line(styled(f"{len(found.cameras)} camera(s), model {found.model_digest or 'not stated'}", bold=True))
    for camera in _summary(found)["cameras"]:
        where = "fixed, with a thumbnail" if camera["fixed"] else "moving, or without a thumbnail"
        name = inert(camera["key"], 80) or "any camera"
        print_wrapped(f"{name}: {camera['width']}x{camera['height']}, {where}", indent="    ")
    for each in learnt:
        said = each["shortfall"] or f"1 false alarm in {each['frames_per_false_alarm']:,} frames"
        name = inert(each["key"], 80) or "any camera"
        print_wrapped(f"drift, {name}: learnt from {each['frames']:,} frames; {said}", indent="    ")


@click.command(short_help="What is wrong with an incident's frames, by a profile.")
@bundle_argument
@click.option("--profile", "file", required=True, metavar="FILE", help="What is normal: `replay profile build`.")
@json_option
@click.pass_context
def diagnose(context: click.Context, bundle: str, file: str, as_json: bool) -> None:
    """Name what is wrong with the images of an incident: blur, darkness, a moved camera; or unknown.

    Exit code 0: nothing is wrong. 1: a cause was named. 3: unknown. Example:

    \b
        replay diagnose incidents/…bundle.zst --profile line-3.profile
    """
    from recorder.sealer.diagnosing import looked_at

    found = _load(file)
    stream, digest, frames = "", None, []
    with open_bundle(bundle) as opened:
        stream = opened.manifest.incident.stream
        digests = [model.weights.digest for model in opened.manifest.models if model.weights is not None]
        digest = found.model_digest if found.model_digest in digests else next(iter(digests), None)
        own = {frame.id: frame for frame in opened.manifest.frames if frame.images and frame.stream == stream}
        for number in looked_at(sorted(own), opened.manifest.incident):
            frames.append(opened.pixels(own[number].images[0]))
    try:
        diagnosis = found.diagnose(frames, key=stream, model_digest=digest)
    except ValueError as error:  # parts that agree with each other, and with no frame there can be
        raise BundleInvalid(f"{file} does not fit this program's measurements; make it again") from error
    if as_json:
        print_json({"bundle": bundle, "profile": file, "frames": len(frames), **diagnosis.document()})
    else:
        print_line(styled(inert(diagnosis.sentence, 200), bold=True))
        for name, chance in diagnosis.ranking[:5]:
            print_line(f"    {chance:5.1%}  {name}")
        for name, size in diagnosis.evidence.get("signals", ()):
            print_line(f"    {size:+9.1f} sigma  {inert(name, 60)}")
    if diagnosis.cause == "unknown":
        context.exit(ExitCode.NOT_REPLAYABLE)
    context.exit(ExitCode.OK if diagnosis.cause == "none" else ExitCode.NOT_OK)


def _load(file: str) -> Profile:
    from recorder.profile import Profile

    try:
        return Profile.load(file)
    except ValueError as error:
        raise BundleInvalid(f"{file}: {inert(str(error), 400)}") from error
    except OSError as error:
        raise BundleUnavailable(
            f"{file} cannot be read: {error.strerror}; `replay profile build` makes a profile"
        ) from error


def _summary(found: Profile) -> dict[str, Any]:
    return {
        "model_digest": found.model_digest,
        "cameras": [
            {"key": key, "height": model.shape[0], "width": model.shape[1], "fixed": model.normal.thumb is not None}
            for key, model in found.cameras.items()
        ],
        "refused": dict(found.refused),
    }


def _drift(found: Profile) -> list[dict[str, Any]]:
    """What the drift triggers compare each stream with, and the false alarms that they keep to."""
    if found.reference is None:
        return []
    from recorder.drift.reference import Reference

    try:
        reference = Reference.from_document(dict(found.reference))
    except ValueError as error:
        print_note(f"drift: {inert(str(error), 300)}")
        return []
    asked = reference.frames_per_false_alarm
    return [
        {
            "key": key,
            "frames": normal.frames,
            "frames_per_false_alarm": normal.kept(asked),
            "shortfall": normal.shortfall(asked),
        }
        for key, normal in reference.streams.items()
    ]


def _frames_of(source: str) -> Iterator[tuple[str, Any]]:
    """The camera and the pixels of every frame of a bundle or a directory."""
    path = Path(source)
    if not path.is_dir():
        with open_bundle(source) as opened:
            for frame in opened.manifest.frames:
                if frame.images:
                    yield frame.stream, opened.pixels(frame.images[0])
        return
    import numpy as np
    from PIL import Image as pil

    files = sorted(each for each in path.iterdir() if each.suffix.lower() in _FILES)
    if not files:
        raise click.ClickException(f"{source} holds no images ({', '.join(_FILES)}); name a directory of clean frames")
    for file in files:
        try:
            with pil.open(file) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise click.ClickException(f"{file} is larger than {_MAX_PIXELS} pixels; leave it out")
                plain = image if image.mode in ("L", "RGB", "RGBA", "I;16") else image.convert("RGB")
                pixels = np.asarray(plain)
        except (OSError, SyntaxError, pil.DecompressionBombError) as error:
            raise click.ClickException(f"{file} cannot be opened as an image; leave it out") from error
        yield "", pixels
