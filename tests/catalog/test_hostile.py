"""What a stranger, a crash or a second process can do to a catalogue and to its export."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest
from replay.catalog.adding import add_listed
from replay.catalog.database import Catalog
from replay.catalog.embedding import DIMENSIONS, project
from replay.catalog.entries import entry_of
from replay.listing import bundles_of
from replay.opening import Opening
from tests.catalog.conftest import entry, run, told
from tests.cli.conftest import rewrite


def test_an_index_that_names_files_elsewhere_removes_nothing_there(catalog: Path, tmp_path: Path) -> None:
    folder = tmp_path / "validation"
    folder.mkdir()
    (tmp_path / "precious.png").write_bytes(b"kept")
    row = {"file": "../precious.png", "class": "..", "slice": "", "time_ns": 0}
    (folder / "samples.jsonl").write_text(json.dumps(row) + "\n[1]\nno json\n")
    told("export", folder, "--db", catalog, "--per-class", "1")
    assert (tmp_path / "precious.png").read_bytes() == b"kept"


def test_strings_of_a_bundle_are_inert_in_the_catalogue(sink: Path, tmp_path: Path) -> None:
    def hostile(manifest: Manifest) -> Manifest:
        trigger = replace(manifest.incident.triggers[0], reason="\x1b]0;owned\x07'; DROP TABLE entries; --\u202e")
        return replace(manifest, incident=replace(manifest.incident, stream="\x1b[2J", triggers=(trigger,)))

    path = rewrite(sink / "incident-0.zst", tmp_path / "hostile.zst", hostile)
    with Bundle.open(path) as bundle:
        kept = entry_of(bundle.manifest, bundle=bundle.id, path="p", size_bytes=1, modified=0)
    assert kept.stream == "" and kept.reason == "'; DROP TABLE entries; --"
    with Catalog(tmp_path / "c.db", create=True) as found:
        add_listed(found, bundles_of(str(tmp_path)), Opening())
    for command in (["ls"], ["stats"], ["show", kept.bundle[:9]], ["similar", str(path)]):
        done = run(*command, "--db", tmp_path / "c.db")
        assert "\x1b" not in done.output and "\u202e" not in done.output
        assert done.exit_code in (0, 1)


def test_a_name_that_is_no_utf8_is_named_and_ends_nothing(sink: Path, tmp_path: Path) -> None:
    (tmp_path / "sink").mkdir()
    for name in (b"a\xff.zst", b"b.zst"):
        (tmp_path / "sink" / os.fsdecode(name)).write_bytes((sink / "incident-0.zst").read_bytes())
    first = told("add", tmp_path / "sink", "--db", tmp_path / "c.db")
    assert first["new"] == 1 and "rename it" in first["unreadable"][0]["problem"]
    assert told("add", tmp_path / "sink", "--db", tmp_path / "c.db")["unchanged"] == 2


def test_what_goes_wrong_in_one_bundle_ends_no_other(
    sink: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(bundle: Bundle) -> None:
        raise KeyError("logits")

    monkeypatch.setattr("replay.catalog.adding.embedding_of", broken)
    done = told("add", sink, "--db", tmp_path / "c.db")
    assert done["new"] == 0 and len(done["unreadable"]) == 9


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET bundle = char(27) || '[2J' WHERE id = 1",
        "UPDATE entries SET opened_ns = 'yesterday'",
        "UPDATE entries SET reason = x'00ff'",
        "UPDATE entries SET id = id + 1000000000",
        "UPDATE labels SET name = char(27) || '[2J' WHERE rowid = 1",
        "DROP TABLE labels",
        "UPDATE entries SET vector = x'00'",
        "UPDATE labels SET value = char(27) || '[2J'",
    ],
)
def test_a_hostile_catalogue_is_shown_inert_or_refused_in_one_sentence(
    change: str, catalog: Path, sink: Path, tmp_path: Path
) -> None:
    path = tmp_path / "c.db"
    with sqlite3.connect(catalog) as source, sqlite3.connect(path) as copy:
        source.backup(copy)
        copy.execute("INSERT INTO labels SELECT bundle, 'owner', 'ann' FROM entries")
        copy.executescript(change)
    for connection in (source, copy):
        connection.close()
    for words in (
        ["ls"],
        ["stats"],
        ["show", "incident-0"],
        ["similar", sink / "incident-1.zst"],
        ["export", tmp_path],
    ):
        done = run(*words, "--db", path)
        assert done.exit_code in (0, 1, 2, 4) and "\x1b" not in done.output, done.output
        assert done.exit_code in (0, 1) or done.stderr.count("\n") == 1, done.stderr
        assert "error of replay itself" not in done.output
    vectors = tmp_path / "c.db.vectors"
    assert not vectors.exists() or vectors.stat().st_size < 10_000


def test_a_damaged_catalogue_is_refused_in_one_sentence(catalog: Path, sink: Path, tmp_path: Path) -> None:
    whole, path = catalog.read_bytes(), tmp_path / "c.db"
    random = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        at = int(random.integers(0, len(whole)))
        damaged[at : at + 64] = random.bytes(len(damaged[at : at + 64]))
        path.write_bytes(damaged[: int(random.integers(100, len(whole))) if random.random() < 0.3 else None])
        for words in (["ls"], ["stats"], ["similar", sink / "incident-1.zst"]):
            done = run(*words, "--db", path)
            assert done.exit_code in (0, 1, 4) and "error of replay itself" not in done.output, done.output
        for extra in ("c.db-wal", "c.db-shm", "c.db.vectors"):
            (tmp_path / extra).unlink(missing_ok=True)


def test_readers_and_writers_append_each_vector_once(tmp_path: Path) -> None:
    """A reader that finds vectors missing appends them, while the writer is about to."""
    vectors = np.random.default_rng(3).normal(size=(40, 30))
    with Catalog(tmp_path / "c.db", create=True) as writer, Catalog(tmp_path / "c.db") as reader:

        def write() -> None:
            with Catalog(tmp_path / "c.db") as own:
                for number in range(20, 40):
                    own.add([entry(number, vectors[number])])

        writer.add(entry(number, vectors[number]) for number in range(20))
        thread = threading.Thread(target=write)
        thread.start()
        while thread.is_alive():
            reader.vectors()
        thread.join()
        found = reader.vectors()
        assert len(found) == 40
        for number, vector in enumerate(vectors):
            assert np.array_equal(found[number, :DIMENSIONS], project("s", vector)[1])  # type: ignore[index]


def test_an_export_that_was_interrupted_leaves_nothing_behind(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "validation"
    with monkeypatch.context() as patch:
        patch.setattr("replay.catalog.exporting.classes_json", lambda _: 1 / 0)
        patch.setattr("replay.catalog.exporting._remove", lambda *_: None)
        assert run("export", folder, "--db", catalog).exit_code == 3
    pictures = sorted(folder.rglob("*.png"))
    pictures[0].unlink()
    again = told("export", folder, "--db", catalog)
    assert (again["added"], again["samples"]) == (1, len(pictures)) and sorted(folder.rglob("*.png")) == pictures
    for each in told("ls", "--db", catalog)["incidents"]:
        told("label", each["bundle"], "--consent", "no", "--db", catalog)
    told("export", folder, "--db", catalog)
    assert list(folder.rglob("*.png")) == []
    for each in told("ls", "--db", catalog)["incidents"]:
        told("label", each["bundle"], "--consent", "", "--db", catalog)
