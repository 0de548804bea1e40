"""COCO's own tools read what is exported, and boxes lie where they were seen."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pil
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rerun.chunk import RrdReader

from recorder.bundle.manifest import Manifest
from recorder.bundle.values import MappingValue, ScalarValue, SequenceValue
from recorder.bundle.writer import BundleWriter
from tests.bundles import store_array
from tests.cli.conftest import Run, replay
from tests.export.conftest import FOUND, detected, made, mapping, path, pictures

__all__ = ["path", "replay"]  # fixtures

#: numpy 2 tells pycocotools, in whose compiled part nobody can change it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def exported(replay: Run, path: Path, out: Path, *words: str) -> dict[str, Any]:
    done = replay("export", path, "--to", "coco", "-o", out, "--json", *words)
    assert done.code == 0, done.err
    return done.json()


def precision(out: Path, kind: str) -> float:
    """Mean average precision of the predictions against the annotations."""
    truth = COCO(str(out / "annotations.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(out / f"predictions-{kind}.json")), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def test_coco_has_boxes_masks_and_classes(path: Path, tmp_path: Path, replay: Run) -> None:
    """Annotations have no score; pycocotools decodes the masks."""
    told = exported(replay, path, tmp_path / "set")
    data = COCO(str(tmp_path / "set" / "annotations.json"))
    images = {image["frame"]: image for image in data.dataset["images"]}
    of = {number: data.imgToAnns[image["id"]] for number, image in images.items()}
    [box] = of[3]
    assert (box["category_id"], box["bbox"], box["area"], box["source"]) == (7, [2, 3, 18, 27], 18 * 27, "prediction")
    [mask] = of[4]
    assert mask["bbox"] == [30, 10, 20, 10] and mask["area"] == 200
    decoded = data.annToMask(mask)
    assert decoded[10:20, 30:50].all() and decoded.sum() == 200
    [named] = of[1]
    assert named["bbox"] == [0, 0, 64, 48] and named["source"] == "truth"
    assert data.cats[named["category_id"]]["name"] == "../../etc/x"
    assert not any("score" in each or each["iscrowd"] for each in data.dataset["annotations"])
    assert told["labels"] == {"truth": 1, "prediction": 3}
    assert told["left_out"]["box below the score 0.5, which is in the predictions only"] == 1
    for number, recorded in pictures(path).items():
        image = images[number]
        with pil.open(tmp_path / "set" / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (64, 48)
            assert np.array_equal(np.asarray(picture), recorded)


def test_predictions_are_results_that_cocoeval_takes(path: Path, tmp_path: Path, replay: Run) -> None:
    """All of them, the unsure ones too; of masks as boxes and as masks."""
    exported(replay, path, tmp_path / "set", "--by", "prediction")
    results = json.loads((tmp_path / "set" / "predictions-bbox.json").read_text())
    assert [each["score"] for each in results if each["image_id"] == 3] == pytest.approx([0.9, 0.2])
    assert precision(tmp_path / "set", "bbox") == pytest.approx(1)
    exported(replay, path, tmp_path / "masks", "--by", "prediction", "--frames", "4")
    assert precision(tmp_path / "masks", "bbox") == pytest.approx(1) == precision(tmp_path / "masks", "segm")


def test_predictions_are_measured_against_true_boxes_of_the_metadata(tmp_path: Path, replay: Run) -> None:
    """Classes by name; a frame without truth is no annotation."""

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        truth = {"boxes": [[2, 3, 20, 30], [60, 40, 90, 90], [99, 0, 120, 9]], "labels": ["scratch", 1, 1]}
        answers = [mapping(writer, FOUND) for _ in manifest.frames]
        frames = [replace(frame, output=answer) for frame, answer in zip(manifest.frames, answers, strict=True)]
        frames[0] = replace(frames[0], metadata={"ground_truth": truth})
        frames[1] = replace(frames[1], metadata={"ground_truth": {"boxes": [[1, 2]], "labels": []}})
        return replace(manifest, frames=tuple(frames))

    (tmp_path / "names.txt").write_text("ok\ndent\n" + "-\n" * 5 + "scratch\n")
    words = ("--by", "truth-only", "--labels", str(tmp_path / "names.txt"))
    told = exported(replay, made(tmp_path / "b" / "a.zst", change), tmp_path / "set", *words)
    assert told["labels"] == {"truth": 1, "none": 3}
    assert told["left_out"]["true box without area inside its picture"] == 1
    assert told["left_out"]["truth that is neither a class nor boxes with labels"] == 1
    document = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert [(each["category_id"], each["bbox"]) for each in document["annotations"]] == [
        (7, [2, 3, 18, 27]),
        (1, [60, 40, 4, 8]),
    ]
    assert {"id": 7, "name": "scratch"} in document["categories"]
    assert 0.2 < precision(tmp_path / "set", "bbox") < 0.8


@pytest.mark.parametrize(
    ("size", "said", "expected"),
    [
        ((64, 48), None, [8, 12, 24, 24]),  # the model's input is as large as the picture
        ((32, 24), None, [16, 24, 48, 48]),  # half of it
        ((64, 64), None, None),  # stretched, or with borders? nobody knows
        ((64, 64), "image", [8, 12, 24, 24]),
        ((64, 64), "input-stretched", [8, 9, 24, 18]),
        ((64, 64), "input-letterboxed", [8, 4, 24, 16]),  # eight rows above and below
        ((64, 64), "input-padded", [8, 12, 24, 24]),  # sixteen rows below
        ((128, 128), "input-letterboxed", [4, 0, 12, 4]),
    ],
)
def test_a_models_boxes_are_placed_or_left_out(
    tmp_path: Path, replay: Run, size: tuple[int, int], said: str | None, expected: list[float] | None
) -> None:
    """Corners of one box in the model's input: 8 12 24 24."""
    boxes = np.asarray([[8, 12, 24, 24]], np.float32)
    bundle = made(tmp_path / "b" / "a.zst", lambda manifest, writer: detected(writer, manifest, size, boxes))
    told = exported(replay, bundle, tmp_path / "set", *(["--boxes-in", said] if said else []))
    document = json.loads((tmp_path / "set" / "annotations.json").read_text())
    found = [[left, top, left + w, top + h] for left, top, w, h in (each["bbox"] for each in document["annotations"])]
    assert found == ([] if expected is None else [expected])
    unplaced = [count for reason, count in told["left_out"].items() if "--boxes-in" in reason]
    assert unplaced == ([1] if expected is None else [])
    assert told["labels"] == {"prediction" if expected else "none": 1}
    assert (told["changed"] != {}) == (size == (32, 24) or size == (128, 128))


def test_fractions_are_not_taken_for_pixels(tmp_path: Path, replay: Run) -> None:
    boxes = np.asarray([[0.25, 0.25, 0.5, 1.02], [0.5, 0.5, 0.5, 0.75], [np.nan, 0, 1, 1]], np.float32)
    bundle = made(tmp_path / "b" / "a.zst", lambda manifest, writer: detected(writer, manifest, (64, 48), boxes))
    told = exported(replay, bundle, tmp_path / "set")
    assert told["left_out"]["box that may be in fractions of its picture: say --boxes-in fractions, or image"] == 2
    assert told["left_out"]["box that is not finite"] == 1
    told = exported(replay, bundle, tmp_path / "two", "--boxes-in", "fractions")
    [only] = json.loads((tmp_path / "two" / "annotations.json").read_text())["annotations"]
    assert only["bbox"] == [16, 12, 16, 36] and told["changed"]["box clipped to its picture"] == 1
    assert told["left_out"]["box without area inside its picture"] == 1


def test_a_mask_of_a_letterboxed_input_is_cut_to_the_picture(tmp_path: Path, replay: Run) -> None:
    """The model sees 32 x 32, of which the picture takes the middle 24 rows; its mask is as coarse as half of that."""

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        only = detected(writer, manifest, (32, 32), np.zeros((0, 4), np.float32))
        scores = np.zeros((1, 3, 16, 16), np.float32)
        scores[0, 2, 2:4, :8] = 9  # the upper left corner of what is picture
        return replace(only, calls=(replace(only.calls[0], output=store_array(writer, scores)),))

    bundle = made(tmp_path / "b" / "a.zst", change)
    told = exported(replay, bundle, tmp_path / "none")
    assert [count for reason, count in told["left_out"].items() if reason.startswith("mask in the model")] == [1]
    exported(replay, bundle, tmp_path / "set", "--boxes-in", "input-letterboxed")
    data = COCO(str(tmp_path / "set" / "annotations.json"))
    [mask] = data.dataset["annotations"]
    assert mask["category_id"] == 2 and mask["bbox"] == [0, 0, 32, 8] and data.annToMask(mask).sum() == 32 * 8


@pytest.mark.parametrize(("dtype", "dimensions"), [(np.float32, 4), (np.uint8, 3)])
def test_masks_of_objects_lie_where_their_boxes_do(
    tmp_path: Path, replay: Run, dtype: type[np.generic], dimensions: int
) -> None:
    """As Mask R-CNN gives them, in an input of half the picture's size; what is above one half is inside."""
    boxes = np.asarray([[2, 2, 10, 8], [20, 4, 40, 20]], np.float32)  # the second goes beyond the picture

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        only = detected(writer, manifest, (32, 24), boxes)
        masks = np.zeros((2, 1, 24, 32), dtype)
        masks[0, 0, 3:7, 3:9] = 1
        masks[1, 0, 4:20, 20:] = 1
        if dtype is np.float32:
            masks[0, 0, 2, 3:9] = 0.5  # undecided is outside
        answer = only.calls[0].output
        assert isinstance(answer, MappingValue)
        stored = store_array(writer, masks if dimensions == 4 else masks[:, 0])
        answer = replace(answer, items=(*answer.items, ("masks", stored)))
        return replace(only, calls=(replace(only.calls[0], output=answer),))

    bundle = made(tmp_path / "b" / "a.zst", change)
    told = exported(replay, bundle, tmp_path / "set")
    data = COCO(str(tmp_path / "set" / "annotations.json"))
    first, second = data.dataset["annotations"]
    assert first["bbox"] == [4, 4, 16, 12] and first["area"] == 8 * 12
    assert data.annToMask(first)[6:14, 6:18].all() and data.annToMask(first).sum() == 8 * 12
    assert second["bbox"] == [40, 8, 24, 32] and data.annToMask(second)[8:40, 40:].all()
    assert told["changed"]["answer scaled from a model's input that has the picture's aspect"] == 1
    results = json.loads((tmp_path / "set" / "predictions-segm.json").read_text())
    assert [each["score"] for each in results] == pytest.approx([0.9, 0.6])
    assert precision(tmp_path / "set", "segm") == pytest.approx(1) == precision(tmp_path / "set", "bbox")
    assert replay("export", bundle, "--to", "rrd", "-o", tmp_path / "a.rrd").code == 0
    assert "/line-3/image/mask" in {
        str(chunk.entity_path) for chunk in RrdReader(tmp_path / "a.rrd").stream().to_chunks()
    }


def test_a_services_boxes_may_be_lists_of_numbers_and_names(tmp_path: Path, replay: Run) -> None:
    """They are taken before the model's, whose place in the picture nobody knows."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return MappingValue(items=tuple((key, plain(item)) for key, item in value.items()))
        if isinstance(value, list):
            return SequenceValue(form="list", items=tuple(plain(item) for item in value))
        return ScalarValue(value=value)

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        only = detected(writer, manifest, (64, 64), np.ones((3, 4), np.float32))
        found = {"boxes": [[1, 2, 11.5, 22], [3, 3, 9, 9]], "scores": [0.8, 0.7], "labels": ["scratch", "a/b"]}
        return replace(only, frames=(replace(only.frames[0], output=plain({"result": [found]})),))

    told = exported(replay, made(tmp_path / "b" / "a.zst", change), tmp_path / "set")
    data = COCO(str(tmp_path / "set" / "annotations.json"))
    assert told["left_out"] == {} and [each["bbox"] for each in data.dataset["annotations"]] == [
        [1, 2, 10.5, 20],
        [3, 3, 6, 6],
    ]
    named = [data.cats[each["category_id"]]["name"] for each in data.dataset["annotations"]]
    assert named == ["scratch", "a/b"] and set(data.cats) == {1, 2}


def test_scores_that_are_not_finite_break_nothing(tmp_path: Path, replay: Run) -> None:
    """Neither boxes nor masks: what has no score is no prediction, and files hold no NaN."""

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        mask = np.full((1, 3, 48, 64), -np.inf, np.float32)
        mask[0, 2] = np.inf
        boxes = {**FOUND, "scores": np.asarray([np.nan, np.inf], np.float32)}
        outputs = [mapping(writer, boxes), store_array(writer, mask)]
        frames = [replace(frame, output=output) for frame, output in zip(manifest.frames, outputs, strict=True)]
        return replace(manifest, frames=tuple(frames))

    bundle = made(tmp_path / "b" / "a.zst", change, frames=2)
    told = exported(replay, bundle, tmp_path / "set")
    assert told["left_out"] == {"box that is not finite": 2, "prediction without a score, which results need": 1}
    for form in ("mcap", "rrd", "parquet"):
        assert replay("export", bundle, "--to", form, "-o", tmp_path / form).code == 0
    assert b"NaN" not in (tmp_path / "mcap").read_bytes()


def test_masks_are_not_kept_as_pixels(tmp_path: Path, replay: Run) -> None:
    """A minute of a detector's would take gigabytes: 64 frames of 720p with a hundred objects each."""
    boxes = np.tile(np.asarray([[8, 8, 400, 400]], np.float32), (30, 1))

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        only = detected(writer, manifest, (64, 48), boxes)
        masks = np.zeros((30, 48, 64), np.uint8)
        masks[:, 5:30, 5:30] = 1
        answer = only.calls[0].output
        assert isinstance(answer, MappingValue)
        answer = replace(answer, items=(*answer.items, ("masks", store_array(writer, masks))))
        return replace(only, calls=(replace(only.calls[0], output=answer),))

    bundle = made(tmp_path / "b" / "a.zst", change, frames=1, height=480, width=640)
    tracemalloc.start()
    try:
        exported(replay, bundle, tmp_path / "set")
        assert tracemalloc.get_traced_memory()[1] < 9 * 2**20  # as pixels 13
    finally:
        tracemalloc.stop()
    assert len(json.loads((tmp_path / "set" / "predictions-segm.json").read_text())) == 30
