"""The commands of the pages do what the pages say, in order, in a folder that has what they name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import RUN_BY, SHELL, Block, every_block
from tests.docs.scratch import PREPARED, plain, record
from tests.docs.shell import Scratch, run, steps

_PAGES: dict[str, list[Block]] = {}
for _block in every_block():
    if _block.language in SHELL and not (_block.exempt or _block.test) and _block.page not in RUN_BY:
        _PAGES.setdefault(_block.page, []).append(_block)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a small service left."""
    return record(tmp_path_factory.mktemp("service"))


@pytest.mark.parametrize("page", _PAGES)
def test_a_pages_commands_run(page: str, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(recording, tmp_path / "here", ignore=lambda *_: ["rings"])
    scratch = Scratch.at(tmp_path / "here", monkeypatch)
    with PREPARED.get(page, plain)(scratch):
        for block in _PAGES[page]:
            for step in steps(block):
                run(step, scratch)
