"""One zstd frame at a time: written with its content size and checksum, and trusted only when it states both."""

from __future__ import annotations

import zstandard

from recorder.bundle.errors import BundleInvalid

__all__ = ["FAST", "FRAME_MAGIC", "NOISY", "THOROUGH", "FrameCompressor", "decompress_frame", "frame_length"]

FRAME_MAGIC = b"\x28\xb5\x2f\xfd"


#: RFC 8878: a block's header has three bytes, its content at most 128 KiB.
_BLOCK_HEADER_BYTES = 3
_MAX_BLOCK_BYTES = 128 * 1024
_CHECKSUM_BYTES = 4


#: zstd's level of pixels, tensors and files: higher ones cost several times the time for a few per cent.
FAST = 1

#: zstd's level of what is small and read first.
THOROUGH = 9

#: No level but a setting for photographs, whose matches are accidents: only long ones are taken, and a short window
#: makes blocks of 32 KiB, each with its own code. 0.4 % smaller than FAST, and no slower.
NOISY = 0
_NOISY_PARAMETERS = {"window_log": 15, "hash_log": 13, "chain_log": 13, "search_log": 1, "min_match": 6}

#: Enough of a picture to hold what a short window would miss.
_SAMPLE_BYTES = 128 * 1024


class FrameCompressor:
    """Compresses buffers into independent frames. Not for use from two threads at once."""

    def __init__(self) -> None:
        self._by_level: dict[int, zstandard.ZstdCompressor] = {}

    def level_for(self, content: bytes | memoryview) -> int:
        """Try FAST and NOISY on the middle of a picture's content and return which is better."""
        start = max(0, len(content) - _SAMPLE_BYTES) // 2
        sample = content[start : start + _SAMPLE_BYTES]
        return min(FAST, NOISY, key=lambda level: len(self.compress(sample, level)))

    def compress(self, raw: bytes | bytearray | memoryview, level: int) -> bytes:
        """Return one frame that states content size and checksum (one shot: the streaming API omits the size)."""
        compressor = self._by_level.get(level)
        if compressor is None:
            parameters = zstandard.ZstdCompressionParameters.from_level(
                level or FAST, write_checksum=True, write_content_size=True, **({} if level else _NOISY_PARAMETERS)
            )
            compressor = self._by_level[level] = zstandard.ZstdCompressor(compression_params=parameters)
        return compressor.compress(raw)


def decompress_frame(data: bytes | memoryview, raw_bytes: int) -> bytes:
    """Decompress exactly one frame that must unpack to ``raw_bytes``.

    The stated size is checked before anything is allocated: a decoder believes the frame, and a forged size of a
    terabyte is allocated.

    Raises:
        BundleInvalid: not one whole frame, another size, no checksum, a dictionary, or damaged.
    """
    if bytes(data[:4]) != FRAME_MAGIC:
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


def frame_length(data: bytes | memoryview) -> tuple[int, int] | None:
    """Return the compressed and the stated raw length of the frame that ``data`` begins with; nothing is decompressed.

    None when no whole frame with content size and checksum stands there.
    """
    try:
        if bytes(data[:4]) != FRAME_MAGIC:
            return None
        parameters = zstandard.get_frame_parameters(data)
        position = zstandard.frame_header_size(data)
    except zstandard.ZstdError:
        return None
    if not parameters.has_checksum or parameters.content_size == zstandard.CONTENTSIZE_UNKNOWN:
        return None
    last = 0
    while not last:
        block = data[position : position + _BLOCK_HEADER_BYTES]
        header = int.from_bytes(block, "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if len(block) < _BLOCK_HEADER_BYTES or kind == 3 or size > _MAX_BLOCK_BYTES:
            return None
        position += _BLOCK_HEADER_BYTES + (1 if kind == 1 else size)  # kind 1: one byte, repeated
    position += _CHECKSUM_BYTES
    return (position, parameters.content_size) if position <= len(data) else None
