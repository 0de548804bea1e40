"""Every bound of the format, each with its reason: a reader refuses what lies beyond, a writer stays within."""

from __future__ import annotations

KIB, MIB, GIB = 2**10, 2**20, 2**30

#: A manifest is read whole before anything else. A thousand frames of three calls take about 10 MiB.
MAX_MANIFEST_BYTES = 32 * MIB

#: JSON of a few bytes becomes objects of a hundred: 32 MiB of ``[],`` would take a gigabyte, and every part costs up to
#: 3.5 microseconds until it is checked: the worst manifest of this many takes less than two seconds. Numbers, strings
#: and containers together; a thousand frames of three calls need about 400,000.
MAX_MANIFEST_NODES = 2**19

#: The deepest legal value (values.MAX_DEPTH records in each other) is 75 levels of JSON.
MAX_JSON_DEPTH = 128

#: Raw bytes the writer puts into one zstd frame: small enough to range-read a part, large enough to compress well.
FRAME_BYTES = 4 * MIB

#: Raw bytes a reader accepts in one zstd frame; zstd expands zeros 32,700-fold, so a frame is the unit of trust.
MAX_FRAME_BYTES = 8 * MIB

#: A window of a thousand frames with a hundred members each.
MAX_MEMBERS = 100_000

#: The size field of a USTAR header has eleven octal digits.
MAX_MEMBER_BYTES = 8 * GIB - 1

#: One frame for every member, and enough of them for MAX_TOTAL_BYTES.
MAX_FRAMES = MAX_MEMBERS + 20_000

#: Everything unpacked: more than any window in memory or any model, less than a common disk.
MAX_TOTAL_BYTES = 64 * GIB

#: Unpacked size may exceed this only in proportion to the file: MAX_RATIO times its bytes. Black frames compress
#: 20,000-fold, but equal images are stored once.
FREE_TOTAL_BYTES = 256 * MIB
MAX_RATIO = 1_000

#: Beyond any sensor; at four 16-bit channels it decodes to 1 GiB.
MAX_IMAGE_PIXELS = 2**27

#: numpy's bound is 64, torch's models stay below ten.
MAX_DIMENSIONS = 32

#: A tensor's bytes, as long as the largest member.
MAX_TENSOR_BYTES = MAX_MEMBER_BYTES

#: Value tables of one tensor: colours or features of an image. Each costs a step of the decoder's loop.
MAX_TABLE_CHANNELS = 256

#: Chunks of one PNG: encoders write 8 KiB or more into each, an attacker nothing.
MAX_PNG_CHUNKS = 100_000

#: Tensors smaller than this share members: each alone would cost a tar header, a zstd frame and 8 bytes of seek table.
GROUPED_TENSOR_BYTES = 16 * KIB

#: A shared member is closed at this size: reading one small tensor decompresses all of it.
GROUP_BYTES = 256 * KIB

#: Skippable frames between the archive and the seek table (signatures); a reader skips what it does not know.
MAX_ANNOTATIONS = 16
MAX_ANNOTATION_BYTES = MIB

#: Bundles a bundle was made from, one out of the other: a redacted one of a minimised one of a salvaged one is three.
MAX_ANCESTORS = 64

#: The tables of a track are read whole; an hour of sixty streams fits.
MAX_TRACK_BYTES = 32 * MIB

#: Tables of a track: four of each stream.
MAX_TRACK_LEVELS = 4_096

#: Longer side of a thumbnail, in pixels.
THUMBNAIL_SIDE = 64
