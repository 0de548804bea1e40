"""Detectors of Evidently and alibi-detect, in an interpreter that has them: they pin an older numpy than the product.

``python libraries_child.py DETECTOR CASES.npz`` prints one JSON object: the frames at which each stream raised an
alarm, and the seconds it took. Run by `benchmarks.libraries`; imports nothing of the product.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version

import numpy as np

WINDOW, PROMISED = 50, 10_000
#: MMDDriftOnline simulates ten times as many streams as frames between two alarms: 1,000 frames take it a minute.
ONLINE_PROMISED, ONLINE_WINDOW = 250, 25
Judge = Callable[[np.ndarray], bool]


def evidently_defaults(reference: np.ndarray) -> Judge:
    """`DataDriftPreset` with nothing set: each column's own test at .05, drift where half of them drift."""
    tests = _evidently(reference, None)
    return lambda window: sum(tests(window)) >= 0.5 * reference.shape[1]


def evidently_columns(reference: np.ndarray) -> Judge:
    """The same tests, drift where any column drifts at the promised rate, which the columns share."""
    tests = _evidently(reference, WINDOW / PROMISED / reference.shape[1])
    return lambda window: any(tests(window))


def _evidently(reference: np.ndarray, threshold: float | None) -> Callable[[np.ndarray], Iterator[bool]]:
    # The tests that the report runs, without the report: it takes four seconds a window to draw.
    import pandas as pd
    from evidently.legacy.calculations.stattests.registry import get_stattest
    from evidently.legacy.core import ColumnType

    known = [pd.Series(column) for column in reference.T]

    def drifted(window: np.ndarray) -> Iterator[bool]:
        for before, column in zip(known, window.T, strict=True):
            now = pd.Series(column)
            test = get_stattest(before, now, ColumnType.Numerical, None)
            yield bool(test(before, now, ColumnType.Numerical, threshold).drifted)

    return drifted


def alibi_ks(reference: np.ndarray) -> Judge:
    """`KSDrift`, which corrects for the columns itself."""
    from alibi_detect.cd import KSDrift

    detector = KSDrift(reference, p_val=WINDOW / PROMISED)
    return lambda window: bool(detector.predict(window)["data"]["is_drift"])


def alibi_mmd(reference: np.ndarray) -> Judge:
    """`MMDDrift`: a permutation test."""
    from alibi_detect.cd import MMDDrift

    detector = MMDDrift(reference, backend="pytorch", p_val=WINDOW / PROMISED, n_permutations=PROMISED // WINDOW)
    return lambda window: bool(detector.predict(window)["data"]["is_drift"])


def alibi_online(reference: np.ndarray) -> Judge:
    """`MMDDriftOnline`, frame by frame; begun anew after an alarm, as its documentation has it."""
    from alibi_detect.cd import MMDDriftOnline

    detector = MMDDriftOnline(
        reference,
        ert=ONLINE_PROMISED,
        window_size=ONLINE_WINDOW,
        backend="pytorch",
        n_bootstraps=10 * ONLINE_PROMISED,
        verbose=False,
    )

    def judge(frame: np.ndarray) -> bool:
        fired = bool(detector.predict(frame[0])["data"]["is_drift"])
        if fired:
            detector.reset_state()
        return fired

    return judge


DETECTORS = {
    "Evidently, its defaults": (evidently_defaults, WINDOW),
    "Evidently, any signal": (evidently_columns, WINDOW),
    "alibi-detect KSDrift": (alibi_ks, WINDOW),
    "alibi-detect MMDDrift": (alibi_mmd, WINDOW),
    "alibi-detect MMDDriftOnline": (alibi_online, 1),
}


def main() -> None:
    """Watch the streams that the file holds."""
    warnings.simplefilter("ignore")
    name, path = sys.argv[1:]
    if name == "versions":
        print(json.dumps({each: version(each) for each in ("evidently", "alibi-detect", "numpy")}))
        return
    make, size = DETECTORS[name]
    with np.load(path, allow_pickle=False) as kept:
        cases = [(kept[f"{number}.0"], kept[f"{number}.1"]) for number in range(len(kept.files) // 2)]
    np.random.seed(0)  # the libraries draw from the global generator
    began, alarms = time.perf_counter(), []
    learnt: dict[bytes, Judge] = {}
    for reference, stream in cases:
        scale = reference.std(axis=0) + 1e-9
        known, stream = (reference / scale).astype(np.float32), (stream / scale).astype(np.float32)
        judge = learnt.get(known.tobytes()) or learnt.setdefault(known.tobytes(), make(known))
        alarms.append([end - 1 for end in range(size, len(stream) + 1, size) if judge(stream[end - size : end])])
    print(json.dumps({"alarms": alarms, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
