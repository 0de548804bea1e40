"""The site: its links lead somewhere, it builds strictly, and loads nothing from elsewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT


def test_relative_links_resolve() -> None:
    """In the repository; the site's own are checked by the strict build, anchors too."""
    outside_of_blocks = ((page, re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)) for page in PAGES)
    for page, text in outside_of_blocks:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            generated = page.parent == ROOT / "docs" and target == "format.md"  # docs/hooks.py makes it
            assert generated or re.match(r"https?://", target) or (page.parent / target).exists(), f"{page}: {target}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    directory = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return directory


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    loaded = r"<(?:script|img|iframe|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?:https?:)?//"
    assert [page for page in pages if re.search(loaded, page.read_text(encoding="utf-8"))] == []


#: What programs may rely on: these stand in the reference, with every name that they declare.
PUBLIC = {
    "recorder", "recorder.triggers", "recorder.privacy", "recorder.profile", "recorder.sinks",
    "recorder.adapters.fastapi", "recorder.adapters.litserve", "recorder.adapters.prometheus",
    "recorder.adapters.opentelemetry", "recorder.bundle", "recorder.bundle.rewrite", "replay.run", "replay.options",
    "replay.verdict", "replay.result", "replay.probe.trial", "replay.probe.finding",
}  # fmt: skip


def test_every_public_name_stands_in_the_reference(site: Path) -> None:
    named = set(re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.M))
    assert named >= PUBLIC
    shown = set(re.findall(r'<h\d id="([\w.]+)"', (site / "api.html").read_text(encoding="utf-8")))
    modules = {name: importlib.import_module(name) for name in PUBLIC}
    for module in modules.values():
        for name in module.__all__:
            same = [place for place, other in modules.items() if getattr(other, name, None) is getattr(module, name)]
            assert any(f"{place}.{name}" in shown for place in same), f"{module.__name__}.{name}"
