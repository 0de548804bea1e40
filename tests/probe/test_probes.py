"""Models that look at the wrong thing are caught, and their honest twins pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recorder.bundle import Bundle
from replay.cli import cli
from replay.probe.calibration import Sure, calibration
from replay.probe.finding import Finding
from replay.probe.probing import ProbeOptions, probe_bundle
from replay.probe.subject import CannotProbe
from replay.result import read_result, result_path

Incident = Callable[[str], Path]
WHERE = ("object-hidden", "background", "occlusion")


def probed(path: Path, *names: str, **options: object) -> dict[str, Finding]:
    with Bundle.open(path) as bundle:
        found = probe_bundle(bundle, ProbeOptions(probes=names, bundle_path=path, **options))  # type: ignore[arg-type]
    return {finding.name: finding for finding in found.findings}


def test_a_model_that_reads_a_watermark_is_caught_and_its_honest_twin_passes(incident: Incident) -> None:
    caught = probed(incident("shortcut"), *WHERE)
    assert [caught[name].passed for name in WHERE] == [False, False, False]
    assert caught["object-hidden"].proves and caught["object-hidden"].limits
    honest = probed(incident("honest"), *WHERE)
    assert [honest[name].passed for name in WHERE] == [True, True, True]


def test_a_segmenter_that_answers_with_the_usual_place_is_told_from_one_that_looks(incident: Incident) -> None:
    prior = probed(incident("prior"), "random-input")["random-input"]
    assert prior.passed is False and prior.evidence["kept"] == {"noise": 1.0, "shuffled pixels": 1.0, "mean image": 1.0}
    assert probed(incident("segmenter"), "random-input")["random-input"].passed is True


def test_stability_is_drawn_as_a_curve_over_the_amounts(incident: Incident) -> None:
    every = probed(incident("segmenter"), "light-level", "camera-shift", "input-consistency", "batch", "normalisation")
    assert all(each.pictures for each in every.values() if each.passed is not None), "evidence to look at"
    found = every["light-level"]
    [curve] = found.curves
    assert found.passed is True and curve.at == (0.5, 0.65, 0.8, 1.2, 1.5, 2.0)
    assert curve.kept[2:4] == (1.0, 1.0) and curve.kept[0] < 1.0
    assert "stable from 0.65" in found.sentence


def test_known_truth_gives_a_reliability_diagram_with_its_empty_bins(incident: Incident) -> None:
    found = probed(incident("honest"), "calibration")["calibration"]
    assert found.passed is True and found.evidence["frames"] == 24
    bins = found.evidence["bins"]
    assert isinstance(bins, list) and sum(each["frames"] for each in bins) == 24  # type: ignore[index,call-overload,misc]
    assert any(each["accuracy"] is None for each in bins)  # type: ignore[index,call-overload]


def test_the_calibration_error_weighs_each_bin_by_its_frames() -> None:
    found = calibration([*[Sure(0.95, True)] * 30, *[Sure(0.55, False)] * 10])
    assert found.evidence["ece"] == pytest.approx(0.75 * 0.05 + 0.25 * 0.55, abs=1e-4)
    assert found.passed is False


def test_without_truth_two_groups_of_confidences_are_said_to_be_two() -> None:
    found = calibration([*[Sure(0.2, None)] * 10, *[Sure(0.9, None)] * 10])
    assert found.passed is None and "two groups" in found.sentence
    even = calibration([Sure(float(each), None) for each in np.random.default_rng(0).normal(0.6, 0.05, 60)])
    assert "one group" in even.sentence


def test_a_batch_of_another_size_is_tried_only_where_the_model_takes_it(incident: Incident) -> None:
    by_graph = probed(incident("segmenter"), "batch")["batch"]
    by_factory = probed(incident("segmenter"), "batch", model=("tests.probe.networks:Segmenter",))["batch"]
    assert by_factory.passed is True and by_factory.evidence["changed"] == 0.0
    assert by_graph.passed is True or "--model" in by_graph.sentence


def test_attributions_agree_and_are_gone_with_the_weights(incident: Incident) -> None:
    """Grad-CAM needs a module: a stored graph has the other maps alone."""
    for model, methods in (((), 3), (("tests.probe.networks:Reader",), 4)):  # occlusion is one
        found = probed(incident("honest"), "attribution", model=model)["attribution"]
        agreement, like = found.evidence["agreement"], found.evidence["like_shuffled_weights"]
        assert found.passed is True and isinstance(agreement, dict) and isinstance(like, dict)
        assert len(agreement) == methods * (methods - 1) / 2 and len(found.pictures) == 2 * (methods - 1)
        assert float(str(like["gradient"])) < 0.7
    refused = probed(incident("segmenter"), "attribution")["attribution"]
    assert refused.passed is None and "class" in refused.sentence


def test_probes_beyond_the_budget_are_left_out_and_named(incident: Incident) -> None:
    path = incident("honest")
    with Bundle.open(path) as bundle:
        found = probe_bundle(bundle, ProbeOptions(bundle_path=path, budget_seconds=1e-3))
    assert [finding.name for finding in found.findings] == ["calibration"]
    assert "occlusion" in found.left_out


def test_the_command_prints_findings_writes_a_page_and_ends_with_one_where_a_probe_failed(
    incident: Incident, tmp_path: Path
) -> None:
    page = tmp_path / "probes.html"
    path = str(incident("shortcut"))
    done = CliRunner().invoke(cli, ["probe", path, "--only", "background", "-o", str(page)])
    assert done.exit_code == 1, done.output
    assert "FAIL  background" in done.stdout and "what it proves" in done.stdout
    assert max(map(len, done.stdout.replace(str(page), "").splitlines())) <= 80
    text = page.read_text("utf-8")
    assert "<script" not in text and "default-src &#39;none&#39;" in text and text.count("<img") == 2
    found = json.loads(CliRunner().invoke(cli, ["probe", path, "--only", "background", "--save", "--json"]).stdout)
    [saved] = read_result(result_path(path))["findings"]["probe"]
    assert (saved["name"], saved["passed"], saved["evidence"]) == ("background", False, found[0]["evidence"])
    assert [set(each) >= {"name", "passed", "evidence"} for each in found] == [True]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "magic"], "choose from"),
        (["--only", "batch", "--suspect", "darker"], "leave out --only"),
        (["--object", "0.8,0,0.2,1"], "--object takes"),
        (["--mean", "0.5"], "go together"),
        (["--budget", "nan"], "nan is no number"),
        (["--timeout", "inf"], "not in the range"),
        (["--suspect", "magic"], "--suspect takes no 'magic'"),
        (["--mean", "a", "--std", "1"], "numbers with commas"),
        (["--pipeline", "nonsense"], "pkg.mod:predict"),
        (["--frames", "999999999"], "no frame 999999999"),
        (["-o", "/nowhere/page.html"], "no directory"),
    ],
)
def test_wrong_arguments_get_one_sentence(incident: Incident, words: list[str], says: str) -> None:
    done = CliRunner().invoke(cli, ["probe", str(incident("segmenter")), *words])
    assert done.exit_code == 2 and says in done.output and "Traceback" not in done.output


def test_an_incident_without_pictures_cannot_be_probed(tmp_path: Path) -> None:
    from recorder import FlightRecorder

    with FlightRecorder(sink=str(tmp_path), pre_frames=2, max_bytes=2**25, overhead_budget=1) as recorder:
        with recorder.frame(number=1):
            pass
        path = recorder.trigger("look").wait(120).path
    assert path is not None
    with Bundle.open(path) as bundle, pytest.raises(CannotProbe, match="no frame holds a picture"):
        probe_bundle(bundle, ProbeOptions(bundle_path=Path(path)))


def test_probes_that_decided_nothing_are_no_pass(incident: Incident) -> None:
    """One frame of no known truth tells nothing of a calibration."""
    with Bundle.open(incident("shortcut")) as bundle:
        first = str(bundle.manifest.frames[0].id)
    words = ["--only", "calibration", "--truth", "nosuch", "--frames", first]
    done = CliRunner().invoke(cli, ["probe", str(incident("shortcut")), *words, "--json"])
    assert [each["passed"] for each in json.loads(done.stdout)] == [None]
    assert done.exit_code == 3 and "no probe could be decided" in done.stderr
