"""What is tested is what is installed: the wheel holds packages, schemas and type marker, and works alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bundles import small_bundle
from tests.product.conftest import ROOT
from tests.suite.conftest import add, incident


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it where nothing else of the project is."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", directory, ROOT]
    subprocess.run(build, check=True, timeout=240)
    [wheel] = directory.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(directory / "site")
    return directory / "site"


def test_the_wheel_holds_schemas_and_type_marker(installed: Path) -> None:
    assert (installed / "recorder" / "schemas" / "manifest.schema.json").is_file()
    assert (installed / "recorder" / "schemas" / "FORMAT.md").is_file()
    assert (installed / "recorder" / "py.typed").is_file() and (installed / "replay" / "py.typed").is_file()
    assert not (installed / "tests").exists() and not (installed / "schemas").exists()


def test_the_wheel_verifies_a_bundle_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "incident.zst")
    code = "import recorder, sys; sys.stderr.write(recorder.__file__); from replay.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "verify", bundle],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0 and done.stderr.startswith(str(installed)), done.stderr


def test_the_wheel_makes_cases_tests_of_a_project_that_asks_for_them(installed: Path, tmp_path: Path) -> None:
    """By its entry point alone: nothing names the plugin. Unasked, it brings no test and no module of replay's."""
    add(incident(tmp_path / "incident"), tmp_path / "cases", "class=2", name="right")
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "tests" / "suite" / "models.py", project / "candidate.py")
    (project / "test_own.py").write_text(
        "import sys\ndef test_own(request):\n"
        f"    assert sys.modules['replay'].__file__.startswith({str(installed)!r})\n"
        "    assert request.config.option.replay_suite or 'replay.suite' not in sys.modules\n"
    )
    for asked, passed in (([], 1), ([f"--replay-suite={tmp_path / 'cases'}", "--replay-model=candidate:scores"], 2)):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *asked],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0 and f"{passed} passed" in done.stdout, done.stdout + done.stderr
