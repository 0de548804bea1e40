"""The bytes of a ring file: one header page, then for every region an index of slots and a data area.

::

    0      header page: identity of the process, geometry, state and heartbeat (4096 bytes)
    4096   region 0: index (64 bytes a slot), data
    …      region 1 …                                   in order, without gaps, to the end of the file

Record ``n`` of a region (numbers start at 1 and have no gaps) has its slot at ``n % slot_count``. A slot counts only
when its *commit* word equals its number; the writer stores that word last and clears it before anything the record
owns is used again. The frames area is one circular region or several (*lanes*), the last of the file; its records
carry a *sequence* that counts across all of them. All words are little-endian and lie at multiples of eight, so that
each is stored at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from recorder.ring.errors import RingInvalid
from recorder.ring.identity import BOOT_ID_BYTES, SERVICE_BYTES, RingIdentity, printable

__all__ = [
    "ALIGNMENT",
    "COMMIT_WORD",
    "CONTEXTS",
    "EVENTS",
    "FRAMES",
    "HEADER",
    "HEADER_BYTES",
    "HEADS_OFFSET",
    "KIND_WORD",
    "LENGTH_WORD",
    "LOSSES",
    "LOSSES_OFFSET",
    "LossReason",
    "MAX_FILE_BYTES",
    "MAX_REGIONS",
    "MAX_SLOTS",
    "MOVING",
    "MOVING_OFFSET",
    "RegionKind",
    "RegionLayout",
    "RingHeader",
    "RingState",
    "SEQUENCE_WORD",
    "SLOT",
    "SLOT_BYTES",
    "SlotFlag",
    "pack_header",
    "plan_region",
    "unpack_header",
]

MAGIC = b"VFR-RING"
VERSION = 1
#: Reads as another number on a machine of the other byte order, whose ring this code must not try to read.
BYTE_ORDER_MARK = 0x01020304

HEADER_BYTES = 4096
#: Cache lines and tensors: every data area and every record begins at a multiple of it.
ALIGNMENT = 64
PAGE_BYTES = 4096

#: Region numbers of every ring; further lanes of the frames area follow, all circular.
CONTEXTS, EVENTS, FRAMES = 0, 1, 2

#: As many region descriptors, heads and loss rows as fit the header page.
MAX_REGIONS = 16
#: Caps on what a foreign file may claim; far above anything real (a 64 GiB ring has 2**24 slots).
MAX_SLOTS = 2**24
MAX_FILE_BYTES = 2**40


class RegionKind(IntEnum):
    """What happens when a region is full."""

    LATCHED = 1  #: further records are refused; nothing is ever overwritten
    CIRCULAR = 2  #: the oldest records make room


class RingState(IntEnum):
    """What the recording process said last."""

    LIVE = 1
    CLOSED = 2  #: closed in order
    TERMINATED = 3  #: asked to end (SIGTERM, worker recycling): not an incident


class SlotFlag(IntEnum):
    """What a slot without a commit number stands for."""

    RESERVED = 0  #: still being written
    ABANDONED = 1  #: will never be committed


class LossReason(IntEnum):
    """Why a record was refused; a counter per region and reason lies in the header page and survives the process."""

    FULL = 0
    TOO_LARGE = 1
    BLOCKED = 2
    REENTERED = 3
    TRUNCATED = 4

    @property
    def suffix(self) -> str:
        """The reason as it stands in ``losses``, after the region's name and a dash."""
        return self.name.lower().replace("_", "-")


#: magic, version, byte order, file bytes, pid, start ticks, pid namespace, uid, created ns, regions, reserved,
#: boot id, service
HEADER = struct.Struct(f"<8sIIQQQQQQII{BOOT_ID_BYTES}s{SERVICE_BYTES}s")
#: name, kind, reserved, slots, index offset, data offset, data bytes
REGION = struct.Struct("<16sIIQQQQ8x")
REGIONS_OFFSET = 512
#: state, heartbeat on the wall clock, heartbeat on the monotonic clock (both ns)
MOVING = struct.Struct("<QQQ")
MOVING_OFFSET = 256
#: Sequence of the last record reserved in any lane of the frames area, behind the heartbeats.
SEQUENCE_WORD = (MOVING_OFFSET + MOVING.size) // 8
#: number of the last reserved record and number of the oldest not yet evicted, a pair of words per region
HEADS_OFFSET = REGIONS_OFFSET + MAX_REGIONS * REGION.size
HEAD = struct.Struct("<QQ")
LOSSES_OFFSET = HEADS_OFFSET + MAX_REGIONS * HEAD.size
LOSSES = struct.Struct("<8Q")

#: number, data offset, length, kind, flag, key, reserved bytes, sequence, commit
SLOT = struct.Struct("<QQQIIQQQQ")
SLOT_BYTES = SLOT.size
#: Positions of three fields within a slot, in words of eight bytes; the kind's word holds the flag too.
LENGTH_WORD, KIND_WORD, COMMIT_WORD = 2, 3, 7


@dataclass(frozen=True, slots=True)
class RegionLayout:
    """Where a region lies in the file; offsets and sizes in bytes."""

    name: str
    kind: RegionKind
    slot_count: int
    index_offset: int
    data_offset: int
    data_bytes: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind the region."""
        return self.data_offset + self.data_bytes


@dataclass(frozen=True, slots=True)
class RingHeader:
    """The header page. Strings are claims of whoever wrote the file; they hold printable characters only."""

    identity: RingIdentity
    file_bytes: int
    created_ns: int  #: wall clock
    state: RingState
    heartbeat_ns: int  #: wall clock
    heartbeat_monotonic_ns: int  #: comparable only under the same boot id
    regions: tuple[RegionLayout, ...]
    heads: tuple[tuple[int, int], ...]  #: per region: number of the last reserved record, of the oldest not evicted
    losses: dict[str, int]  #: refused records, by reason such as "frames-blocked"; zeros are left out


def plan_region(name: str, kind: RegionKind, offset: int, region_bytes: int, bytes_per_slot: int) -> RegionLayout:
    """Divide ``region_bytes`` from ``offset`` into an index with a slot per ``bytes_per_slot`` and a data area."""
    usable = region_bytes // PAGE_BYTES * PAGE_BYTES
    if usable < 2 * PAGE_BYTES:
        raise ValueError(f"The {name} region of a ring needs at least {2 * PAGE_BYTES} bytes, not {region_bytes}.")
    slot_count = max(8, min(usable // bytes_per_slot, MAX_SLOTS))
    data_offset = offset + slot_count * SLOT_BYTES
    return RegionLayout(name, kind, slot_count, offset, data_offset, offset + usable - data_offset)


def pack_header(identity: RingIdentity, regions: Iterable[RegionLayout], created_ns: int) -> bytes:
    """The static part of the header page (state, heartbeat, heads and losses are stored by the writer as they move)."""
    layouts = tuple(regions)
    if len(layouts) > MAX_REGIONS:
        raise ValueError(f"A ring has at most {MAX_REGIONS} regions, not {len(layouts)}.")
    page = bytearray(HEADER_BYTES)
    HEADER.pack_into(
        page,
        0,
        MAGIC,
        VERSION,
        BYTE_ORDER_MARK,
        layouts[-1].end,
        identity.pid,
        identity.start_ticks,
        identity.pid_namespace,
        identity.uid,
        created_ns,
        len(layouts),
        0,
        identity.boot_id.encode(),
        identity.service.encode(),
    )
    for number, layout in enumerate(layouts):
        REGION.pack_into(
            page,
            REGIONS_OFFSET + number * REGION.size,
            layout.name.encode(),
            layout.kind,
            0,
            layout.slot_count,
            layout.index_offset,
            layout.data_offset,
            layout.data_bytes,
        )
    return bytes(page)


def unpack_header(page: bytes, file_bytes: int) -> RingHeader:
    """Read a header page that anyone may have written; RingInvalid when a single claim does not hold."""
    if len(page) < HEADER_BYTES:
        raise RingInvalid(f"This is no ring file: it has {file_bytes} bytes, less than a header page; check the path.")
    fields = HEADER.unpack_from(page)
    magic, version, byte_order, claimed_bytes, pid, ticks, namespace, uid, created_ns, count, _, boot_id, service = (
        fields
    )
    if magic != MAGIC:
        raise RingInvalid("This is no ring file: it does not begin with the ring's magic bytes; check the path.")
    if byte_order != BYTE_ORDER_MARK:
        raise RingInvalid("This ring was written on a machine of another byte order; recover it there.")
    if version != VERSION:
        raise RingInvalid(
            f"This ring has version {version}, this program reads version {VERSION}; use the one that wrote it."
        )
    if claimed_bytes != file_bytes:
        raise RingInvalid(
            f"This ring should have {claimed_bytes} bytes and has {file_bytes}: it was cut or is damaged."
        )
    if file_bytes > MAX_FILE_BYTES:
        raise RingInvalid(f"This ring has {file_bytes} bytes, more than the {MAX_FILE_BYTES} that are ever read.")
    state, heartbeat_ns, heartbeat_monotonic_ns = MOVING.unpack_from(page, MOVING_OFFSET)
    if state not in RingState.__members__.values():
        raise RingInvalid(f"This ring is damaged: its state is {state}.")
    regions = _unpack_regions(page, count, file_bytes)
    return RingHeader(
        identity=RingIdentity(
            boot_id=printable(boot_id),
            pid=pid,
            start_ticks=ticks,
            pid_namespace=namespace,
            uid=uid,
            service=printable(service),
        ),
        file_bytes=file_bytes,
        created_ns=created_ns,
        state=RingState(state),
        heartbeat_ns=heartbeat_ns,
        heartbeat_monotonic_ns=heartbeat_monotonic_ns,
        regions=regions,
        heads=tuple(HEAD.unpack_from(page, HEADS_OFFSET + number * HEAD.size) for number in range(count)),
        losses=_unpack_losses(page, regions),
    )


def _unpack_regions(page: bytes, count: int, file_bytes: int) -> tuple[RegionLayout, ...]:
    if not 1 <= count <= MAX_REGIONS:
        raise RingInvalid(f"This ring is damaged: it claims {count} regions.")
    regions: list[RegionLayout] = []
    end = HEADER_BYTES
    for number in range(count):
        fields = REGION.unpack_from(page, REGIONS_OFFSET + number * REGION.size)
        name, kind, _, slot_count, index_offset, data_offset, data_bytes = fields
        if (
            kind not in RegionKind.__members__.values()
            or not 1 <= slot_count <= MAX_SLOTS
            or index_offset != end
            or data_offset != index_offset + slot_count * SLOT_BYTES
            or not ALIGNMENT <= data_bytes <= file_bytes - data_offset
            or data_bytes % ALIGNMENT
        ):
            raise RingInvalid(f"This ring is damaged: the geometry of its region {number} is impossible.")
        regions.append(
            RegionLayout(printable(name), RegionKind(kind), slot_count, index_offset, data_offset, data_bytes)
        )
        end = regions[-1].end
    if end != file_bytes:
        raise RingInvalid("This ring is damaged: its regions do not fill the file.")
    return tuple(regions)


def _unpack_losses(page: bytes, regions: tuple[RegionLayout, ...]) -> dict[str, int]:
    losses: dict[str, int] = {}
    for number, region in enumerate(regions):
        counts = LOSSES.unpack_from(page, LOSSES_OFFSET + number * LOSSES.size)
        for reason in LossReason:
            if counts[reason]:
                name = f"{region.name}-{reason.suffix}"  # lanes have the same name
                losses[name] = losses.get(name, 0) + counts[reason]
    return losses
