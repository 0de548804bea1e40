"""What is wrong with an incident's pictures, by the service's profile: seen while they are sealed, named in a child."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recorder.bundle.images import DECODER_ERRORS
from recorder.bundle.manifest import Incident
from recorder.bundle.values import JsonValue
from recorder.cause.model import WINDOW_FRAMES
from recorder.cause.views import FrameRefused, Views, views_of
from recorder.counts import Counts
from recorder.export import python_executable
from recorder.records import Kind
from recorder.sealer.image_redacting import pixels_of
from recorder.sealer.stages import StageRecord

__all__ = ["Diagnosing", "looked_at"]

#: Frames that are looked at, the last of the incident's stream: four windows, as `Profile.diagnose` takes.
MAX_FRAMES = 4 * WINDOW_FRAMES
#: Naming takes a second; a machine that is busy takes its time.
TIMEOUT_SECONDS = 60.0
_MAX_ANSWER_BYTES = 2**20
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from recorder.cause.child import main; main()"
)


class Diagnosing:
    """One window's pictures.

    Nothing that goes wrong here costs the incident: it is counted as "not-diagnosed", and the bundle names no cause.

    Args:
        profile: its file.
        incident: its stream is also the camera whose frames the profile learnt from; frames since the onset are
            looked at, else since the first trigger's frame, else the last ones.
        records: of the window.
    """

    def __init__(self, profile: Path, incident: Incident, records: Sequence[StageRecord]) -> None:
        self._profile = profile
        self._stream = incident.stream
        own = [record.key for record in records if _begins(record, incident.stream)]
        self._wanted = frozenset(looked_at(own, incident))
        self._seen: dict[int, Views] = {}

    def see(self, frame: int, entry: Mapping[str, Any], data: bytes) -> None:
        """Take in a frame's first image, as it was recorded."""
        if frame in self._wanted and frame not in self._seen:
            try:
                self._seen[frame] = views_of([pixels_of(entry, data)])
            except (FrameRefused, ValueError, KeyError, TypeError, *DECODER_ERRORS):
                return

    def name(self, lost: Counts, model_digest: str | None = None) -> dict[str, JsonValue] | None:
        """Return the diagnosis's document; None where there is none.

        Args:
            lost: where a failure is counted.
            model_digest: of the weights in use, where they are of one model.
        """
        views = _together([self._seen[number] for number in sorted(self._seen)])
        if views is None:
            return None
        request = {
            "profile": str(self._profile),
            "key": self._stream,
            "model_digest": model_digest,
            "wide": views.wide.shape,
            "detail": views.detail.shape,
            "scale": views.scale,
            "width": views.width,
        }
        head = f"{json.dumps(sys.path)}\n{json.dumps(request)}\n".encode()
        try:
            done = subprocess.run(
                [python_executable(), "-P", "-c", _BOOT],
                input=head + views.wide.tobytes() + views.detail.tobytes(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_SECONDS,
                check=True,
            )
            answer = json.loads(done.stdout[:_MAX_ANSWER_BYTES])
            if isinstance(answer.get("cause"), str):
                return dict(answer)
        except (OSError, ValueError, AttributeError, subprocess.SubprocessError):
            pass
        lost.add("not-diagnosed")
        return None


def looked_at(numbers: Sequence[int], incident: Incident) -> list[int]:
    """Which frames of an incident's stream are diagnosed: those since the onset, else the last ones; 32 at most.

    Args:
        numbers: of its frames with pictures, ascending.
        incident: whose triggers name the onset.
    """
    since = [number for number in numbers if number >= (incident.onset or 0)]
    return list((since if len(since) >= WINDOW_FRAMES else numbers[-WINDOW_FRAMES:])[-MAX_FRAMES:])


def _begins(record: StageRecord, stream: str) -> bool:
    try:
        return record.kind == Kind.BEGIN and record.head["stream"] == stream and bool(record.head["images"])
    except (KeyError, TypeError):
        return False


def _together(views: Sequence[Views]) -> Views | None:
    """Views of one size, that of the last; None of fewer than two."""
    if not views:
        return None
    last = views[-1]
    kept = [each for each in views if each.width == last.width and each.wide.shape == last.wide.shape]
    if len(kept) < 2:
        return None
    wide, detail = (np.concatenate(parts) for parts in ([v.wide for v in kept], [v.detail for v in kept]))
    return Views(wide, detail, last.scale, last.width)
