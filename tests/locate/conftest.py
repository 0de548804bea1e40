"""Shared by the tests of locate: bundles of calls, and a `locate_bundle` that ignores the user's config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Bundle
from replay.load import UserConfig
from replay.locate.bundle import LocateOptions, LocateResult, locate_bundle
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import ReplayResult
from tests.replay.bundles_of_calls import Recording

MODELS = "tests.locate.models_for_tests"
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


@pytest.fixture
def located() -> Callable[..., LocateResult]:
    """Locate in a bundle, with models of the test's own or of the examples."""

    def run(path: Path, *against: str, **options: Any) -> LocateResult:
        chosen = {
            "against": against,
            "bundle_path": path,
            "config": UserConfig(),
            "model_directory": str(EXAMPLES),
            **options,
        }
        with Bundle.open(path) as bundle:
            return locate_bundle(bundle, LocateOptions(**chosen))

    return run


@pytest.fixture
def replayed() -> Callable[..., ReplayResult]:
    """Replay a bundle in one pass unless told otherwise."""

    def run(path: Path, **options: Any) -> ReplayResult:
        with Bundle.open(path) as bundle:
            chosen = {"bundle_path": path, "config": UserConfig(), "repeat": 1, **options}
            return replay_bundle(bundle, ReplayOptions(**chosen))

    return run
