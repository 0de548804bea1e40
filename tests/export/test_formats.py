"""Each format is read back by a reader that is not ours."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from mcap.reader import make_reader
from PIL import Image as pil
from rerun.chunk import RrdReader

from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest, Trigger
from recorder.bundle.rewrite import rewrite
from recorder.bundle.writer import BundleWriter
from tests.bundles import small_bundle
from tests.cli.conftest import Run, replay
from tests.export.conftest import path, pictures

__all__ = ["path", "replay"]  # fixtures

TRACKED = Path(__file__).parents[1] / "golden" / "1.0-track.zst"


def table(path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pyarrow.parquet.read_table(path).to_pydict()
    return found


def messages(path: Path) -> list[tuple[str, int, dict[str, Any]]]:
    with path.open("rb") as file:
        found = [(channel.topic, message) for _, channel, message in make_reader(file).iter_messages()]
    return [(topic, message.log_time, json.loads(message.data)) for topic, message in found]


def entities(path: Path) -> set[str]:
    return {str(chunk.entity_path) for chunk in RrdReader(path).stream().to_chunks()}


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden bundle's history, and an alarm of a detector in it."""

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        alarm = Trigger(
            kind="drift",
            reason="the stream has left its reference",
            frame=1,
            time_ns=manifest.incident.triggers[0].time_ns,
            value=7.5,
            threshold=5.0,
            parameters={"detector": "page-hinkley", "onset_frame": -3},
        )
        return replace(manifest, incident=replace(manifest.incident, triggers=(alarm,)))

    out = tmp_path_factory.mktemp("drifted") / "a.zst"
    with Bundle.open(TRACKED) as bundle:
        rewrite(bundle, out, operation="pack", transform=change)
    return out


def test_folders_of_classes_hold_the_recorded_pixels(path: Path, tmp_path: Path, replay: Run) -> None:
    """And a file says which class each folder is."""
    done = replay("export", path, "--to", "imagefolder", "-o", tmp_path / "set", "--json")
    assert done.code == 0 and done.json()["images"] == 4 and done.json()["left_out"] == {}
    assert done.json()["labels"] == {"truth": 1, "prediction": 1, "none": 2}
    files = sorted((tmp_path / "set").rglob("*.png"))
    assert len(files) == 4 and all(file.parent.parent == tmp_path / "set" for file in files)
    classes = json.loads((tmp_path / "set" / "classes.json").read_text())
    assert sorted(classes) == sorted({file.parent.name for file in files})
    assert set(classes.values()) == {"../../etc/x", "1", None} and classes["unknown"] is None
    for file in files:
        number = int(file.stem.rpartition("-")[2])
        assert np.array_equal(np.asarray(pil.open(file)), pictures(path)[number])


def test_tables_have_a_row_a_frame_and_columns_with_units(
    path: Path, drifted: Path, tmp_path: Path, replay: Run
) -> None:
    assert replay("export", path, "--to", "parquet", "-o", tmp_path / "t", "--frames", "1,3").code == 0
    frames = table(tmp_path / "t" / "frames.parquet")
    assert frames["frame"] == [1, 3] and frames["task"] == ["classification", "detection"]
    assert frames["metadata.camera"] == ["line-3", "line-3"] and frames["metadata.ground_truth"] == [
        "../../etc/x",
        None,
    ]
    done = replay("export", drifted, "--to", "parquet", "-o", tmp_path / "g", "--json")
    assert done.code == 0 and "signals of a frame of which there is no history" not in done.json()["left_out"]
    frames, track = table(tmp_path / "g" / "frames.parquet"), table(tmp_path / "g" / "track.parquet")
    assert frames["luminance_of_full_scale"] == [pytest.approx(track["luminance_of_full_scale"][1])]
    assert "luminance_of_full_scale.mean" in track and set(track["interval_seconds"]) == {0, 1, 10, 60}
    triggers = table(tmp_path / "g" / "triggers.parquet")
    assert (triggers["detector"], triggers["value"], triggers["threshold"]) == (["page-hinkley"], [7.5], [5.0])
    assert triggers["onset_frame"] == [-3] and triggers["bundle"] == frames["bundle"] == track["bundle"][:1]


def test_mcap_holds_everything_in_its_time(path: Path, drifted: Path, tmp_path: Path, replay: Run) -> None:
    out = tmp_path / "a.mcap"
    assert replay("export", path, "--to", "mcap", "-o", out).code == 0
    found = messages(out)
    topics = {topic for topic, _, _ in found}
    assert {"/triggers", "/detectors", "/line-3/image", "/line-3/frame"} <= topics
    assert not any("\x1b" in topic or ".." in topic for topic in topics)
    times = [time for _, time, _ in found]
    assert times == sorted(times)
    first = next(message["data"] for topic, _, message in found if topic == "/line-3/image")
    assert np.array_equal(np.asarray(pil.open(io.BytesIO(base64.b64decode(first)))), pictures(path)[1])
    assert replay("export", drifted, "--to", "mcap", "-o", tmp_path / "b.mcap").code == 0
    found = messages(tmp_path / "b.mcap")
    signals = [(time, message) for topic, time, message in found if topic == "/line-3/signals"]
    assert len(signals) > 61 and all(message["latency_seconds"] == 0.25 for _, message in signals)
    [alarm] = [message for topic, _, message in found if topic == "/detectors"]
    assert alarm["detector"] == "page-hinkley" and alarm["value"] == 7.5


def test_rerun_reads_its_recording(path: Path, drifted: Path, tmp_path: Path, replay: Run) -> None:
    done = replay("export", path, "--to", "rrd", "-o", tmp_path / "a.rrd", "--json")
    assert done.code == 0 and done.json()["left_out"] == {"box below the score 0.5": 1, **NO_HISTORY}
    found = entities(tmp_path / "a.rrd")
    assert {"/line-3/image", "/line-3/image/boxes", "/line-3/image/mask", "/line-3/confidence", "/triggers"} <= found
    assert replay("export", drifted, "--to", "rrd", "-o", tmp_path / "b.rrd").code == 0
    found = entities(tmp_path / "b.rrd")
    assert {"/line-3/signals/luminance_of_full_scale", "/detectors/page-hinkley/threshold"} <= found


NO_HISTORY = {"signals of an incident that has no history": 1}


def without_sockets(code: str, home: Path) -> int:
    """How a new process ends that is told to send telemetry, and killed when it opens a socket for it."""
    home.mkdir(exist_ok=True)
    environment = os.environ | {
        "HOME": str(home),
        "TELEMETRY_ENABLED": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "_RERUN_TEST_FORCE_SAVE": str(home / "elsewhere.rrd"),
        "RERUN": "off",
    }
    words = [sys.executable, str(Path(__file__).with_name("no_sockets.py")), code]
    return subprocess.run(words, env=environment, timeout=120, check=False, capture_output=True).returncode


def test_rerun_opens_no_socket_and_writes_nowhere_else(path: Path, tmp_path: Path) -> None:
    """Whatever the environment says. Without what the export does about it, the import alone opens one."""
    out, home = tmp_path / "a.rrd", tmp_path / "home"
    words = ["export", str(path), "--to", "rrd", "-o", str(out)]
    assert without_sockets(f"from replay.cli import cli; cli({words!r})", home) == 0
    assert out.stat().st_size > 1000 and not list(home.rglob("*"))
    assert without_sockets("import rerun; rerun.RecordingStream('x').flush()", home) == -signal.SIGSYS


def test_nothing_is_overwritten_and_nothing_half_done_is_left(path: Path, tmp_path: Path, replay: Run) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (tmp_path / "names").write_text("\n")
    to = ["--to", "coco", "-o"]
    for words, code in (
        ([path, *to, taken], 2),
        ([path, *to, tmp_path / "no" / "where"], 2),
        ([path, "--to", "gif", "-o", tmp_path / "x"], 2),
        ([path, *to, tmp_path / "x", "--frames", "99"], 2),
        ([path, path, *to, tmp_path / "x", "--frames", "1"], 2),
        ([path, *to, tmp_path / "x", "--labels", tmp_path / "names"], 2),
        ([path, tmp_path / "none.zst", *to, tmp_path / "x"], 2),
    ):
        ended = replay("export", *words)
        assert ended.code == code and "Traceback" not in ended.err, ended.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["names", "taken"]


@pytest.mark.parametrize(("form", "module"), [("parquet", "pyarrow"), ("mcap", "mcap.writer"), ("rrd", "rerun")])
def test_a_missing_package_is_named_with_the_remedy(
    path: Path, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch, form: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    ended = replay("export", path, "--to", form, "-o", tmp_path / "x")
    assert ended.code == 3 and "pip install 'vision-flight-recorder[export]'" in ended.err
    assert len(ended.err.splitlines()) == 1 and not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", ["coco", "mcap", "rrd"])
def test_what_appears_meanwhile_is_left_alone(path: Path, tmp_path: Path, form: str) -> None:
    """The place was free when the command looked."""
    from replay.export.source import Exported, Source
    from replay.export.writing import write_export

    out = tmp_path / "out"
    if form == "coco":
        out.mkdir()
        (out / "theirs").write_text("keep")
    else:
        out.write_text("keep")
    with Bundle.open(path) as bundle, pytest.raises(FileExistsError):
        write_export(form, [Source(bundle, Exported())], out)
    assert (out / "theirs" if form == "coco" else out).read_text() == "keep"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", ["coco", "mcap", "rrd"])
def test_an_export_has_its_name_when_it_is_whole(path: Path, tmp_path: Path, form: str) -> None:
    """Whoever kills the process finds nothing that looks like a set."""
    from replay.export.source import Exported, Source
    from replay.export.writing import write_export

    out = tmp_path / "out"
    seen: list[bool] = []
    with Bundle.open(path) as bundle:
        write_export(form, [Source(bundle, Exported(), progress=lambda: seen.append(out.exists()))], out)
    assert seen and not any(seen)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_disk_that_is_full_ends_a_recording_with_one_sentence(path: Path, tmp_path: Path) -> None:
    """By the largest size of a file. The SDK's own writing would never end."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import sys; from replay.cli import main; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)); main()"
    )
    words = [sys.executable, "-c", code, "export", str(path), "--to", "rrd", "-o", "a.rrd"]
    done = subprocess.run(words, cwd=tmp_path, timeout=120, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "a.rrd cannot be written: File too large" in done.stderr, done.stderr
    assert not list(tmp_path.iterdir()) and "Traceback" not in done.stderr


@pytest.mark.parametrize("form", ["coco", "imagefolder", "parquet", "mcap", "rrd"])
def test_whatever_a_bundle_of_this_version_holds_is_exported_or_counted(tmp_path: Path, replay: Run, form: str) -> None:
    """The golden ones: empty pictures, lost ones, answers of every kind. Each alone, then all in one."""
    golden = sorted(TRACKED.parent.glob("*.zst"))
    told = [replay("export", path, "--to", form, "-o", tmp_path / path.stem, "--json") for path in golden]
    assert {each.code for each in told} == {0}, [each.err for each in told]
    together = replay("export", *golden, "--to", form, "-o", tmp_path / "all", "--json").json()
    assert together["frames"] == sum(each.json()["frames"] for each in told) - 1
    assert together["left_out"]["bundle that is there a second time"] == 1, "a signed copy"
    if form != "parquet":
        left_out = dict(zip((path.stem for path in golden), (each.json()["left_out"] for each in told), strict=True))
        assert left_out["1.0-images"]["picture without pixels"] == 1
        assert "picture not in the bundle: thinned" in left_out["1.0-thinned"]


def test_several_incidents_become_one_set(path: Path, tmp_path: Path, replay: Run) -> None:
    """Frame ids are those of one recording: what is exported tells them apart."""
    other = small_bundle(tmp_path / "other.zst", frames=3, seed=1)
    done = replay("export", path, other, "--to", "imagefolder", "-o", tmp_path / "set", "--json")
    assert done.code == 0 and (done.json()["frames"], done.json()["images"]) == (7, 7)
    assert len(list((tmp_path / "set").rglob("*.png"))) == 7
    assert replay("export", other, path, "--to", "coco", "-o", tmp_path / "coco").code == 0
    images = json.loads((tmp_path / "coco" / "annotations.json").read_text())["images"]
    assert [each["id"] for each in images] == list(range(1, 8)) and len({each["bundle"] for each in images}) == 2
    assert replay("export", other, path, "--to", "parquet", "-o", tmp_path / "t").code == 0
    assert len(set(table(tmp_path / "t" / "frames.parquet")["bundle"])) == 2
    assert replay("export", other, path, "--to", "rrd", "-o", tmp_path / "a.rrd").code == 0
    assert len({name.split("/")[1] for name in entities(tmp_path / "a.rrd") if name.endswith("/image")}) == 2
