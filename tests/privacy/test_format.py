"""What the format says of removed content, and what a reader refuses of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Bundle, BundleInvalid
from recorder.bundle.values import RemovedValue, has_removed
from tests.bundle.forge import Forgery

GOLDEN = Path(__file__).parents[1] / "golden" / "1.0-privacy.zst"


@pytest.fixture
def forgery() -> Forgery:
    """The golden bundle with removed values, to be changed."""
    return Forgery.of(GOLDEN.read_bytes())


def test_a_bundle_says_what_was_taken_out_of_it(forgery: Forgery) -> None:
    """Fields, methods, sources and key; shapes and keyed digests in the place of content."""
    with Bundle.open(forgery.build()) as bundle:
        manifest = bundle.manifest
        assert [each.method for each in manifest.redactions] == ["fill", "removed", "pseudonym", "removed"]
        assert manifest.redactions[3].derived_from == ("image",)
        [argument] = manifest.calls[0].args.items
        assert isinstance(argument, RemovedValue) and argument.shape == (1, 3, 24, 32)
        assert has_removed(manifest.calls[0].output) and has_removed(manifest.frames[0].output)
        assert not has_removed(manifest.calls[0].kwargs)
        assert bundle.verify() == []


def removed(forgery: Forgery) -> dict[str, Any]:
    """The removed tensor of the only call."""
    found: dict[str, Any] = forgery.manifest["calls"][0]["args"]["tuple"][0]["removed"]
    return found


@pytest.mark.parametrize(
    ("part", "lie"),
    [
        ("size_bytes", 7), ("shape", [2**62, 2**62]), ("dtype", "object"), ("dtype", ""), ("kind", "secret"),
        ("digest", "ab" * 32), ("digest", "sha256:" + "ab" * 32), ("shape", [1] * 40),
    ],
)  # fmt: skip
def test_a_removed_value_that_contradicts_itself_is_refused(forgery: Forgery, part: str, lie: Any) -> None:
    """Though nothing is allocated for it: what is shown must be true."""
    removed(forgery)[part] = lie
    with pytest.raises(BundleInvalid):
        Bundle.open(forgery.build())


def test_a_bundle_with_removed_values_must_say_so(forgery: Forgery) -> None:
    """A reader that does not know them would take them for something else."""
    del forgery.manifest["required_features"]
    with pytest.raises(BundleInvalid, match="removed-values"):
        Bundle.open(forgery.build())


@pytest.mark.parametrize(
    ("part", "lie"), [("level", "full"), ("stage", "later"), ("count", 0), ("key", "x" * 16), ("method", "<b>")]
)
def test_a_redaction_of_another_form_is_refused(forgery: Forgery, part: str, lie: Any) -> None:
    """The schema's closed lists hold."""
    forgery.manifest["redactions"][0][part] = lie
    with pytest.raises(BundleInvalid):
        Bundle.open(forgery.build())
