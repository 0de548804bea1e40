"""What holds for every room: a process's memory of one test is no part of the next."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import recorder.export
import replay.process
from tests.nursery import Nurseries

# The same examples in every run: what a new one finds should not stop somebody else's change. And no clock: how long an
# example takes is the machine's matter.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _no_client_of_another_test() -> Iterator[None]:
    """A client for S3 keeps the credentials that it was made with."""
    yield
    if (source := sys.modules.get("recorder.sinks.s3.source")) is not None:
        source.reading_client.cache_clear()


@pytest.fixture(scope="session")
def nurseries() -> Iterator[Nurseries]:
    """What replay workers and exports of graphs are forked from."""
    nurseries = Nurseries()
    yield nurseries
    nurseries.close()


@pytest.fixture
def no_nursery() -> None:
    """For tests of how a worker or an export starts: as it does in production."""


@pytest.fixture(autouse=True)
def _children_of_nurseries(
    request: pytest.FixtureRequest, nurseries: Nurseries, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "no_nursery" not in request.fixturenames:
        for module, start in ((replay.process, nurseries.worker), (recorder.export, nurseries.exporter)):
            monkeypatch.setattr(module, "start_process", functools.partial(start, module.start_process))
