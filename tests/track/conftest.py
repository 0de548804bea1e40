"""Footage that is closed with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Bundle
from recorder.sealer.assemble import assemble
from recorder.sealer.window import ClosedWindow
from tests.track.footage import Footage


@pytest.fixture
def film(tmp_path: Path) -> Iterator[Callable[..., Footage]]:
    """Return a function that begins a recording."""
    made: list[Footage] = []

    def begin(**arguments: Any) -> Footage:
        footage = Footage(tmp_path / f"host-{len(made)}" / "host.ring", **arguments)
        made.append(footage)
        return footage

    yield begin
    for footage in made:
        footage.close()


@pytest.fixture
def seal(tmp_path: Path) -> Iterator[Callable[[ClosedWindow], Bundle]]:
    """Return a function that seals a window and opens the bundle."""
    opened: list[Bundle] = []

    def seal_window(window: ClosedWindow) -> Bundle:
        scratch = tmp_path / f"scratch-{len(opened)}"
        scratch.mkdir()
        path = assemble(window.incident, window.records, window.latched, scratch, track=window.track)
        opened.append(Bundle.open(path))
        return opened[-1]

    yield seal_window
    for bundle in opened:
        bundle.close()
