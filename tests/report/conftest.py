"""One browser for all tests of the page, and pages made by the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from replay.cli import cli
from tests.attacks.bundles import attack_bundle
from tests.bundles import small_bundle
from tests.golden.regenerate import FOLDER
from tests.report.chromium import Chromium
from tests.report.findings import save_everything, with_streams

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    """Chromium; without it these tests fail."""
    with Chromium() as started:
        yield started


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make the page of a bundle."""

    def made(bundle: Path, *options: object) -> Path:
        path = tmp_path_factory.mktemp("page") / "report.html"
        result = CliRunner().invoke(cli, ["report", str(bundle), "-o", str(path), *map(str, options)])
        assert result.exit_code == 0, result.output
        return path

    return made


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty-four frames; the third has triggered."""
    return small_bundle(tmp_path_factory.mktemp("bundle") / "incident.zst", frames=64, height=240, width=320)


@pytest.fixture(scope="session")
def page(make: Make, bundle: Path) -> Path:
    """Its page."""
    return make(bundle)


@pytest.fixture(scope="session")
def attacked(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a bundle that attacks with every string it has."""
    path = tmp_path_factory.mktemp("attack") / "bundle.zst"
    path.write_bytes(attack_bundle("strings-in-everything"))
    return make(path)


@pytest.fixture(scope="session")
def whole(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with everything: three streams, a cause, what was found, and a bundle to compare with."""
    path = with_streams(tmp_path_factory.mktemp("whole"))
    save_everything(path)
    return make(path, "--against", FOLDER / "1.0-batch.zst")
