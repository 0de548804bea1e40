"""Pictures for labelling and validation: one folder a class, or COCO's annotations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pil

from recorder.bundle import png
from replay.compare.reading import Reading
from replay.export.source import Shot, Source, to_eight_bits
from replay.show.text import inert, iso

__all__ = ["coco", "imagefolder"]

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NO_CLASS = "unknown"


def imagefolder(source: Source, out: Path, truth: str, by: str) -> None:
    """Write ``CLASS/INCIDENT-FRAME.png``: pixels as they were recorded, of 8 or 16 bits.

    Args:
        source: the frames.
        out: a directory that is there and empty.
        truth: metadata key of the right class.
        by: "truth" (else the model's class), or "prediction".
    """
    incident = source.bundle.manifest.incident.id[:12]
    for shot in source.shots():
        pixels = source.pixels(shot.image) if shot.image is not None else None
        if pixels is None:
            continue
        folder = out / _folder(shot, truth, by)
        folder.mkdir(exist_ok=True)
        (folder / f"{incident}-{shot.frame.id}.png").write_bytes(png.encode(pixels))


def _folder(shot: Shot, truth: str, by: str) -> str:
    """The class as a name that leads nowhere else: letters, digits, dash and underscore."""
    known = shot.frame.metadata.get(truth) if by == "truth" else None
    if known is None and shot.reading is not None and shot.reading.winner is not None:
        known = shot.reading.winner
    name = "" if known is None or isinstance(known, dict | list) else _UNSAFE.sub("_", str(known))[:80].strip("_")
    return name or _NO_CLASS


def coco(source: Source, out: Path) -> None:
    """Write ``annotations.json`` and ``images/`` after the data format of cocodataset.org.

    What was decided becomes annotations with a ``score``: boxes, masks of each class but the largest (uncompressed
    RLE), or the class of the whole picture.
    """
    images_directory = out / "images"
    images_directory.mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[int, str] = {}
    incident = source.bundle.manifest.incident
    for shot in source.shots():
        pixels = source.pixels(shot.image) if shot.image is not None else None
        if pixels is None:
            continue
        name = f"{incident.id[:12]}-{shot.frame.id}.png"
        picture = to_eight_bits(pixels)
        picture.save(images_directory / name)
        images.append(
            {
                "id": shot.frame.id,
                "file_name": name,
                "width": picture.width,
                "height": picture.height,
                "date_captured": iso(shot.frame.time_ns),
                "stream": inert(shot.frame.stream, 200),
            }
        )
        if shot.reading is not None:
            for category, box, segmentation, score in _objects(shot.reading, picture):
                categories.setdefault(category, f"class {category}")
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": shot.frame.id,
                        "category_id": category,
                        "bbox": box,
                        "area": float(box[2] * box[3]) if segmentation is None else segmentation["area"],
                        "iscrowd": 0 if segmentation is None else 1,
                        "segmentation": [] if segmentation is None else segmentation["rle"],
                        "score": score,
                    }
                )
    document = {
        "info": {"description": f"incident {incident.id}", "bundle": source.bundle.id},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in sorted(categories.items())],
    }
    (out / "annotations.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")


_Object = tuple[int, list[float], "dict[str, Any] | None", float | None]


def _objects(reading: Reading, picture: pil.Image) -> list[_Object]:
    """Category, box (x, y, width, height), mask and score."""
    whole = [0.0, 0.0, float(picture.width), float(picture.height)]
    if reading.boxes is not None and reading.labels is not None and reading.scores is not None:
        found: list[_Object] = []
        for (left, top, right, bottom), label, score in zip(
            reading.boxes.tolist(), reading.labels.tolist(), reading.scores.tolist(), strict=True
        ):
            if np.isfinite([left, top, right, bottom, label, score]).all():
                found.append((int(label), [left, top, right - left, bottom - top], None, float(score)))
        return found
    if reading.mask is not None:
        return _masks(reading.mask, picture)
    if reading.winner is not None:
        return [(reading.winner, whole, None, reading.confidence)]
    return []


def _masks(mask: NDArray[Any], picture: pil.Image) -> list[_Object]:
    """A mask as large as the picture, one object for each class but the largest."""
    if mask.shape != (picture.height, picture.width):
        scaled = pil.fromarray(mask.astype(np.int32)).resize((picture.width, picture.height), pil.Resampling.NEAREST)
        mask = np.asarray(scaled)
    classes, counts = np.unique(mask, return_counts=True)
    found: list[_Object] = []
    for each in classes[np.argsort(-counts)][1:].tolist():
        inside = mask == each
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        box = [float(columns[0]), float(rows[0]), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)]
        rle = {"counts": _run_lengths(inside), "size": [picture.height, picture.width]}
        found.append((int(each), box, {"rle": rle, "area": float(inside.sum())}, None))
    return found


def _run_lengths(inside: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths: down the columns, beginning with what is outside."""
    flat = inside.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return [0, *runs] if flat[0] else runs
