"""The commands of the pages do what the pages say, in order, in a folder that has what they name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import Block, every_block
from tests.docs.scratch import PREPARED, plain, record
from tests.docs.shell import Scratch, run, steps

#: Run elsewhere: the README by test_readme, the tutorial where its incident is, the suite's session by tests/suite.
_ELSEWHERE = {"README.md", "docs/tutorial.md"}
_PAGES: dict[str, list[Block]] = {}
for _block in every_block():
    if _block.language in ("sh", "console") and not (_block.exempt or _block.test) and _block.page not in _ELSEWHERE:
        _PAGES.setdefault(_block.page, []).append(_block)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a small service left."""
    return record(tmp_path_factory.mktemp("service"))


@pytest.mark.parametrize("page", _PAGES)
def test_a_pages_commands_run(page: str, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    shutil.copytree(recording, here, ignore=lambda *_: ["rings"])
    for name in [name for name in os.environ if name.startswith(("AWS_", "REPLAY_", "FLIGHT_RECORDER_"))]:
        monkeypatch.delenv(name)
    for name, value in {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "XDG_STATE_HOME": "state"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(here)
    scratch = Scratch(here, monkeypatch)
    with PREPARED.get(page, plain)(scratch):
        for block in _PAGES[page]:
            for step in steps(block):
                run(step, scratch)
