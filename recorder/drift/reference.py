"""The reference: what is normal, for each stream, with thresholds that keep a stated false-alarm rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.drift.document import normal_from_document, normal_to_document
from recorder.drift.normal import MAX_RATE, MIN_FRAMES, Normal, learn
from recorder.drift.scores import LARGEST

__all__ = ["DEFAULT_FRAMES_PER_FALSE_ALARM", "Reference"]

#: At 30 frames a second, one false alarm an hour and stream.
DEFAULT_FRAMES_PER_FALSE_ALARM = 100_000
MIN_RATE = 100
#: Streams in one reference.
MAX_STREAMS = 256
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Reference:
    """What is normal.

    Attributes:
        streams: of each stream or slice, by key; "" serves every stream that has none of its own.
        frames_per_false_alarm: the rate that is kept where a trigger states none.
        refused: keys of which nothing could be learnt, and why.
    """

    streams: Mapping[str, Normal]
    frames_per_false_alarm: int = DEFAULT_FRAMES_PER_FALSE_ALARM
    refused: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        signals: npt.ArrayLike,
        names: Sequence[str],
        embeddings: npt.ArrayLike | None = None,
        keys: Sequence[str] | None = None,
        frames_per_false_alarm: int = DEFAULT_FRAMES_PER_FALSE_ALARM,
        begins: Sequence[int] = (),
        classes: Sequence[str | None] | None = None,
        seed: int = 0,
    ) -> Reference:
        """Learn from clean frames, oldest first.

        Args:
            signals: (frames, k) of float; NaN where a frame has none. A signal that is constant, or missing in more
                than a tenth of the frames, is left out.
            names: of the k signals; those of `recorder.track.TRACK_SIGNALS` are understood, others taken as they are.
            embeddings: (frames, d), d at most 512.
            keys: the stream or slice of each frame; each is learnt by itself. None: one reference for all streams.
            frames_per_false_alarm: the default of the triggers, per stream.
            begins: rows at which a new recording begins: such a frame does not follow the one before it.
            classes: the top-1 class of each frame, where there is one.
            seed: of the calibration's draws.

        Raises:
            ValueError: sizes do not agree, there are too few frames, they never vary, or they drift. One sentence.
        """
        values = _numbers(signals, "signals")
        if values.ndim != 2 or values.shape[1] != len(names) or len(set(names)) != len(names):
            raise ValueError(f"signals must be (frames, {len(names)}) to go with as many different names")
        given = None if embeddings is None else _numbers(embeddings, "embeddings")
        if given is not None and (given.ndim != 2 or len(given) != len(values) or not given.shape[1]):
            raise ValueError("embeddings must be (frames, d), with one row a frame")
        if keys is not None and len(keys) != len(values):
            raise ValueError("keys must name a stream for every frame")
        if classes is not None and len(classes) != len(values):
            raise ValueError("classes must name a class, or None, for every frame")
        rate = checked_rate(frames_per_false_alarm)
        starting = np.zeros(len(values), bool)
        if not all(isinstance(row, int | np.integer) for row in begins):
            raise ValueError("begins must be numbers of rows, those at which a recording begins")
        starting[[row for row in begins if 0 <= row < len(values)]] = True
        if keys is None:
            return cls({"": learn(values, names, given, starting, seed, classes)}, rate)
        named = np.array([str(key) for key in keys], dtype=object)
        streams: dict[str, Normal] = {}
        refused: dict[str, str] = {}
        distinct = list(dict.fromkeys(named.tolist()))
        for key in distinct[:MAX_STREAMS]:
            rows = np.flatnonzero(named == key)
            own_begins = np.add.reduceat(starting, np.concatenate([[0], rows[:-1] + 1])[: len(rows)]) > 0
            try:
                own = None if given is None else given[rows]
                told = None if classes is None else [classes[row] for row in rows.tolist()]
                streams[key] = learn(values[rows], names, own, own_begins, seed, told)
            except ValueError as error:
                refused[key] = str(error)
        refused |= dict.fromkeys(distinct[MAX_STREAMS:], f"A reference holds at most {MAX_STREAMS} streams.")
        if not streams:
            raise ValueError(
                next(iter(refused.values()), f"A reference takes at least {MIN_FRAMES} frames, and has 0.")
            )
        return cls(streams, rate, refused)

    def of(self, stream: str) -> Normal | None:
        """Return what is normal for a stream; None where nothing is known of it."""
        return self.streams.get(stream, self.streams.get(""))

    def document(self) -> dict[str, Any]:
        """Return it as JSON-able data; numbers of arrays are little-endian bytes in base64."""
        return {
            "version": _VERSION,
            "frames_per_false_alarm": self.frames_per_false_alarm,
            "refused": dict(self.refused),
            "streams": {key: normal_to_document(normal) for key, normal in self.streams.items()},
        }

    @classmethod
    def from_document(cls, document: Any) -> Reference:
        """Read what `document` returned; it may come from anyone.

        Raises:
            ValueError: it is not that, or states what cannot be. One sentence.
        """
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            raise ValueError(f"The reference has no version {_VERSION}; learn it again with this program.")
        streams, refused = document.get("streams"), document.get("refused", {})
        if not isinstance(streams, dict) or not isinstance(refused, dict) or not 0 < len(streams) <= MAX_STREAMS:
            raise ValueError(f"The reference must hold 1 to {MAX_STREAMS} streams.")
        if any(len(str(key)) > 200 for key in (*streams, *refused)) or len(refused) > 2**16:
            raise ValueError("The reference names streams that cannot be.")
        rate = checked_rate(document.get("frames_per_false_alarm"))
        known = {str(key): normal_from_document(each) for key, each in streams.items()}
        return cls(known, rate, {str(key): str(why)[:500] for key, why in refused.items()})


def _numbers(given: npt.ArrayLike, what: str) -> npt.NDArray[np.float64]:
    """Return an array of numbers that a reference can state; ValueError when they are none."""
    try:
        values = np.asarray(given, np.float64) if not np.iscomplexobj(given) else None
    except (TypeError, ValueError):
        values = None
    if values is None:
        raise ValueError(f"{what} must be rows of numbers, all of one length; NaN where there is none")
    if np.abs(values[np.isfinite(values)]).max(initial=0.0) > LARGEST:
        raise ValueError(f"{what} hold numbers beyond {LARGEST:.0e}, of which nothing can be learnt; scale them")
    return values


def checked_rate(frames: Any) -> int:
    """Return a rate that can be calibrated; ValueError when it cannot."""
    if not isinstance(frames, int) or isinstance(frames, bool) or not MIN_RATE <= frames <= MAX_RATE:
        raise ValueError(f"frames_per_false_alarm={frames!r} must be an integer between {MIN_RATE} and {MAX_RATE}")
    return frames
