"""A bundle from the ring that a dead process left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

from recorder.privacy import load_key
from recorder.ring import RingInvalid, RingReader, is_alive
from recorder.sealer.assemble import assemble
from recorder.sealer.exit_status import ending_of
from recorder.sealer.leftover import salvage
from recorder.sealer.redacting import Redacting
from recorder.sealer.sealing import bundle_name
from recorder.sealer.window import incident_name
from recorder.sinks import open_sink

__all__ = ["recover_ring"]


def recover_ring(ring: Path, directory: Path) -> list[Path]:
    """Seal what is in a ring into ``directory``; the ring is left as it is.

    The recording's privacy policy holds; a redacting function that it names is not run, which costs those images. The
    key, if there is one, comes from FLIGHT_RECORDER_PRIVACY_KEY.

    Returns:
        The bundles written: one, or none when the ring holds no frame.

    Raises:
        RingUnavailable: it cannot be opened or belongs to another user.
        RingInvalid: it is no ring, or damaged; or its process is still recording.
        SinkUnavailable: the directory cannot be written.
        ValueError: the privacy key in the environment is none.
    """
    with RingReader(ring) as reader:
        header = reader.header
        if is_alive(header):
            raise RingInvalid(
                f"The process {header.identity.pid} is still recording into {ring}; trigger an incident there, "
                "or recover the ring when it has ended."
            )
        reason = f"recovered from the ring of process {header.identity.pid}"
        window = salvage(reader, incident_name(reader), reason, ending=ending_of(None))
        if not window.records:
            return []
        sink = open_sink(str(directory.absolute()))
        with tempfile.TemporaryDirectory(prefix="flight-recorder-") as scratch:
            path = assemble(
                window.incident,
                window.records,
                window.latched,
                Path(scratch),
                privacy=Redacting(window.latched.privacy, load_key()),
                track=window.track,
                unverified=window.unverified_calls,
            )
            return [Path(sink.publish(path, bundle_name(window)))]
