"""The regions of a ring as its writer sees them: how large each is, and what is live in it."""

from __future__ import annotations

from collections import deque

from recorder.ring.layout import (
    CONTEXTS,
    EVENTS,
    FRAMES,
    HEADER_BYTES,
    HEADS_OFFSET,
    MAX_REGIONS,
    LossReason,
    RegionKind,
    RegionLayout,
    plan_region,
)

__all__ = ["Region", "plan_regions"]

#: One slot per so many bytes. Contexts are documents of kilobytes, events short notes; a frame is a few records of
#: which the largest are megabytes: its index takes 1.6 % and runs out first only when records average below 4 KiB.
BYTES_PER_SLOT = {CONTEXTS: 1024, EVENTS: 512, FRAMES: 4096}


class Region:
    """What the writer knows of a region: its cursor, its live records and its open reservations."""

    __slots__ = (
        "circular",
        "cursor",
        "data_bytes",
        "data_offset",
        "head_word",
        "index_offset",
        "layout",
        "live",
        "losses",
        "next_number",
        "open",
        "slot_count",
    )

    def __init__(self, number: int, layout: RegionLayout) -> None:
        self.layout = layout
        self.circular = layout.kind is RegionKind.CIRCULAR
        self.slot_count = layout.slot_count
        self.index_offset = layout.index_offset
        self.data_offset = layout.data_offset
        self.data_bytes = layout.data_bytes
        self.head_word = HEADS_OFFSET // 8 + 2 * number
        #: Never wraps; the place in the file is ``cursor % data_bytes``. So ranges compare as plain intervals.
        self.cursor = 0
        self.next_number = 1
        #: (number, first position, word of its commit number), oldest first
        self.live: deque[tuple[int, int, int]] = deque()
        #: first position by number, of reservations neither committed nor abandoned
        self.open: dict[int, int] = {}
        self.losses = [0] * len(LossReason)


def plan_regions(
    *, frames_bytes: int, events_bytes: int, contexts_bytes: int, lanes: int = 1
) -> tuple[RegionLayout, ...]:
    """Lay the regions out, one after the other; ValueError when one is too small to hold anything."""
    if not 1 <= lanes <= MAX_REGIONS - FRAMES:
        raise ValueError(f"A ring has between 1 and {MAX_REGIONS - FRAMES} lanes for frames, not {lanes}.")
    wanted = (
        (CONTEXTS, "contexts", RegionKind.LATCHED, contexts_bytes),
        (EVENTS, "events", RegionKind.CIRCULAR, events_bytes),
        *((FRAMES, "frames", RegionKind.CIRCULAR, frames_bytes // lanes) for _ in range(lanes)),
    )
    regions: list[RegionLayout] = []
    offset = HEADER_BYTES
    for number, name, kind, region_bytes in wanted:
        regions.append(plan_region(name, kind, offset, region_bytes, BYTES_PER_SLOT[number]))
        offset = regions[-1].end
    return tuple(regions)
