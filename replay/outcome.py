"""A recorded call that is to be run again, and what can come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recorder.bundle.manifest import Call, Context, Model
from replay.compare.comparison import Answer
from replay.exchange import answer_from_wire
from replay.locate.records import Seen, Watch, seen_from_wire
from replay.protocol import ProtocolError
from replay.show.text import inert
from replay.sources import Candidate

__all__ = ["Failed", "Job", "Outcome", "Raised", "Returned", "outcome_from_wire"]


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


def outcome_from_wire(header: dict[str, Any], payload: bytearray) -> Outcome:
    """Read what a worker sent of a call; nothing of it is believed.

    Raises:
        ProtocolError: it is no outcome.
    """
    match header:
        case {"status": "returned", "answer": tagged, "seconds": float() as seconds}:
            return Returned(answer=answer_from_wire(tagged, payload), seconds=seconds, seen=_seen(header, payload))
        case {"status": "raised", "type": str() as kind, "message": str() as message, "cannot": cannot}:
            return Raised(type=inert(kind), message=message, cannot=None if cannot is None else inert(cannot, 400))
        case {"status": "refused", "reason": str() as reason}:
            return Failed(reason=inert(reason, 400))
    raise ProtocolError("an answer of an unknown kind")


def _seen(header: dict[str, Any], payload: bytearray) -> Seen | None:
    match header:
        case {"seen": form, "seen_from": int() as start} if 0 <= start <= len(payload):
            return seen_from_wire(form, memoryview(payload)[start:])
    return None
