"""Each format is read back by a reader that is not ours."""

from __future__ import annotations

import base64
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from mcap.reader import make_reader
from PIL import Image as pil

from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import MappingValue
from recorder.bundle.writer import BundleWriter
from tests.bundles import small_bundle, store_array
from tests.cli.conftest import Run, replay

__all__ = ["replay"]  # a fixture

BOXES = np.asarray([[2, 3, 20, 30], [5, 5, 9, 9]], np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames: a class each, boxes in the third, a mask in the fourth, metadata that wants to be a path."""
    directory = tmp_path_factory.mktemp("bundles")
    plain = small_bundle(directory / "plain.zst")

    def transform(manifest: Manifest, writer: BundleWriter) -> Manifest:
        mask = np.zeros((1, 2, 48, 64), np.float32)
        mask[0, 1, 10:20, 30:50] = 5
        found = {"boxes": BOXES, "scores": np.asarray([0.9, 0.2], np.float32), "labels": np.asarray([7, 1])}
        outputs = {
            3: MappingValue(items=tuple((name, store_array(writer, array)) for name, array in found.items())),
            4: store_array(writer, mask),
        }
        frames = [replace(frame, output=outputs.get(frame.id, frame.output)) for frame in manifest.frames]
        frames[0] = replace(frames[0], metadata={**frames[0].metadata, "ground_truth": "../../etc/x"})
        frames[1] = replace(frames[1], stream="../\x1b[31mcam")
        return replace(manifest, frames=tuple(frames))

    with Bundle.open(plain) as bundle:
        rewrite(bundle, directory / "a.zst", operation="pack", transform=transform)
    return directory / "a.zst"


def pictures(path: Path) -> dict[int, Any]:
    with Bundle.open(path) as bundle:
        return {frame.id: np.asarray(bundle.pixels(frame.images[0])) for frame in bundle.manifest.frames}


def test_folders_of_classes_hold_the_recorded_pixels(path: Path, tmp_path: Path, replay: Run) -> None:
    done = replay("export", str(path), "--to", "imagefolder", "-o", str(tmp_path / "set"), "--json")
    assert done.code == 0 and done.json()["images"] == 4 and done.json()["left_out"] == {}
    files = sorted((tmp_path / "set").rglob("*.png"))
    assert len(files) == 4 and all(file.parent.parent == tmp_path / "set" for file in files)
    assert "etc_x" in {file.parent.name for file in files}
    for file in files:
        number = int(file.stem.rpartition("-")[2])
        assert np.array_equal(np.asarray(pil.open(file)), pictures(path)[number])


def test_coco_has_boxes_and_masks_where_they_were_found(path: Path, tmp_path: Path, replay: Run) -> None:
    assert replay("export", str(path), "--to", "coco", "-o", str(tmp_path / "set")).code == 0
    document = json.loads((tmp_path / "set" / "annotations.json").read_text())
    by_image = {number: [a for a in document["annotations"] if a["image_id"] == number] for number in (1, 3, 4)}
    [box] = by_image[3]
    assert (box["category_id"], box["bbox"], box["iscrowd"]) == (7, [2, 3, 18, 27], 0) and box["score"] > 0.89
    [mask] = by_image[4]
    assert mask["bbox"] == [30, 10, 20, 10] and mask["area"] == 200 and mask["iscrowd"] == 1
    height, width = mask["segmentation"]["size"]
    flat = np.repeat(np.arange(len(mask["segmentation"]["counts"])) % 2, mask["segmentation"]["counts"])
    decoded = flat.reshape((height, width), order="F")
    assert decoded[10:20, 30:50].all() and decoded.sum() == 200
    [whole] = by_image[1]
    assert whole["bbox"] == [0, 0, 64, 48]
    assert {each["id"] for each in document["categories"]} == {a["category_id"] for a in document["annotations"]}
    for image in document["images"]:
        with pil.open(tmp_path / "set" / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])


def test_tables_have_a_row_a_frame(path: Path, tmp_path: Path, replay: Run) -> None:
    assert replay("export", str(path), "--to", "parquet", "-o", str(tmp_path / "t"), "--frames", "1,3").code == 0
    table = pyarrow.parquet.read_table(tmp_path / "t" / "frames.parquet").to_pydict()
    assert table["frame"] == [1, 3] and table["task"] == ["classification", "detection"]
    assert table["metadata.camera"] == ["line-3", "line-3"] and table["metadata.ground_truth"] == ["../../etc/x", None]
    golden = Path(__file__).parents[1] / "golden"
    tracked = next(each for each in sorted(golden.rglob("*.zst")) if _has_track(each))
    assert replay("export", str(tracked), "--to", "parquet", "-o", str(tmp_path / "g")).code == 0
    assert pyarrow.parquet.read_table(tmp_path / "g" / "track.parquet").num_rows > 0


def _has_track(path: Path) -> bool:
    try:
        with Bundle.open(path) as bundle:
            return bundle.manifest.track is not None
    except Exception:  # noqa: BLE001 - encrypted ones
        return False


def test_mcap_holds_images_frames_and_triggers_in_their_time(path: Path, tmp_path: Path, replay: Run) -> None:
    out = tmp_path / "a.mcap"
    assert replay("export", str(path), "--to", "mcap", "-o", str(out)).code == 0
    with out.open("rb") as file:
        found = [(channel.topic, message) for _, channel, message in make_reader(file).iter_messages()]
    topics = {topic for topic, _ in found}
    assert "/triggers" in topics and "/line-3/image" in topics and not any("\x1b" in t or ".." in t for t in topics)
    times = [message.log_time for _, message in found]
    assert times == sorted(times)
    first = json.loads(next(message.data for topic, message in found if topic == "/line-3/image"))
    picture = np.asarray(pil.open(io.BytesIO(base64.b64decode(first["data"]))))
    assert np.array_equal(picture, pictures(path)[1])


def test_rerun_reads_its_recording(path: Path, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is written into the home directory."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    out = tmp_path / "a.rrd"
    assert replay("export", str(path), "--to", "rrd", "-o", str(out)).code == 0
    assert out.read_bytes()[:4] in (b"RRF2", b"RRIO", b"RRF3") and out.stat().st_size > 1000
    from rerun.chunk import RrdReader

    entities = {str(chunk.entity_path) for chunk in RrdReader(out).stream().to_chunks()}
    assert {"/line-3/image", "/line-3/image/boxes", "/triggers"} <= entities
    assert not list(home.rglob("*")) and os.environ["RERUN_ANALYTICS"] == "0"


def test_nothing_is_overwritten_and_nothing_half_done_is_left(path: Path, tmp_path: Path, replay: Run) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    for words, code in (
        (["--to", "coco", "-o", str(taken)], 2),
        (["--to", "coco", "-o", str(tmp_path / "no" / "where")], 2),
        (["--to", "gif", "-o", str(tmp_path / "x")], 2),
        (["--to", "coco", "-o", str(tmp_path / "x"), "--frames", "99"], 2),
    ):
        ended = replay("export", str(path), *words)
        assert ended.code == code and "Traceback" not in ended.err, ended.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["taken"]


def test_a_missing_package_is_named_with_the_remedy(
    path: Path, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    ended = replay("export", str(path), "--to", "parquet", "-o", str(tmp_path / "x"))
    assert ended.code == 3 and "pip install 'vision-flight-recorder[export]'" in ended.err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", ["coco", "mcap", "rrd"])
def test_what_appears_meanwhile_is_left_alone(path: Path, tmp_path: Path, form: str) -> None:
    """The place was free when the command looked."""
    from replay.commands.export import _write
    from replay.export.source import Exported, Source

    out = tmp_path / "out"
    if form == "coco":
        out.mkdir()
        (out / "theirs").write_text("keep")
    else:
        out.write_text("keep")
    with Bundle.open(path) as bundle, pytest.raises(FileExistsError):
        _write(form, Source(bundle, None, Exported()), out, str(path), "ground_truth", "truth")
    assert (out / "theirs" if form == "coco" else out).read_text() == "keep"
