"""The profile: learnt from clean frames, saved as one file, asked what is wrong with other frames."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.cause.model import WINDOW_FRAMES, CauseModel, fit_cause_model, windows_of
from recorder.cause.views import FrameRefused, Views, checked_frame, reduced_shape, views_of
from recorder.drift.reference import Reference
from recorder.image_signals import IMAGE_SIGNALS, image_signals
from recorder.profile.cause_document import cause_from_document, cause_to_document
from recorder.profile.diagnosis import Diagnosis
from recorder.profile.file import read_profile, write_profile
from recorder.profile.gathering import Gathered, most_windows
from recorder.profile.steady import require_steady

__all__ = ["Profile"]

FORMAT, VERSION = "vision-flight-recorder profile", 2
#: Cameras in one profile.
MAX_CAMERAS = 64
#: Frames of an incident that are looked at: the last windows before it ends.
MAX_DIAGNOSED_FRAMES = 4 * WINDOW_FRAMES
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Profile:
    """What normal looks like.

    Attributes:
        cameras: a cause model by camera or slice key; "" serves every camera that has none of its own.
        model_digest: of the model that the profile goes with; None: it was not said.
        reference: what the drift detectors compare with, as it stands in the file; None: there is none.
        refused: cameras of which nothing could be learnt, and why.
        path: the file it was saved to or loaded from.
    """

    cameras: Mapping[str, CauseModel]
    model_digest: str | None = None
    reference: Mapping[str, Any] | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def fit(
        cls,
        frames: Iterable[npt.NDArray[Any]],
        embeddings: npt.ArrayLike | None = None,
        *,
        keys: Sequence[str] | None = None,
        model_digest: str | None = None,
        keep_thumbnail: bool = True,
        seed: int = 0,
    ) -> Profile:
        """Learn normal from clean frames, oldest first. Takes about a minute of one core for each camera.

        Args:
            frames: HW or HWC, uint8 or uint16, with 1, 3 or 4 channels (alpha is ignored), at least 32 pixels on a
                side; of each camera all of one size, 32 at least. Neighbours must be neighbours in time. Of more than
                4000 of one camera, every second window of 8 is left out, or three of four, and so on.
            embeddings: (frames, d), what a model's layer gave for each.
            keys: the camera or slice of each frame; None: one for all.
            model_digest: sha256 of the weights the profile goes with, 64 hexadecimal digits.
            keep_thumbnail: whether the file may hold a picture of at most 96 pixels of what a fixed camera looks at;
                without it camera shift and rotation are told by statistics alone.
            seed: of the corruptions that are drawn; the same frames and seed give the same profile.

        Raises:
            ValueError: frames cannot be measured, are too few, change their size, hold nothing, drift, or embeddings
                are not finite. One sentence.
        """
        if model_digest is not None and _DIGEST.fullmatch(model_digest) is None:
            raise ValueError("model_digest must be 64 hexadecimal digits, the sha256 of the weights")
        runs: dict[str, Gathered] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        signals: list[npt.NDArray[np.float32]] = []
        before: dict[str, npt.NDArray[np.uint8]] = {}
        count = 0
        for number, frame in enumerate(frames):
            if keys is not None and number >= len(keys):
                raise ValueError(f"keys must name a camera for each frame, and there are only {len(keys)}")
            key = "" if keys is None else str(keys[number])[:200]
            shape = checked_frame(frame).shape[:2]
            if shapes.setdefault(key, shape) != shape:
                raise FrameRefused(
                    f"frames change their size from {shapes[key][1]}x{shapes[key][0]} to {shape[1]}x{shape[0]} at "
                    f"frame {number}; give those of one camera setting"
                )
            if key not in runs:
                if len(runs) == MAX_CAMERAS:
                    raise ValueError(f"a profile holds at most {MAX_CAMERAS} cameras, and these are more")
                runs[key] = Gathered()
            runs[key].add(views_of([frame]), most_windows(len(runs)))
            measured = image_signals(np.asarray(frame), before.get(key))
            before[key] = measured.small
            signals.append(measured.values)
            count = number + 1
        if not count:
            raise FrameRefused("no frame was given; a profile needs at least 32")
        _check_embeddings(embeddings, count)
        cameras: dict[str, CauseModel] = {}
        refused: dict[str, str] = {}
        for key, gathered in runs.items():
            try:
                windows = gathered.windows
                require_steady(windows)
                height, width = shapes[key]
                cameras[key] = fit_cause_model(
                    windows, seed=seed, keep_thumbnail=keep_thumbnail, shape=(int(height), int(width))
                )
            except FrameRefused as error:
                refused[key] = str(error)
        if not cameras:
            raise FrameRefused(next(iter(refused.values())))
        try:
            streams = None if keys is None else [str(key)[:200] for key in keys[:count]]
            reference = Reference.fit(np.stack(signals), list(IMAGE_SIGNALS), embeddings, streams, seed=seed).document()
        except ValueError as error:
            # Causes are told all the same; the drift triggers need a longer stretch.
            reference, refused["drift"] = None, str(error)[:500]
        return cls(cameras, model_digest, reference, refused)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile, all of it or nothing.

        Raises:
            OSError: it cannot be written.
        """
        write_profile(self.document(), path)
        object.__setattr__(self, "path", Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        """Read a profile; it may come from anyone.

        Raises:
            ValueError: it is no profile, too large, of a newer version, or states what cannot be. One sentence.
            OSError: it cannot be read.
        """
        loaded = cls.from_document(read_profile(path))
        object.__setattr__(loaded, "path", Path(path))
        return loaded

    def document(self) -> dict[str, Any]:
        """Return it as JSON-able data, after ``schemas/profile.schema.json``."""
        made: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "model_digest": self.model_digest,
            "refused": dict(self.refused),
            "cameras": {key: cause_to_document(model) for key, model in self.cameras.items()},
        }
        if self.reference is not None:
            made["reference"] = dict(self.reference)
        return made

    @classmethod
    def from_document(cls, given: Any) -> Profile:
        """Read what `document` returned.

        Raises:
            ValueError: as `load` does.
        """
        if not isinstance(given, dict) or given.get("format") != FORMAT:
            raise ValueError("the file is no profile; make one with `replay profile build`")
        if given.get("version") != VERSION:
            raise ValueError(f"the profile is not of version {VERSION}; make it again, or update this program")
        cameras, digest, refused = given.get("cameras"), given.get("model_digest"), given.get("refused", {})
        if not isinstance(cameras, dict) or not 0 < len(cameras) <= MAX_CAMERAS or not isinstance(refused, dict):
            raise ValueError(f"a profile holds 1 to {MAX_CAMERAS} cameras")
        if digest is not None and (not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None):
            raise ValueError("the profile's model digest is none; make it again")
        if len(refused) > MAX_CAMERAS or any(len(key) > 200 for key in (*cameras, *refused)):
            raise ValueError("the profile names cameras that cannot be")
        reference = given.get("reference")
        if reference is not None and not isinstance(reference, dict):
            raise ValueError("the profile's reference is none; make it again")
        known = {key: cause_from_document(each) for key, each in cameras.items()}
        return cls(known, digest, reference, {key: str(why)[:500] for key, why in refused.items()})

    def diagnose(
        self, frames: Iterable[npt.NDArray[Any]], *, key: str = "", model_digest: str | None = None
    ) -> Diagnosis:
        """Name what is wrong with neighbouring frames of one camera; of many, the last 32 are looked at.

        Frames that say nothing (too few or too small, of another size than learnt, of another model) give ``unknown``
        with the reason in ``evidence``, never a guess.
        """
        try:
            views = views_of(list(frames)[-MAX_DIAGNOSED_FRAMES:])
        except FrameRefused as error:
            return Diagnosis.unknown(str(error))
        return self.diagnose_views(views, key=key, model_digest=model_digest)

    def diagnose_views(self, views: Views, *, key: str = "", model_digest: str | None = None) -> Diagnosis:
        """Do as `diagnose` does, with frames that `recorder.cause.views.views_of` has reduced already."""
        if model_digest is not None and self.model_digest is not None and model_digest != self.model_digest:
            return Diagnosis.unknown("the profile goes with another model; make one for this model")
        model = self.cameras.get(key, self.cameras.get(""))
        if model is None:
            return Diagnosis.unknown("the profile knows nothing of this camera; make one with its frames")
        try:
            if len(views) < 2:
                raise FrameRefused("a diagnosis needs at least two neighbouring frames")
            if (views.width, views.wide.shape[1:3]) != (model.shape[1], reduced_shape(*model.shape)):
                raise FrameRefused(f"the frames are of another size than the {model.shape[1]}x{model.shape[0]} learnt")
            windows = windows_of(views) or [views]
            finding = model.find(windows)
        except FrameRefused as error:
            return Diagnosis.unknown(str(error))
        return Diagnosis.of(finding, views.width)


def _check_embeddings(embeddings: npt.ArrayLike | None, count: int) -> None:
    if embeddings is None:
        return
    given = np.asarray(embeddings)
    if given.ndim != 2 or len(given) != count or given.dtype.kind not in "fiu":
        raise ValueError(f"embeddings must be numbers of shape ({count}, d), one row a frame")
    if not np.isfinite(given).all():
        raise ValueError("embeddings hold NaN or Infinity; leave such frames out")
