"""Pictures without information: what survives them was not seen in the picture."""

from __future__ import annotations

import numpy as np

from replay.compare.layout import Array
from replay.compare.reading import Reading, agreement, same
from replay.probe.finding import Finding, Shown
from replay.probe.trial import SEED, Trial, as_uint8

__all__ = ["RANDOM_INPUTS", "random_inputs"]

#: More than half of the decision without any picture is a prior and no recognition. A segmenter trained on pure noise
#: reaches a third by knowing where things usually are, which is why a lower limit would condemn honest models.
MOST_KEPT = 0.5

#: A decision counts as kept by a class only where the model is at least half as sure of it as it was, beyond an equal
#: share for each class: one of two classes gets a half of what there is, whatever the model sees.
_AS_SURE = 0.5

_DRAWS = 3


def _noise(pixels: Array, random: np.random.Generator) -> Array:
    return random.integers(0, np.iinfo(pixels.dtype).max, pixels.shape, dtype=pixels.dtype, endpoint=True)


def _shuffled(pixels: Array, random: np.random.Generator) -> Array:
    flat = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)
    return random.permutation(flat, axis=0).reshape(pixels.shape)


def _mean(pixels: Array, _: np.random.Generator) -> Array:
    return np.broadcast_to(np.rint(pixels.mean(axis=(0, 1))).astype(pixels.dtype), pixels.shape)


_KINDS = {"noise": (_noise, _DRAWS), "shuffled pixels": (_shuffled, _DRAWS), "mean image": (_mean, 1)}

#: Runs per frame.
RANDOM_INPUTS = sum(draws for _, draws in _KINDS.values())


def _beyond_chance(decision: Reading, answer: Reading) -> float:
    """How sure an answer is of a decision, above an equal share for each class."""
    share = 0.0 if decision.probabilities is None else 1 / len(decision.probabilities)
    return (answer.sureness_of(decision) or 0.0) - share


def random_inputs(trial: Trial) -> Finding:
    """Ask about noise, the frame's own pixels in another order, and its mean colour."""
    kept: dict[str, list[float]] = {name: [] for name in _KINDS}
    pictures = []
    for case in trial.cases:
        for name, (make, draws) in _KINDS.items():
            random = np.random.default_rng(SEED)
            variants = [make(case.pixels, random) for _ in range(draws)]
            for reading in trial.ask(case, variants):
                if reading is None:
                    kept[name].append(0.0)
                elif case.reading.winner is not None:
                    sure, before = (_beyond_chance(case.reading, each) for each in (reading, case.reading))
                    kept[name].append(float(same(case.reading, reading) and sure >= _AS_SURE * before))
                else:
                    kept[name].append(agreement(case.reading, reading))
            if case is trial.cases[0]:
                pictures.append(Shown(caption=name, pixels=as_uint8(variants[0])))
    shares = {name: float(np.mean(values)) for name, values in kept.items()}
    worst = max(shares, key=lambda name: shares[name])
    what = "the mask (mean IoU) survives" if trial.cases[0].reading.mask is not None else "the decisions survive"
    passed = shares[worst] <= MOST_KEPT
    return Finding(
        name="random-input",
        passed=passed,
        sentence=f"{shares[worst]:.0%} of {what} {worst}, a picture without information",
        threshold=f"at most {MOST_KEPT:.0%} may survive noise, shuffled pixels or the mean image",
        proves="a decision that survives a picture without information does not come from the picture",
        limits="that a model which passes looks at the right part of it",
        evidence={"kept": {name: round(share, 4) for name, share in shares.items()}, "draws": _DRAWS},
        pictures=tuple(pictures),
    )
