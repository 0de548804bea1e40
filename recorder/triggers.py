"""Reasons to seal an incident. A trigger is data, except `when`, whose predicate runs in the host.

The others are evaluated by the sealer, which reads the ring as it fills: they cost the host nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recorder.bundle.values import JsonValue

if TYPE_CHECKING:
    from recorder.frame import Frame

__all__ = [
    "Predicate",
    "Trigger",
    "drift",
    "exception",
    "frozen_input",
    "image_quality",
    "latency",
    "low_confidence",
    "non_finite",
    "output_shift",
    "sample",
    "when",
]

#: Called in the host at the end of every frame. True fires; a string fires and is the reason.
Predicate = Callable[["Frame"], "bool | str | None"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """One configured trigger; made by the functions of this module."""

    kind: str
    parameters: dict[str, JsonValue] = field(default_factory=dict)
    predicate: Predicate | None = None


def exception() -> Trigger:
    """Fire when an exception passes through a frame or an attached model."""
    return Trigger("exception")


def non_finite() -> Trigger:
    """Fire when an input or output of an attached model, or the answer, holds NaN or infinity."""
    return Trigger("non_finite")


def low_confidence(below: float, key: str | int | None = None, for_frames: int = 1) -> Trigger:
    """Fire when the answer is less sure than ``below``, ``for_frames`` frames of a stream in a row.

    What counts as confidence is told in `recorder.signals.confidence`: the top probability of a classification (softmax
    of logits), the best score of detections.

    Args:
        below: between 0 and 1.
        key: the entry that holds scores, probabilities or logits; looked for in ``frame.output``, then in the model's
            output. Without it: the model's output, at the entry that looks like it.
        for_frames: how many frames in a row.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < below <= 1:
        raise ValueError(f"low_confidence(below={below}) must lie in (0, 1]")
    if for_frames < 1:
        raise ValueError(f"low_confidence(for_frames={for_frames}) must be at least 1")
    return Trigger("low_confidence", {"below": float(below), "key": key, "for_frames": int(for_frames)})


def sample(rate: float, by: str = "trace_id") -> Trigger:
    """Seal a share of all frames, whatever they show: for baselines, labelling and fresh validation data.

    Decided by a hash of the frame's metadata ``by``, so that every service that is given the same trace id and samples
    at the same rate picks the same requests; frames without it are picked by their frame id. The hash:
    the first 8 bytes of the sha256 of the id's text, big-endian, over 2**64, below ``rate``.

    Samples have a cap of their own (`max_incidents_per_hour`, `max_incidents_per_day`), never take the place of an
    incident, and know neither cooldown nor duplicates.

    Args:
        rate: share of the frames, in (0, 1].
        by: a metadata key.

    Raises:
        ValueError: an argument is out of range.
    """
    if not _is_number(rate) or not 0 < rate <= 1:
        raise ValueError(f"sample(rate={rate!r}) must lie in (0, 1]")
    if not isinstance(by, str) or not by:
        raise ValueError(f"sample(by={by!r}) must be the name of a metadata key")
    return Trigger("sample", {"rate": float(rate), "by": by})


def latency(
    above_ms: float | None = None,
    *,
    quantile: float | None = None,
    times: float = 2.0,
    min_frames: int | None = None,
) -> Trigger:
    """Fire when a frame took too long, from its beginning to its end on the host's monotonic clock, in milliseconds.

    Either against a fixed bound, or against the stream itself: longer than ``times`` the quantile of its earlier frames
    (of the last 10,000 or so, older ones fade; estimated within 4 %). One frame in a hundred exceeds the 0.99 quantile
    by definition, hence the factor.

    Args:
        above_ms: the bound, such as the service's own objective.
        quantile: which quantile, such as 0.99; instead of ``above_ms``.
        times: how far above the quantile.
        min_frames: frames of the stream before it may fire. Default: for a bound none; for a quantile so many that at
            least one of them is expected beyond it, 100 for 0.99, and not fewer than 30.

    Raises:
        ValueError: neither or both of bound and quantile are given, or an argument is out of range.
    """
    if (above_ms is None) == (quantile is None):
        raise ValueError("latency() takes either above_ms or quantile")
    if above_ms is not None and not (_is_number(above_ms) and 0 < above_ms < math.inf):
        raise ValueError(f"latency(above_ms={above_ms!r}) must be a positive number of milliseconds")
    if quantile is not None and not (_is_number(quantile) and 0 < quantile < 1):
        raise ValueError(f"latency(quantile={quantile!r}) must lie between 0 and 1")
    if not _is_number(times) or not 1 <= times < math.inf:
        raise ValueError(f"latency(times={times!r}) must be at least 1")
    if min_frames is None:
        min_frames = 0 if quantile is None else max(30, math.ceil(1 / (1 - quantile) - 1e-6))
    if not _is_count(min_frames, 0):
        raise ValueError(f"latency(min_frames={min_frames!r}) must be a number of frames")
    if above_ms is not None:
        return Trigger("latency", {"above_ms": float(above_ms), "min_frames": min_frames})
    return Trigger("latency", {"quantile": quantile, "times": float(times), "min_frames": min_frames})


def frozen_input(for_frames: int = 30) -> Trigger:
    """Fire when the image of a stream is the same, byte for byte, ``for_frames`` frames in a row: a camera that hangs.

    A live sensor's noise makes two equal frames all but impossible, so this needs no threshold and a moving stream
    never fires; a synthetic or masked picture may be still for good reasons. Frames without an image count neither way.

    Args:
        for_frames: how many equal frames; one second of a 30 Hz camera.

    Raises:
        ValueError: fewer than two.
    """
    if not _is_count(for_frames, 2):
        raise ValueError(f"frozen_input(for_frames={for_frames!r}) must be an integer of at least 2")
    return Trigger("frozen_input", {"for_frames": for_frames})


def output_shift(window: int = 64, false_alarms_per_hour: float = 0.01, key: str | int | None = None) -> Trigger:
    """Fire when the last ``window`` answers of a stream differ from those before, in confidence or in classes.

    Windows follow each other without overlap; each is tested once against the last 32 windows that did not differ
    (from the ninth window on), see `recorder.output_shift`. The test allows for frames that resemble their neighbours.
    The threshold is the significance at which, at the stream's present frame rate, so many false alarms are expected in
    an hour. That holds for a stream that is stationary over the reference: a scene that changes its nature (night, a
    new product) is a shift, and is reported as one. A slow drift moves the reference along and does not fire.

    Args:
        window: frames per window, longer than what one object stays in view.
        false_alarms_per_hour: accepted, per stream.
        key: the entry that holds scores, probabilities or logits, as for `low_confidence`.

    Raises:
        ValueError: an argument is out of range.
    """
    if not _is_count(window, 8) or window > 10_000:
        raise ValueError(f"output_shift(window={window!r}) must be an integer between 8 and 10000")
    if not _is_number(false_alarms_per_hour) or not 0 < false_alarms_per_hour < math.inf:
        raise ValueError(f"output_shift(false_alarms_per_hour={false_alarms_per_hour!r}) must be positive")
    parameters: dict[str, JsonValue] = {"window": window, "false_alarms_per_hour": float(false_alarms_per_hour)}
    return Trigger("output_shift", {**parameters, "key": key})


def drift(frames_per_false_alarm: int | None = None) -> Trigger:
    """Fire when a stream has left its reference: image, answer or embedding, together, by a shift or a wider spread.

    What is normal comes from ``FlightRecorder(profile=…)``, or is learnt from the first ``warmup_frames`` of a stream;
    without either it never fires. It fires once when the stream leaves, and again only after it came back.
    The trigger says which detector fired and since which frame, by the likeliest change point (docs/drift.md).

    Args:
        frames_per_false_alarm: how many frames of a stream there shall be, on average, for one false alarm. Default:
            the profile's, else 100,000, an hour at 30 frames a second.

    Raises:
        ValueError: it is no integer between 100 and 10**9.
    """
    return Trigger("drift", _rate("drift", frames_per_false_alarm))


def image_quality(frames_per_false_alarm: int | None = None) -> Trigger:
    """Fire when one signal of a stream's images has left its reference: darker, blurred, noisier, paler.

    As `drift`, but each image signal is judged alone, so that it says which. Slow small changes of several signals at
    once are found by `drift` first.

    Args:
        frames_per_false_alarm: as for `drift`.

    Raises:
        ValueError: it is no integer between 100 and 10**9.
    """
    return Trigger("image_quality", _rate("image_quality", frames_per_false_alarm))


def when(predicate: Predicate, name: str | None = None) -> Trigger:
    """Fire when ``predicate(frame)`` is true at the end of a frame; a returned string becomes the reason.

    It runs on the calling thread: keep it to a few microseconds. One that raises is counted and never seen by the host.

    Raises:
        ValueError: the predicate is not callable.
    """
    if not callable(predicate):
        raise ValueError("when() takes a function of the frame")
    return Trigger("when", {"name": name or getattr(predicate, "__name__", "predicate")}, predicate)


def _rate(name: str, frames: int | None) -> dict[str, JsonValue]:
    if frames is not None and (not _is_count(frames, 100) or frames > 10**9):
        raise ValueError(f"{name}(frames_per_false_alarm={frames!r}) must be an integer between 100 and 10**9")
    return {"frames_per_false_alarm": frames}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
