"""The page in Chromium: seen, operated, and silent."""

from __future__ import annotations

from pathlib import Path

from tests.report.audit import shown
from tests.report.chromium import Chromium, Page
from tests.report.test_looks import folder


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
    tab.screenshot(folder(tmp_path) / "swipe.png", whole=False)
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


def test_keys_change_the_lane_at_the_same_moment(whole: Path, browser: Chromium) -> None:
    """Up and down with the filmstrip in focus; where a lane has no frame at that moment, the nearest one."""
    tab = Page(browser, whole)
    now = (
        "(() => { const a = document.querySelector('.strip .current'), c = a.parentElement; return "
        "[a.closest('.lane').getAttribute('aria-label'), [...c.parentElement.children].indexOf(c), a.dataset.id] })()"
    )
    tab.key("ArrowDown")
    begin = tab.value(now)
    assert begin[0] == "Stream line-3"  # elsewhere this key scrolls the page
    tab.value("document.querySelector('#tracks').focus()")
    tab.key("ArrowDown")
    assert tab.value(now)[:2] == ["Stream line-1", begin[1]]
    tab.key("ArrowDown")
    lane, column, _ = tab.value(now)
    assert lane.startswith("Stream line-2")
    assert abs(column - begin[1]) <= 1
    tab.key("Home")
    first = tab.value(now)
    tab.key("ArrowRight")
    assert tab.value(now)[0] == lane
    assert tab.value(now)[1] - first[1] == 2  # it sees every second moment
    tab.key("ArrowUp")
    tab.key("ArrowUp")
    tab.key("ArrowUp")
    assert tab.value(now)[0] == "Stream line-3"
    assert tab.value("document.querySelector('.frame.current').dataset.id") == tab.value(now)[2]
    tab.value("document.querySelector('#tracks').scrollIntoView()")
    place = tab.value(
        "(() => { const b = document.querySelector('.strip a[data-id=\"14\"]').getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2] })()"
    )
    for kind in ("mousePressed", "mouseReleased"):  # the mouse takes the lane that it is over
        tab.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
    assert tab.value(now)[::2] == ["Stream line-1", "14"]
    assert tab.complaints() == []
    tab.close()


def test_everything_is_reached_and_operated_by_keys(whole: Path, browser: Chromium) -> None:
    """Tab stops at every control in its order, each time to be seen; Enter opens and closes a part of the tree."""
    tab = Page(browser, whole)
    stop = (
        "(() => { const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();"
        " if (e === document.body) return null; if (!window.stops) window.stops = []; window.stops.push(e);"
        " return [e.tagName, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 && b.height > 0"
        " && b.bottom > 0 && b.top < innerHeight] })()"
    )
    stops = []
    while True:
        tab.key("Tab")
        if (found := tab.value(stop)) is None or len(stops) > 200:
            break
        stops.append(found)
    assert all(visible for _, visible in stops), stops
    operable = (
        "[...document.querySelectorAll('a[href], button, input, summary, [tabindex=\"0\"]')]"
        ".filter((e) => e.checkVisibility({visibilityProperty: true}) && e.tabIndex >= 0)"
    )
    assert tab.value(f"{operable}.filter((e) => !window.stops.includes(e)).map((e) => e.outerHTML.slice(0, 80))") == []
    tab.value("document.querySelector('.layer-tree .root').closest('details').querySelector('summary').focus()")
    assert shown(tab, ".layer-tree .root") > 0
    tab.key("Enter")
    assert shown(tab, ".layer-tree .root") == 0
    tab.key("Enter")
    assert shown(tab, ".layer-tree .root") > 0
    tab.close()
