"""Where in the picture a decision comes from: hide the object, hide the rest, hide one cell after the other."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from replay.compare.layout import Array
from replay.compare.reading import Reading, same
from replay.probe.finding import Finding, Shown
from replay.probe.trial import Case, Trial, as_uint8, fraction

__all__ = ["BACKGROUND", "HIDING", "OCCLUSION", "background", "heat", "object_hidden", "occlusion", "occlusion_map"]

#: Cells on a side. Fewer do not tell an object from its corner, more cost their square.
GRID = 7

#: Runs per frame.
OCCLUSION = GRID * GRID
HIDING = 2
BACKGROUND = 3

#: A cell whose hiding takes less than this of the confidence does not carry the decision.
LEAST_DROP = 0.1

#: Without its object a decision should go; with more than half of them staying, something else carries them.
MOST_KEPT = 0.5

#: Without its background a decision should stay.
LEAST_KEPT = 0.8

_AS_SURE = 0.8


def _filled(pixels: Array, where: Array, like: Array) -> Array:
    """Pixels with a part replaced by the mean colour of another, or the same, part."""
    done = np.array(pixels, copy=True)
    source = pixels[like] if like.any() else pixels.reshape(-1, *pixels.shape[2:])
    done[where] = np.rint(source.mean(axis=0)).astype(pixels.dtype)
    return done


def _blurred(pixels: Array, where: Array) -> Array:
    """Pixels with a part replaced by what a strong blur leaves of it, nothing of the rest bleeding in."""
    blur = ImageFilter.GaussianBlur(max(2, pixels.shape[1] // 12))
    smooth = np.asarray(Image.fromarray(as_uint8(_filled(pixels, ~where, where))).filter(blur))
    done = np.array(pixels, copy=True)
    done[where] = (smooth.astype(np.uint32) * (1 if pixels.dtype == np.uint8 else 257)).astype(pixels.dtype)[where]
    return done


def _without_object(case: Case) -> Array:
    return _filled(case.pixels, case.region, ~case.region)


def _without_background(case: Case) -> Array:
    return _filled(case.pixels, ~case.region, ~case.region)


def _with_anothers_background(trial: Trial, case: Case) -> tuple[Array, int] | None:
    """The object before the background of another frame, the most unlike there, and its id; None where there is none.

    That frame's own object is filled: two objects would be another picture, not another background.
    """

    def unlike(other: Case) -> float:
        return float(np.abs(other.pixels.astype(np.float32) - case.pixels)[~case.region].mean())

    form = (case.pixels.shape, case.pixels.dtype)
    others = [each for each in trial.cases if each is not case and (each.pixels.shape, each.pixels.dtype) == form]
    if not others or case.region.all():
        return None
    other = max(others, key=unlike)
    done = _without_object(other)
    done[case.region] = case.pixels[case.region]
    return done, other.frame.id


def object_hidden(trial: Trial) -> Finding:
    """Hide the object: the decision should not survive as sure as it was."""
    survived = []
    for case in trial.cases:
        variants = [_without_object(case), _blurred(case.pixels, case.region)]
        readings = list(trial.ask(case, variants))
        survived.append(all(_stays_as_sure(case, each) for each in readings))
    share = fraction(survived)
    first = trial.cases[0]
    return Finding(
        name="object-hidden",
        passed=share <= MOST_KEPT,
        sentence=f"with the object hidden ({first.region_from}), {share:.0%} of the decisions stay as sure as before",
        threshold=f"at most {MOST_KEPT:.0%} stay at {_AS_SURE:.0%} of their confidence",
        proves="a decision that stays without its object rests on something else in the picture",
        limits="which part it rests on (see occlusion), and it is as good as the region that is hidden",
        evidence={"kept": round(share, 4), "region_from": first.region_from},
        pictures=(Shown(caption="object hidden", pixels=as_uint8(_without_object(first))),),
    )


def background(trial: Trial) -> Finding:
    """Replace all but the object, by one colour and by another frame's, and blur it: the decision should stay."""
    kept = []
    for case in trial.cases:
        variants = [_without_background(case), _blurred(case.pixels, ~case.region)]
        swapped = _with_anothers_background(trial, case)
        variants += [] if swapped is None else [swapped[0]]
        kept += [same(case.reading, each) for each in trial.ask(case, variants)]
    share = fraction(kept)
    first = trial.cases[0]
    pictures = [Shown(caption="background replaced", pixels=as_uint8(_without_background(first)))]
    swapped = _with_anothers_background(trial, first)
    if swapped is not None:
        pictures.append(Shown(caption=f"background of frame {swapped[1]}", pixels=as_uint8(swapped[0])))
    return Finding(
        name="background",
        passed=share >= LEAST_KEPT,
        sentence=f"with the background replaced, swapped or blurred, {share:.0%} of the decisions stay",
        threshold=f"at least {LEAST_KEPT:.0%} stay",
        proves="decisions that go with the background depend on it",
        limits="that this is wrong: some classes are known by their surroundings",
        evidence={"kept": round(share, 4), "region_from": first.region_from},
        pictures=tuple(pictures),
    )


def occlusion_map(trial: Trial, case: Case) -> Array:
    """What hiding each cell takes of the confidence in the case's decision, (GRID, GRID), 0 to 1.

    Occlusion sensitivity after Zeiler and Fergus, arXiv:1311.2901.
    """
    before = case.reading.sureness_of(case.reading) or 0.0
    cells = [_cell(case.pixels.shape[:2], row, column) for row, column in np.ndindex(GRID, GRID)]
    variants = [_filled(case.pixels, cell, ~cell) for cell in cells]
    after = [0.0 if each is None else each.sureness_of(case.reading) or 0.0 for each in trial.ask(case, variants)]
    return np.clip((before - np.asarray(after)) / max(before, 1e-9), 0, 1).reshape(GRID, GRID)


def occlusion(trial: Trial) -> Finding:
    """Hide one cell after the other: the one that matters most should be on the object."""
    inside: list[bool] = []
    shares: list[float] = []
    by_chance: list[float] = []
    pictures: list[Shown] = []
    for case in trial.cases:
        drops = occlusion_map(trial, case)
        region = _coarse(case.region)
        peak = np.unravel_index(int(drops.argmax()), drops.shape)
        matters = bool(drops[peak] >= LEAST_DROP)
        if matters:
            inside.append(bool(region[peak]))
            by_chance.append(float(region.mean()))
            shares.append(float(drops[region].sum() / max(float(drops.sum()), 1e-9)))
        if len(pictures) < 4:
            pictures.append(Shown(caption=f"frame {case.frame.id}", pixels=heat(case.pixels, drops)))
    share = fraction(inside)
    if not inside:
        return Finding(
            name="occlusion",
            passed=None,
            sentence="no single cell carries a decision: hiding any of them takes less than "
            f"{LEAST_DROP:.0%} of the confidence",
            pictures=tuple(pictures),
        )
    chance = float(np.mean(by_chance))
    least = chance + MOST_KEPT * (1 - chance)  # an object that fills half of the picture is hit by half of all guesses
    return Finding(
        name="occlusion",
        passed=share >= least,
        sentence=f"the cell that matters most lies on the object in {share:.0%} of the frames that have one "
        f"({trial.cases[0].region_from})",
        threshold=f"at least {least:.0%} of the frames, half way from what a guess hits ({chance:.0%}) to all",
        proves="which part of the picture, when hidden, changes the decision",
        limits="an approximation: a grey cell is itself a picture the model has never seen",
        evidence={
            "on_the_object": round(share, 4),
            "by_chance": round(chance, 4),
            "share_of_the_drop_on_the_object": round(float(np.mean(shares)), 4),
            "frames": len(inside),
            "grid": GRID,
        },
        pictures=tuple(pictures),
    )


def heat(pixels: Array, drops: Array) -> Array:
    """The picture in grey with a map laid over it in red, uint8."""
    grey = as_uint8(pixels)
    grey = grey if grey.ndim == 2 else grey[..., :3].mean(axis=2).astype(np.uint8)
    height, width = grey.shape
    top = float(drops.max()) or 1.0
    scaled = Image.fromarray((255 * drops / top).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    weight = np.asarray(scaled).astype(np.float32)[..., None] / 255
    base = np.repeat(grey[..., None], 3, axis=2).astype(np.float32) * 0.7
    mixed = base * (1 - 0.7 * weight) + np.asarray([230, 40, 30], np.float32) * 0.7 * weight
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _stays_as_sure(case: Case, reading: Reading | None) -> bool:
    if reading is None or not same(case.reading, reading):
        return False
    return (reading.sureness_of(case.reading) or 0.0) >= _AS_SURE * (case.reading.sureness_of(case.reading) or 0.0)


def _cell(shape: tuple[int, ...], row: int, column: int) -> Array:
    where = np.zeros(shape, bool)
    rows, columns = (np.linspace(0, size, GRID + 1).round().astype(int) for size in shape)
    where[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = True
    return where


def _coarse(region: Array) -> Array:
    """Which cells hold any of the object."""
    return np.asarray(
        [[region[_cell(region.shape, row, column)].any() for column in range(GRID)] for row in range(GRID)]
    )
