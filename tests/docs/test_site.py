"""The site: its links lead somewhere, it builds strictly, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import PAGES, ROOT


def test_relative_links_resolve() -> None:
    """In the repository; the site's own are checked by the strict build, anchors too."""
    outside_of_blocks = ((page, re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)) for page in PAGES)
    for page, text in outside_of_blocks:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            generated = page.parent == ROOT / "docs" and target == "format.md"  # docs/hooks.py makes it
            assert generated or re.match(r"https?://", target) or (page.parent / target).exists(), f"{page}: {target}"


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    loaded = r"<(?:script|img|iframe|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?:https?:)?//"
    assert [page for page in pages if re.search(loaded, page.read_text(encoding="utf-8"))] == []
