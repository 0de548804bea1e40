"""``pytest --replay-suite``: cases as test items; without the flag, nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.suite.conftest import MODELS

ROOT = Path(__file__).parents[2]
#: Where this very package is not the installed one, its plugin is named; it is the same module either way.
PLUGIN = (
    []
    if any(each.value == "replay.pytest_plugin" for each in entry_points(group="pytest11"))
    else ["-p", "replay.pytest_plugin"]
)


def pytest_in(directory: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one test of its own."""
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    return tmp_path


def test_every_case_is_an_item_with_a_readable_failure(project: Path, suite: Path) -> None:
    junit = project / "out.xml"
    done = pytest_in(
        project, f"--replay-suite={suite}", f"--replay-model={MODELS}:scores", "-k", "right or wrong or own or gone",
        f"--junitxml={junit}", "-n2", "--replay-timeout=60",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "2 failed, 2 passed" in done.stdout
    assert "wrong: fail\n    expected ok (class 0), got scratch (class 2)" in done.stdout
    assert f"to look closer: replay show {suite / 'wrong.zst'}" in done.stdout
    assert "gone: cannot-run" in done.stdout and "Traceback" not in done.stdout
    names = {case.get("name") for case in ElementTree.parse(junit).iter("testcase")}
    assert names == {"test_own", "right", "wrong", "gone"}


def test_cases_are_listed_without_running_and_a_suite_that_is_none_is_an_error_of_one_sentence(
    project: Path, suite: Path
) -> None:
    (project / "newer").mkdir()
    (project / "newer" / "suite.toml").write_text("version = 9")
    done = pytest_in(project, f"--replay-suite={suite}", "--replay-suite=newer", "--collect-only", "-q")
    assert "replay-suite/suite::right" in done.stdout and "11 tests" in done.stdout
    assert "is of version '9'" in done.stdout and "Traceback" not in done.stdout


def test_without_its_flag_it_imports_nothing_and_collects_nothing(project: Path) -> None:
    (project / "test_own.py").write_text(
        "import sys\n"
        "def test_own():\n"
        "    heavy = {'torch', 'numpy', 'click', 'replay.suite', 'recorder.bundle'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = pytest_in(project, "-q", "-p", "no:hypothesispytest", "-W", "error")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


def test_it_is_registered_where_the_package_is_installed() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"replay-suite": "replay.pytest_plugin"}
