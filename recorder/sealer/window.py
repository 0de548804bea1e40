"""A window whose frames are all there: what the sealer hands from following a ring to writing a bundle."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from recorder.bundle.manifest import Incident
from recorder.records import Kind
from recorder.ring import RingReader
from recorder.sealer.latched import Latched
from recorder.sealer.stages import SpooledStages, StageRecord
from recorder.sealer.tracking import TrackSource

__all__ = ["ClosedWindow", "incident_name"]


@dataclass(slots=True)
class ClosedWindow:
    """A window ready to be sealed."""

    incident: Incident
    records: list[StageRecord]
    latched: Latched
    spool: SpooledStages | None = None
    track: TrackSource | None = None  #: where its history is, and up to which row

    def release(self) -> None:
        """Give back the window's copy of the ring."""
        if self.spool is not None:
            self.spool.close()

    @property
    def contexts(self) -> set[int]:
        """Ids of the contexts its records name."""
        return {number for stage in self.records if isinstance(number := stage.head.get("context"), int)}

    @property
    def models(self) -> set[int]:
        """Ids of the models its records name."""
        return {number for stage in self.records if isinstance(number := stage.head.get("model"), int)}

    @property
    def unverified_calls(self) -> dict[int, int]:
        """How many of its calls began after the weights of their models were last compared, by model."""
        after = self.latched.verified_calls
        begun = {
            (model, call)
            for stage in self.records
            if stage.kind == Kind.INPUT
            and isinstance(call := stage.head.get("call"), int)
            and isinstance(model := stage.head.get("model"), int)
            and self.latched.is_comparable(model)
        }
        return dict(Counter(model for model, call in begun if call > after))


def incident_name(reader: RingReader, *parts: object) -> str:
    """Return 32 hex digits for an incident of a ring; without parts: the death of its process."""
    identity = reader.header.identity
    seed = " ".join(map(str, (identity.boot_id, identity.pid, identity.start_ticks, reader.path.name, *parts)))
    return hashlib.sha256(seed.encode()).hexdigest()[:32]
