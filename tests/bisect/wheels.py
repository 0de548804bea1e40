"""Wheels of one small library in two versions, and a pip that finds nothing else."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds one small library and nothing else."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    for version, offset in (("1.0", 1), ("2.0", 2)):
        info = f"flight_recorder_test_library-{version}.dist-info"
        with zipfile.ZipFile(directory / f"flight_recorder_test_library-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("flight_recorder_test_library.py", f"OFFSET = {offset}\n")
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: flight-recorder-test-library\nVersion: {version}\n"
            )
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory
