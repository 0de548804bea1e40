"""What holds for every room: a process's memory of one test is no part of the next."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

import replay.process
from tests.nursery import Nurseries

# The same examples in every run: what a new one finds should not stop somebody else's change.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _no_client_of_another_test() -> Iterator[None]:
    """A client for S3 keeps the credentials that it was made with."""
    yield
    if (source := sys.modules.get("recorder.sinks.s3.source")) is not None:
        source.reading_client.cache_clear()


@pytest.fixture(scope="session")
def nurseries() -> Iterator[Nurseries]:
    """What most replay workers of the tests are forked from."""
    nurseries = Nurseries()
    yield nurseries
    nurseries.close()


@pytest.fixture
def no_nursery() -> None:
    """For tests of how a worker starts: it starts as it does in production."""


@pytest.fixture(autouse=True)
def _workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "no_nursery" not in request.fixturenames:
        start = functools.partial(request.getfixturevalue("nurseries").start, replay.process.start_process)
        monkeypatch.setattr(replay.process, "start_process", start)
