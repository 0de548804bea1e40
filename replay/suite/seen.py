"""What a candidate made of a case's frame in one pass, and what can be read off it: class, confidence, boxes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from recorder.bundle.values import tensors_of
from recorder.signals import confidence, top_class
from replay.compare.boxes import Boxes, boxes_of
from replay.compare.comparison import Answer
from replay.exchange import digest_of
from replay.show.text import inert
from replay.whatif import Side

__all__ = ["Seen", "View"]

#: Boxes of an answer that are looked at, best scores first; detectors give hundreds at scores near zero.
_MOST_BOXES = 1000


@dataclass(frozen=True, slots=True)
class View:
    """One answer to the frame: the service's own, or a model's."""

    answer: Answer
    row: int | None = None  #: the frame's item of a batch

    @property
    def names(self) -> frozenset[str]:
        """What classes it can be said to name: the index of the top class, else its texts and whole numbers."""
        top = None if self.answer.value is None else top_class(self.answer.value, self.answer.tensors, None, self.row)
        return frozenset({top}) if top is not None else Side(answer=self.answer, row=self.row).names

    @property
    def classes(self) -> int | None:
        """How many classes its scores tell apart; None where that cannot be seen."""
        shapes = [] if self.answer.value is None else [tensor.shape for _, tensor in tensors_of(self.answer.value)]
        found = [shape[-1] for shape in shapes if len(shape) in (1, 2) and shape[-1] > 1]
        return found[0] if len(shapes) == 1 and found else None

    @property
    def confidence(self) -> float | None:
        """How sure it is, between 0 and 1."""
        return None if self.answer.value is None else confidence(self.answer.value, self.answer.tensors, None, self.row)

    @property
    def boxes(self) -> Boxes | None:
        """Its boxes, of the frame's item where it is a list with one entry an image; the best scores of many."""
        found = boxes_of(self.answer, self.row)
        return None if found is None else found[np.argsort(-found.scores, kind="stable")[:_MOST_BOXES]]

    @property
    def text(self) -> str:
        """In a few words, "" where it has none."""
        return Side(answer=self.answer, row=self.row).text


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One pass over a case."""

    views: tuple[View, ...] = ()  #: the service's own answer first, where a pipeline gave one
    raised: str = ""  #: what it raised instead, in a few words
    cannot: str = ""  #: why it could not be run, with the remedy
    same: bool | None = None  #: whether it decides as was recorded; None where that cannot be told
    difference: str = ""  #: in what it differs from what was recorded
    fails: bool | None = None  #: whether the incident's trigger fires; None where an answer cannot tell

    @property
    def text(self) -> str:
        """The answer in a few words."""
        if self.raised:
            return f"raised {inert(self.raised, 200)}"
        said = [view.text for view in self.views if view.text]
        return ", ".join(said) or "an answer"

    @property
    def digest(self) -> str:
        """Of everything it answered."""
        parts = [digest_of(view.answer).hex() for view in self.views]
        return hashlib.sha256(repr((parts, self.raised, self.cannot)).encode()).hexdigest()
