"""The results of a fleet run: a line of JSON an incident as soon as it is known, a table, a page."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.sinks import BundleListing
from replay.fleet.candidate import NOT_JUDGED, OUTCOMES

__all__ = ["Results", "headline", "write_parquet"]

_FILE = "results.jsonl"
#: A line of a result is below a kilobyte; longer ones are not ours.
_MAX_LINE_BYTES = 2**20

_RIGHT = ("fixed", "still right", "unchanged", "reproduced")


class Results:
    """The results in a directory. What a run was interrupted in is begun anew; what is there is not run again."""

    def __init__(self, directory: Path, key: str) -> None:
        """Read what is there already of the candidate named ``key``.

        Raises:
            OSError: the directory cannot be made or read.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / _FILE
        self._key = key
        self.known: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            with self.path.open("rb") as file:
                for line in file:
                    self._take(line)

    def _take(self, line: bytes) -> None:
        """A line that was cut off, or is of another candidate, is passed over."""
        try:
            data = json.loads(line) if len(line) <= _MAX_LINE_BYTES else None
        except (ValueError, RecursionError):
            return
        if isinstance(data, dict) and data.get("candidate") == self._key and data.get("outcome") in OUTCOMES:
            self.known[str(data.get("location"))] = data

    def has(self, listing: BundleListing) -> bool:
        """Whether this bundle, with these bytes as far as a listing tells, was replayed."""
        data = self.known.get(listing.location)
        return data is not None and data.get("size_bytes") == listing.size_bytes and data["outcome"] != "unreadable"

    def add(self, listing: BundleListing, result: Mapping[str, Any]) -> None:
        """Write one result, durably.

        Raises:
            OSError: it cannot be written.
        """
        data = {"candidate": self._key, "location": listing.location, "size_bytes": listing.size_bytes, **result}
        text = json.dumps(data, ensure_ascii=True) + "\n"
        with self.path.open("ab+") as file:
            if file.tell() and self._is_cut_off(file):
                text = "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        self.known[listing.location] = data

    @staticmethod
    def _is_cut_off(file: Any) -> bool:
        file.seek(-1, os.SEEK_END)
        return bool(file.read(1) != b"\n")


def headline(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Say it in one line: "fixes 37 of 41, newly breaks 2"."""
    counts = Counter(str(each["outcome"]) for each in results.values())
    wrong = counts["fixed"] + counts["still wrong"]
    parts = []
    if wrong or counts["newly wrong"] or counts["still right"]:
        parts = [f"fixes {counts['fixed']} of {wrong}", f"newly breaks {counts['newly wrong']}"]
    elif counts["changed"] or counts["unchanged"]:
        parts = [f"changes {counts['changed']} of {counts['changed'] + counts['unchanged']}"]
    elif counts["reproduced"] or counts["diverged"] or counts["nondeterministic"]:
        total = counts["reproduced"] + counts["diverged"] + counts["nondeterministic"]
        parts = [f"reproduces {counts['reproduced']} of {total}"]
    if counts["cannot run"]:
        parts.append(f"{counts['cannot run']} cannot be run")
    if counts["unreadable"]:
        parts.append(f"{counts['unreadable']} cannot be read")
    missing = sum(each["frames"].get(NOT_JUDGED, 0) for each in results.values() if "frames" in each)
    if missing:
        parts.append(f"{missing} frame{'' if missing == 1 else 's'} not judged (thinned)")
    return ", ".join(parts) or "no incidents"


def write_parquet(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a row an incident.

    Raises:
        ImportError: pyarrow is not installed.
        OSError: it cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        {
            "location": location,
            "bundle": each.get("bundle"),
            "outcome": each["outcome"],
            "verdict": each.get("verdict"),
            "trigger": each.get("trigger"),
            "stream": each.get("stream"),
            "cause": each.get("cause"),
            "frames": json.dumps(each.get("frames", {})),
            "seconds": float(each.get("seconds", 0.0)),
            "reason": each.get("reason", ""),
        }
        for location, each in sorted(results.items())
    ]
    parquet.write_table(pa.Table.from_pylist(rows), path)
