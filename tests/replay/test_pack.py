"""A packed bundle needs nothing but itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from recorder.bundle import Bundle
from replay.cli import cli
from replay.verdict import Level
from tests.replay.bundles_of_calls import Recording, images
from tests.replay.models_for_tests import classifier, function
from tests.replay.test_graphs import _store_graph as store_graph


@pytest.fixture
def incident(recording: Recording) -> Path:
    model = recording.attach(classifier())
    with torch.inference_mode():
        for batch in images():
            model(batch)
    store_graph(recording, classifier())
    return recording.write()


def test_a_packed_bundle_replays_where_there_is_no_model_store(
    incident: Path, tmp_path: Path, replayed: object
) -> None:
    done = CliRunner().invoke(cli, ["pack", str(incident), "--with-model", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {Path(model["path"]).suffix for model in said["models"]} == {".safetensors", ".json"}
    (tmp_path / "ticket").mkdir()
    alone = tmp_path / "ticket" / "incident.zst"
    shutil.move(said["path"], alone)
    shutil.rmtree(incident.parent / "models")
    assert replayed(incident).exit_code == 3  # type: ignore[operator]
    result = replayed(alone)  # type: ignore[operator]
    assert result.verdict is Level.BIT_EXACT, result
    with Bundle.open(alone) as bundle:
        assert bundle.verify() == []
        assert bundle.manifest.parent is not None and bundle.manifest.parent.operation == "pack"


def test_packing_again_keeps_what_is_inside(incident: Path) -> None:
    CliRunner().invoke(cli, ["pack", str(incident), "--with-model", "-o", str(incident.with_name("one.zst"))])
    shutil.rmtree(incident.parent / "models")
    done = CliRunner().invoke(cli, ["pack", str(incident.with_name("one.zst")), "--with-model"])
    assert done.exit_code == 0, done.output
    with Bundle.open(incident.with_name("one-packed.zst")) as bundle:
        assert sum(member.path.startswith("models/") for member in bundle.manifest.members) == 2


def test_a_graph_remembered_in_the_store_is_packed_and_named(recording: Recording, replayed: object) -> None:
    recording.attach(classifier())(images(1)[0])
    store_graph(recording, classifier(), named=False)
    path = recording.write()
    done = CliRunner().invoke(cli, ["pack", str(path), "--with-model"])
    assert done.exit_code == 0, done.output
    shutil.rmtree(path.parent / "models")
    assert replayed(path.with_name("incident-packed.zst")).verdict is Level.BIT_EXACT  # type: ignore[operator]


def test_what_cannot_be_packed_is_said_and_leaves_nothing(incident: Path) -> None:
    out = incident.with_name("out.zst")
    small = CliRunner().invoke(cli, ["pack", str(incident), "--with-model", "-o", str(out), "--max-bytes", "10"])
    assert small.exit_code == 3 and "more than the 10 bytes allowed: raise --max-bytes to " in small.stderr
    [weights] = incident.parent.glob("models/*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged = CliRunner().invoke(cli, ["pack", str(incident), "--with-model", "-o", str(out)])
    assert damaged.exit_code == 3 and "not what its name says" in damaged.stderr
    weights.unlink()
    missing = CliRunner().invoke(cli, ["pack", str(incident), "--with-model", "-o", str(out)])
    assert missing.exit_code == 3 and "--models LOCATION" in missing.stderr
    assert not out.exists() and not list(incident.parent.glob(".*"))
    bare = CliRunner().invoke(cli, ["pack", str(incident)])
    assert bare.exit_code == 2 and "--with-model" in bare.stderr


def test_a_function_is_named_as_what_still_needs_code(recording: Recording) -> None:
    recording.attach(function())(torch.ones(2))
    done = CliRunner().invoke(cli, ["pack", str(recording.write()), "--with-model"])
    assert done.exit_code == 0 and "still needs --model" in done.stdout
