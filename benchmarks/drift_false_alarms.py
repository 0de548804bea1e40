"""False alarms of drift detectors on noise of known memory: promised and measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.drift_detectors import Detector
from benchmarks.drift_streams import MEMORIES, NAMES, REFERENCE_FRAMES, noise, steady
from benchmarks.libraries import Case, Library
from benchmarks.results import Bars, Section, Table
from recorder.drift import Departure, Reference, Watcher

__all__ = ["false_alarms", "part", "promised_and_measured"]

RATES = (1_000, 10_000, 100_000)
#: Streams of the calibration's own test: numbers that no stream had while it was developed.
FRESH = 90_000
#: References that its streams are compared with: frames, and the sizes of embeddings, by memories.
KINDS = (
    *((REFERENCE_FRAMES, memory, 0) for memory in MEMORIES),
    *((frames, memory, 0) for frames in (100, 2_000) for memory in MEMORIES[-2:]),
    *((REFERENCE_FRAMES, memory, 128) for memory in MEMORIES[-2:]),
)
#: Directions in which an embedding varies, besides noise of a tenth.
DIRECTIONS = 8


def part(cases: Sequence[Case], streams: int, frames: int) -> list[Case]:
    return [(reference, stream[:frames]) for reference, stream in cases[:streams]]


def promised_and_measured(streams: int, frames: int) -> Section:
    """The calibration, on streams that it has never seen."""
    rows = []
    for length, memory, size in KINDS:
        counts = dict.fromkeys(RATES, 0)
        for seed in range(FRESH, FRESH + streams):
            random = np.random.default_rng([seed, int(100 * memory), length])
            reference, stream = steady(memory, random, length), noise(frames, memory, random)
            known, vectors = _embeddings(length, frames, memory, size, random)
            normal = Reference.fit(reference, NAMES, known).streams[""]
            watcher, departures = Watcher(normal, NAMES), {rate: Departure() for rate in RATES}
            for number, row in enumerate(stream):
                watcher.update(number, row, None if vectors is None else vectors[number])
                for rate, departure in departures.items():
                    counts[rate] += departure.begins(watcher.excess("drift", normal.kept(rate)))
        measured = (_interval(count, streams * frames) for count in counts.values())
        rows.append([f"{length:,}", f"{memory:g}", f"{size or '–'}", *measured])
    return Section(
        "False alarms promised and measured",
        f"One false alarm in so many frames. {streams} streams of 12 signals and {frames:,} frames for each memory r "
        f"from frame to frame, each with a reference of its own; embeddings vary in {DIRECTIONS} directions with the "
        "same memory, besides noise of a tenth. None was used in development. Measured, with its exact 95 % interval "
        "for independent alarms, and how many alarms there were.",
        Table(["frames of the reference", "r", "embedding", *(f"promised 1 in {rate:,}" for rate in RATES)], rows),
    )


def _embeddings(
    length: int, frames: int, memory: float, size: int, random: np.random.Generator
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Of a reference that is not refused, and of the stream after it."""
    if not size:
        return None, None
    directions = random.normal(size=(DIRECTIONS, size))
    within = (steady(memory, random, length), noise(frames, memory, random))
    known, after = (each[:, :DIRECTIONS] @ directions + 0.1 * random.normal(size=(len(each), size)) for each in within)
    return known, after


def _interval(count: int, frames: int) -> str:
    from scipy.stats import chi2

    low, high = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, chi2.ppf(0.975, 2 * count + 2) / 2
    most = f"{frames / low:,.0f}" if low else "∞"
    measured = f"1 in {frames / count:,.0f}" if count else "none"
    return f"{measured} ({frames / high:,.0f} to {most}; {count})"


def false_alarms(
    detectors: Sequence[Detector], streams: int, frames: int, library: tuple[int, int], told: str
) -> Section:
    """Promised against measured, detector by detector."""
    rows, bars = [], []
    cases = []
    for memory in MEMORIES:
        for seed in range(streams):
            random = np.random.default_rng([seed, int(100 * memory)])
            cases.append((steady(memory, random), noise(frames, memory, random)))
    for detector in detectors:
        kept, length = library if isinstance(detector, Library) else (streams, frames)
        # All at once: to import a library takes longer than to watch a stream.
        firsts = range(0, len(cases), streams)
        given = [case for first in firsts for case in part(cases[first : first + streams], kept, length)]
        alarms = detector.alarms(given)
        cells = [detector.name]
        for number, memory in enumerate(MEMORIES):
            per = sum(map(len, alarms[number * kept : (number + 1) * kept])) / (kept * length) * 10_000
            cells.append(f"{per:.2f}")
            bars.append((f"{detector.name}, r = {memory:g}", max(per, 0.2)))
        rows.append(cells)
    return _false_alarms_told(rows, bars, streams, frames, library, told)


def _false_alarms_told(
    rows: list[list[str]],
    bars: list[tuple[str, float]],
    streams: int,
    frames: int,
    library: tuple[int, int],
    told: str,
) -> Section:
    return Section(
        "False alarms on autocorrelated noise",
        f"Per 10,000 frames; 1.00 is promised (by Evidently's defaults nothing). "
        f"{streams} streams of 12 signals and {frames:,} frames for each memory r from frame to frame, each with a "
        f"reference of its own of {REFERENCE_FRAMES} frames." + _library_text(told, library),
        Table(["detector", *(f"r = {memory:g}" for memory in MEMORIES)], rows),
        [Bars("drift-false-alarms", "false alarms in 10,000 frames (1 is promised)", bars)],
    )


def _library_text(told: str, library: tuple[int, int]) -> str:
    if not told:
        return " The rivals are written for this page (benchmarks/rivals.py)."
    streams, frames = library
    return (
        f" Those of Evidently and alibi-detect are the libraries' own ({told}, benchmarks/libraries_child.py), on the "
        f"first {streams} streams and {frames:,} frames of each; the others are written "
        "for this page (benchmarks/rivals.py)."
    )
