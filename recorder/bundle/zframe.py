"""One zstd frame at a time: written with its content size and checksum, and trusted only when it states both."""

from __future__ import annotations

import zstandard

from recorder.bundle.errors import BundleInvalid

__all__ = ["FrameCompressor", "decompress_frame"]

_MAGIC = b"\x28\xb5\x2f\xfd"


class FrameCompressor:
    """Compresses buffers into independent frames. Not for use from two threads at once."""

    def __init__(self) -> None:
        self._by_level: dict[int, zstandard.ZstdCompressor] = {}

    def compress(self, raw: bytes | bytearray | memoryview, level: int) -> bytes:
        """Return one frame that states content size and checksum (one shot: the streaming API omits the size)."""
        compressor = self._by_level.get(level)
        if compressor is None:
            compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
            self._by_level[level] = compressor
        return compressor.compress(raw)


def decompress_frame(data: bytes | memoryview, raw_bytes: int) -> bytes:
    """Decompress exactly one frame that must unpack to ``raw_bytes``.

    The stated size is checked before anything is allocated: a decoder believes the frame, and a forged size of a
    terabyte is allocated.

    Raises:
        BundleInvalid: not one whole frame, another size, no checksum, a dictionary, or damaged.
    """
    if bytes(data[:4]) != _MAGIC:
        raise BundleInvalid("a part of the bundle is not a zstd frame; fetch the bundle again")
    try:
        parameters = zstandard.get_frame_parameters(data)
        if parameters.content_size != raw_bytes or not parameters.has_checksum or parameters.dict_id != 0:
            raise BundleInvalid("a frame of the bundle states other properties than its seek table; do not open it")
        raw = zstandard.ZstdDecompressor().decompress(
            data, max_output_size=raw_bytes, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise BundleInvalid(
            "a part of the bundle is damaged; fetch the bundle again from where it was sealed"
        ) from error
    if len(raw) != raw_bytes:
        raise BundleInvalid("a frame of the bundle unpacks to another size than stated; do not open it")
    return raw
