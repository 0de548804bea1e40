"""What moves the score, by the model's own gradients: do two methods agree, with each other and with occlusion?"""

from __future__ import annotations

import numpy as np
from PIL import Image

from recorder.bundle.values import JsonValue
from replay.compare.layout import Array
from replay.probe.finding import Finding, Shown
from replay.probe.subject import MAPS_RUNS, CannotProbe, ModelSubject
from replay.probe.trial import Trial
from replay.probe.where import GRID, heat, occlusion_map

__all__ = ["attribution_runs", "attributions"]

#: Rank correlation with the map of a model whose weights are shuffled. Above, the map tells of the picture's edges and
#: not of what the model learnt; Adebayo et al. 2018 call a method insensitive there.
MOST_LIKE_SHUFFLED = 0.7

#: Mean rank correlation between methods: at zero they agree no better than chance, and none should be believed alone.
LEAST_AGREEMENT = 0.0

#: Frames: each costs some hundred passes.
_MOST_FRAMES = 2


def attribution_runs(frames: int) -> int:
    """How many runs it takes: the maps, and the occlusion map that they are held against."""
    return min(frames, _MOST_FRAMES) * (MAPS_RUNS + GRID * GRID)


def attributions(trial: Trial, subject: ModelSubject) -> Finding:
    """Draw integrated gradients and Grad-CAM, and hold them against each other, occlusion and shuffled weights."""
    pairs: dict[str, list[float]] = {}
    shuffled: dict[str, list[float]] = {}
    pictures: list[Shown] = []
    for case in trial.cases[:_MOST_FRAMES]:
        if case.reading.winner is None:
            return Finding(name="attribution", passed=None, sentence="only the class of a picture is attributed")
        try:
            maps = subject.attributions(case.frame, case.reading.winner)
        except CannotProbe as cannot:
            return Finding(name="attribution", passed=None, sentence=f"no attributions: {cannot}")
        for name in ("integrated-gradients", "gradient"):
            shuffled.setdefault(name, []).append(_rank_correlation(maps[name], maps.pop(f"{name}, shuffled")))
        for name, each in maps.items():
            pictures.append(Shown(caption=f"frame {case.frame.id}: {name}", pixels=heat(case.pixels, np.sqrt(each))))
        coarse = {name: _coarse(each) for name, each in maps.items()} | {"occlusion": occlusion_map(trial, case)}
        names = sorted(coarse)
        for index, a in enumerate(names):
            for b in names[index + 1 :]:
                pairs.setdefault(f"{a} and {b}", []).append(_rank_correlation(coarse[a], coarse[b]))
    agree = {name: round(float(np.mean(values)), 3) for name, values in pairs.items()}
    like = {name: round(float(np.mean(values)), 3) for name, values in shuffled.items()}
    mean, least = float(np.mean(list(agree.values()))), min(like.values())
    evidence: dict[str, JsonValue] = {"agreement": dict(agree), "like_shuffled_weights": dict(like)}
    return Finding(
        name="attribution",
        passed=mean > LEAST_AGREEMENT and least <= MOST_LIKE_SHUFFLED,
        sentence=f"the maps agree with a mean rank correlation of {mean:.2f}; with their weights shuffled they stay "
        + " and ".join(f"{value:.2f} alike ({name})" for name, value in like.items()),
        threshold=f"agreement above {LEAST_AGREEMENT:g}; one at most {MOST_LIKE_SHUFFLED:g} alike when shuffled",
        proves="whether these maps tell of what the model learnt, and whether methods tell the same",
        limits="what the model uses: attributions are approximations, and agreeing ones can be wrong together",
        evidence=evidence,
        pictures=tuple(pictures),
    )


def _coarse(each: Array) -> Array:
    """Means over the cells of the occlusion map."""
    small = Image.fromarray(each.astype(np.float32)).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(small)


def _rank_correlation(a: Array, b: Array) -> float:
    """Spearman's; 0 where either map is flat. Ties keep their order, which many equal cells make a lower bound."""
    x, y = (np.argsort(np.argsort(each.ravel(), kind="stable"), kind="stable").astype(float) for each in (a, b))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
