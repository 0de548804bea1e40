"""Takes a bundle apart and puts it together again with lies in it, everything else re-wrapped to agree."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zstandard

from recorder.bundle import Bundle, archive, ustar
from recorder.bundle.limits import FRAME_BYTES

__all__ = ["Forgery", "frame_of"]


def frame_of(raw: bytes) -> bytes:
    """One zstd frame as the writer makes it."""
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(raw)


@dataclass
class Forgery:
    """The parts of a bundle, to be changed and assembled."""

    manifest: dict[str, Any]
    contents: list[tuple[str, bytes]]
    tar_header: Callable[[str, int], bytes] = ustar.header
    frame: Callable[[bytes], bytes] = frame_of
    manifest_text: bytes | None = None  #: instead of the manifest's JSON
    relist: bool = True  #: let the manifest's list of members follow the contents
    table: Callable[[list[tuple[int, int]]], list[tuple[int, int]]] = field(default=lambda entries: entries)
    major: int = 1

    @classmethod
    def of(cls, data: bytes) -> Forgery:
        """Take a bundle apart."""
        with Bundle.open(data) as bundle:
            text = zstandard.ZstdDecompressor().decompress(data[archive.HEADER_BYTES :], read_across_frames=False)
            size = struct.unpack_from("<I", data, 24)[0]
            manifest = json.loads(text[512 : 512 + size])
            return cls(manifest, [(m.path, bundle.read(m.path)) for m in bundle.manifest.members])

    def replace(self, path: str, content: bytes) -> None:
        """Give a member other bytes."""
        self.contents = [(name, content if name == path else old) for name, old in self.contents]

    def build(self) -> bytes:
        """Put it together."""
        frames: list[tuple[int, int]] = []
        body, listed = b"", []
        first = 2
        for path, content in self.contents:
            raw = self.tar_header(path, len(content)) + content + ustar.padding(len(content))
            parts = [raw[start : start + FRAME_BYTES] for start in range(0, len(raw), FRAME_BYTES)]
            for part in parts:
                packed = self.frame(part)
                body += packed
                frames.append((len(packed), len(part)))
            listed.append(
                {
                    "path": path,
                    "size_bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "first_frame": first,
                    "frame_count": len(parts),
                }
            )
            first += len(parts)
        manifest = {**self.manifest, "members": listed} if self.relist else self.manifest
        text = self.manifest_text
        if text is None:
            text = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
        entry = self.tar_header("manifest.json", len(text)) + text + ustar.padding(len(text))
        head_frame = frame_of(entry)
        end = frame_of(ustar.END_OF_ARCHIVE)
        header = bytearray(archive.pack_header(len(head_frame), len(text), hashlib.sha256(text).digest()))
        struct.pack_into("<H", header, 16, self.major)
        entries = [(len(header), 0), (len(head_frame), len(entry)), *frames, (len(end), len(ustar.END_OF_ARCHIVE))]
        return bytes(header) + head_frame + body + end + archive.pack_seek_table(self.table(entries))
