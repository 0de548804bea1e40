"""A reader of bundles in one page, written from schemas/FORMAT.md alone: standard library and zstandard only.

python minimal_reader.py BUNDLE              lists the members and tensors
python minimal_reader.py BUNDLE DIRECTORY    unpacks them: members as files, tensors as raw little-endian bytes
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
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
PATH = r"(records|thumbnails|images|tensors|models)/[0-9a-f]{1,64}(-[0-9]{1,6})?"
PATH += r"\.(json|msgpack|jpg|png|webp|bin|safetensors|graph\.json)"
MAX_MANIFEST_BYTES, MAX_FRAME_BYTES = 32 * 2**20, 8 * 2**20


def need(condition: bool, sentence: str) -> None:
    """Stop at what the format does not allow."""
    if not condition:
        raise ValueError(sentence)


def tar_header(path: str, size: int) -> bytes:
    """Section 1.3."""
    text = path.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"02263773600\0"
    text += b" " * 8 + b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    return text[:148] + b"%06o\0 " % sum(text) + text[156:]


def unpack(frame: bytes, raw_size: int, most: int) -> bytes:
    """Section 1.2: one frame that states its size and carries a checksum."""
    need(frame[:4] == b"\x28\xb5\x2f\xfd" and raw_size <= most, "not a zstd frame of an allowed size")
    stated = zstandard.get_frame_parameters(frame)
    need((stated.content_size, stated.has_checksum, stated.dict_id) == (raw_size, True, 0), "another frame than listed")
    return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)


class Reader:
    """An open bundle (section 8)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        count, descriptor, magic = struct.unpack("<IBI", data[-9:])
        need(magic == 0x8F92EAB1 and descriptor == 0 and 3 <= count <= 120_000, "no seek table: truncated?")
        table = data[len(data) - 17 - 8 * count :]
        need(struct.unpack_from("<II", table) == (0x184D2A5E, 8 * count + 9), "no seek table: truncated?")
        entries = list(struct.iter_unpack("<II", table[8:-9]))
        self.raw = [raw for _, raw in entries]
        self.offsets = list(accumulate((packed for packed, _ in entries), initial=0))
        need(self.offsets[-1] + len(table) == len(data), "frames do not tile the file")
        frame, rest, magic8, major, _, packed, size, digest = struct.unpack_from("<II8sHHII32s", data)
        need((frame, rest, magic8, major) == (0x184D2A50, 52, b"\x89VFR\r\n\x1a\n", 1), "no bundle of version 1")
        need(packed == entries[1][0], "header and table disagree")
        text = self._entry("manifest.json", size, 1, 1, MAX_MANIFEST_BYTES + 1024)
        need(hashlib.sha256(text).digest() == digest, "manifest altered")
        self.id = digest.hex()
        self.manifest: Json = json.loads(text)
        need({*self.manifest.get("required_features", ())} <= {"planes", "removed-values"}, "needs a newer reader")
        self.members = {member["path"]: member for member in self.manifest["members"]}

    def _entry(self, path: str, size: int, first: int, count: int, most: int = MAX_FRAME_BYTES) -> bytes:
        """One tar entry's content."""
        frames = range(first, first + count)
        raw = b"".join(unpack(self.data[self.offsets[i] : self.offsets[i + 1]], self.raw[i], most) for i in frames)
        need(raw[:512] == tar_header(path, size), "another tar header")
        need(raw[512 + size :] == bytes(-size % 512), "padding is not zero")
        return raw[512 : 512 + size]

    def read(self, path: str) -> bytes:
        """A member."""
        need(re.fullmatch(PATH, path) is not None, "a path that is not allowed")
        member = self.members[path]
        content = self._entry(path, member["size_bytes"], member["first_frame"], member["frame_count"])
        need(hashlib.sha256(content).hexdigest() == member["sha256"], "member altered")
        return content

    def tensor(self, tensor: Json) -> bytes:
        """Section 5."""
        content, size, item = self.read(tensor["member"]), tensor["size_bytes"], ITEM_BYTES[tensor["dtype"]]
        if tensor["encoding"] == "raw":
            content = content[tensor["offset"] :][:size]
        elif tensor["encoding"] == "shuffle":
            content = bytes(content[i % item * (size // item) + i // item] for i in range(size))
        else:
            content = from_table(content, item, size // item, tensor["encoding"] == "planes")
        need(hashlib.sha256(content).hexdigest() == tensor["sha256"], "tensor altered")
        return content

    def tensors(self) -> Iterator[Json]:
        """All descriptions of tensors, wherever they stand in calls and frames."""
        nodes: list[Any] = [self.manifest["calls"], *(frame.get("output") for frame in self.manifest["frames"])]
        while nodes:
            node = nodes.pop()
            if isinstance(node, dict) and "member" in node.get("tensor", ()):
                yield node["tensor"]
            elif isinstance(node, dict | list):
                nodes.extend(node.values() if isinstance(node, dict) else node)


def from_table(member: bytes, item: int, count: int, planes: bool) -> bytes:
    """The encodings ``table`` and ``planes``."""
    channels, run, width = struct.unpack_from("<III", member)
    place, tables = (12 if planes else 8) + 2 * channels, []
    for values in struct.unpack_from(f"<{channels}H", member, place - 2 * channels):
        numbers = [int.from_bytes(member[place + item * i : place + item * (i + 1)], "little") for i in range(values)]
        numbers = list(accumulate(numbers)) if planes else numbers
        tables.append([(number % 256**item).to_bytes(item, "little") for number in numbers])
        place += item * values
    own, codes = bytearray(member[place:]), bytearray(count)
    size, before = (run * width, width) if planes else (count // channels, 1)
    need(len(own) == count, "another number of codes than items")
    for i in range(count):  # the row above or the item before, then the channel before
        own[i] = (own[i] + (own[i - before] if i % size >= before else 0)) % 256
        codes[i] = (own[i] + (codes[i - size] if planes and i // size % channels else 0)) % 256
    if planes:
        return b"".join(tables[i // size % channels][code] for i, code in enumerate(codes))
    places = ((i // run % channels, i // (run * channels) * run + i % run) for i in range(count))
    return b"".join(tables[channel][codes[channel * size + k]] for channel, k in places)


if __name__ == "__main__":
    reader = Reader(Path(sys.argv[1]).read_bytes())
    found = {f"tensors/{t['sha256'][:16]}.{t['dtype']}": t for t in reader.tensors()}
    print(f"bundle {reader.id}: {len(reader.members)} members, {len(found)} tensors")
    members = [(path, reader.read(path)) for path in reader.members]
    for name, content in members + [(name, reader.tensor(tensor)) for name, tensor in found.items()]:
        print(f"{len(content):>12} {name}")
        if len(sys.argv) > 2:
            (Path(sys.argv[2]) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(sys.argv[2]) / name).write_bytes(content)
