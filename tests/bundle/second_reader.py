"""A reader written from schemas/FORMAT.md alone: standard library and zstandard, nothing of this package."""

from __future__ import annotations

import hashlib
import json
import struct
from itertools import accumulate
from typing import Any

import zstandard

Json = dict[str, Any]

DTYPES_BY_BYTES = {
    1: "bool uint8 int8 float8_e4m3fn float8_e5m2",
    2: "uint16 int16 float16 bfloat16",
    4: "uint32 int32 float32",
    8: "uint64 int64 float64 complex64",
    16: "complex128",
}
ITEM_BYTES = {dtype: size for size, dtypes in DTYPES_BY_BYTES.items() for dtype in dtypes.split()}


def need(condition: bool, sentence: str) -> None:
    """Stop at what the format does not allow."""
    if not condition:
        raise ValueError(sentence)


def tar_header(path: str, size: int) -> bytes:
    """Section 1.3."""
    text = path.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"02263773600\0"
    text += b" " * 8 + b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    return text[:148] + b"%06o\0 " % sum(text) + text[156:]


def unpack(frame: bytes, raw_size: int) -> bytes:
    """Section 1.2."""
    need(frame[:4] == b"\x28\xb5\x2f\xfd", "not a zstd frame")
    stated = zstandard.get_frame_parameters(frame)
    need((stated.content_size, stated.has_checksum, stated.dict_id) == (raw_size, True, 0), "another frame than listed")
    return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)


class SecondReader:
    """Section 8."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        count, descriptor, magic = struct.unpack("<IBI", data[-9:])
        need(magic == 0x8F92EAB1 and descriptor == 0, "no seek table")
        table = data[len(data) - 17 - 8 * count :]
        need(struct.unpack_from("<II", table) == (0x184D2A5E, 8 * count + 9), "no seek table")
        entries = list(struct.iter_unpack("<II", table[8:-9]))
        self.raw = [raw for _, raw in entries]
        self.offsets = list(accumulate((packed for packed, _ in entries), initial=0))
        need(self.offsets[-1] + len(table) == len(data), "frames do not tile the file")
        frame, rest, magic8, major, _, packed, size, digest = struct.unpack_from("<II8sHHII32s", data)
        need((frame, rest, magic8, major) == (0x184D2A50, 52, b"\x89VFR\r\n\x1a\n", 1), "no bundle of version 1")
        need(packed == entries[1][0], "header and table disagree")
        text = self.entry("manifest.json", size, 1, 1)
        need(hashlib.sha256(text).digest() == digest, "manifest altered")
        self.id = digest.hex()
        self.manifest: Json = json.loads(text)
        need(not self.manifest.get("required_features"), "needs a newer reader")
        self.members = {member["path"]: member for member in self.manifest["members"]}

    def entry(self, path: str, size: int, first: int, count: int) -> bytes:
        """One tar entry's content."""
        frames = range(first, first + count)
        raw = b"".join(unpack(self.data[self.offsets[i] : self.offsets[i + 1]], self.raw[i]) for i in frames)
        need(raw[:512] == tar_header(path, size), "another tar header")
        need(raw[512 + size :] == bytes(-size % 512), "padding is not zero")
        return raw[512 : 512 + size]

    def read(self, path: str) -> bytes:
        """A member."""
        member = self.members[path]
        content = self.entry(path, member["size_bytes"], member["first_frame"], member["frame_count"])
        need(hashlib.sha256(content).hexdigest() == member["sha256"], "member altered")
        return content

    def tensor(self, tensor: Json) -> bytes:
        """Section 5."""
        content, size = self.read(tensor["member"]), tensor["size_bytes"]
        item = ITEM_BYTES[tensor["dtype"]]
        if tensor["encoding"] == "raw":
            content = content[tensor["offset"] : tensor["offset"] + size]
        elif tensor["encoding"] == "shuffle":
            content = bytes(content[i % item * (size // item) + i // item] for i in range(size))
        else:
            content = from_table(content, item, size // item)
        need(hashlib.sha256(content).hexdigest() == tensor["sha256"], "tensor altered")
        return content


def from_table(member: bytes, item: int, count: int) -> bytes:
    """The encoding ``table``."""
    channels, run = struct.unpack_from("<II", member)
    counts = struct.unpack_from(f"<{channels}H", member, 8)
    place, tables = 8 + 2 * channels, []
    for values in counts:
        tables.append([member[place + item * i : place + item * (i + 1)] for i in range(values)])
        place += item * values
    items = [b""] * count
    for channel in range(channels):
        code = 0
        for i in (i for i in range(count) if i // run % channels == channel):
            code = (code + member[place]) % 256
            place += 1
            items[i] = tables[channel][code]
    need(place == len(member), "bytes after the last code")
    return b"".join(items)
