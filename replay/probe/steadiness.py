"""How steady decisions are: under changes that nobody sees, and under those that a camera meets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from recorder.bundle.values import JsonValue
from replay.compare.layout import Array
from replay.compare.reading import same
from replay.pipeline.edits import Edit, apply_edits
from replay.probe.finding import Curve, Finding, Shown
from replay.probe.trial import SEED, Trial, as_uint8, fraction

__all__ = ["NUISANCES", "Nuisance", "TINY_CHANGES", "nuisance", "tiny_changes"]

#: Flips per 100 under changes that the eye does not see: one in twenty already makes a video flicker every second.
MOST_FLIPS_PER_100 = 5.0

_GREY_LEVEL = {"uint8": 1, "uint16": 257}


def _one_grey_level(pixels: Array, random: np.random.Generator) -> Array:
    step = _GREY_LEVEL[pixels.dtype.name]
    moved = pixels.astype(np.int64) + step * random.integers(-1, 2, pixels.shape)
    changed: Array = np.clip(moved, 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return changed


def _tiny(pixels: Array) -> dict[str, list[Array]]:
    random = np.random.default_rng(SEED)
    shifts = [Edit(name=name, amount=amount) for name in ("shift_x", "shift_y") for amount in (-1.0, 1.0)]
    return {
        "noise of one grey level": [_one_grey_level(pixels, random) for _ in range(4)],
        "shift by one pixel": [apply_edits(pixels, [edit]) for edit in shifts],
        "1 % brighter or darker": [apply_edits(pixels, [Edit(name="brightness", amount=by)]) for by in (0.99, 1.01)],
    }


#: Runs per frame.
TINY_CHANGES = 10

#: Pictures on the page, two of each flip.
_MOST_SHOWN = 4


def tiny_changes(trial: Trial) -> Finding:
    """Count the flips under noise of one grey level, shifts by one pixel and one per cent of light."""
    flips: dict[str, list[bool]] = {}
    pictures: list[Shown] = []
    for case in trial.cases:
        for name, variants in _tiny(case.pixels).items():
            changed = [not same(case.reading, reading) for reading in trial.ask(case, variants)]
            flips.setdefault(name, []).extend(changed)
            if any(changed) and len(pictures) < _MOST_SHOWN:
                flipped = as_uint8(variants[changed.index(True)])
                pictures.append(Shown(caption=f"frame {case.frame.id}", pixels=as_uint8(case.pixels)))
                pictures.append(Shown(caption=f"frame {case.frame.id} decided otherwise: {name}", pixels=flipped))
    if not pictures:
        pictures = [
            Shown(caption=name, pixels=as_uint8(each[0])) for name, each in _tiny(trial.cases[0].pixels).items()
        ]
    per_100 = {name: 100 * fraction(flags) for name, flags in flips.items()}
    overall = 100 * fraction([flag for flags in flips.values() for flag in flags])
    return Finding(
        name="input-consistency",
        passed=overall <= MOST_FLIPS_PER_100,
        sentence=f"{overall:.3g} of 100 decisions flip under changes that nobody sees",
        threshold=f"at most {MOST_FLIPS_PER_100:g} flips per 100",
        proves="decisions that flip here lie on a border, and neighbouring frames of a video will disagree",
        limits="robustness to changes that can be seen, or to an adversary",
        evidence={"flips_per_100": {name: round(share, 2) for name, share in per_100.items()}},
        pictures=tuple(pictures),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nuisance:
    """A change that a camera meets, in amounts, and the span within which decisions should stay."""

    name: str
    edit: str  #: of replay.pipeline.edits
    unit: str
    amounts: tuple[float, ...]  #: ascending, without the neutral one
    neutral: float
    span: tuple[float, float]  #: amounts within which decisions should stay
    share_of_width: bool = False  #: amounts are shares of the picture's width
    what: str

    @property
    def threshold(self) -> str:
        """In words."""
        low, high = self.span
        return f"at least {LEAST_KEPT:.0%} of the decisions stay from {low:g} to {high:g} {self.unit}".rstrip()


#: Share of decisions that has to stay within each nuisance's span.
LEAST_KEPT = 0.9

NUISANCES = (
    Nuisance(
        name="light-level",
        edit="brightness",
        unit="times the light",
        amounts=(0.5, 0.65, 0.8, 1.2, 1.5, 2.0),
        neutral=1.0,
        span=(0.8, 1.2),
        what="brighter or darker",
    ),
    Nuisance(
        name="light-angle",
        edit="light",
        unit="°",
        amounts=(0.0, 60.0, 120.0, 180.0, 240.0, 300.0),
        neutral=np.nan,
        span=(0.0, 300.0),
        what="light from one side",
    ),
    Nuisance(
        name="colour-temperature",
        edit="warmth",
        unit="times red, and blue divided by it",
        amounts=(0.7, 0.85, 0.92, 1.08, 1.18, 1.4),
        neutral=1.0,
        span=(0.92, 1.08),
        what="warmer or colder light",
    ),
    Nuisance(
        name="camera-shift",
        edit="shift_x",
        unit="of the width",
        amounts=(-0.1, -0.05, -0.02, 0.02, 0.05, 0.1),
        neutral=0.0,
        span=(-0.02, 0.02),
        share_of_width=True,
        what="a camera moved sideways",
    ),
    Nuisance(
        name="camera-rotation",
        edit="rotate",
        unit="°",
        amounts=(-15.0, -7.0, -3.0, 3.0, 7.0, 15.0),
        neutral=0.0,
        span=(-3.0, 3.0),
        what="a camera turned",
    ),
    Nuisance(
        name="scale",
        edit="zoom",
        unit="times",
        amounts=(0.8, 0.9, 0.95, 1.05, 1.1, 1.25),
        neutral=1.0,
        span=(0.95, 1.05),
        what="nearer or farther",
    ),
    Nuisance(
        name="defocus",
        edit="blur",
        unit="px at 224",
        amounts=(0.5, 1.0, 2.0, 4.0),
        neutral=0.0,
        span=(0.0, 0.5),
        what="out of focus",
    ),
    Nuisance(
        name="compression",
        edit="jpeg",
        unit="JPEG quality",
        amounts=(10.0, 30.0, 60.0, 90.0),
        neutral=np.nan,
        span=(60.0, 90.0),
        what="stronger compression",
    ),
)


def nuisance(trial: Trial, each: Nuisance) -> Finding:
    """Draw the stability curve of one nuisance."""
    shares: list[float] = []
    sure: list[float | None] = []
    pictures = []
    try:
        for amount in each.amounts:
            share, confidence = trial.kept(partial(_changed, each, amount))
            shares.append(share)
            sure.append(confidence)
            if amount in (each.amounts[0], each.amounts[-1]):
                changed = as_uint8(_changed(each, amount, trial.cases[0].pixels))
                pictures.append(Shown(caption=f"{each.name} {amount:g} {each.unit}", pixels=changed))
    except ValueError as error:  # an edit that such pictures do not take, as colours of a grey one
        return Finding(name=each.name, passed=None, sentence=f"it cannot be tried: {error}")
    low, high = each.span
    inside = [share for amount, share in zip(each.amounts, shares, strict=True) if low <= amount <= high]
    worst = min(inside)
    stable = _stable_span(each, shares)
    return Finding(
        name=each.name,
        passed=worst >= LEAST_KEPT,
        sentence=f"{each.what}: {worst:.0%} of the decisions stay within the span asked for{stable}",
        threshold=each.threshold,
        proves="whether decisions depend on a change that leaves the object what it is",
        limits="anything about changes that were not tried, or about whether the recorded decision is right",
        evidence={"stable": stable.removeprefix("; ")} if stable else {},
        pictures=tuple(pictures),
        curves=(Curve(name=each.name, unit=each.unit, at=each.amounts, kept=tuple(shares), confidence=tuple(sure)),),
    )


def _changed(each: Nuisance, amount: float, pixels: Array) -> Array:
    if each.share_of_width:
        amount = float(round(amount * pixels.shape[1])) or float(np.sign(amount))
    if each.edit == "blur":
        amount *= pixels.shape[1] / 224
    if each.edit == "jpeg" and pixels.dtype != np.uint8:
        eight = apply_edits(as_uint8(pixels), [Edit(name="jpeg", amount=amount)])
        return eight.astype(np.uint16) * 257
    return apply_edits(pixels, [Edit(name=each.edit, amount=amount)])


def _stable_span(each: Nuisance, shares: list[float]) -> str:
    """Up to which amounts, on either side of the neutral one, decisions stay."""
    if np.isnan(each.neutral):
        return ""
    below = [a for a in each.amounts if a < each.neutral]
    above = [a for a in each.amounts if a > each.neutral]
    by_amount: dict[float, JsonValue] = dict(zip(each.amounts, shares, strict=True))

    def reach(amounts: list[float]) -> float:
        held = each.neutral
        for amount in amounts:
            share = by_amount[amount]
            if not isinstance(share, float) or share < LEAST_KEPT:
                break
            held = amount
        return held

    return f"; stable from {reach(below[::-1]):g} to {reach(above):g} {each.unit}"
