"""The sink of docs/extending.md is one: it passes what every sink passes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.sinks.conformance import SinkConformance

_CODE = [block.text for block in blocks(ROOT / "docs" / "extending.md") if block.language == "python"]


def _conformance() -> type[SinkConformance]:
    """The class that the page shows, with the module that it shows before."""
    archive = ModuleType("line_archive")
    exec(next(text for text in _CODE if text.startswith("# line_archive.py")), archive.__dict__)
    names: dict[str, object] = {"Path": Path}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "line_archive", archive)
        exec(next(text for text in _CODE if "TestIndexedSink" in text), names)
    found = names["TestIndexedSink"]
    assert isinstance(found, type) and issubclass(found, SinkConformance)
    return found


TestIndexedSink = _conformance()
