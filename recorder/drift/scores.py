"""From what is measured of a frame to scores: signals on scales of even noise, embeddings in few directions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.drift.moments import Part
from recorder.image_signals import IMAGE_SIGNALS

__all__ = ["ANSWER_SIGNALS", "LARGEST", "MAX_EMBEDDING", "Scores", "WATCHED_SIGNALS"]

Array = npt.NDArray[np.float64]

#: What is noted of an answer: `recorder.signals.AnswerSummary`.
ANSWER_SIGNALS = ("confidence", "entropy", "margin", "detections")
#: What the sealer learns and watches. Not the latency, which is the service's, nor repeats: these have a trigger.
WATCHED_SIGNALS = (*IMAGE_SIGNALS, *ANSWER_SIGNALS)
#: Longest embedding taken in; longer ones are pooled before.
MAX_EMBEDDING = 512
#: No number of a sound reference is larger.
LARGEST = 1e12
#: Directions kept of an embedding, and independent frames that each needs to be told from noise.
MAX_DIRECTIONS, FRAMES_A_DIRECTION = 32, 8
#: Signals that a factor changes, not a term: they are taken as logarithms.
LOGARITHMIC = frozenset({"sharpness_x", "sharpness_y", "noise", "difference"})
#: Differences that mean nothing to anyone, however significant a scene without noise makes them: one grey level of
#: 255, one per cent of a probability, five per cent of what is taken as a logarithm.
RESOLUTION: dict[str, float] = {
    "luminance": 1 / 255, "contrast": 1 / 255, "clipped_low": 0.002, "clipped_high": 0.002, "saturation": 0.01,
    "channel_0": 1 / 255, "channel_1": 1 / 255, "channel_2": 1 / 255, "confidence": 0.01, "entropy": 0.02,
    "margin": 0.01, "detections": 0.25, "anisotropy": 0.05, "spectrum_slope": 0.05, "blockiness": 0.01,
    "haze": 1 / 255, "motion_x": 0.25, "motion_y": 0.25,
}  # fmt: skip
LOG_RESOLUTION = 0.05
#: Of other signals, relative to their mean.
RELATIVE_RESOLUTION = 1e-3
#: A signal that is missing in more of the frames is not learnt.
MAX_MISSING = 0.1
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Scores:
    """How scores are made.

    Attributes:
        names: (k) the signals, in the order of their scores; those of the embedding follow.
        parts: which scores are judged together.
        floor: (k) of a signal taken as logarithm the least value that is told apart; NaN: it is taken as it is.
        centre: (d) mean embedding; empty: there is none.
        directions: (d, q) the embedding's principal directions.
    """

    names: tuple[str, ...]
    parts: tuple[Part, ...]
    floor: Array
    centre: Array
    directions: Array

    @property
    def size(self) -> int:
        """How many scores there are."""
        return sum(part.size for part in self.parts)

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each score."""
        q = self.directions.shape[1]
        if not len(self.centre):
            return self.names
        return (*self.names, *(f"embedding_{number}" for number in range(q)), "embedding_rest")

    @property
    def singles(self) -> slice:
        """The image signals, which are also judged one by one."""
        return slice(0, next((part.size for part in self.parts if part.name == "image"), 0))

    def of(self, signals: Array, embeddings: Array | None) -> Array:
        """Return (n, m) scores of (n, k) signals, in the order of ``names``, and (n, d) embeddings; NaN where missing.

        An embedding of another length than the reference's, or one that is not finite, is a missing one.
        """
        logarithmic = ~np.isnan(self.floor)
        scores: Array = signals.astype(np.float64)
        if logarithmic.any():
            scores[:, logarithmic] = np.log(np.maximum(scores[:, logarithmic], self.floor[logarithmic]))
        d, q = self.directions.shape
        if not d:
            return scores
        if embeddings is None or embeddings.shape[1] != d:
            without: Array = np.concatenate([scores, np.full((len(scores), q + 1), np.nan)], axis=1)
            return without
        within, rest = _decomposed(embeddings, self.centre, self.directions)
        made: Array = np.concatenate([scores, within, rest[:, None]], axis=1)
        return made

    def of_one(self, signals: Array, embedding: Array | None) -> Array:
        """Return (m) scores of one frame: what `of` returns, in a tenth of the time."""
        k, (d, q) = len(self.names), self.directions.shape
        scores = np.empty(k + (q + 1 if d else 0))
        scores[:k] = signals
        logarithmic = self.logarithmic
        if len(logarithmic):
            scores[logarithmic] = np.log(np.maximum(scores[logarithmic], self.floor[logarithmic]))
        if not d:
            return scores
        if embedding is None or len(embedding) != d or not np.isfinite(embedding).all():
            scores[k:] = np.nan
        else:
            centred = embedding - self.centre
            within = centred @ self.directions
            scores[k:-1] = within
            scores[-1] = 0.5 * math.log(max(float(centred @ centred - within @ within), 1e-12))
        return scores

    @property
    def logarithmic(self) -> npt.NDArray[np.int64]:
        """Which signals are taken as logarithms."""
        return np.flatnonzero(~np.isnan(self.floor))

    def of_reference(self, signals: Array, embeddings: Array | None) -> Array:
        """Return the scores of the frames these were learnt from.

        Directions fit the frames they were learnt from too well: what remains of an embedding besides them is taken
        with directions from the other frames, fold by fold, as it will be of a frame that is new.
        """
        scores = self.of(signals, embeddings)
        if len(self.centre) and embeddings is not None:
            for rows in np.array_split(np.arange(len(scores)), FOLDS):
                found = _principal(np.delete(embeddings, rows, axis=0), self.directions.shape[1])
                if found is not None:
                    scores[rows, -1] = _decomposed(embeddings[rows], *found)[1]
        return scores

    def resolution(self, scores: Array) -> Array:
        """(m): differences of the scores that mean nothing."""
        known: Array = np.abs(scores).mean(axis=0) * RELATIVE_RESOLUTION + 1e-9
        for number, name in enumerate(self.names):
            if name in LOGARITHMIC:
                known[number] = LOG_RESOLUTION
            elif name in RESOLUTION:
                known[number] = RESOLUTION[name]
        if len(self.centre):
            known[len(self.names) :] = 1e-6 * np.abs(scores[:, len(self.names) :]).max(initial=1e-6)
            known[-1] = LOG_RESOLUTION
        return known

    @classmethod
    def learn(
        cls, signals: Array, names: Sequence[str], embeddings: Array | None
    ) -> tuple[Scores, npt.NDArray[np.bool_]]:
        """Choose what can be learnt: signals that are there and vary, an embedding's directions.

        Args:
            signals: (n, k), NaN where there is none.
            names: (k).
            embeddings: (n, d), or None.

        Returns:
            How scores are made, and which of the rows are complete.

        Raises:
            ValueError: nothing is left.
        """
        finite = np.isfinite(signals)
        kept: dict[str, list[int]] = {"image": [], "answer": [], "signals": []}
        for number, name in enumerate(names):
            there = signals[finite[:, number], number]
            if len(there) < (1 - MAX_MISSING) * len(signals) or np.ptp(there) <= 1e-9 * max(1.0, np.abs(there).max()):
                continue
            part = "image" if name in IMAGE_SIGNALS else "answer" if name in ANSWER_SIGNALS else "signals"
            kept[part].append(number)
        order = [number for part in kept.values() for number in part]
        rows: npt.NDArray[np.bool_] = np.asarray(finite[:, order].all(axis=1))
        parts = [Part(name, len(numbers)) for name, numbers in kept.items() if numbers]
        chosen = signals[rows][:, order]
        floor = np.full(len(order), np.nan)
        for place, number in enumerate(order):
            if names[number] in LOGARITHMIC:
                positive = chosen[chosen[:, place] > 0, place]
                # A tenth of the least that was seen: a still picture has no difference at all.
                floor[place] = positive.min() / 10 if len(positive) else 1e-6
        centre, directions = np.empty(0), np.empty((0, 0))
        if embeddings is not None:
            rows = rows & np.isfinite(embeddings).all(axis=1)
            found = _principal(embeddings[rows])
            if found is not None:
                centre, directions = found
                parts.append(Part("embedding", directions.shape[1] + 1))
        if not parts:
            raise ValueError("The reference holds no signal that varies; record a live scene instead of a still one.")
        made = cls(tuple(names[number] for number in order), tuple(parts), floor, centre, directions)
        return made, rows

    def columns(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Where the signals stand among ``names``; -1: they do not."""
        places = {name: number for number, name in enumerate(names)}
        return np.array([places.get(name, -1) for name in self.names], np.int64)

    def replace(self, **changed: object) -> Scores:
        """Return a copy with other values."""
        return dataclasses.replace(self, **changed)  # type: ignore[arg-type]


def _decomposed(embeddings: Array, centre: Array, directions: Array) -> tuple[Array, Array]:
    """(n, q) coordinates along the directions, and (n) the logarithm of the distance from their plane."""
    centred = embeddings - centre
    within = centred @ directions
    rest = np.einsum("nd,nd->n", centred, centred) - np.einsum("nq,nq->n", within, within)
    return within, 0.5 * np.log(np.maximum(rest, 1e-12))


def _principal(embeddings: Array, most: int = MAX_DIRECTIONS) -> tuple[Array, Array] | None:
    """Mean and principal directions, in number what the frames can bear; None: the embedding never varies."""
    count, size = embeddings.shape
    if count < 2:
        return None
    centre = embeddings.mean(axis=0)
    centred = embeddings - centre
    values, vectors = np.linalg.eigh(centred.T @ centred / count)
    most = min(most, size, max(1, count // FRAMES_A_DIRECTION))
    values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
    worth = values > 1e-10 * max(values[0], 1e-30)
    if values[0] <= 1e-20 or not worth.any():
        return None
    return centre, np.ascontiguousarray(vectors[:, worth])
