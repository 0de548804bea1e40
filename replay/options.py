"""How to replay a bundle: what the command line and callers choose, checked once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from recorder.sinks.s3.address import S3Address
from replay.conclusion import REQUIREMENTS
from replay.load import UserConfig, is_factory
from replay.numerics.settings import PROFILES
from replay.whatif import Changes

__all__ = ["Progress", "ReplayOptions"]

#: Called with (runs done, runs in all), passes counted.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How to replay. The defaults are those of the command line."""

    numerics: str = "faithful"  #: "faithful", "portable" or "here"
    device: str | None = None  #: "cpu", "cuda" or "cuda:n"; None: where it was recorded, as far as that is here
    frames: frozenset[int] | None = None  #: ids; None: all
    repeat: int = 2  #: passes; from the second on, replay is compared with itself
    model: tuple[str, ...] = ()  #: "pkg.mod:factory" or "name=pkg.mod:factory", typed by the user
    model_directory: str | None = None  #: where factories may be imported from besides the installed packages
    models: str | None = None  #: the model store, as typed by the user
    bundle_path: Path | S3Address | None = None  #: where the bundle lies, to find ``models/`` beside it
    config: UserConfig | None = None  #: None: read from the user's configuration directory
    timeout_seconds: float | None = None  #: for one call of a model
    memory_bytes: int | None = None  #: for a worker, beyond torch itself
    task: str | None = None  #: which comparator decides; None: chosen from each answer's structure
    require: str = "decision"  #: "bit-exact", "tolerance" or "decision"
    pipeline: str | None = None  #: "pkg.mod:predict", typed by the user: from the raw image to the service's answer
    changes: Changes = field(default_factory=Changes)  #: what to change on purpose
    truth: str = "ground_truth"  #: metadata key that holds the right answer, for what a change fixes
    progress: Progress | None = None  #: called with (calls done, calls in all), passes counted

    def __post_init__(self) -> None:
        """Check what can be checked without the bundle.

        Raises:
            ValueError: an option has no such value; the message is one sentence.
        """
        if self.numerics not in PROFILES:
            raise ValueError(f"--numerics is one of {', '.join(PROFILES)}, not {self.numerics!r}")
        if self.require not in REQUIREMENTS:
            raise ValueError(f"--require is one of {', '.join(REQUIREMENTS)}, not {self.require!r}")
        if self.repeat < 1:
            raise ValueError(f"--repeat counts passes and is at least 1, not {self.repeat}")
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds < math.inf:
            raise ValueError(f"--timeout is a positive number of seconds, not {self.timeout_seconds:g}")
        if self.pipeline is not None and not is_factory(self.pipeline):
            raise ValueError(f"--pipeline takes pkg.mod:predict, not {self.pipeline!r}")
        if self.changes.edits and self.pipeline is None:
            raise ValueError(
                "--set image.… changes the picture, and only a pipeline turns it into what the model gets: "
                "add --pipeline pkg.mod:predict"
            )
        if self.changes.weights and self.pipeline is not None:
            raise ValueError("--weights goes with the recorded model calls; a --pipeline loads its own weights")
        kind, _, index = (self.device or "cpu").partition(":")
        if kind not in ("cpu", "cuda") or (index and not (index.isdigit() and kind == "cuda")):
            raise ValueError(f"--device is cpu, cuda or cuda:n, not {self.device!r}")
