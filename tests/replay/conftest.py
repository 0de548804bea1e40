"""Shared by the tests of replay: a recording in a temporary directory, and a replay that ignores the user's config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Bundle
from replay.load import UserConfig
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import ReplayResult
from tests.replay.bundles_of_calls import Recording

MODELS = "tests.replay.models_for_tests"


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


@pytest.fixture
def replayed() -> Callable[..., ReplayResult]:
    """Replay a bundle with the factory of that name, in one pass unless told otherwise."""

    def run(path: Path, factory: str | None = None, **options: Any) -> ReplayResult:
        model = (f"{MODELS}:{factory}",) if factory else ()
        chosen = {"model": model, "bundle_path": path, "config": UserConfig(), "repeat": 1, **options}
        with Bundle.open(path) as bundle:
            return replay_bundle(bundle, ReplayOptions(**chosen))

    return run
