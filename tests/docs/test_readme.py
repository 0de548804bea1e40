"""The README tells the truth: its code runs, and its commands print what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.product.conftest import ROOT, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
#: What differs from run to run: times and random ids.
VARYING = [
    (r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{12}", "BUNDLE"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME"),
    (r"0\.\d{3}", "P"),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def plain(text: str) -> str:
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text.strip()


def test_the_first_example_runs_and_its_commands_print_what_stands_there(tmp_path: Path) -> None:
    (tmp_path / "ten_lines.py").write_text(blocks("python")[0])
    done = run(tmp_path / "ten_lines.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [bundle] = (tmp_path / "incidents").glob("*.zst")
    expected = re.split(r"^\$ ", blocks("console")[0], flags=re.MULTILINE)[1:]
    assert len(expected) == 2
    for part in expected:
        command, _, output = part.partition("\n")
        arguments = shlex.split(re.sub(VARYING[0][0], bundle.stem, command))
        assert arguments[0] == "replay"
        shown = run("-m", "replay", *arguments[1:], cwd=tmp_path, COLUMNS="80")
        assert shown.returncode == 0, shown.stderr
        assert plain(shown.stdout.replace(f"{tmp_path}/", "")) == plain(output)


def test_every_command_and_file_the_readme_names_is_there() -> None:
    from replay.cli import COMMANDS

    for name in re.findall(r"`replay ([a-z]+)[ `]", README):
        assert name in COMMANDS, name
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
