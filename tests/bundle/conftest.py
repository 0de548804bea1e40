"""One small bundle for all tests of the format."""

from __future__ import annotations

import pytest

from tests.bundle.forge import Forgery
from tests.bundles import small_bundle


@pytest.fixture(scope="session")
def bundle_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a bundle of four frames."""
    return small_bundle(tmp_path_factory.mktemp("bundle") / "a.zst").read_bytes()


@pytest.fixture
def forgery(bundle_bytes: bytes) -> Forgery:
    """That bundle, taken apart."""
    return Forgery.of(bundle_bytes)
