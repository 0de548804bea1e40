"""Every recorder of these tests keeps its ring in the test's own directory and is closed with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recorder import FlightRecorder
from recorder.bundle import Bundle


@pytest.fixture
def make_recorder(tmp_path: Path) -> Iterator[Callable[..., FlightRecorder]]:
    """Return a function that makes a recorder with a small ring under the test's directory."""
    made: list[FlightRecorder] = []

    def make(**arguments: Any) -> FlightRecorder:
        ring = tmp_path / f"ring-{len(made)}" / "host.ring"
        defaults: dict[str, Any] = {
            "sink": tmp_path / "incidents",
            "ring": ring,
            "max_bytes": 16 * 2**20,
            "post_seconds": 0.5,
            "overhead_budget": 1,  # tests record as fast as they can; a service waits for its camera
        }
        recorder = FlightRecorder(**{**defaults, **arguments})
        made.append(recorder)
        return recorder

    yield make
    for recorder in made:
        recorder.close(timeout=120)


@pytest.fixture
def bundles(tmp_path: Path) -> Callable[[], list[Bundle]]:
    """Return a function that opens every bundle in the test's sink, oldest first."""

    def open_all() -> list[Bundle]:
        found = sorted((tmp_path / "incidents").glob("*.zst"), key=lambda path: path.stat().st_mtime_ns)
        return [Bundle.open(path) for path in found]

    return open_all


class TinyNet(torch.nn.Module):
    """Three classes from a 4 by 4 image; `fail` makes the next call raise."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.body = torch.nn.Linear(16, 3)
        with torch.no_grad():
            self.body.weight.copy_(torch.randn(3, 16, generator=generator))
            self.body.bias.zero_()
        self.fail: Exception | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.fail is not None:
            raise self.fail
        return self.body(x.flatten(1))


@pytest.fixture
def net() -> TinyNet:
    """Return a tiny classifier in evaluation mode."""
    return TinyNet().eval()
