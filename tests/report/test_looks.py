"""How the page looks: screenshots of every kind, kept where REPORT_SCREENSHOTS says, and what is really shown."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.report.audit import audit, shown
from tests.report.chromium import Chromium, Page

LOOKS: dict[str, dict[str, Any]] = {
    "light": {}, "dark": {"dark": True}, "narrow": {"width": 360}, "no-script": {"script": False},
    "print": {"media": "print", "width": 794},
}  # fmt: skip

#: The page of sixty-four frames; of an attack; of everything at once: streams, a cause, findings, a comparison.
SHOTS = [(which, look) for which in ("page", "whole") for look in LOOKS]
SHOTS += [("attacked", look) for look in ("light", "narrow", "print")]


def folder(tmp_path: Path) -> Path:
    """Screenshots stay where REPORT_SCREENSHOTS says, for people to look at."""
    kept = Path(os.environ.get("REPORT_SCREENSHOTS") or tmp_path)
    kept.mkdir(parents=True, exist_ok=True)
    return kept


@pytest.mark.parametrize(("which", "look"), SHOTS)
def test_nothing_is_amiss(
    which: str, look: str, browser: Chromium, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Nothing wider than the screen, text that stands out, names for everything, no error, no request, one frame."""
    tab = Page(browser, request.getfixturevalue(which), **LOOKS[look])
    tab.screenshot(folder(tmp_path) / f"{which}-{look}.png")
    assert audit(tab) == []
    assert shown(tab, "h1") == 1
    assert shown(tab, ".verdict") == 1
    assert shown(tab, ".frame") == 1
    assert shown(tab, "article .frame-image img, article .no-image") == 1
    assert shown(tab, ".strip a") >= 1
    if look == "no-script":  # nothing that would do nothing
        assert shown(tab, "#hint, .modes, #copy, .cursor, .swiper") == 0
    if which == "whole":
        _findings_are_shown(tab)
        _lanes_are_shown(tab)
    if look == "print":
        _prints(tab, folder(tmp_path) / f"{which}.pdf")
    tab.close()


def _findings_are_shown(tab: Page) -> None:
    """The layer that is first to differ, marked; the setting that explains; probes; the cause; what changed."""
    first = "document.querySelector('.layer-tree .root .layer').innerText"
    assert "first to differ" in tab.value(first)
    assert "features.2.conv" in tab.value(first)
    assert shown(tab, ".layer-tree .root") == 2  # the layer, and the operator in it
    assert shown(tab, ".layer-tree .number") > 8
    assert tab.value("document.querySelector('.explains').innerText").split()[:3] == ["threads", "2", "1"]
    assert shown(tab, ".probe summary") == 3
    assert shown(tab, ".probe[open] .curve svg") == 1
    why = tab.value("document.querySelector('.why').innerText")
    assert "darker, 1.4 stops" in why
    assert "call settings" in why  # against the other bundle
    assert "1 fail (light-level), 1 undecided, 1 pass" in why


def _lanes_are_shown(tab: Page) -> None:
    """The incident's stream first; frames of one moment have one place across."""
    names = tab.value("[...document.querySelectorAll('.lane')].map((e) => e.getAttribute('aria-label'))")
    assert names == ["Stream line-3", "Stream line-1", "Stream line-2, above the gate"]
    assert shown(tab, ".lane-name") == 3
    assert shown(tab, ".strip a") == 30
    links = (
        "[...lane.querySelectorAll('.strip a')].map((a) => [a.dataset.id, Math.round(a.getBoundingClientRect().left)])"
    )
    places = tab.value(f"[...document.querySelectorAll('.lane')].map((lane) => Object.fromEntries({links}))")
    assert all(places[0][str(1 + 3 * n)] == places[1][str(2 + 3 * n)] for n in range(10))
    assert [places[0][str(1 + 6 * n)] for n in range(5)] == [places[2][str(3 + 3 * n)] for n in range(5)]
    assert (
        tab.value("document.querySelectorAll('.lane')[1].querySelector('.plot').querySelectorAll('.dot').length") == 10
    )


def _prints(tab: Page, path: Path) -> None:
    """As a PDF of a few pages."""
    tab.pdf(path)
    data = path.read_bytes()
    assert data.startswith(b"%PDF-")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", data)) <= 12
