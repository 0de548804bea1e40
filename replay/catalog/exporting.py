"""Fresh samples for the validation set: frames that may be used, by class, the newest of each, older ones going.

Of a class the slices (cameras, say) take turns, so that one that sends much does not push out the others. A frame may
be used when its metadata says so (``consent`` true), or the incident is labelled ``consent=yes``; and not when that
label is anything else. Redacted images are left out: a model would be validated on what no camera saw.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Frame, Image, was_redacted
from replay.catalog.entries import Entry
from replay.export.imagefolder import CLASSES, classes_json
from replay.export.names import plain_name, sample_name
from replay.export.pictures import original_file, suffix_of
from replay.export.source import Exported
from replay.folder import Folder
from replay.opening import Opening
from replay.show.text import inert

__all__ = ["Rotated", "Wanted", "export_samples"]

INDEX = "samples.jsonl"

_MAX_INDEX_BYTES = 256 * 2**20
_SAMPLE = re.compile(r"[0-9a-f]{12}-\d{1,19}(?:-\d{1,4})?")
_FILE = re.compile(rf"[A-Za-z0-9_-]{{1,80}}/{_SAMPLE.pattern}\.(?:png|jpg|webp)")
_TRUE = (True, "yes", "true", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What goes into the set."""

    per_class: int = 100  #: newest samples of each class that stay
    truth: str = "ground_truth"  #: metadata key of the class; frames without it are left out
    consent: str = "consent"  #: metadata key that lets a frame be used
    slice_by: str = "camera"  #: metadata key whose values are to be balanced


@dataclass(slots=True)
class Rotated:
    """What one export did."""

    added: int = 0
    removed: int = 0  #: older samples that made room
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  #: frames or pictures, by reason
    problems: list[tuple[str, str]] = field(default_factory=list)  #: bundles that cannot be read
    classes: Counter[str] = field(default_factory=Counter)  #: samples in the set now
    slices: Counter[str] = field(default_factory=Counter)


def export_samples(entries: Iterable[Entry], folder: Path, wanted: Wanted, opening: Opening) -> Rotated:
    """Bring a directory up to date, with ``samples.jsonl`` and ``classes.json``; only files of its own are removed.

    Files are named as `replay.export.imagefolder` names them.

    Args:
        entries: incidents, any order.
        folder: made when it is not there.
        wanted: what goes in.
        opening: how bundles are opened.

    Raises:
        BundleUnavailable: the directory cannot be written.
    """
    done = Rotated()
    was = {row["file"]: row for row in _index(folder)}
    kept = {file: row for file, row in was.items() if (folder / file).is_file()}  # what is missing comes again
    before = set(kept)
    earlier: dict[str, list[str]] = {}
    for file in before:
        earlier.setdefault(_sample_of(file), []).append(file)
    places: dict[str, tuple[Entry, Image]] = {}
    for entry in entries:
        if entry.labels.get("consent", "yes") != "yes":
            done.left_out["no consent"] += entry.frames
            kept = {file: row for file, row in kept.items() if not _sample_of(file).startswith(f"{entry.bundle[:12]}-")}
            continue
        for sample in _samples(entry, wanted, opening, done):
            for file in earlier.get(sample.name, ()):
                kept.pop(file, None)  # consent was taken away, or another metadata key is its class now
            if sample.row is not None:
                file = sample.row["file"]
                kept[file], places[file] = sample.row, (entry, sample.image)
    chosen = {row["file"]: row for row in _balanced(kept.values(), wanted.per_class)}
    with Folder(folder, force=True) as target:
        # First, so that whoever is interrupted leaves no picture behind that no later export would remove.
        target.write("", INDEX, _lines((was | chosen).values()))
        missing = {file: places[file] for file in chosen if file not in before}
        for file, content in _contents(missing, opening, done):
            place, _, name = file.partition("/")
            target.write(place, name, [content])
            del missing[file]
        for file in missing:
            del chosen[file]
        for file in before - chosen.keys():
            _remove(folder, file)
        target.write("", INDEX, _lines(chosen.values()))
        folders = {file.partition("/")[0]: row["class"] for file, row in chosen.items()}
        target.write("", CLASSES, [classes_json(folders)])
    done.added, done.removed, done.kept = len(chosen.keys() - before), len(before - chosen.keys()), len(chosen)
    done.left_out = +done.left_out
    done.classes = Counter(row["class"] for row in chosen.values())
    done.slices = Counter(row["slice"] for row in chosen.values())
    return done


def _lines(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    return (json.dumps(row, ensure_ascii=True, sort_keys=True).encode() + b"\n" for row in rows)


@dataclass(frozen=True, slots=True)
class _Sample:
    """A picture that an incident has."""

    name: str  #: of its file, without folder and suffix
    row: dict[str, Any] | None  #: of the index; None: it may not be used
    image: Image


def _samples(entry: Entry, wanted: Wanted, opening: Opening, done: Rotated) -> Iterator[_Sample]:
    """What an incident offers, by its manifest alone, and what it does not allow."""
    try:
        with opening.open(entry.path) as bundle:
            if bundle.id != entry.bundle:
                raise BundleError("it is another bundle than was catalogued; `replay catalog add` its directory again")
            for frame in bundle.manifest.frames:
                why = _refused(entry, frame, wanted)
                done.left_out[why] += bool(why)
                if not frame.images and not why:
                    done.left_out["no picture"] += 1
                for number, image in enumerate(frame.images):
                    name = sample_name(bundle.id, frame.id, number)
                    redacted = was_redacted(bundle.manifest, image.name)
                    done.left_out["redacted"] += redacted and not why
                    allowed = not why and not redacted
                    row = _row(entry, frame, image, name, wanted) if allowed else None
                    yield _Sample(name, row, image)
    except BundleError as error:
        done.problems.append((entry.path, inert(error, 300)))


def _refused(entry: Entry, frame: Frame, wanted: Wanted) -> str:
    """Why a frame may not go in; "" when it may."""
    if entry.labels.get("consent") != "yes" and frame.metadata.get(wanted.consent) not in _TRUE:
        return "no consent"
    truth = frame.metadata.get(wanted.truth)
    return "no known class" if truth is None or isinstance(truth, dict | list) else ""


def _row(entry: Entry, frame: Frame, image: Image, name: str, wanted: Wanted) -> dict[str, Any]:
    kind, part = str(frame.metadata[wanted.truth]), frame.metadata.get(wanted.slice_by)
    return {
        "file": f"{plain_name(kind)}/{name}{suffix_of(image)}",
        "class": kind,
        "slice": inert("" if part is None else part, 60),
        "bundle": entry.bundle,
        "frame": frame.id,
        "time_ns": frame.time_ns,
    }


def _balanced(rows: Iterable[dict[str, Any]], per_class: int) -> Iterator[dict[str, Any]]:
    """Of each class so many: the newest of each slice, then the second newest of each, and so on."""
    ranks: Counter[tuple[str, str]] = Counter()
    ranked = []
    for row in sorted(rows, key=lambda row: (-row["time_ns"], row["file"])):
        ranked.append((ranks[row["class"], row["slice"]], row))
        ranks[row["class"], row["slice"]] += 1
    counts: Counter[str] = Counter()
    for _, row in sorted(ranked, key=lambda each: each[0]):
        counts[row["class"]] += 1
        if counts[row["class"]] <= per_class:
            yield row


def _contents(
    wanted: Mapping[str, tuple[Entry, Image]], opening: Opening, done: Rotated
) -> Iterator[tuple[str, bytes]]:
    """Yield files with their content, one bundle after the other; those that cannot be had are counted or named."""
    exported = Exported(left_out=done.left_out)
    ordered = sorted(wanted.items(), key=lambda each: each[1][0].path)
    for entry, group in groupby(ordered, lambda each: each[1][0]):
        try:
            with opening.open(entry.path) as bundle:
                for file, (_, image) in group:
                    content = original_file(bundle, image, exported)
                    if content is not None:
                        yield file, content
        except BundleError as error:
            done.problems.append((entry.path, inert(error, 300)))


def _index(folder: Path) -> Iterator[dict[str, Any]]:
    """The samples of earlier exports; lines that are none of ours are passed over."""
    path = folder / INDEX
    if not path.is_file() or path.stat().st_size > _MAX_INDEX_BYTES:
        return
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            match json.loads(line):
                case {"file": str() as file, "class": str(), "slice": str(), "time_ns": int()} as row:
                    if _FILE.fullmatch(file):
                        yield dict(row)


def _sample_of(file: str) -> str:
    return file.partition("/")[2].partition(".")[0]


def _remove(folder: Path, file: str) -> None:
    """``file`` is of the form that `_index` lets through."""
    parent = folder / file.partition("/")[0]
    if not parent.is_symlink():
        (folder / file).unlink(missing_ok=True)
