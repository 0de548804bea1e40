"""Pictures for labelling and for measuring: COCO's annotations, and predictions as COCO's results.

Data and results formats: cocodataset.org. Annotations have no score: they are what is right, or what a person starts
from. Predictions have one, and all of them are there: an average precision needs the unsure ones too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.manifest import Image
from replay.compare.layout import Array
from replay.export.labels import label_of
from replay.export.pictures import Screen
from replay.export.placing import placed_boxes, placed_instances, placed_mask
from replay.export.run_lengths import compressed, run_lengths
from replay.export.source import Shot, Source
from replay.show.text import inert, iso

__all__ = ["ANNOTATIONS", "RESULTS", "coco"]

ANNOTATIONS = "annotations.json"
#: By COCOeval's ``iouType``.
RESULTS = {"bbox": "predictions-bbox.json", "segm": "predictions-segm.json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """Something in a picture."""

    key: int | str  #: its class, by index or, where none is known, by name
    box: list[float]  #: left, top, width, height
    score: float | None = None
    outline: _Outline | None = None  #: of its mask, as large as the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outline:
    """A mask, as small as it is kept until all are written: as pixels those of a minute would take gigabytes."""

    runs: NDArray[np.uint32]
    height: int
    width: int
    area: int  #: pixels

    @classmethod
    def of(cls, inside: NDArray[np.bool_]) -> _Outline:
        height, width = inside.shape
        runs = np.asarray(run_lengths(inside), np.uint32)
        return cls(runs=runs, height=height, width=width, area=int(inside.sum()))


def coco(sources: Sequence[Source], out: Path) -> None:
    """Write ``images/``, ``annotations.json`` and, where something was predicted, ``predictions-bbox|segm.json``.

    Objects are boxes, with a mask each where the model gave one, masks of each class but 0, the background, or the
    whole picture for its class.

    Args:
        sources: the frames.
        out: a directory that is there and empty.
    """
    (out / "images").mkdir()
    images: list[dict[str, Any]] = []
    labels: list[tuple[int, str, _Object]] = []
    predictions: list[tuple[int, _Object]] = []
    for source in sources:
        screen = Screen(source)
        for shot in source.shots():
            for number, image in enumerate(shot.images):
                picture = screen.png(shot.frame.stream, image)
                if picture is None:
                    continue
                source.exported.images += 1
                name = f"{shot.name(number)}.png"
                with (out / "images" / name).open("xb") as file:
                    file.write(picture)
                images.append(_image(len(images) + 1, name, shot, image))
                if number:
                    source.exported.left_out["objects of a frame's further pictures, which nothing tells apart"] += 1
                    continue
                found = _predicted(shot, image)
                predictions += [(len(images), each) for each in found or ()]
                labels += [(len(images), origin, each) for origin, each in _labelled(shot, image, found)]
    names = sources[0].options.names
    numbers = _numbers([*names, *(each.key for _, _, each in labels), *(each.key for _, each in predictions)])
    document = {
        "info": {"description": "frames of incidents", "bundles": [source.bundle.id for source in sources]},
        "images": images,
        "annotations": [
            {"id": number, "image_id": image, **_annotation(each, numbers), "source": origin}
            for number, (image, origin, each) in enumerate(labels, 1)
        ],
        "categories": [{"id": number, "name": names.text(key)} for key, number in numbers.items()],
    }
    _write(out / ANNOTATIONS, document)
    unscored = sum(each.score is None for _, each in predictions)
    sources[0].exported.left_out["prediction without a score, which results need"] += unscored
    for kind, file_name in RESULTS.items():
        results = [
            {"image_id": image, **_result(kind, each, numbers)}
            for image, each in predictions
            if each.score is not None and (kind == "bbox" or each.outline is not None)
        ]
        if results:
            _write(out / file_name, results)


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")


def _image(number: int, name: str, shot: Shot, image: Image) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": name,
        "width": image.width,
        "height": image.height,
        "date_captured": iso(shot.frame.time_ns),
        "bundle": shot.source.bundle.id,
        "frame": shot.frame.id,
        "stream": inert(shot.frame.stream, 200),
    }


def _numbers(keys: Sequence[int | str]) -> dict[int | str, int]:
    """Category ids: a model's own indices; names without one come after them."""
    indices = sorted({key for key in keys if isinstance(key, int)})
    names = sorted({key for key in keys if isinstance(key, str)})
    first = max(indices, default=0) + 1
    return {**{key: key for key in indices}, **{name: first + place for place, name in enumerate(names)}}


def _annotation(each: _Object, numbers: dict[int | str, int]) -> dict[str, Any]:
    segmentation: Any = []
    area = each.box[2] * each.box[3]
    if (outline := each.outline) is not None:
        segmentation = {"counts": outline.runs.tolist(), "size": [outline.height, outline.width]}
        area = float(outline.area)
    shape = {"bbox": each.box, "area": area, "segmentation": segmentation}
    return {"category_id": numbers[each.key], **shape, "iscrowd": 0}


def _result(kind: str, each: _Object, numbers: dict[int | str, int]) -> dict[str, Any]:
    """Results with masks have no ``bbox``: pycocotools would take them for boxes."""
    if kind == "bbox" or (outline := each.outline) is None:
        return {"category_id": numbers[each.key], "bbox": each.box, "score": each.score}
    segmentation = {"counts": compressed(outline.runs.tolist()), "size": [outline.height, outline.width]}
    return {"category_id": numbers[each.key], "segmentation": segmentation, "score": each.score}


def _labelled(shot: Shot, image: Image, found: Sequence[_Object] | None) -> Iterator[tuple[str, _Object]]:
    """What goes into the annotations, with where it is from. ``found`` is None where nothing could be told."""
    options, exported = shot.source.options, shot.source.exported
    known = label_of(shot, image)
    if known.is_known:
        exported.labels["truth"] += 1
        if known.whole is not None:
            yield "truth", _Object(key=known.whole, box=[0.0, 0.0, float(image.width), float(image.height)])
        for key, (left, top, right, bottom) in known.boxes:
            yield "truth", _Object(key=key, box=[left, top, right - left, bottom - top])
        return
    if options.by == "truth-only" or shot.reading is None or found is None:
        exported.labels["none"] += 1
        return
    exported.labels["prediction"] += 1
    for each in found:
        if shot.reading.found is not None and each.score is not None and each.score < options.least_score:
            exported.left_out[f"box below the score {options.least_score:g}, which is in the predictions only"] += 1
        else:
            yield "prediction", each


def _predicted(shot: Shot, image: Image) -> list[_Object] | None:
    """What was found in a picture; None where nobody looked, or where in the picture cannot be told."""
    reading = shot.reading
    if reading is not None and reading.winner is not None:
        whole = [0.0, 0.0, float(image.width), float(image.height)]
        return [_Object(key=reading.winner, box=whole, score=reading.confidence)]
    placed = placed_mask(shot, image)
    if placed is not None:
        shot.source.exported.left_out["mask of class 0, the background"] += bool((placed[0] == 0).any())
        return list(_masks(*placed))
    boxes = placed_boxes(shot, image)
    if boxes is None:
        return None
    keys = [shot.source.options.names.key_of(int(label)) for label in boxes.labels.tolist()]
    masks = None if boxes.masks is None else placed_instances(shot, image, boxes.masks)
    insides: Iterator[Array | None] = repeat(None, len(keys)) if masks is None else masks
    return [
        _Object(
            key=key,
            box=[left, top, right - left, bottom - top],
            score=score,
            outline=_Outline.of(inside) if inside is not None and inside.any() else None,
        )
        for key, (left, top, right, bottom), score, inside in zip(
            keys, boxes.corners.tolist(), boxes.scores.tolist(), insides, strict=True
        )
    ]


def _masks(mask: Array, sureness: Array) -> Iterator[_Object]:
    """One object for each class but the background, as sure as its pixels are on average."""
    for each in np.unique(mask[mask > 0]).tolist():
        inside = mask == each
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        box = [float(columns[0]), float(rows[0]), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)]
        score = float(sureness[inside].mean())
        sure = score if math.isfinite(score) else None
        yield _Object(key=int(each), box=box, score=sure, outline=_Outline.of(inside))
