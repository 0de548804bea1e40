"""`replay extract`: images as ordinary files, tensors as .npy, the manifest."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from recorder.bundle.errors import BundleInvalid, BundleUnavailable
from recorder.bundle.manifest import Image, Manifest
from recorder.bundle.values import ITEM_SIZE_BYTES, TensorValue, Value, tensors_of
from replay.cli import ExitCode
from replay.commands.options import bundle_argument, json_option, open_bundle
from replay.folder import Folder
from replay.show.terminal import print_json, print_line, print_note, progress, styled
from replay.show.text import inert, size

if TYPE_CHECKING:
    from recorder.bundle.reader import Bundle
    from recorder.bundle.track import TrackTable

__all__ = ["extract"]

_EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}

#: float32 takes four bytes where bfloat16 took two and float8 one: numpy has no name for those.
_WIDENED_BYTES = {"bfloat16": 4, "float8_e4m3fn": 4, "float8_e5m2": 4}


@click.command(short_help="Images as ordinary files, tensors as .npy.")
@bundle_argument
@click.option(
    "-o", "--output", "directory", required=True, metavar="DIR", help="Directory to write into; made if missing."
)
@click.option(
    "--force", is_flag=True, help="Write into a directory that is not empty, replacing files of the same names."
)
@json_option
@click.pass_context
def extract(context: click.Context, bundle: str, directory: str, force: bool, as_json: bool) -> None:
    """Write a bundle's contents as ordinary files.

    \b
    DIR/images/frame-17-0.png          each frame's images
    DIR/tensors/000000.npy             arrays as the program indexed them
    DIR/track/frames.csv, 1s.csv, …    signals of frames, and long before
    DIR/contents.json                  which file is which
    DIR/manifest.json                  everything the recorder wrote down

    bfloat16 and float8 tensors become the same numbers in float32. Example:

    \b
        replay extract incidents/…bundle.zst -o incident/
    """
    with open_bundle(bundle) as opened, Folder(directory, force=force) as folder:
        _check_room(opened.manifest, folder)
        contents, problems = _write_all(opened, folder)
        text = json.dumps(contents, ensure_ascii=True, allow_nan=False, indent=1)
        folder.write("", "contents.json", [text.encode(), b"\n"])
        folder.write("", "manifest.json", [opened.manifest_bytes])
        complete = opened.manifest.complete
    code = ExitCode.INVALID if problems else ExitCode.OK if complete else ExitCode.INCOMPLETE
    counts = {kind: len({entry["file"] for entry in contents[kind]}) for kind in ("images", "tensors")}
    if as_json:
        print_json({"directory": directory, **counts, "complete": complete, "problems": problems})
    else:
        print_line(
            styled(f"{counts['images']} images and {counts['tensors']} tensors", bold=True)
            + f" written to {inert(directory, 400)}"
        )
    for problem in problems:
        print_note(f"replay: {problem}")
    context.exit(code)


def _write_all(bundle: Bundle, folder: Folder) -> tuple[dict[str, Any], list[str]]:
    """Write images and tensors; return the table of contents and what could not be written."""
    contents: dict[str, Any] = {"bundle": bundle.id, "images": [], "tensors": [], "track": []}
    problems: list[str] = []
    try:
        contents["track"] = _write_track(bundle, folder)
    except BundleInvalid as error:
        problems.append(inert(error, 400))
    pictures = [(f.id, n, image) for f in bundle.manifest.frames for n, image in enumerate(f.images)]
    with progress(pictures, "images") as items:
        for frame, number, image in items:
            try:
                file = _write_image(bundle, folder, frame, number, image)
            except BundleInvalid as error:
                problems.append(inert(error, 400))
                continue
            contents["images"].append({"file": file, "frame": frame, "name": image.name, "sha256": image.pixels_sha256})
    written: dict[tuple[object, ...], str] = {}
    with progress(list(_tensors(bundle.manifest)), "tensors") as places:
        for place, value in places:
            key = _content_key(value)
            try:
                if key not in written:
                    written[key] = _write_tensor(bundle, folder, len(written), value)
            except BundleInvalid as error:
                problems.append(inert(error, 400))
                continue
            contents["tensors"].append(
                {
                    "file": written[key],
                    **place,
                    "dtype": value.dtype,
                    "shape": list(value.shape),
                    "sha256": value.sha256,
                }
            )
    return contents, problems


def _write_track(bundle: Bundle, folder: Folder) -> list[dict[str, Any]]:
    """Write one CSV file for each resolution of time."""
    from replay.show.history import csv_lines

    by_seconds: dict[int, list[TrackTable]] = {}
    for table in bundle.track():
        by_seconds.setdefault(table.level.seconds, []).append(table)
    written = []
    for seconds, tables in sorted(by_seconds.items()):
        name = f"{seconds}s.csv" if seconds else "frames.csv"
        folder.write("track", name, csv_lines(tables))
        written.append({"file": f"track/{name}", "seconds": seconds, "rows": sum(each.level.rows for each in tables)})
    return written


def _write_image(bundle: Bundle, folder: Folder, frame: int, number: int, image: Image) -> str:
    stem = f"frame-{frame}-{number}"
    if image.encoding == "raw":
        name, parts = f"{stem}.npy", iter([_npy(bundle.pixels(image))])
    else:
        name, parts = f"{stem}.{_EXTENSIONS[image.encoding]}", bundle.stream(image.member)
    folder.write("images", name, parts)
    return f"images/{name}"


def _write_tensor(bundle: Bundle, folder: Folder, number: int, value: TensorValue) -> str:
    name = f"{number:06d}.npy"
    folder.write("tensors", name, [_npy(bundle.array(value))])
    return f"tensors/{name}"


def _npy(array: Any) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
    return buffer.getvalue()


def _tensors(manifest: Manifest) -> Iterator[tuple[dict[str, Any], TensorValue]]:
    """Yield every tensor with its place: the call or frame, and where in its arguments or answer it stood."""
    for call in manifest.calls:
        parts: dict[str, Value | None] = {
            "args": call.args,
            "kwargs": call.kwargs,
            "state": call.state,
            "output": call.output,
            "rng": call.rng,
            "layers": call.layers,
        }
        for role, value in parts.items():
            for path, tensor in tensors_of(value):
                yield {"call": call.id, "where": role + path}, tensor
    for frame in manifest.frames:
        for path, tensor in tensors_of(frame.output):
            yield {"frame": frame.id, "where": "output" + path}, tensor


def _content_key(value: TensorValue) -> tuple[object, ...]:
    return (value.sha256, value.dtype, value.shape, value.strides)


def _check_room(manifest: Manifest, folder: Folder) -> None:
    """Refuse before writing: a hostile bundle may name the same bytes under a thousand shapes."""
    distinct = {_content_key(value): value for _, value in _tensors(manifest)}
    tensors = sum(
        value.size_bytes // ITEM_SIZE_BYTES[value.dtype] * _WIDENED_BYTES.get(value.dtype, ITEM_SIZE_BYTES[value.dtype])
        for value in distinct.values()
    )
    sizes = {member.path: member.size_bytes for member in manifest.members}
    # A number of four bytes takes up to 24 characters.
    track = 6 * sizes[manifest.track.member] if manifest.track is not None else 0
    needed = tensors + track + sum(sizes.get(image.member, 0) for frame in manifest.frames for image in frame.images)
    free = folder.free_bytes()
    if needed > free:
        raise BundleUnavailable(
            f"extracting takes {size(needed)} and {folder.path} has {size(free)} free; choose a larger disk"
        )
