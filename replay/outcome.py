"""A recorded call that is to be run again, and what can come of it."""

from __future__ import annotations

from dataclasses import dataclass

from recorder.bundle.manifest import Call, Context, Model
from replay.compare.comparison import Answer
from replay.locate.records import Seen, Watch
from replay.sources import Candidate

__all__ = ["Failed", "Job", "Outcome", "Raised", "Returned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One recorded call and how to run it again."""

    call: Call
    model: Model
    context: Context
    candidates: list[Candidate]
    reasons: list[str]  #: why there are no more candidates
    variant: str = ""  #: names how the model is to be laid out, where that is not as recorded
    watch: Watch | None = None  #: what to watch while it runs
    attribute: dict[str, int] | None = None  #: ask for `replay.worker.attributing` instead of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The model answered."""

    answer: Answer
    seconds: float  #: of the call itself, in the worker
    seen: Seen | None = None  #: what was watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The model raised."""

    type: str
    message: str
    cannot: str | None  #: a reason, where the exception tells of this machine and not of the model


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The call could not be run."""

    reason: str
    died: bool = False  #: whether the worker died of it


Outcome = Returned | Raised | Failed
