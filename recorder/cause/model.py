"""A camera's cause model: fitted on corruptions of its own clean frames, it names what is wrong with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from recorder.cause.corruptions import FORMS, corrupted, healthy, stranger
from recorder.cause.discriminant import Discriminant, fit_discriminant, held_out_distances
from recorder.cause.features import Normal, learn_normal
from recorder.cause.pose import Pose
from recorder.cause.statistics import Window, measure
from recorder.cause.strangers import STRANGERS
from recorder.cause.views import FrameRefused, Views
from recorder.cause.vocabulary import AMOUNTS, FITTED, NONE, UNKNOWN

__all__ = ["CauseModel", "Finding", "Look", "WINDOW_FRAMES", "fit_cause_model", "windows_of"]

Array = npt.NDArray[np.float64]

#: Neighbouring frames that are looked at together.
WINDOW_FRAMES = 8
#: With fewer windows neither spread nor held-out confidence can be told.
MIN_WINDOWS = 4
#: Clean windows that corruptions are made of; more cost time and add little.
_SOURCES = 24
#: Examples of each cause at each severity, and the share of that which each form has where there are several.
_EXAMPLES, _OF_FORM = 10, 0.6
#: Classes: none first, unknown second, then the causes.
CLASSES: tuple[str, ...] = (NONE, UNKNOWN, *FITTED)
#: Logarithm of the odds, against nothing being wrong, at which a cause is named: more where a healthy scene looks like
#: it now and then, for somebody stands before the camera, a large part of the view moves, or a lamp is switched on.
#: Chosen on development clips (`benchmarks.clips`).
_ODDS, _SCENIC_ODDS = 1.0, {"occlusion": 2.5, "camera-shift": 2.5, "camera-rotation": 2.5, "colour-cast": 2.0}
#: A cast has any hue, and the mean of all hues is no cast: each sixth of the circle is a place of its own.
_HUES = 6
#: By so much, a pixel that is covered differs from itself.
_SEEN = 0.03
#: A cause is named when it is likelier than every other answer, and at least so likely.
NAMED_FROM = 0.4
#: What a healthy scene looks like most: people lean towards cameras, and hands that hold them move.
_COVERS_AND_MOVES, _COVERS_AND_MOVES_FROM = ("occlusion", "camera-shift", "camera-rotation"), 0.8
#: A share of held-out windows that may stand farther from every example than the gate allows.
_GATE = 0.005
#: Nearly identical frames so many times in a row are a frozen feed.
FROZEN_FRAMES = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """What the windows of an incident say.

    Attributes:
        probabilities: of each class, summing to 1.
        cause: that is named.
        amount: how strong it is, in `AMOUNTS` of the cause; None where that means nothing.
        pose: where the camera points in the last window, where it is fixed.
        sigmas: how far each statistic is from the reference.
        is_strange: whether it is like no example of anything.
        windows, agreeing: how many were looked at, and how many say the same by themselves.
    """

    probabilities: dict[str, float]
    cause: str
    amount: float | None
    pose: Pose | None
    sigmas: dict[str, float]
    is_strange: bool = False
    windows: int = 1
    agreeing: int = 1


@dataclass(frozen=True, slots=True)
class Look:
    """What was measured of a window.

    Attributes:
        features: scaled differences from the reference.
        pose: where the camera points, where it is fixed.
        sigmas: how many spreads each statistic is away.
        is_frozen: whether its last frames are one and the same.
    """

    features: Array
    pose: Pose | None
    sigmas: Array
    is_frozen: bool


@dataclass(frozen=True, slots=True)
class CauseModel:
    """What one camera's faults look like.

    Attributes:
        normal: the reference.
        scale: (features) by which differences are divided.
        discriminant: over the classes of `CLASSES`.
        gate: a window whose squared distance to its nearest example place is larger is like nothing known.
        severities: (causes, features + 1): logarithm of the amount, a linear function of the scaled features.
        shape: height and width of the frames.
        repeats: whether clean frames repeat each other, so that a repeat says nothing.
    """

    normal: Normal
    scale: Array
    discriminant: Discriminant
    gate: float
    severities: Array
    shape: tuple[int, int]
    repeats: bool

    def find(self, windows: Sequence[Views]) -> Finding:
        """Name what is wrong with one incident, of which these are windows, oldest first.

        Their features are averaged: the scene varies from window to window, the fault does not. Where the earlier half
        is healthy by itself, the fault began later, and the later half is asked alone.
        """
        return self.judge(self.look(windows))

    def look(self, windows: Sequence[Views]) -> list[Look]:
        """Measure windows."""
        finder, made = self.normal.pose_finder(), []
        for views in windows:
            window = measure(views)
            if window.names != self.normal.names:
                raise FrameRefused("the profile holds other statistics than this program measures; make it again")
            pose = finder.find(window.mean) if finder is not None else None
            features = self.normal.features(window, pose) / self.scale
            if not np.isfinite(features).all():
                raise FrameRefused("the frames cannot be measured; give images as they were recorded")
            frozen = not self.repeats and is_frozen(views)
            made.append(Look(features, pose, self.normal.sigmas(window), frozen))
        return made

    def judge(self, looks: Sequence[Look]) -> Finding:
        """Do as `find` does, with what `look` measured."""
        count, frozen = len(looks), sum(each.is_frozen for each in looks)
        if 2 * frozen >= count:
            return self._finding("frozen-feed", {"frozen-feed": 1.0}, looks, False, count, frozen)
        half = count // 2
        if half and self._answer(looks[:half])[0] == NONE:
            looks = looks[half:]
        cause, chances, strange = self._answer(looks)
        agreeing = sum(self._answer([each])[0] == cause for each in looks)
        named = {name: float(chance) for name, chance in zip(CLASSES, chances, strict=True)}
        return self._finding(cause, named, looks, strange, count, agreeing)

    def _finding(
        self, cause: str, chances: dict[str, float], looks: Sequence[Look], strange: bool, count: int, agreeing: int
    ) -> Finding:
        away = np.mean([each.sigmas for each in looks], axis=0)
        sigmas = {name: float(value) for name, value in zip(self.normal.names, away, strict=True)}
        amount = self._amount(cause, np.mean([each.features for each in looks], axis=0))
        return Finding(chances, cause, amount, looks[-1].pose, sigmas, strange, count, agreeing)

    def _answer(self, looks: Sequence[Look]) -> tuple[str, Array, bool]:
        """The cause, the probability of each class, and whether it is like nothing known."""
        features = np.mean([each.features for each in looks], axis=0)[None]
        chances = self.discriminant.probabilities(features, len(CLASSES))[0]
        strange = bool(self.discriminant.distances(features)[0] > self.gate)
        best = CLASSES[int(chances.argmax())]
        least = _COVERS_AND_MOVES_FROM if best in _COVERS_AND_MOVES else NAMED_FROM
        unsure = best not in (NONE, UNKNOWN) and (strange or chances.max() < least)
        return UNKNOWN if unsure else best, chances, strange

    def _amount(self, cause: str, features: Array) -> float | None:
        if cause not in AMOUNTS or not AMOUNTS[cause].unit:
            return None
        row = self.severities[FITTED.index(cause)]
        low, high = sorted((AMOUNTS[cause].at(0.5), AMOUNTS[cause].at(5.5)))
        return float(np.exp(np.clip(features @ row[:-1] + row[-1], np.log(low), np.log(high))))


def is_frozen(views: Views) -> bool:
    """Whether the last frames are one and the same."""
    if len(views) < FROZEN_FRAMES:
        return False
    last = views.part(slice(-FROZEN_FRAMES, None))
    return bool((last.wide == last.wide[:1]).all() and (last.detail == last.detail[:1]).all())


def windows_of(views: Views, frames: int = WINDOW_FRAMES) -> list[Views]:
    """Cut a run of frames into disjoint windows."""
    return [views.part(slice(start, start + frames)) for start in range(0, len(views) - frames + 1, frames)]


def fit_cause_model(
    windows: Sequence[Views], *, seed: int = 0, keep_thumbnail: bool = True, shape: tuple[int, int] = (0, 0)
) -> CauseModel:
    """Corrupt clean windows in every way that has a name, and learn to tell them apart.

    Args:
        windows: of one camera, in order of time.
        seed: of the variants that are drawn.
        keep_thumbnail: whether a small picture of the view may be kept, by which the camera's pose is found.
        shape: height and width of the frames.

    Raises:
        FrameRefused: there are too few windows, or nothing is on them.
    """
    if len(windows) < MIN_WINDOWS:
        raise FrameRefused(
            f"a profile needs at least {MIN_WINDOWS * WINDOW_FRAMES} neighbouring frames, and has "
            f"{sum(len(each) for each in windows)} in whole windows of {WINDOW_FRAMES}"
        )
    if max(float(each.wide.std()) for each in windows) < 0.01:
        raise FrameRefused("the frames are one colour all over; give pictures of what the camera looks at")
    clean = [measure(each) for each in windows]
    normal = learn_normal(clean, keep_thumbnail=keep_thumbnail)
    rows = _Rows(normal, seed)
    for number, window in enumerate(clean):
        rows.add(window, NONE, 0, number)
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), _SOURCES)).astype(int)
    for number in range(8 * _EXAMPLES):
        source = int(chosen[number % len(chosen)])
        rows.add(measure(healthy(windows[source], rows.draw())), NONE, 0, source)
    for cause in FITTED:
        forms = FORMS[cause]
        examples = _EXAMPLES if forms == 1 else forms * ceil(_OF_FORM * _EXAMPLES)
        for level in range(1, 6):
            for example in range(examples):
                source, form = int(chosen[(example * 5 + level * 3) % len(chosen)]), example % forms
                severity = level + rows.random.uniform(-0.5, 0.5)
                made = corrupted(windows[source], cause, severity, rows.draw() // forms * forms + form)
                place = level + 10 * (_hidden(windows[source], made) if cause == "occlusion" else form)
                rows.add(measure(made), cause, place, source, AMOUNTS[cause].at(severity))
    for place, kind in enumerate(STRANGERS):
        for example in range(_EXAMPLES):
            source = int(chosen[(example * 5 + place) % len(chosen)])
            rows.add(measure(stranger(windows[source], kind, rows.draw())), UNKNOWN, place, source)
    still = any(is_frozen(each) for each in windows)
    return rows.model(shape, still)


def _hidden(clean: Views, made: Views) -> int:
    """Whether a cover leaves the centre as it was, hides a part of it, or all: no one of these looks like another."""
    share = float((np.abs(made.detail - clean.detail).max(axis=3) > _SEEN).mean())
    return int(share > 0.1) + int(share > 0.9)


class _Rows:
    """Examples as they come."""

    def __init__(self, normal: Normal, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._normal = normal
        self._finder = normal.pose_finder()
        self._features: list[Array] = []
        self._places: list[int] = []
        self._groups: list[int] = []
        self._amounts: list[float] = []
        self._numbers: dict[tuple[str, int], int] = {}

    def draw(self) -> int:
        return int(self.random.integers(2**31))

    def add(self, window: Window, name: str, place: int, group: int, amount: float = np.nan) -> None:
        pose = self._finder.find(window.mean) if self._finder is not None else None
        self._features.append(self._normal.features(window, pose))
        if name == "colour-cast":
            place += 10 * self._normal.hue(window, _HUES)
        self._places.append(self._numbers.setdefault((name, place), len(self._numbers)))
        self._groups.append(group)
        self._amounts.append(amount)

    def model(self, shape: tuple[int, int], repeats: bool) -> CauseModel:
        features, places = np.stack(self._features), np.array(self._places)
        groups = np.unique(np.array(self._groups), return_inverse=True)[1]
        classes = np.array([CLASSES.index(name) for name, _ in self._numbers])
        sums = np.zeros((len(classes), features.shape[1]))
        np.add.at(sums, places, features)
        means = sums / np.bincount(places)[:, None]
        scale = np.sqrt(((features - means[places]) ** 2).mean(axis=0)) + 1e-3
        scaled = features / scale
        odds = {number: _SCENIC_ODDS.get(name, _ODDS) for number, name in enumerate(CLASSES)}
        discriminant = fit_discriminant(scaled, places, classes, groups, odds)
        distances = held_out_distances(scaled, places, classes, groups)
        gate = float(np.quantile(distances[classes[places] != CLASSES.index(UNKNOWN)], 1 - _GATE))
        severities = self._severities(scaled, classes[places])
        return CauseModel(self._normal, scale, discriminant, gate * 1.3, severities, shape, repeats)

    def _severities(self, features: Array, classes: npt.NDArray[np.int64]) -> Array:
        """Ridge regression of the logarithm of the amount, of each cause by itself."""
        made = np.zeros((len(FITTED), features.shape[1] + 1))
        amounts = np.array(self._amounts)
        for number, cause in enumerate(FITTED):
            rows = classes == CLASSES.index(cause)
            x, y = features[rows], np.log(np.maximum(amounts[rows], 1e-9))
            mean, level = x.mean(axis=0), y.mean()
            gram = (x - mean) @ (x - mean).T
            dual = np.linalg.solve(gram + 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram)) + 1e-9, y - level)
            made[number, :-1] = (x - mean).T @ dual
            made[number, -1] = level - mean @ made[number, :-1]
        return made
