"""The main job on a real pretrained model and real photographs: record, seal, replay, and be honest about it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from recorder.bundle import Bundle, png
from tests.bundle.forge import Forgery
from tests.docs.blocks import RUN_BY, SHELL, every_block
from tests.docs.shell import Scratch, run, steps

Replay = Callable[..., subprocess.CompletedProcess[str]]


def test_the_demo_says_bit_exact_and_that_the_failure_came_back(quickstart: tuple[Path, str]) -> None:
    _, printed = quickstart
    assert "bit-exact   13 of 13 frames, numerics faithful" in printed
    assert "the failure shows again" in " ".join(printed.split())


def test_the_bundle_shows_the_lamp_failing(quickstart: tuple[Path, str], replay: Replay) -> None:
    bundle, _ = quickstart
    shown = json.loads(replay("show", bundle, "--json").stdout)
    assert shown["trigger"]["kind"] == "low_confidence" and shown["lost"] == {}
    about = next(frame for frame in shown["frames"] if frame["id"] == shown["trigger"]["frame"])
    assert about["metadata"] == {"camera": "line-3", "number": 12}
    assert [model["name"] for model in shown["models"]] == ["MobileNetV2"]


def test_the_tutorial_follows_it(quickstart: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, and those of the page on probes that need this incident, print what the pages show."""
    shutil.copytree(quickstart[0].parent, tmp_path / "here" / "incidents")
    scratch = Scratch.at(tmp_path / "here", monkeypatch)
    here = "tests/product/test_quickstart.py"
    for block in every_block():
        mine = block.test == here or RUN_BY.get(block.page) == here
        if mine and block.language in SHELL and not block.exempt:
            for step in steps(block):
                run(step, scratch)


def test_gnu_tar_lists_it_and_its_images_open(quickstart: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = quickstart
    listed = subprocess.run(["tar", "--zstd", "-tf", path], check=True, capture_output=True, text=True).stdout.split()
    assert listed[0] == "manifest.json"
    subprocess.run(["tar", "--zstd", "-xf", path, "-C", tmp_path], check=True)
    with Bundle.open(path) as bundle:
        for frame in bundle.manifest.frames:
            with PIL.Image.open(tmp_path / frame.images[0].member) as picture:
                assert np.array_equal(np.asarray(picture), bundle.pixels(frame.images[0]))


def moved(bundle: Path, directory: Path) -> Path:
    shutil.copytree(bundle.parent, directory / "ticket")
    return directory / "ticket" / bundle.name


def test_elsewhere_without_the_models_code_it_is_still_bit_exact(
    quickstart: tuple[Path, str], replay: Replay, tmp_path: Path
) -> None:
    done = replay(moved(quickstart[0], tmp_path), "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert result["verdict"] == "bit-exact" and result["failure_reproduced"] is True
    assert result["not_restored"] == [] and result["reproduced"] is True
    assert {frame["level"] for frame in result["frames"]} == {"bit-exact"}


def test_recorded_settings_are_restored_whatever_the_callers_environment_says(
    quickstart: tuple[Path, str], replay: Replay
) -> None:
    caller = {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default"}
    with Bundle.open(quickstart[0]) as bundle:
        first = str(bundle.manifest.frames[0].id)  # the slowest instruction set there is: one frame is enough
    restored = json.loads(replay(quickstart[0], "--json", "--frames", first, **caller).stdout)
    assert restored["verdict"] == "bit-exact" and restored["not_restored"] == []
    here = json.loads(replay(quickstart[0], "--json", "--frames", first, "--numerics", "here", **caller).stdout)
    assert here["verdict"] == "within-tolerance"
    assert any("torch.num_threads" in sentence for sentence in here["not_restored"])
    assert any("CPU capability" in sentence for sentence in here["not_restored"])
    difference = here["frames"][0]["first_difference"]
    assert 0 < difference["rel_l2"] < 1e-5


def test_one_altered_pixel_is_refused(quickstart: tuple[Path, str], replay: Replay, tmp_path: Path) -> None:
    forgery = Forgery.of(quickstart[0].read_bytes())
    name = next(name for name, _ in forgery.contents if name.startswith("images/"))
    with Bundle.open(quickstart[0]) as bundle:
        image = next(image for frame in bundle.manifest.frames for image in frame.images if image.member == name)
        pixels = bundle.pixels(image).copy()
    pixels[0, 0, 0] ^= 1
    forgery.replace(name, png.encode(pixels))
    (tmp_path / "altered.zst").write_bytes(forgery.build())
    models = quickstart[0].parent / "models"
    for command in (("verify",), ("run", "--models", models)):
        done = replay(*command, tmp_path / "altered.zst")
        assert done.returncode == 4 and "Traceback" not in done.stderr


def test_one_altered_weight_is_refused(quickstart: tuple[Path, str], replay: Replay, tmp_path: Path) -> None:
    bundle = moved(quickstart[0], tmp_path)
    [weights] = (bundle.parent / "models").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    (header,) = struct.unpack_from("<Q", data)
    data[8 + header + 1000] ^= 1
    weights.write_bytes(data)
    done = replay(bundle, "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 3 and result["verdict"] == "not-replayable"
    assert "digest" in result["frames"][0]["reason"]


def test_without_the_store_it_says_what_is_missing(
    quickstart: tuple[Path, str], replay: Replay, tmp_path: Path
) -> None:
    shutil.copy(quickstart[0], tmp_path / "alone.zst")
    done = replay(tmp_path / "alone.zst")
    assert done.returncode == 3
    assert "--models" in done.stdout and "Traceback" not in done.stderr


def test_a_missing_frame_id_is_named(quickstart: tuple[Path, str], replay: Replay) -> None:
    done = replay(quickstart[0], "--frames", "999")
    assert done.returncode == 2 and "999" in done.stderr and "Traceback" not in done.stderr
