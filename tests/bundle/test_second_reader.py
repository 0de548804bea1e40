"""A reader that knows only the written specification reads what the writer wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from examples.minimal_reader import Reader
from recorder.bundle import Bundle
from recorder.bundle.check import tensors_in
from recorder.bundle.codec import to_json
from tests.bundles import small_bundle

ROOT = Path(__file__).parents[2]


def test_the_specification_is_enough_to_read_every_member_and_tensor(tmp_path: Path) -> None:
    """Same id, same manifest, same members, same tensors, in each encoding."""
    data = small_bundle(tmp_path / "a.zst").read_bytes()
    second = Reader(data)
    encodings = set()
    with Bundle.open(data) as bundle:
        assert second.id == bundle.id
        assert second.manifest == json.loads(json.dumps(to_json(bundle.manifest)))
        for member in bundle.manifest.members:
            assert second.read(member.path) == bundle.read(member.path)
        for _, tensor in tensors_in(bundle.manifest):
            assert second.tensor(to_json(tensor)["tensor"]) == bundle.tensor_bytes(tensor)
            encodings.add(tensor.encoding)
    assert encodings == {"raw", "table"}


def test_the_shuffle_encoding_is_as_specified() -> None:
    """Byte 0 of every item first."""
    from recorder.bundle import encodings

    smooth = np.linspace(1, 2, 5000, dtype=np.float32).tobytes()
    name, member = encodings.encode(memoryview(smooth), "float32", (5000,), (1,))
    assert name == "shuffle"

    class Fake(Reader):
        def __init__(self) -> None:
            pass

        def read(self, path: str) -> bytes:
            return bytes(member)

    import hashlib

    tensor: dict[str, Any] = {"member": "", "size_bytes": len(smooth), "dtype": "float32", "encoding": name}
    tensor["sha256"] = hashlib.sha256(smooth).hexdigest()
    assert Fake().tensor(tensor) == smooth


def test_the_specification_names_every_bound_and_path_of_the_code() -> None:
    """Numbers in prose drift apart from numbers in code unless somebody looks."""
    from recorder.bundle import limits, ustar
    from recorder.bundle.paths import FOLDERS
    from recorder.bundle.values import DTYPES

    text = (ROOT / "schemas" / "FORMAT.md").read_text()
    for number in (limits.MAX_MANIFEST_NODES, limits.MAX_MEMBERS, limits.MAX_FRAMES, limits.MAX_RATIO):
        assert f"{number:,}" in text
    assert f"`{ustar.header('a', 1)[136:147].decode()}\\0`" in text
    for name in (*DTYPES, *(f"`{folder}/id." for folder in FOLDERS)):
        assert name in text
