"""The failure catalogue: built from manifests, asked whether something was seen before, labelled, exported."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest
from replay.catalog.database import Catalog
from replay.catalog.embedding import DIMENSIONS, project
from replay.catalog.errors import CatalogInvalid
from replay.catalog.similar import has_been_seen, similar_to
from replay.opening import Opening
from tests.bundles import small_bundle
from tests.catalog.conftest import entry, run, told
from tests.cli.conftest import rewrite


def test_what_is_known_is_not_read_again(sink: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Bundle:
        raise AssertionError("opened again")

    monkeypatch.setattr(Opening, "open", refuse)
    again = told("add", sink, "--db", catalog)
    assert (again["new"], again["unchanged"], again["incidents"]) == (0, 9, 6)


def test_recurrences_are_grouped_and_counted(catalog: Path) -> None:
    found = told("stats", "--db", catalog)
    # Three seeds are three answers: two incidents of each defect, cause and answer, the last of another trigger.
    assert [group["incidents"] for group in found["groups"]] == [2, 2, 1, 1]
    assert found["cause"] == {"": 4, "darker": 2} and found["kind"] == {"low_confidence": 5, "when": 1}
    assert len(found["unreadable"]) == 3
    assert max(map(len, run("stats", "--db", catalog).stdout.splitlines())) <= 80


def test_the_incidents_are_listed_by_what_is_asked(catalog: Path) -> None:
    assert len(told("ls", "--db", catalog)["incidents"]) == 6
    assert len(told("ls", "--db", catalog, "--cause", "darker")["incidents"]) == 2
    assert told("ls", "--db", catalog, "--limit", "1")["incidents"][0]["trigger"] == "when"
    assert told("ls", "--db", catalog, "--since", "1h")["incidents"] == []


def test_a_new_bundle_that_happened_before_is_recognised(sink: Path, catalog: Path, tmp_path: Path) -> None:
    def later(manifest: Manifest) -> Manifest:
        return replace(manifest, incident=replace(manifest.incident, id="f" * 32))

    again = rewrite(sink / "incident-1.zst", tmp_path / "again.zst", later)
    found = told("similar", again, "--db", catalog)
    assert found["seen"] is True and found["compared_answers"] is True
    best = found["similar"][0]
    assert best["same_signature"] and best["cosine"] == pytest.approx(1, abs=1e-5)
    assert "seen before" in run("similar", again, "--db", catalog).stdout


def test_one_that_never_happened_is_not_recognised(sink: Path, catalog: Path, tmp_path: Path) -> None:
    def other(manifest: Manifest) -> Manifest:
        trigger = replace(manifest.incident.triggers[0], kind="non_finite", parameters={"part": "input"})
        return replace(manifest, incident=replace(manifest.incident, triggers=(trigger,), signature="0" * 16))

    new = rewrite(sink / "incident-1.zst", tmp_path / "new.zst", other)
    assert told("similar", new, "--db", catalog, code=1)["seen"] is False


def test_labels_are_kept_found_and_taken_away(catalog: Path) -> None:
    bundle = told("ls", "--db", catalog, "--limit", "1")["incidents"][0]["bundle"]
    labelled = told("label", bundle[:10], "--root-cause", "lamp \x1b[31mred", "--owner", "ann", "--db", catalog)
    assert labelled["labels"] == {"owner": "ann", "root-cause": "lamp red"}
    assert len(told("ls", "--db", catalog, "--label", "owner=ann")["incidents"]) == 1
    assert told("label", bundle, "--owner", "", "--db", catalog)["labels"] == {"root-cause": "lamp red"}
    assert "lamp red" in run("show", bundle[:8], "--db", catalog).stdout


def test_samples_with_consent_are_exported_newest_first_and_older_ones_go(catalog: Path, tmp_path: Path) -> None:
    folder = tmp_path / "validation"
    first = told("export", folder, "--db", catalog, "--per-class", "3")
    assert first["classes"] == {"a/../b": 3, "cat": 3} and first["left_out"] == {"no consent": 4}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    classes = json.loads((folder / "classes.json").read_text())
    assert len(files) == 6 and {file.partition("/")[0] for file in files} == set(classes)
    assert set(classes.values()) == {"a/../b", "cat"} and classes["cat"] == "cat"
    again = told("export", folder, "--db", catalog, "--per-class", "3")
    assert (again["added"], again["removed"], again["samples"]) == (0, 0, 6)
    balanced = told("export", folder, "--db", catalog, "--per-class", "2")
    assert balanced["slices"] == {"line-0": 3, "line-1": 1}, "two of cat's only camera, one of each of the others"
    (folder / "cat" / "mine.png").write_bytes(b"kept")
    second = told("export", folder, "--db", catalog, "--per-class", "1")
    assert (second["samples"], second["added"], second["removed"]) == (2, 0, 2)
    assert len(list(folder.rglob("*.png"))) == 3 and (folder / "cat" / "mine.png").exists()
    for each in told("ls", "--db", catalog)["incidents"]:
        told("label", each["bundle"], "--consent", "no", "--db", catalog)
    assert told("export", folder, "--db", catalog)["samples"] == 0
    for each in told("ls", "--db", catalog)["incidents"]:
        told("label", each["bundle"], "--consent", "", "--db", catalog)


def test_what_is_no_catalogue_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database at all, however long it may be " * 40)
    sqlite3.connect(tmp_path / "other.db").executescript("CREATE TABLE t (x);").close()
    for name, code, said in (
        ("text.db", 4, "cannot be read"),
        ("other.db", 4, "is no catalogue"),
        ("none.db", 2, "makes it"),
    ):
        done = run("ls", "--db", tmp_path / name)
        assert done.exit_code == code and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "none.db").exists()
    assert run("show", "abcdef", "--db", tmp_path / "none.db").exit_code == 2
    with pytest.raises(CatalogInvalid):
        Catalog(tmp_path / "text.db")


def test_a_lost_or_foreign_vector_file_is_made_anew(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(20, 100))
    with Catalog(tmp_path / "c.db", create=True) as found:
        found.add(entry(number, vector) for number, vector in enumerate(vectors))
        asked = entry(99, vectors[7])
        best = similar_to(found, asked)[0]
        assert best.entry.path == "incidents/7.zst" and has_been_seen([best])
        for content in (b"", b"x" * 100, bytes(4 * (DIMENSIONS + 1) * 50)):
            (tmp_path / "c.db.vectors").write_bytes(content)
            assert similar_to(found, asked)[0].entry.path == "incidents/7.zst"
        (tmp_path / "c.db.vectors").unlink()
        assert similar_to(found, asked)[0].entry.path == "incidents/7.zst"


def test_vectors_keep_angles(tmp_path: Path) -> None:
    """Projected cosines are off by about 0.1, so that likeness is kept and strangers stay strangers."""
    random = np.random.default_rng(1)
    one, other = random.normal(size=(2, 5000))
    near = one + 0.1 * other
    (_, a), (_, b), (_, c) = (project("s", each) for each in (one, near, other))  # type: ignore[misc]
    assert a @ b > 0.95 and abs(a @ c) < 0.4
    assert project("s", np.full(10, 3.0)) is None and project("s", np.asarray([1.0, np.nan])) is None


def test_incidents_without_an_answer_are_compared_by_signature(tmp_path: Path) -> None:
    with Catalog(tmp_path / "c.db", create=True) as found:
        found.add([entry(1, None), entry(2, None), entry(3, None, "b" * 16)])
        best = similar_to(found, entry(9, None))
        assert [each.entry.opened_ns for each in best] == [2, 1] and has_been_seen(best)
        assert [count for count, _, _ in found.groups(10)] == [2, 1]
        assert similar_to(found, entry(9, None, "")) == []


@pytest.mark.soak
def test_ten_thousand_bundles_of_which_fifty_are_corrupt(tmp_path: Path) -> None:
    """Counted, named, and never fatal to the rest."""
    kinds = [small_bundle(tmp_path / f"kind-{seed}.zst", seed=seed).read_bytes() for seed in range(10)]
    sink = tmp_path / "sink"
    sink.mkdir()
    for number in range(10_000):
        whole = kinds[number % 10]
        torn = whole[: len(whole) - 1 - number // 200] if number % 200 == 7 else whole
        (sink / f"incident-{number:05}.zst").write_bytes(torn)
    added = told("add", sink, "--db", tmp_path / "c.db")
    assert (added["listed"], added["new"], len(added["unreadable"])) == (10_000, 10, 50)


def test_one_defect_of_two_causes_is_two_groups(tmp_path: Path) -> None:
    vector = np.arange(20.0)
    with Catalog(tmp_path / "c.db", create=True) as found:
        found.add(replace(entry(n, vector), cause=cause) for n, cause in enumerate(("darker", "", "fog", "darker")))
        assert [(count, first.cause) for count, _, first in found.groups(9)] == [(2, "darker"), (1, ""), (1, "fog")]
        for cause, seen in (("darker", True), ("unknown", True), ("defocus", True)):
            assert has_been_seen(similar_to(found, replace(entry(9, vector), cause=cause))) is seen
        found.add([replace(entry(7, vector, "c" * 16), cause="fog")])
        other = similar_to(found, replace(entry(9, vector, "c" * 16), cause="rain"))
        assert not has_been_seen(other)


def test_what_was_seen_before_is_told_however_few_are_asked_for(tmp_path: Path) -> None:
    """The only other incident of the defect has no answer; ten of other defects answer alike, and are newer."""
    vector = np.arange(20.0)
    with Catalog(tmp_path / "c.db", create=True) as found:
        found.add([entry(1, None), *(entry(number, vector, "c" * 16) for number in range(2, 12))])
        for limit in (1, 10):
            best = similar_to(found, entry(20, vector), limit)
            assert best[0].entry.opened_ns == 1 and best[0].cosine is None and has_been_seen(best)
            assert not any(each.is_the_same and each.cosine is not None for each in best)


def test_a_defect_whose_answers_cannot_be_compared_is_said_to_be_known_by_signature_only(tmp_path: Path) -> None:
    source, sink = small_bundle(tmp_path / "source.zst"), tmp_path / "sink"
    sink.mkdir()

    def of_model(kind: str, number: int) -> Callable[[Manifest], Manifest]:
        def change(manifest: Manifest) -> Manifest:
            incident = replace(manifest.incident, id=f"{number:032x}", signature="a" * 16)
            return replace(manifest, incident=incident, models=(replace(manifest.models[0], type=kind),))

        return change

    rewrite(source, sink / "detector.zst", of_model("service.Detector", 1))
    new = rewrite(source, tmp_path / "new.zst", of_model("service.Classifier", 2))
    told("add", sink, "--db", tmp_path / "c.db")
    found = told("similar", new, "--db", tmp_path / "c.db")
    assert found["seen"] is True and found["compared_answers"] is False
    assert "by signature only: no answer of that" in run("similar", new, "--db", tmp_path / "c.db").stdout
