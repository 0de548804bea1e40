"""Another process: a range of the ring becomes a bundle in the sink; also for a host that died."""

from __future__ import annotations

from pathlib import Path

__all__ = ["recover_ring"]


def recover_ring(ring: Path, directory: Path) -> list[Path]:
    """Seal what a dead process left in its ring; see `recorder.sealer.recover.recover_ring`."""
    from recorder.sealer.recover import recover_ring as recover

    return recover(ring, directory)
