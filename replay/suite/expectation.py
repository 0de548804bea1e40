"""What a case expects of a candidate, as it stands in ``suite.toml`` and after ``--expect``.

============================== ==============================================================================
``class=scratch``, ``class=3`` the answer's class, by index or by name
``not=dent``                   any class but this one
``confidence>=.8``             how sure the answer is (`recorder.signals.confidence`); also ``>``, ``<=``, ``<``
``boxes~gt.json``              the boxes of that file, each overlapped by one of the answer's, and no others
``same-as-recorded``           the recorded decision, whatever the numbers (the ladder's *same-decision*)
``no-failure``                 the trigger that opened the incident does not fire, and nothing is raised
``stable:image.blur=0..2``     the same prediction while the picture changes (edits as of ``replay run --set``)
============================== ==============================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from replay.pipeline.edits import Edit, parse_edit
from replay.show.text import inert

__all__ = ["MAX_CHARS", "BadExpectation", "Expectation", "parse_expectation"]

#: Longer than any class name in use; a suite is untrusted.
MAX_CHARS = 200

#: Pictures tried between the ends of a range, the ends included: a decision that flips between two of them and flips
#: back would be missed, which costs less than running a hundred.
STEPS = 5

_CONFIDENCE = re.compile(r"confidence\s*(>=|<=|>|<)\s*(\d*\.?\d+)")
_RANGE = re.compile(r"(-?\d*\.?\d+)\.\.(-?\d*\.?\d+)")
_FORMS = (
    "class=NAME, not=NAME, confidence>=NUMBER, boxes~FILE.json, same-as-recorded, no-failure, "
    "stable:image.brightness=0.8..1.2"
)


class BadExpectation(ValueError):
    """Text that is no expectation; the message is one sentence with the choices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One expectation.

    Attributes:
        kind: "class", "not", "confidence", "boxes", "same-as-recorded", "no-failure" or "stable".
        text: as it is written.
        name: the class's name or index; the file of boxes.
        operator: of "confidence".
        bound: of "confidence", from 0 to 1.
        edits: of "stable": the changes of the picture to try, one at a time.
    """

    kind: str
    text: str
    name: str = ""
    operator: str = ""
    bound: float = 0.0
    edits: tuple[Edit, ...] = ()


def parse_expectation(text: str) -> Expectation:
    """Read one expectation.

    Raises:
        BadExpectation: it has none of the forms, or names what there is not.
    """
    text = text.strip()
    if len(text) > MAX_CHARS or text != inert(text, MAX_CHARS):
        raise BadExpectation(f"an expectation is one line of at most {MAX_CHARS} visible characters")
    if text in ("same-as-recorded", "no-failure"):
        return Expectation(kind=text, text=text)
    if found := _CONFIDENCE.fullmatch(text):
        bound = float(found[2])
        if bound > 1:
            raise BadExpectation(f"{text}: a confidence lies between 0 and 1")
        return Expectation(kind="confidence", text=text, operator=found[1], bound=bound)
    for mark, kind in (("class=", "class"), ("not=", "not"), ("boxes~", "boxes")):
        if text.startswith(mark) and (name := text.removeprefix(mark).strip()):
            return Expectation(kind=kind, text=text, name=name)
    if text.startswith("stable:"):
        return Expectation(kind="stable", text=text, edits=_edits(text.removeprefix("stable:")))
    raise BadExpectation(f"{text!r} is no expectation: choose from {_FORMS}")


def _edits(change: str) -> tuple[Edit, ...]:
    """The pictures to try: ``image.brightness=0.8..1.2``."""
    name, equals, values = change.partition("=")
    limits = _RANGE.fullmatch(values.strip())
    if not equals or not name.startswith("image.") or limits is None:
        raise BadExpectation(f"{change!r} is no change over a range: write stable:image.brightness=0.8..1.2")
    low, high = float(limits[1]), float(limits[2])
    if not low < high:
        raise BadExpectation(f"{change!r}: a range runs from the smaller number to the larger")
    step = (high - low) / (STEPS - 1)
    try:
        return tuple(parse_edit(name.removeprefix("image."), f"{low + step * each:.6g}") for each in range(STEPS))
    except ValueError as error:
        raise BadExpectation(str(error).replace("--set ", "", 1)) from error
