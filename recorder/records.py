"""The records of the ring: a frame is a chain of them, each committed alone.

A record is a little-endian u32 length, a msgpack head of that length, and, from the next multiple of 64 on, the
payload: the bytes of its images or tensors at the offsets the head names.

======== ======== ================================================================================================
kind     region   head
======== ======== ================================================================================================
BEGIN    frames   stream, time, monotonic, context, metadata, sensor_time, images; payload: the images
INPUT    frames   call, model, context, frames, parent, settings, started, args, kwargs, rng; payload: the tensors
LAYERS   frames   call, layers: what its layers gave, digested; payload: names, hashes and sketches
EMBEDDING frames  call, frames, embedding: what a layer gave, pooled, a row for each frame; for the detectors alone
OUTPUT   frames   call, frames, latency, output or exception; payload: the tensors
END      frames   latency, metadata, output, exception, lost; payload: the tensors of the answer
STAGES   frames   begin and input, or output and end: the heads of a frame that was made for one call, by stage;
                  payload: that of both
TRIGGER  events   incident, kind, reason, severity, frame, stream, time, after, value, threshold, parameters
FLUSH    events   flush, after
LOSSES   events   what the host could not record so far, by reason
VERIFIED events   calls: when so many had begun, all models' weights were compared with those announced
CONFIG   contexts the window and the triggers the sealer evaluates
CONTEXT  contexts id, since, environment
MODEL    contexts a manifest.Model without weights and graphs
WEIGHTS  contexts model, digest, size_bytes, stored
EXPORT   contexts model, signature: a graph is being exported
GRAPH    contexts model, signature, digest, size_bytes
PROBLEM  contexts model, signature (null: the weights), sentence: why they or a graph are missing
DOUBT    contexts model, first, before: the weights changed unnoticed somewhere between these calls
======== ======== ================================================================================================

The key of a record is the frame's id (of a batch: the first frame's), 0 outside the frames region.
"""

from __future__ import annotations

import struct
import threading
from enum import IntEnum
from typing import Any

import msgpack

from recorder.capture.leaf import align

__all__ = ["HEAD_LENGTH", "Kind", "RecordInvalid", "STAGE_KINDS", "pack_head", "pack_value", "unpack_head"]

HEAD_LENGTH = struct.Struct("<I")

#: A head describes; what is large goes into the payload. The largest honest head (20,000 nodes) stays below this.
MAX_HEAD_BYTES = 4 * 2**20


class Kind(IntEnum):
    """What a record says; the number stands in the ring's index."""

    BEGIN = 1
    INPUT = 2
    OUTPUT = 3
    END = 4
    STAGES = 5
    LAYERS = 6
    EMBEDDING = 7
    TRIGGER = 16
    FLUSH = 17
    LOSSES = 18
    VERIFIED = 19
    CONFIG = 32
    CONTEXT = 33
    MODEL = 34
    WEIGHTS = 35
    EXPORT = 36
    GRAPH = 37
    PROBLEM = 38
    DOUBT = 39


#: The stages whose heads may stand in one STAGES record, by their names there.
STAGE_KINDS = {"begin": Kind.BEGIN, "input": Kind.INPUT, "output": Kind.OUTPUT, "end": Kind.END}


class RecordInvalid(Exception):
    """A record's bytes do not hold a head this version can read."""


class _Packer(threading.local):
    """One packer a thread: making one takes longer than packing a head, and allocates a quarter of a megabyte."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer(unicode_errors="replace", buf_size=8192).pack


_packer = _Packer()


def pack_value(value: Any) -> bytes:
    """Return the msgpack form of a head or of a part of one."""
    try:
        packed: bytes = _packer.pack(value)
    except BaseException:
        del _packer.pack  # half a value may be left in its buffer
        _packer.__init__()  # type: ignore[misc]  # as for a new thread
        raise
    return packed


def pack_head(head: dict[str, Any]) -> tuple[bytes, int]:
    """Return the bytes of length and head, and where in the record the payload begins."""
    body = pack_value(head)
    data = HEAD_LENGTH.pack(len(body)) + body
    return data, align(len(data))


def unpack_head(data: bytes) -> dict[str, Any]:
    """Parse the bytes that follow the length.

    Raises:
        RecordInvalid: not a msgpack map with string keys, or larger than any honest head.
    """
    if len(data) > MAX_HEAD_BYTES:
        raise RecordInvalid("the head of a record is larger than any this version writes")
    try:
        head = msgpack.unpackb(
            data, raw=False, strict_map_key=True, max_ext_len=0, max_bin_len=0, object_pairs_hook=_without_duplicates
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise RecordInvalid(f"the head of a record is not readable: {error}") from error
    if not isinstance(head, dict):
        raise RecordInvalid("the head of a record is not a map")
    return head


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key stands twice")
    return mapping
