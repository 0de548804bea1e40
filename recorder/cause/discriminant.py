"""Linear discriminant analysis with a shrunk covariance, many places for each class, and a calibrated confidence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Discriminant", "fit_discriminant"]

Array = npt.NDArray[np.float64]

#: Shrinkages of the covariance that are tried on windows left out; those are of the same hour, and a smaller one that
#: fits them better does worse on the next.
_SHRINKAGES = (0.1, 0.2)
#: Temperatures that are tried: a linear discriminant is far too sure of itself outside of its examples.
_TEMPERATURES = np.geomspace(0.5, 60.0, 40)
#: Logarithm of the odds by which nothing is taken to be wrong at least, and by how much the margins seen are widened.
_LEAST_FAVOUR, _FAVOUR = 4.0, 1.0
#: … times one and this over the number of clean windows: what is normal is not known after a few. All three, and the
#: share below, were chosen on development clips (`benchmarks.clips`).
_FEW = 24
#: What a scene does by itself looks like a cover or a move, and needs all of that favour; what only optics, sensor and
#: wire do needs this share of it.
_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Discriminant:
    """A fitted discriminant.

    Attributes:
        means: (places, features): of each class at each severity.
        classes: (places) number of the class.
        weights: (features, features) by which a difference is whitened.
        priors: (places) logarithms.
        temperature: by which log probabilities are divided.
    """

    means: Array
    classes: npt.NDArray[np.int64]
    weights: Array
    priors: Array
    temperature: float

    def log_scores(self, features: Array) -> Array:
        """Return (n, places) of log density, up to a constant of the row."""
        white, places = features @ self.weights, self.means @ self.weights
        squares = ((white[:, None] - places[None]) ** 2).sum(axis=2) if len(white) < 64 else _squares(white, places)
        return self.priors - 0.5 * squares

    def probabilities(self, features: Array, count: int) -> Array:
        """Return (n, count) of calibrated probability of each class."""
        return _gathered(self.log_scores(features) / self.temperature, self.classes, count)


def _squares(white: Array, places: Array) -> Array:
    made: Array = (white**2).sum(axis=1)[:, None] + (places**2).sum(axis=1) - 2 * white @ places.T
    return made


def _gathered(scores: Array, classes: npt.NDArray[np.int64], count: int) -> Array:
    # A class is as likely as its nearest place: one with many places must not win by their number.
    made = np.zeros((len(scores), count))
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    for number in range(count):
        made[:, number] = likely[:, classes == number].max(axis=1, initial=0.0)
    made /= made.sum(axis=1, keepdims=True)
    return made


def fit_discriminant(
    features: Array,
    places: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    scenic: Collection[int] = (),
) -> Discriminant:
    """Fit, choosing shrinkage and temperature on groups left out.

    Args:
        features: (n, f), standardised.
        places: (n) number of the place of each row.
        classes: (places) the class of each place.
        groups: (n) rows made of the same clean frames share a group; they are left out together.
        scenic: classes that a healthy scene resembles now and then.
    """
    count = int(classes.max()) + 1
    truth = classes[places]
    folds = groups % min(4, int(groups.max()) + 1)
    best: tuple[float, float, float, Array] | None = None
    for shrinkage in _SHRINKAGES:
        scores = np.full((len(features), len(classes)), -np.inf)
        for fold in np.unique(folds):
            inside = folds != fold
            if not inside.any():
                inside = np.ones(len(folds), bool)
            made = _fit(features[inside], places[inside], classes, shrinkage)
            scores[folds == fold] = made.log_scores(features[folds == fold])
        favour = _favour(scores, classes, truth, scenic) * (1 + _FEW / (int(groups.max()) + 1))
        scores -= favour
        for temperature in _TEMPERATURES:
            chance = _gathered(scores / temperature, classes, count)[np.arange(len(truth)), truth]
            loss = float(-np.log(np.maximum(chance, 1e-6)).mean())
            if best is None or loss < best[0]:
                best = (loss, shrinkage, float(temperature), favour)
    assert best is not None  # noqa: S101  # both tuples above hold something
    made = _fit(features, places, classes, best[1])
    return Discriminant(made.means, made.classes, made.weights, made.priors - best[3], best[2])


def _favour(
    scores: Array, classes: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], scenic: Collection[int]
) -> Array:
    """How much the first class, nothing wrong, is favoured over each place: its windows that were left out keep to it.

    A wrong name costs more than none, and the first class has few examples for all that is normal.
    """
    clean = scores[truth == 0]
    none = clean[:, classes == 0].max(axis=1)

    def over(others: npt.NDArray[np.bool_]) -> float:
        margins = clean[:, others].max(axis=1) - none
        margins = margins[np.isfinite(margins)]
        return _FAVOUR * max(0.0, float(np.quantile(margins, 0.99))) + _LEAST_FAVOUR if len(margins) else _LEAST_FAVOUR

    most = over(classes != 0)
    made = np.zeros(len(classes))
    for number in np.unique(classes[classes != 0]):
        own = classes == number
        made[own] = most if number in scenic else max(_SHARE * most, over(own))
    return made


def _fit(
    features: Array, places: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], shrinkage: float
) -> Discriminant:
    count = len(classes)
    means = np.zeros((count, features.shape[1]))
    sizes = np.bincount(places, minlength=count)
    np.add.at(means, places, features)
    means /= np.maximum(sizes, 1)[:, None]
    within = features - means[places]
    covariance = within.T @ within / max(1, len(features) - count)
    average = np.trace(covariance) / len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * (
        0.5 * np.diag(np.diag(covariance)) + 0.5 * average * np.eye(len(covariance))
    )
    values, vectors = np.linalg.eigh(covariance)
    weights = vectors / np.sqrt(np.maximum(values, 1e-9))
    of_class = np.bincount(classes)
    priors = -np.log(of_class[classes].astype(float))
    priors = np.where(sizes > 0, priors, -1e9)
    return Discriminant(means, classes, weights, priors, 1.0)
