"""Linear discriminant analysis with a shrunk covariance, many places for each class, and a calibrated confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Discriminant", "fit_discriminant", "held_out_distances"]

Array = npt.NDArray[np.float64]

#: Shrinkages of the covariance that are tried on windows left out; those are of the same hour, and a smaller one that
#: fits them better does worse on the next.
_SHRINKAGES = (0.1, 0.2)
#: Temperatures that are tried: a linear discriminant is far too sure of itself outside of its examples.
_TEMPERATURES = np.geomspace(0.5, 60.0, 24)
#: The odds that are asked of a class are more by this over the number of clean windows: what is normal is not known
#: after a few.
_FEW = 24


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

    def distances(self, features: Array) -> Array:
        """Return (n) squared distance of each row to its nearest place."""
        made: Array = _squares(features @ self.weights, self.means @ self.weights).min(axis=1)
        return made

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
    odds: Mapping[int, float],
) -> Discriminant:
    """Fit, choosing shrinkage and temperature on groups left out.

    Args:
        features: (n, f), standardised.
        places: (n) number of the place of each row.
        classes: (places) the class of each place.
        groups: (n) rows made of the same clean frames share a group; they are left out together.
        odds: of each class but the first, how sure it must be (logarithm of calibrated odds) beyond the margins that
            clean windows reach.
    """
    truth = classes[places]
    folds = groups % min(4, int(groups.max()) + 1)
    few = 1 + _FEW / (int(groups.max()) + 1)
    best: tuple[float, float, float, Array] | None = None
    for shrinkage in _SHRINKAGES:
        scores = np.full((len(features), len(classes)), -np.inf)
        for fold in np.unique(folds):
            inside = folds != fold
            if not inside.any():
                inside = np.ones(len(folds), bool)
            made = _fit(features[inside], places[inside], classes, shrinkage)
            scores[folds == fold] = made.log_scores(features[folds == fold])
        favour = _favour(scores, classes, truth, odds, few * _temperature(scores, classes, truth)[1])
        loss, temperature = _temperature(scores - favour, classes, truth)
        if best is None or loss < best[0]:
            best = (loss, shrinkage, temperature, favour)
    assert best is not None  # noqa: S101  # the tuple above holds something
    made = _fit(features, places, classes, best[1])
    return Discriminant(made.means, made.classes, made.weights, made.priors - best[3], best[2])


def held_out_distances(
    features: Array, places: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]
) -> Array:
    """Return each row's squared distance to its nearest place, by a fit that never saw its clean frames."""
    found = np.zeros(len(features))
    folds = groups % min(4, int(groups.max()) + 1)
    for fold in np.unique(folds):
        rows = folds == fold
        found[rows] = _fit(features[~rows], places[~rows], classes, _SHRINKAGES[0]).distances(features[rows])
    return found


def _temperature(scores: Array, classes: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The loss at the temperature that suits best, and that."""
    found = []
    for temperature in _TEMPERATURES:
        chance = _gathered(scores / temperature, classes, int(classes.max()) + 1)[np.arange(len(truth)), truth]
        found.append((float(-np.log(np.maximum(chance, 1e-6)).mean()), float(temperature)))
    return min(found)


def _favour(
    scores: Array, classes: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], odds: Mapping[int, float], unit: float
) -> Array:
    """How much the first class, nothing wrong, is favoured over each place: its windows that were left out keep to it.

    A wrong name costs more than none, and the first class has few examples for all that is normal. The unit is what one
    of calibrated log odds takes in scores.
    """
    clean = scores[truth == 0]
    none = clean[:, classes == 0].max(axis=1)
    made = np.zeros(len(classes))
    for number in np.unique(classes[classes != 0]):
        own = classes == number
        margins = clean[:, own].max(axis=1) - none
        margins = margins[np.isfinite(margins)]
        most = max(0.0, float(np.quantile(margins, 0.99))) if len(margins) else 0.0
        made[own] = most + unit * odds[int(number)]
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
