"""Fresh samples for the validation set: frames that may be used, by class, the newest of each, older ones going.

A frame may be used when its metadata says so (``consent`` true), or the incident is labelled ``consent=yes``; and not
when that label is anything else. Redacted images are left out: a model would be validated on what no camera saw.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorder.bundle import Bundle
from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Frame, Image, was_redacted
from replay.catalog.entries import Entry
from replay.folder import Folder
from replay.opening import Opening
from replay.show.text import inert

__all__ = ["Exported", "Wanted", "export_samples"]

INDEX = "samples.jsonl"

_MAX_INDEX_BYTES = 256 * 2**20
_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
_OURS = re.compile(r"[0-9a-f]{12}-\d{1,19}\.(?:png|jpg|webp)")
_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")
_TRUE = (True, "yes", "true", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What goes into the set."""

    per_class: int = 100  #: newest samples of each class that stay
    truth: str = "ground_truth"  #: metadata key of the class; frames without it are left out
    consent: str = "consent"  #: metadata key that lets a frame be used
    slice_by: str = "camera"  #: metadata key whose values are to be balanced


@dataclass(slots=True)
class Exported:
    """What one export did."""

    added: int = 0
    removed: int = 0  #: older samples that made room
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  #: frames, by reason
    problems: list[tuple[str, str]] = field(default_factory=list)  #: bundles that cannot be read
    classes: Counter[str] = field(default_factory=Counter)  #: samples in the set now
    slices: Counter[str] = field(default_factory=Counter)


def export_samples(entries: Iterable[Entry], folder: Path, wanted: Wanted, opening: Opening) -> Exported:
    """Bring a directory up to date: ``CLASS/ID-FRAME.png`` and ``samples.jsonl``; only files of its own are removed.

    Args:
        entries: incidents, any order.
        folder: made when it is not there.
        wanted: what goes in.
        opening: how bundles are opened.

    Raises:
        BundleUnavailable: the directory cannot be written.
    """
    done = Exported()
    rows = {row["file"]: row for row in _index(folder)}
    withdrawn: set[str] = set()
    with Folder(folder, force=True) as target:
        for entry in entries:
            try:
                with opening.open(entry.path) as bundle:
                    for frame in bundle.manifest.frames:
                        why = _refused(bundle, entry, frame, wanted)
                        name = f"{entry.bundle[:12]}-{frame.id}"
                        if why:
                            done.left_out[why] += 1
                            withdrawn.add(name)
                        else:
                            done.added += _write(target, rows, bundle, frame, name, wanted)
            except BundleError as error:
                done.problems.append((entry.path, inert(error, 300)))
        kept = list(
            _newest([row for row in rows.values() if Path(row["file"]).stem not in withdrawn], wanted.per_class)
        )
        for file in rows.keys() - {row["file"] for row in kept}:
            _remove(folder, file)
            done.removed += 1
        lines = (json.dumps(row, ensure_ascii=True, sort_keys=True).encode() + b"\n" for row in kept)
        target.write("", INDEX, lines)
    done.kept = len(kept)
    done.classes = Counter(row["class"] for row in kept)
    done.slices = Counter(row["slice"] for row in kept)
    return done


def _refused(bundle: Bundle, entry: Entry, frame: Frame, wanted: Wanted) -> str:
    """Why a frame may not go in; "" when it may."""
    said = entry.labels.get("consent")
    if said != "yes" and (said is not None or frame.metadata.get(wanted.consent) not in _TRUE):
        return "no consent"
    truth = frame.metadata.get(wanted.truth)
    if truth is None or isinstance(truth, dict | list):
        return "no known class"
    image = _image(frame)
    if image is None:
        return "no image file"
    return "redacted" if was_redacted(bundle.manifest, image.name) else ""


def _image(frame: Frame) -> Image | None:
    return next((image for image in frame.images if image.encoding in _SUFFIXES), None)


def _write(
    target: Folder, rows: dict[str, dict[str, Any]], bundle: Bundle, frame: Frame, name: str, wanted: Wanted
) -> int:
    image = _image(frame)
    assert image is not None  # noqa: S101 - `_refused` has looked
    kind = _PLAIN.sub("-", str(frame.metadata[wanted.truth])[:60]).strip("-") or "class"
    file = f"{kind}/{name}{_SUFFIXES[image.encoding]}"
    if file in rows:
        return 0
    target.write(kind, file.partition("/")[2], [bundle.read(image.member)])
    part = frame.metadata.get(wanted.slice_by)
    rows[file] = {
        "file": file,
        "class": kind,
        "slice": inert("" if part is None else part, 60),
        "bundle": bundle.id,
        "frame": frame.id,
        "time_ns": frame.time_ns,
    }
    return 1


def _newest(rows: list[dict[str, Any]], per_class: int) -> Iterator[dict[str, Any]]:
    counts: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: (-row["time_ns"], row["file"])):
        counts[row["class"]] += 1
        if counts[row["class"]] <= per_class:
            yield row


def _index(folder: Path) -> Iterator[dict[str, Any]]:
    """The samples of earlier exports; lines that are none of ours are passed over."""
    path = folder / INDEX
    if not path.is_file() or path.stat().st_size > _MAX_INDEX_BYTES:
        return
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            match json.loads(line):
                case {"file": str() as file, "class": str() as kind, "slice": str(), "time_ns": int()} as row:
                    if (
                        not _PLAIN.search(kind)
                        and kind
                        and file.startswith(f"{kind}/")
                        and _OURS.fullmatch(file[len(kind) + 1 :])
                    ):
                        yield dict(row)


def _remove(folder: Path, file: str) -> None:
    """``file`` is of the form that `_index` lets through or `_write` makes."""
    parent = folder / file.partition("/")[0]
    if not parent.is_symlink():
        (folder / file).unlink(missing_ok=True)
