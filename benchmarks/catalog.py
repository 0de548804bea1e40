"""``python -m benchmarks.catalog``: "have we seen this before?" asked of 100,000 synthetic manifests.

Manifests are those of `tests.bundles` in all but their files: 400 defects, each with some kinds of answers. Measured is
`replay.catalog.similar.similar_to` on an open catalogue, and the same with opening it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from recorder.bundle import Bundle
from replay.catalog.database import Catalog
from replay.catalog.embedding import project
from replay.catalog.entries import Entry, entry_of
from replay.catalog.similar import has_been_seen, similar_to
from tests.bundles import small_bundle

_DEFECTS, _KINDS, _CLASSES = 400, 5, 1000
_CAUSES = ("darker", "defocus", "noise", "camera-shift", "unknown")


def entries(count: int, scratch: Path) -> Iterator[Entry]:
    """Entries made from manifests, as `replay catalog add` does."""
    random = np.random.default_rng(0)
    with Bundle.open(small_bundle(scratch / "incident.zst")) as bundle:
        manifest = bundle.manifest
    centres = random.normal(size=(_DEFECTS * _KINDS, _CLASSES))
    for number in range(count):
        kind = int(random.integers(_DEFECTS * _KINDS))
        incident = replace(
            manifest.incident,
            id=f"{number:032x}",
            signature=f"{kind // _KINDS:016x}",
            opened_ns=manifest.incident.opened_ns + number,
            cause={"cause": _CAUSES[kind % len(_CAUSES)]},
        )
        answer = centres[kind] + 0.2 * random.normal(size=_CLASSES)
        yield entry_of(
            replace(manifest, incident=incident),
            bundle=f"{number:064x}",
            path=f"incidents/{number}.zst",
            size_bytes=1,
            modified=0,
            vector=project("benchmark:1000", answer),
        )


def main() -> None:
    """Build, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog", description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = folder / "catalog.db"
        begun = time.perf_counter()
        with Catalog(path, create=True) as catalog:
            catalog.add(entries(options.entries, folder))
            built = time.perf_counter() - begun
            asked = list(entries(options.questions, folder))
            warm, seen = [], 0
            for entry in asked:
                begun = time.perf_counter()
                seen += has_been_seen(similar_to(catalog, replace(entry, bundle="f" * 64)))
                warm.append(time.perf_counter() - begun)
            groups = catalog.groups(1)[0][0]
        cold = []
        for entry in asked[:20]:
            begun = time.perf_counter()
            with Catalog(path) as catalog:
                similar_to(catalog, replace(entry, bundle="f" * 64))
            cold.append(time.perf_counter() - begun)
        size = path.stat().st_size + path.with_name("catalog.db.vectors").stat().st_size
    p50, p99 = np.percentile(warm, [50, 99]) * 1e3
    print(f"{options.entries} incidents, largest group {groups}: built in {built:.1f} s, {size / 1e6:.0f} MB")
    print(f"similar: {p50:.1f} ms (p50), {p99:.1f} ms (p99); opened for it {np.median(cold) * 1e3:.1f} ms (p50)")
    print(f"{seen} of {options.questions} recognised")


if __name__ == "__main__":
    main()
