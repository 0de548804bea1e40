"""The page in Chromium: seen, operated, and silent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.report.chromium import Chromium, Page

SHOTS: dict[str, dict[str, Any]] = {
    "light": {}, "dark": {"dark": True}, "narrow": {"width": 400}, "no-script": {"script": False},
}  # fmt: skip


def _folder(tmp_path: Path) -> Path:
    """Screenshots stay where REPORT_SCREENSHOTS says, for people to look at."""
    folder = Path(os.environ.get("REPORT_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("look", SHOTS)
@pytest.mark.parametrize("which", ["page", "attacked"])
def test_it_shows_and_stays_silent(
    which: str, look: str, browser: Chromium, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No error in the console, no request, nothing wider than the screen, one frame in the viewer."""
    tab = Page(browser, request.getfixturevalue(which), **SHOTS[look])
    shot = _folder(tmp_path) / f"{which}-{look}.png"
    tab.screenshot(shot)
    assert shot.stat().st_size > 10_000
    assert tab.complaints() == []
    assert tab.requests() == []
    if look != "no-script":
        assert tab.value("document.documentElement.scrollWidth <= innerWidth")
        assert tab.value("[...document.querySelectorAll('.frame')].filter(e => e.offsetHeight).length") == 1
        took = tab.value("performance.getEntriesByType('navigation')[0].loadEventEnd")
        size = request.getfixturevalue(which).stat().st_size
        print(f"{which}, {look}: {size / 1e6:.2f} MB, loaded in {took:.0f} ms")
    tab.close()


def test_it_prints(page: Path, browser: Chromium, tmp_path: Path) -> None:
    """As a PDF of a few pages."""
    tab = Page(browser, page)
    printed = _folder(tmp_path) / "printed.pdf"
    tab.pdf(printed)
    assert printed.read_bytes().startswith(b"%PDF-")
    tab.close()


def test_keys_step_through_the_frames(page: Path, browser: Chromium) -> None:
    """Arrows by one, End and Home with the filmstrip in focus."""
    tab = Page(browser, page)
    ids = "[...document.querySelectorAll('.frame')].map(e => e.dataset.id)"
    every = tab.value(ids)
    now = "document.querySelector('.frame.current').dataset.id"
    start = every.index(tab.value(now))
    tab.key("ArrowRight")
    assert tab.value(now) == every[start + 1]
    tab.key("ArrowLeft")
    assert tab.value(now) == every[start]
    tab.value("document.querySelector('#tracks').focus()")
    tab.key("End")
    assert tab.value(now) == every[-1]
    tab.key("Home")
    assert tab.value(now) == every[0]
    assert tab.value("document.querySelector('.strip .current').dataset.id") == every[0]
    assert tab.complaints() == []
    tab.close()


def test_the_mouse_scrubs(page: Path, browser: Chromium) -> None:
    """A press on the strip shows the frame under it."""
    tab = Page(browser, page)
    tab.value("document.querySelector('#tracks').scrollIntoView()")
    tab.value("document.querySelector('#tracks').scrollLeft = 0")
    place = tab.value(
        "(() => { const b = document.querySelectorAll('.strip a')[5].getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2] })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        tab.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
    assert tab.value("[...document.querySelectorAll('.frame')].findIndex(e => e.matches('.current'))") == 5
    tab.close()


def test_the_comparator_swipes_and_blinks(page: Path, browser: Chromium, tmp_path: Path) -> None:
    """With reduced motion nothing moves by itself: blinking is by hand."""
    tab = Page(browser, page, calm=True)
    press = "document.querySelector('.modes [data-mode={}]').click()"
    tab.value(press.format("swipe"))
    tab.value(
        "(() => { const s = document.querySelector('#swiper'); s.value = 25; s.dispatchEvent(new Event('input')) })()"
    )
    assert "25%" in tab.value("getComputedStyle(document.querySelector('.pair .bad')).clipPath")
    tab.screenshot(_folder(tmp_path) / "swipe.png", whole=False)
    bad = "getComputedStyle(document.querySelector('.pair .bad')).visibility"
    tab.value(press.format("blink"))
    assert tab.value(bad) == "visible"
    tab.value(press.format("blink"))
    assert tab.value(bad) == "hidden"
    assert tab.complaints() == []
    tab.close()


def test_without_script_a_link_of_the_strip_shows_its_frame(page: Path, browser: Chromium) -> None:
    """The fragment chooses the frame; plots and first screen are there already."""
    [start] = [tag for tag in page.read_text("utf-8").split("<article") if tag.startswith(' class="frame start')]
    first = start.partition('id="')[2].partition('"')[0]
    tab = Page(browser, page, script=False)
    assert tab.height(f"#{first}") > 100
    tab.close()
    tab = Page(browser, page, script=False, fragment="#frame-9")
    assert tab.height("#frame-9") > 100
    assert tab.height(".pair img") > 100
    assert tab.height(".plot svg") > 20
    assert tab.complaints() == []
    tab.close()


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(dark: bool, page: Path, browser: Chromium) -> None:
    """WCAG AA asks for 4.5 to 1, of every colour that text has."""
    tab = Page(browser, page, dark=dark)
    ratios = tab.value(
        """(() => {
          const style = getComputedStyle(document.documentElement);
          const light = (name) => {
            const hex = style.getPropertyValue(name).trim().slice(1);
            const [r, g, b] = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
              .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const pairs = [];
          for (const ground of ["--ground", "--card"])
            for (const ink of ["--ink", "--soft", "--bad", "--good", "--unsure"]) {
              const [a, b] = [light(ground), light(ink)];
              pairs.push((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
            }
          return pairs;
        })()"""
    )
    assert min(ratios) >= 4.5
    tab.close()
