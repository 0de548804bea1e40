"""What a person would see amiss on the page, measured in the browser."""

from __future__ import annotations

from pathlib import Path

from tests.report.chromium import Page

__all__ = ["audit", "shown"]

_SCRIPT = Path(__file__).with_name("audit.js").read_text("utf-8")


def audit(tab: Page) -> list[str]:
    """Return what is amiss, nothing when all is well.

    Overflow, squeezed or small text, contrast, names, broken pictures; what the console said, what was asked of a
    network. Works with the page's script switched off too.
    """
    amiss: list[str] = tab.value(_SCRIPT)
    return amiss + tab.complaints() + tab.requests()


def shown(tab: Page, selector: str) -> int:
    """Return how many elements of a kind are painted."""
    seen = "e.checkVisibility({visibilityProperty: true}) && e.getBoundingClientRect().height > 0"
    count: int = tab.value(f"[...document.querySelectorAll({selector!r})].filter((e) => {seen}).length")
    return count
