"""Pictures of every kind, several in a frame, of several cameras; and what is not there is counted."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from PIL import Image as pil

from recorder.bundle import Bundle, png
from recorder.bundle.manifest import ImageLeftOut, Manifest, Redaction
from recorder.bundle.values import RemovedValue
from recorder.bundle.writer import BundleWriter
from tests.bundles import picture
from tests.cli.conftest import Run, replay
from tests.export.conftest import made

__all__ = ["replay"]  # a fixture

DEEP = (np.arange(48 * 64).reshape(48, 64) + 1000).astype(np.uint16)  # 12 bits: up to 4071


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame 1: 12 bits of 16; 2: left and right; 3: 16-bit colour of another camera; 4: a JPEG file, and alpha."""

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        random = np.random.default_rng(1)
        file = io.BytesIO()
        pil.fromarray(picture(random, 48, 64)).save(file, "JPEG")
        alpha = np.dstack([picture(random, 48, 64), np.full((48, 64), 9, np.uint8)])
        images: dict[int, tuple[Any, ...]] = {
            1: (writer.image(1, "image", DEEP),),
            2: (writer.image(2, "left/eye", alpha), writer.image(2, "left eye", DEEP // 2)),
            3: (writer.image(3, "image", np.dstack([DEEP * 16] * 3)),),
            4: (writer.encoded_image(4, "image", file.getvalue()),),
        }
        streams = {1: "line 3", 2: "line 3", 3: "line/3", 4: ""}
        frames = [replace(each, images=images[each.id], stream=streams[each.id]) for each in manifest.frames]
        return replace(manifest, frames=tuple(frames))

    return made(tmp_path_factory.mktemp("pictures") / "a.zst", change)


def test_folders_keep_sixteen_bits_and_original_files(path: Path, tmp_path: Path, replay: Run) -> None:
    """Every picture of a frame, a JPEG as the bytes that were recorded."""
    done = replay("export", path, "--to", "imagefolder", "-o", tmp_path / "set", "--json")
    assert done.code == 0 and done.json()["images"] == 5 and done.json()["changed"] == {}
    files = {file.stem.partition("-")[2] + file.suffix: file for file in (tmp_path / "set").glob("*/*")}
    assert sorted(files) == ["1.png", "2-1.png", "2.png", "3.png", "4.jpg"]
    assert np.array_equal(np.asarray(pil.open(files["1.png"])), DEEP)
    assert np.array_equal(np.asarray(pil.open(files["2-1.png"])), DEEP // 2)
    assert np.array_equal(png.decode(files["3.png"].read_bytes()), np.dstack([DEEP * 16] * 3))
    with Bundle.open(path) as bundle:
        [jpeg] = bundle.manifest.frames[3].images
        assert files["4.jpg"].read_bytes() == bundle.read(jpeg.member)


def test_screens_get_eight_bits_over_the_depth_of_the_camera(path: Path, tmp_path: Path, replay: Run) -> None:
    """Twelve bits are not shown nearly black, and the exposure of one frame does not change another's grey levels."""
    done = replay("export", path, "--to", "coco", "-o", tmp_path / "set", "--json")
    assert done.code == 0 and done.json()["changed"] == {
        "picture of 16 bits shown with 8": 3,
        "picture shown without alpha or further channels": 1,
    }
    files = {file.stem.partition("-")[2]: np.asarray(pil.open(file)) for file in (tmp_path / "set").glob("images/*")}
    assert np.array_equal(files["1"], DEEP >> 4) and np.array_equal(files["3"][..., 0], DEEP * 16 >> 8)
    assert files["2"].shape == (48, 64, 3) and files["2-1"].max() == 2035 >> 4
    document = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert [each["stream"] for each in document["images"]] == ["line 3", "line 3", "line 3", "line/3", ""]


def test_cameras_and_their_pictures_have_places_of_their_own(path: Path, tmp_path: Path, replay: Run) -> None:
    assert replay("export", path, "--to", "mcap", "-o", tmp_path / "a.mcap").code == 0
    with (tmp_path / "a.mcap").open("rb") as file:
        topics = {channel.topic for _, channel, _ in make_reader(file).iter_messages()}
    shown = {topic for topic in topics if topic.count("/") == 2 and not topic.endswith("/frame")}
    assert len(shown) == 5 and "/frames/image" in shown
    assert len({topic.split("/")[1] for topic in shown}) == 3 and all(" " not in topic for topic in topics)


@pytest.mark.parametrize(
    ("by", "folders"), [("truth", {"dent", "8", None}), ("truth-only", {"dent"}), ("prediction", {"0", "8", None})]
)
def test_labels_are_from_where_they_are_asked_for(
    tmp_path: Path, replay: Run, by: str, folders: set[str | None]
) -> None:
    """The truth of the first of three frames is known; the answer of the third says nothing."""

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        frames = [replace(frame, output=None) for frame in manifest.frames]
        frames[0] = replace(frames[0], metadata={"truth": "dent"})
        calls = [*manifest.calls[:2], replace(manifest.calls[2], output=None)]
        return replace(manifest, frames=tuple(frames), calls=tuple(calls))

    bundle = made(tmp_path / "b" / "a.zst", change, frames=3)
    done = replay("export", bundle, "--to", "imagefolder", "-o", tmp_path / "set", "--truth", "truth", "--by", by)
    assert done.code == 0 and "labels: " in done.out
    classes = json.loads((tmp_path / "set" / "classes.json").read_text())
    assert set(classes.values()) == folders
    assert ("2: picture whose class is not in the metadata" in done.out) == (by == "truth-only")


def test_what_is_not_there_is_counted_by_reason(tmp_path: Path, replay: Run) -> None:
    """Thinned, kept back, removed and redacted: nothing of it is made up, and nothing goes missing in silence."""

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        frames = list(manifest.frames)
        gone = ImageLeftOut(
            name="image", source="array", encoding="pixels", size_bytes=9, sha256=None, reason="privacy"
        )
        removed = RemovedValue(kind="object")
        frames[0] = replace(frames[0], images=(), images_left_out=(gone,))
        frames[1] = replace(frames[1], images=(), output=None)
        frames[2] = replace(frames[2], output=removed)
        calls = list(manifest.calls)
        calls[2] = replace(calls[2], output=removed)
        calls[3] = replace(calls[3], output=None)
        frames[3] = replace(frames[3], output=None)
        done = [("image", "pixelate", 4), ("metadata.email", "pseudonym", 4), ("metadata.name", "removed", 2)]
        redactions = [
            Redaction(field=field, level="redacted", method=method, stage="finished", count=count)
            for field, method, count in done
        ]
        return replace(manifest, frames=tuple(frames), calls=tuple(calls), redactions=tuple(redactions))

    bundle = made(tmp_path / "b" / "a.zst", change)
    told = replay("export", bundle, "--to", "coco", "-o", tmp_path / "set", "--json").json()
    assert told["frames"] == 4 and told["images"] == 2 and told["labels"] == {"none": 2}
    assert told["left_out"] == {
        "picture not in the bundle: privacy": 1,
        "frame without a picture": 1,
        "answer removed for privacy": 1,
        "metadata.name removed for privacy": 2,
    }
    assert told["changed"] == {"picture redacted for privacy": 2, "metadata.email redacted for privacy": 4}
