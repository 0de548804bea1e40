"""docs/suite.md tells the truth: the example prints what stands there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.product.conftest import ROOT, run

BUNDLE = r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{12}"


def test_the_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    done = run(ROOT / "examples" / "suite.py", "incidents", cwd=tmp_path, COLUMNS="80")
    assert done.returncode == 0, done.stdout + done.stderr
    [shown] = re.findall(r"```console\n(.*?)```", (ROOT / "docs" / "suite.md").read_text(encoding="utf-8"), re.DOTALL)
    printed = done.stdout.replace(str(ROOT / "examples"), "examples")
    assert re.sub(BUNDLE, "BUNDLE", printed).strip() == re.sub(BUNDLE, "BUNDLE", shown).strip()
