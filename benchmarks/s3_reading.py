"""What `replay show` moves over the line of a large bundle that lies in a bucket."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bundles import small_bundle
from tests.sinks.proxy import FaultyProxy

__all__ = ["Moved", "moved_by_show"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Counted on the wire, by a proxy."""

    object_bytes: int
    answered_bytes: int  #: bodies of all answers
    requests: int


def moved_by_show(directory: Path, bucket: str, s3: Any, proxy: FaultyProxy, environment: dict[str, str]) -> Moved:
    """Put a bundle of 72 frames of noise into the bucket and look at it as a user would."""
    path = small_bundle(directory / "large.zst", frames=72, height=960, width=1280)
    size = path.stat().st_size
    with path.open("rb") as file:
        s3.upload_fileobj(file, bucket, "large.zst")
    path.unlink()
    proxy.forget()
    subprocess.run(
        [Path(sys.executable).with_name("replay"), "show", f"s3://{bucket}/large.zst"],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Moved(object_bytes=size, answered_bytes=proxy.answered_bytes, requests=len(proxy.requests))
