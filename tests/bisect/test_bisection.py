"""`replay bisect`, end to end: tiny models, planted settings, real workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recorder.bundle import Bundle
from replay.bisect.bisection import Bisection, BisectOptions, Outcome, bisect_bundle
from replay.bisect.findings import exit_code, findings
from replay.bisect.library import LibraryUnavailable, installed, is_requirement
from replay.load import UserConfig
from replay.result import read_result, result_path
from replay.session import Session
from tests.bisect.wheels import wheels  # noqa: F401 - a fixture
from tests.cli.conftest import replay  # noqa: F401 - a fixture
from tests.replay.bundles_of_calls import Recording, images
from tests.replay.conftest import MODELS, recording  # noqa: F401 - a fixture
from tests.replay.models_for_tests import classifier, counting, noisy


@pytest.fixture(autouse=True)
def no_locations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's own config and model store are not looked at."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("REPLAY_MODELS", raising=False)


def bisected(path: Path, factory: str, **options: Any) -> Bisection:
    chosen: dict[str, Any] = {"model": (factory,), "bundle_path": path, "config": UserConfig(), **options}
    with Bundle.open(path) as bundle:
        return bisect_bundle(bundle, BisectOptions(**chosen))


def test_a_planted_flag_is_named_and_verified_both_ways(recording: Recording, replay: Any) -> None:  # noqa: F811
    """mkldnn was off: restoring that alone gives the recorded bits, everything else without it does not."""
    model = recording.attach(classifier())
    torch._C._set_mkldnn_enabled(False)
    try:
        with torch.no_grad():
            for batch in images(2):
                model(batch)
        path = recording.write()
    finally:
        torch._C._set_mkldnn_enabled(True)
    ended = replay("bisect", path, "--model", f"{MODELS}:classifier", "--save", "--json")
    assert ended.code == 0, ended.err
    assert read_result(result_path(str(path)))["findings"]["bisect"]["findings"] == json.loads(ended.out)
    rows = {row["name"]: row for row in json.loads(ended.out)}
    assert all(set(row) == {"name", "passed", "evidence"} for row in rows.values())
    whole = rows["explained"]["evidence"]
    assert "mkldnn" in whole["settings"], whole["conclusion"]
    assert not rows["mkldnn"]["passed"]
    assert rows["mkldnn"]["evidence"]["recorded"] == "false" and rows["mkldnn"]["evidence"]["here"] == "true"
    assert whole["without"] is None or not whole["without"]["bit_exact"]
    nothing = next(cell for cell in whole["cells"] if not cell["restored"])
    assert not nothing["bit_exact"] and nothing["max_abs"] > 0 and nothing["rel_l2"] < 1e-5
    assert any(cell["restored"] == whole["settings"] and cell["bit_exact"] for cell in whole["cells"])
    assert rows["compile"]["evidence"]["skipped"] == "the recorded calls were not compiled"
    assert rows["library"]["passed"] and "--with" in rows["library"]["evidence"]["skipped"]


def test_nothing_is_blamed_where_nothing_matters(recording: Recording) -> None:  # noqa: F811
    """The recorded bits come as it is: one cell tells."""
    model = recording.attach(counting())
    model(torch.zeros(4))
    model(torch.zeros(4))
    found = bisected(recording.write(), f"{MODELS}:counting")
    assert (found.outcome, exit_code(found), len(found.cells)) == (Outcome.NOTHING_MATTERS, 0, 1)


def test_another_answer_under_the_same_settings_is_explained_by_none(recording: Recording) -> None:  # noqa: F811
    """State from calls that are not replayed: exit code 1, and the way on."""
    model = recording.attach(counting())
    model(torch.zeros(4))
    model(torch.zeros(4))
    found = bisected(recording.write(), f"{MODELS}:counting", frames=frozenset({2}))
    assert (found.outcome, exit_code(found)) == (Outcome.UNEXPLAINED, 1)
    assert "look at weights, model code and inputs" in findings(found)[0]["evidence"]["conclusion"]


def test_a_model_that_disagrees_with_itself_is_not_bisected(recording: Recording) -> None:  # noqa: F811
    model = recording.attach(noisy())
    model(torch.zeros(4))
    found = bisected(recording.write(), f"{MODELS}:noisy")
    assert (found.outcome, exit_code(found)) == (Outcome.NONDETERMINISTIC, 5)


def test_what_cannot_be_run_is_said_with_the_remedy(recording: Recording, replay: Any) -> None:  # noqa: F811
    """No model, a factory that raises, wrong options: one sentence, the contract's exit code."""
    recording.attach(counting(), store=False)(torch.zeros(4))
    path = recording.write()
    ended = replay("bisect", path)
    assert ended.code == 3 and "--model pkg.mod:factory" in " ".join(ended.out.split())
    assert replay("bisect", path, "--model", f"{MODELS}:broken").code == 3
    for wrong in (["--with", "torch"], ["--with", "--index-url=x"], ["--with", "a==1 b==2"], ["--budget", "0"]):
        ended = replay("bisect", path, *wrong)
        assert ended.code == 2 and ended.err.count("\n") == 1, ended.err
    assert replay("bisect", path.with_name("missing.zst")).code == 2


def test_another_version_of_a_library_explains_the_bits(recording: Recording, wheels: Path) -> None:  # noqa: F811
    """Installed from a wheel for this run only, and imported by the workers that try it."""
    record = recording.attach(lambda x: x + 1.0)
    record(torch.zeros(4))
    path = recording.write()
    requirement = "flight-recorder-test-library==1.0"
    with installed(requirement) as directory:
        found = bisected(path, "tests.bisect.models:of_library", library=(requirement, directory))
        assert Path(directory).is_dir()
    assert not Path(directory).exists()
    assert found.explanations == (frozenset({"library"}),), found
    assert [factor.recorded for factor in found.factors if factor.name == "library"] == [requirement]


def test_a_version_that_is_nowhere_is_one_sentence(wheels: Path) -> None:  # noqa: F811
    with pytest.raises(LibraryUnavailable, match=r"flight-recorder-test-library==9\.9 could not be installed here"):
        installed("flight-recorder-test-library==9.9").__enter__()


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("torch==2.12.0", True),
        ("torch==2.13.0+cpu", True),
        ("torch", False),
        ("torch>=2", False),
        ("torch==2.12.0 --index-url=http://x", False),
        ("-r==1", False),
        ("torch @ file:///tmp/x", False),
        ("torch==2.*", False),
        ("../x==1", False),
        ("torch==2.12.0\n--pre", False),
    ],
)
def test_only_a_name_and_a_version_reach_pip(text: str, good: bool) -> None:
    assert is_requirement(text) is good


def test_a_version_that_is_not_the_recorded_one_is_left_out(recording: Recording, wheels: Path) -> None:  # noqa: F811
    """The planted batch is found all the same, and the version is said to change the bits."""
    record = recording.attach(lambda x: x.sum((1, 2, 3)) + len(x))
    record(torch.ones(2, 3, 8, 8))
    path = recording.write()
    requirement = "flight-recorder-test-library==2.0"
    with installed(requirement) as directory:
        found = bisected(path, "tests.bisect.models:counts_items", library=(requirement, directory))
    assert found.explanations == (frozenset({"batch"}),), found
    assert found.skipped["library"] == f"{requirement} is not what was recorded: the bits are others with it"


def test_a_device_that_is_not_here_is_named_and_nothing_is_blamed(recording: Recording, replay: Any) -> None:  # noqa: F811
    """No machine has a hundredth GPU: exit code 3 with the device in the sentence."""
    model = recording.attach(counting())
    model(torch.zeros(4))
    ended = replay("bisect", recording.write(), "--device", "cuda:99", "--model", f"{MODELS}:counting", "--json")
    assert ended.code == 3, ended.err
    whole = json.loads(ended.out)[0]["evidence"]
    assert whole["outcome"] == "not replayable here" and "device cuda:99 cannot be used" in whole["conclusion"]


def test_another_device_than_the_recorded_is_a_setting(
    recording: Recording,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Restored, the calls run where they were recorded; left alone, where ``--device`` says."""
    model = recording.attach(counting())
    model(torch.zeros(4))
    model(torch.zeros(4))
    devices: list[str | None] = []

    class Observed(Session):
        def __init__(self, *arguments: Any, device: str | None, **options: Any) -> None:
            devices.append(device)
            super().__init__(*arguments, device=device, **options)

    monkeypatch.setattr("replay.bisect.cells.Session", Observed)
    monkeypatch.setattr("replay.bisect.bisection.recorded_device", lambda _call: "cuda:0")
    found = bisected(recording.write(), f"{MODELS}:counting", frames=frozenset({2}), device="cpu")
    factor = next(each for each in found.factors if each.name == "device")
    assert (factor.recorded, factor.here) == ("cuda:0", "cpu")
    assert frozenset({"device"}) in {cell.restored for cell in found.cells}
    assert set(devices) == {"cpu", None}
