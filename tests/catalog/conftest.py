"""A sink of incidents, and a catalogue of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from recorder.bundle.manifest import Manifest
from recorder.limits import signature_of
from replay.catalog.embedding import project
from replay.catalog.entries import Entry
from replay.cli import cli
from tests.bundles import small_bundle
from tests.cli.conftest import rewrite


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["catalog", *map(str, arguments)])


def told(*arguments: object, code: int = 0) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    data: dict[str, Any] = json.loads(done.stdout)
    return data


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six incidents of two defects, and three files that are damaged."""
    directory = tmp_path_factory.mktemp("sink")
    for number in range(6):
        source = small_bundle(directory / "source.zst", seed=number % 3)

        def change(manifest: Manifest, number: int = number) -> Manifest:
            trigger = replace(manifest.incident.triggers[0], kind="when" if number == 5 else "low_confidence")
            incident = replace(
                manifest.incident,
                id=f"{number:032x}",
                triggers=(trigger,),
                signature=signature_of(trigger),
                cause={"cause": "darker"} if number in (0, 3) else None,
                opened_ns=manifest.incident.opened_ns + number,
            )
            metadata = {
                "camera": f"line-{number % 2}",
                "ground_truth": "a/../b" if number else "cat",
                "consent": number != 3,
            }
            frames = tuple(replace(frame, metadata=metadata) for frame in manifest.frames)
            return replace(manifest, incident=incident, frames=frames)

        rewrite(source, directory / f"incident-{number}.zst", change)
    source.unlink()
    whole = (directory / "incident-0.zst").read_bytes()
    (directory / "torn.zst").write_bytes(whole[:-100])
    (directory / "empty.zst").write_bytes(b"")
    (directory / "noise.zst").write_bytes(bytes(range(256)) * 4)
    return directory


@pytest.fixture(scope="module")
def catalog(sink: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "catalog.db"
    first = told("add", sink, "--db", path)
    assert (first["listed"], first["new"], first["incidents"]) == (9, 6, 6)
    assert sorted(Path(each["path"]).name for each in first["unreadable"]) == ["empty.zst", "noise.zst", "torn.zst"]
    return path


def entry(number: int, values: np.ndarray[Any, Any] | None, signature: str = "a" * 16) -> Entry:
    return Entry(
        bundle=f"{number:064x}",
        path=f"incidents/{number}.zst",
        size_bytes=1,
        modified=0,
        opened_ns=number,
        stream="",
        kind="when",
        reason="",
        signature=signature,
        cause="",
        frames=1,
        models="",
        recurrences=0,
        vector=None if values is None else project("s", values),
    )
