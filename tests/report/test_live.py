"""The list in Chromium: found by keyboard, followed without loading again, and silent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Manifest
from tests.attacks.bundles import attack_bundle
from tests.bundles import small_bundle
from tests.cli.conftest import rewrite
from tests.live.visitor import Visitor, served
from tests.report.chromium import Chromium, Page
from tests.waiting import wait_for

SHOTS: dict[str, dict[str, Any]] = {
    "light": {}, "dark": {"dark": True}, "narrow": {"width": 400}, "no-script": {"script": False},
}  # fmt: skip

_HOUR_NS = 3600 * 10**9
#: Camera, cause, model, hours before the newest.
INCIDENTS = [("dock", "darker", "detector", 0), ("line-3", "motion-blur", "classifier", 5), ("gate", None, "depth", 30)]


def _incident(folder: Path, number: int) -> Path:
    """One whose strings are those of a factory."""
    camera, cause, model, hours = INCIDENTS[number]

    def changed(manifest: Manifest) -> Manifest:
        incident = manifest.incident
        return replace(
            manifest,
            incident=replace(
                incident,
                stream=camera,
                opened_ns=incident.opened_ns - hours * _HOUR_NS,
                cause=None if cause is None else {"cause": cause, "confidence": 0.8},
            ),
            models=tuple(replace(each, name=model) for each in manifest.models),
        )

    plain = small_bundle(folder / f".{camera}.zst", seed=number, height=96, width=128)
    made = rewrite(plain, folder / f"20260301T03000{number}.000000Z-{camera}.zst", changed)
    plain.unlink()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three incidents, one that attacks with all its strings, and a broken file."""
    made = tmp_path_factory.mktemp("incidents")
    for number in range(len(INCIDENTS)):
        _incident(made, number)
    (made / "attack.zst").write_bytes(attack_bundle("strings-in-everything"))
    (made / "broken.zst").write_bytes(b"\x28\xb5\x2f\xfd broken")
    return made


@pytest.fixture(scope="module")
def visitor(folder: Path) -> Iterator[Visitor]:
    """Of a server of these."""
    with served(str(folder)) as made:
        yield made


def _folder(tmp_path: Path) -> Path:
    """Screenshots stay where REPORT_SCREENSHOTS says, for people to look at."""
    return Path(os.environ.get("REPORT_SCREENSHOTS") or tmp_path)


def _strangers(tab: Page, visitor: Visitor) -> list[str]:
    """Addresses asked for that are not the server's."""
    own = f"http://127.0.0.1:{visitor.server.port}/"
    return [url for url in tab.requests() if not url.startswith((own, "data:,"))]


def _titles(tab: Page) -> list[str]:
    shown: list[str] = tab.value("[...document.querySelectorAll('#incidents li a')].map(e => e.textContent)")
    return shown


def _press(tab: Page, key: str, text: str = "") -> None:
    code = {"Enter": 13, "Tab": 9}.get(key, 0)
    more = {"windowsVirtualKeyCode": code, "key": key, "code": key}
    tab.send("Input.dispatchKeyEvent", type="keyDown", text=text, **more)
    tab.send("Input.dispatchKeyEvent", type="keyUp", **more)


@pytest.mark.parametrize("look", SHOTS)
def test_the_list_shows_and_stays_silent(look: str, visitor: Visitor, browser: Chromium, tmp_path: Path) -> None:
    """No error in the console, nothing asked of others, nothing wider than the screen."""
    tab = Page(browser, visitor.server.address, **SHOTS[look])
    if look != "no-script":  # they are loaded as they come into sight
        wait_for(lambda: tab.value("[...document.images].every(e => e.naturalWidth > 0)"))
    tab.screenshot(_folder(tmp_path) / f"live-{look}.png")
    assert tab.complaints() == [] and _strangers(tab, visitor) == []
    if look == "no-script":
        assert tab.height("#incidents img") > 40
    else:
        assert tab.value("location.href").endswith("/")  # the token is out of sight
        assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    tab.close()


@pytest.mark.parametrize(
    ("field", "typed", "value", "left"),
    [
        ("cause", "m", "motion-blur", 1),
        ("model", "c", "classifier", 1),
        ("stream", "g", "gate", 1),
        ("since", "2100-01-01", "2100-01-01", 0),
    ],
)
def test_keys_filter_open_and_come_back(
    field: str, typed: str, value: str, left: int, visitor: Visitor, browser: Chromium
) -> None:
    """A choice and Enter; of one, Tab to the incident, Enter, and back to the same filtered list."""
    tab = Page(browser, visitor.server.address)
    name = json.dumps(f"[name={field}]")
    tab.value(f"document.querySelector({name}).focus()")
    if field == "since":
        tab.send("Input.insertText", text=typed)
    else:  # a choice is found by its first letter
        _press(tab, typed, typed)
    assert tab.value(f"document.querySelector({name}).value") == value
    tab.value("document.querySelector('form button').focus()")
    tab.go(lambda: _press(tab, "Enter", "\r"))
    assert f"{field}={value}" in tab.value("location.search")
    assert len(_titles(tab)) == left
    assert tab.value(f"document.querySelector({name}).value") == value
    if field == "cause":
        presses = 0
        while not tab.value("document.activeElement.matches('#incidents a')"):
            _press(tab, "Tab")
            presses += 1
            assert presses < 12
        tab.go(lambda: _press(tab, "Enter", "\r"))
        assert tab.value("location.pathname").startswith("/incident/")
        assert "confidence 0.31" in tab.value("document.body.textContent")
        tab.go(lambda: tab.value("history.back()"), loads=False)  # it may be kept
        wait_for(lambda: tab.value("location.pathname") == "/" and len(_titles(tab)) == left)
        assert f"{field}={value}" in tab.value("location.search")
    assert tab.complaints() == [] and _strangers(tab, visitor) == []
    tab.close()


def test_the_list_follows_what_arrives(visitor: Visitor, folder: Path, browser: Chromium, tmp_path: Path) -> None:
    """A new incident comes, a removed one goes; the focus and what was typed stay."""
    tab = Page(browser, visitor.server.address)
    before = _titles(tab)
    tab.value("document.querySelector('[name=text]').value = 'half typ'")
    tab.value("document.querySelector('#incidents li:last-child a, #incidents li a').focus()")
    focused = tab.value("document.activeElement.href")
    tab.value("window.sameDocument = true")
    new = small_bundle(folder / "new.zst", seed=9)
    wait_for(lambda: len(_titles(tab)) == len(before) + 1)
    assert tab.value("document.querySelector('.new').textContent").find("new.zst") > 0
    assert "1 new at" in tab.value("document.querySelector('#news').textContent")
    tab.screenshot(_folder(tmp_path) / "live-new.png")
    new.unlink()
    wait_for(lambda: _titles(tab) == before)
    assert tab.value("window.sameDocument && document.querySelector('[name=text]').value") == "half typ"
    assert tab.value("document.activeElement.href") == focused
    assert tab.complaints() == [] and _strangers(tab, visitor) == []
    tab.close()
