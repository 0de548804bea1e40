"""Where a recorder's ring comes from: how large it may be, how it is divided, in which directory it lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recorder.ring import (
    RingIdentity,
    RingReader,
    RingUnavailable,
    RingWriter,
    choose_directory,
    is_alive,
    ring_name,
)
from recorder.ring.location import BESIDE_SUFFIXES, RING_SUFFIX
from recorder.settings import RecorderSettings

__all__ = ["LANE_BYTES", "create_ring", "open_ring"]

#: Of the ring: environments and model descriptions are tens of kilobytes each, triggers a few hundred bytes.
CONTEXTS_SHARE, MAX_CONTEXTS_BYTES = 1 / 16, 8 * 2**20
EVENTS_SHARE, MAX_EVENTS_BYTES = 1 / 64, 2**20
#: A lane holds at least a 4K frame (24.9 MB); a smaller ring gets fewer lanes than it was asked for.
LANE_BYTES = 32 * 2**20
#: A ring has 16 regions, two of which are not for frames.
MAX_LANES = 14
#: A sealer that ends removes its empty directory; it may do so just before our ring would have been in it.
_CREATE_TRIES = 5
#: The header page of the ring file.
_HEADER_ROOM_BYTES = 4096


def open_ring(settings: RecorderSettings, warn: Callable[[str], None]) -> RingWriter:
    """Make the ring of this process, within what ``max_bytes`` leaves beside spools, status and track.

    Args:
        settings: of the recorder.
        warn: told of every compromise, one sentence each.

    Raises:
        RingUnavailable: there is no place for one; the message says why.
        OSError: a directory could not be made.
    """
    wanted = settings.max_bytes - settings.sealer.beside_ring_bytes
    if settings.ring is not None:
        try:
            settings.ring.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RingUnavailable(
                f"No directory can be made at {settings.ring.parent}: {error.strerror}; give ring= another path."
            ) from error
        wished = settings.ring
        return _tried(lambda: create_ring(_free_path(wished, warn), wanted, settings.streams))
    private, usable, compromises = choose_directory(wanted)
    for compromise in compromises:
        warn(compromise)
    directory = private / settings.sealer.key

    def create() -> RingWriter:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return create_ring(directory / ring_name(), usable, settings.streams)

    return _tried(create)


def _tried(create: Callable[[], RingWriter]) -> RingWriter:
    """Create a ring, again where a sealer took the directory or an old ring away, or a sibling took the name."""
    for _ in range(_CREATE_TRIES - 1):
        try:
            return create()
        except (FileNotFoundError, RingUnavailable) as error:
            if not isinstance(error.__cause__ or error, (FileNotFoundError, FileExistsError)):
                raise
    return create()


def _free_path(path: Path, warn: Callable[[str], None]) -> Path:
    """Return the path, or one beside it when it is another process's ring: a sibling's, or a leftover to be sealed.

    What a sealer has told of a former ring would be taken for news of ours until all of it is gone, too.
    """
    if path.suffix != RING_SUFFIX:
        path = path.with_name(path.name + RING_SUFFIX)  # sealers look for no other files
    beside = path.with_name(f"{path.stem}-{ring_name()}")
    if not path.exists():
        return beside if any(path.with_name(path.name + suffix).exists() for suffix in BESIDE_SUFFIXES) else path
    with RingReader(path) as reader:  # of another user, or no ring at all: RingUnavailable, with the remedy
        alive = is_alive(reader.header)
    if alive is not False:
        warn(f"The ring {path} belongs to another process that is running; this one records into {beside.name}.")
    return beside


def create_ring(path: Path, size_bytes: int, streams: int) -> RingWriter:
    """Make a ring file of at most ``size_bytes`` with a lane for each of ``streams``, as far as they fit."""
    contexts = min(int(size_bytes * CONTEXTS_SHARE), MAX_CONTEXTS_BYTES)
    events = min(int(size_bytes * EVENTS_SHARE), MAX_EVENTS_BYTES)
    frames = size_bytes - contexts - events - _HEADER_ROOM_BYTES
    return RingWriter.create(
        path,
        frames_bytes=frames,
        events_bytes=events,
        contexts_bytes=contexts,
        identity=RingIdentity.of_this_process(),
        lanes=max(1, min(streams, MAX_LANES, frames // LANE_BYTES)),
    )
