"""`replay show` draws the history, its JSON form and `extract` hold it all."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from recorder.sealer.assemble import assemble
from replay.cli import cli
from replay.show.history import csv_lines, spark
from tests.track.footage import Footage, grey


@pytest.fixture(scope="module")
def dimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose last ten minutes grew dark; its stream's name would like to be a formula, and in colour."""
    directory = tmp_path_factory.mktemp("dimmed")
    footage = Footage(directory / "ring" / "host.ring")
    stream = "=1+1\x1b[31m"
    footage.play(np.arange(0.0, 2400.0, 5.0), lambda s: grey(0.6 - 0.5 * max(0.0, (s - 1800) / 600)), stream=stream)
    window = footage.incident(stream)
    path = assemble(window.incident, window.records, window.latched, directory, track=window.track)
    footage.close()
    return path


def run(*arguments: object, charset: str = "utf-8") -> str:
    result = CliRunner(charset=charset).invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_onset_is_seen_in_eighty_columns(dimmed: Path) -> None:
    out = run("show", dimmed)
    [line] = [line for line in out.splitlines() if line.strip().startswith("luminance")]
    drawn = line.split()[1]
    assert len(drawn) == 32 and max(len(each) for each in out.splitlines()) <= 80
    assert set(drawn[:23]) <= {"▇", "█"} and drawn[-1] == "▁"
    assert [drawn[i] >= drawn[i + 1] for i in range(23, 31)] == [True] * 8
    assert line.split()[2:] == ["0.102", "0.598", "0.102"]
    assert "40 min" in out and "480 frames" in out


def test_ascii_where_the_terminal_has_no_blocks(monkeypatch: pytest.MonkeyPatch, dimmed: Path) -> None:
    monkeypatch.setattr("replay.commands.show.shows_blocks", lambda: False)
    [line] = [line for line in run("show", dimmed).splitlines() if line.strip().startswith("luminance")]
    assert line.isascii() and line.split()[1].endswith("_") and line.split()[1].startswith(("%", "#"))


def test_json_holds_the_series(dimmed: Path) -> None:
    track = json.loads(run("show", dimmed, "--json"))["track"]
    assert track["signals"]["luminance"] == "of full scale"
    assert [level["seconds"] for level in track["levels"]] == [0, 1, 10, 60]
    assert sum(track["levels"][3]["columns"]["frames"]) == 480
    assert len(track["thumbnails"]) == 32


def test_extract_writes_a_table_for_each_resolution(dimmed: Path, tmp_path: Path) -> None:
    run("extract", dimmed, "-o", tmp_path / "out")
    for name, rows in (("frames", 13), ("1s", 121), ("10s", 240), ("60s", 41)):
        with (tmp_path / "out" / "track" / f"{name}.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == rows
        assert lines[0]["stream"].startswith("'=1+1")
        light = lines[-1]["luminance" if name == "frames" else "luminance.mean"]
        assert float(light) < 0.2
    contents = json.loads((tmp_path / "out" / "contents.json").read_text())
    assert [each["file"] for each in contents["track"]] == [
        "track/frames.csv", "track/1s.csv", "track/10s.csv", "track/60s.csv",
    ]  # fmt: skip


def test_a_bundle_without_history_says_nothing_of_it(tmp_path: Path) -> None:
    from tests.bundles import small_bundle

    path = small_bundle(tmp_path / "a.zst")
    assert "History" not in run("show", path)
    assert json.loads(run("show", path, "--json"))["track"] is None
    run("extract", path, "-o", tmp_path / "out")
    assert not (tmp_path / "out" / "track").exists()


NUMBERS = st.floats(-1e6, 1e6) | st.just(0.0)


@given(st.lists(st.tuples(st.integers(0, 10**12), NUMBERS), max_size=100), st.booleans())
def test_a_line_has_its_width_and_nothing_but_its_characters(points: Any, blocks: bool) -> None:
    points = sorted(points)
    begin, end = (points[0][0], points[-1][0]) if points else (0, 0)
    drawn = spark(points, begin, end, blocks=blocks)
    assert len(drawn) == 32
    assert set(drawn) <= set("▁▂▃▄▅▆▇█·" if blocks else "_-~=+*%#.")
    assert not points or drawn[0] not in "·."


def test_csv_leaves_out_what_is_not_a_number(dimmed: Path) -> None:
    from array import array

    from recorder.bundle.manifest import TrackLevel
    from recorder.bundle.track import TrackTable

    level = TrackLevel(stream="a", seconds=0, rows=2, from_ns=0, to_ns=1)
    table = TrackTable(level, {"frame": array("q", [1, 2]), "luminance": array("f", [math.nan, 0.1])})
    assert b"".join(csv_lines([table])) == b"stream,frame,luminance\r\na,1,\r\na,2,0.1\r\n"
