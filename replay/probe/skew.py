"""Is the model fed as it was trained? Another channel order, another normalisation, other neighbours in the batch."""

from __future__ import annotations

import contextlib

import numpy as np

from replay.compare.layout import Array
from replay.compare.reading import Reading, agreement, same
from replay.pipeline.edits import Edit, apply_edits
from replay.probe.finding import Finding, Shown
from replay.probe.subject import CannotProbe, ModelSubject
from replay.probe.tensor_image import NORMALISATIONS, TensorImage
from replay.probe.trial import SEED, Trial, as_uint8, fraction

__all__ = ["BATCH", "CHANNELS", "batch", "channel_order", "normalisation", "NORMALISATION"]

#: By so much a model has to be surer of the other way of feeding it before that is suspected to be the right one: the
#: mean over frames of real pictures moves by a few hundredths from colours alone.
SURER_BY = 0.1

#: Runs per frame.
CHANNELS = 1
NORMALISATION = 2 * len(NORMALISATIONS)
BATCH = 3


def channel_order(trial: Trial) -> Finding:
    """Swap red and blue: a model that is surer then was probably fed the wrong order."""
    if any(case.pixels.ndim != 3 or case.pixels.shape[2] != 3 for case in trial.cases):
        return Finding(name="channel-order", passed=None, sentence="the picture has no three channels to swap")
    edit = [Edit(name="swap_channels", amount=1.0)]
    before, after, changed = [], [], []
    for case in trial.cases:
        for reading in trial.ask(case, [apply_edits(case.pixels, edit)]):
            before.append(case.reading.confidence or 0.0)
            after.append(0.0 if reading is None else reading.confidence or 0.0)
            changed.append(not same(case.reading, reading))
    gain = float(np.mean(after) - np.mean(before))
    return Finding(
        name="channel-order",
        passed=gain < SURER_BY,
        sentence=f"with red and blue swapped the mean confidence goes from {np.mean(before):.2f} to "
        f"{np.mean(after):.2f}, and {fraction(changed):.0%} of the decisions change",
        threshold=f"surer by {SURER_BY:g} when swapped is taken for the wrong order",
        proves="a model that is surer of swapped channels was most likely trained on that order",
        limits="anything where the pictures are grey, or too few to average over",
        evidence={"confidence": round(float(np.mean(before)), 4), "swapped": round(float(np.mean(after)), 4)},
        pictures=(
            Shown(caption="as the model sees it", pixels=as_uint8(trial.cases[0].pixels)),
            Shown(caption="swapped", pixels=as_uint8(apply_edits(trial.cases[0].pixels, edit))),
        ),
    )


def normalisation(trial: Trial, subject: ModelSubject) -> Finding:
    """Feed the usual normalisations: is the model surer with another one, of pictures and not of noise?

    Too large numbers make any model sure of anything, noise too; so what counts is by how much it is surer of pictures.
    """
    gains: dict[str, list[float]] = {}
    used = ""
    random = np.random.default_rng(SEED)
    for case in trial.cases:
        tensor, image, row = subject.image_of(case.frame)
        used = image.normalisation.name
        others = [each for each in NORMALISATIONS if each.name != used and len(each.mean) in (1, image.channels)]
        if tensor.dtype == np.uint8:
            return Finding(name="normalisation", passed=None, sentence="the model takes bytes and normalises itself")
        noise = random.integers(0, 65535, case.pixels.shape, dtype=np.uint16, endpoint=True)
        ways = [image, *(TensorImage(tensor, each) for each in others)]
        tensors = (way.tensor(tensor, row, pixels) for way in ways for pixels in (case.pixels, noise))
        sure = [
            0.0 if reading is None else reading.confidence or 0.0
            for reading in subject.ask_tensors(case.frame, tensors, row)
        ]
        told_apart = [sure[place] - sure[place + 1] for place in range(0, len(sure), 2)]
        for each, apart in zip(others, told_apart[1:], strict=True):
            gains.setdefault(each.name, []).append(apart - told_apart[0])
    means = {name: float(np.mean(values)) for name, values in gains.items()}
    best = max(means, key=lambda name: means[name])
    return Finding(
        name="normalisation",
        passed=means[best] < SURER_BY,
        sentence=f"fed as recorded ({used}); the best other normalisation is {best}, "
        f"{means[best]:+.2f} in how much surer it is of the pictures than of noise",
        threshold=f"surer by {SURER_BY:g} with another one is taken for skew",
        proves="a model that tells pictures from noise better when fed otherwise was most likely trained so",
        limits="anything about normalisations that are not among the usual ones",
        evidence={"recorded_as": used, "gain": {name: round(value, 4) for name, value in means.items()}},
        pictures=(Shown(caption=f"the input as a picture, by {used}", pixels=as_uint8(trial.cases[0].pixels)),),
    )


def batch(trial: Trial, subject: ModelSubject) -> Finding:
    """Run each frame alone, twice over, and among noise: its answer should not depend on its neighbours."""
    changed, moved = [], []
    tried = 0
    for case in trial.cases:
        tensor, image, row = subject.image_of(case.frame)
        if subject.batch_of(case.frame) is None or tensor.ndim != 4:
            return Finding(name="batch", passed=None, sentence="the model's arguments are no batch")
        alone = image.tensor(tensor, row, case.pixels)[row : row + 1]
        random = np.random.default_rng(SEED)
        noise = random.permuted(alone.reshape(1, -1), axis=1).reshape(alone.shape)
        answers: list[Reading | None] = []
        for variant in (alone, np.concatenate([alone, alone]), np.concatenate([alone, noise])):
            with contextlib.suppress(CannotProbe):  # a graph of one batch size
                answers += subject.ask_tensors(case.frame, iter([variant]), 0)
                tried += max(len(variant), len(tensor)) > 1  # alone as it was recorded, it has no other neighbours
        for each in answers:
            changed.append(not same(case.reading, each))
            moved.append(1.0 if each is None else _moved(case.reading, each))
    if not tried:
        return Finding(
            name="batch",
            passed=None,
            sentence="the model takes only the recorded batch size here; add --model pkg.mod:factory to try others",
        )
    share = fraction(changed)
    return Finding(
        name="batch",
        passed=share == 0,
        sentence=f"{share:.0%} of the decisions change with the neighbours in the batch; "
        f"confidence moves by at most {max(moved):.2g}",
        threshold="no decision changes",
        proves="an answer that depends on its neighbours comes from a model in training mode, or one that mixes items",
        limits="that batches of other sizes agree",
        evidence={"changed": round(share, 4), "largest_move": float(max(moved)), "batches": tried},
        pictures=(Shown(caption="what is run alone and with others", pixels=as_uint8(trial.cases[0].pixels)),),
    )


def _moved(a: Reading, b: Reading) -> float:
    if a.probabilities is not None and b.probabilities is not None and a.probabilities.shape == b.probabilities.shape:
        difference: Array = np.abs(a.probabilities - b.probabilities)
        return float(difference.max())
    return 1 - agreement(a, b)
