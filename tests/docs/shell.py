"""Runs the console blocks of a page in a scratch folder, as somebody types them: `replay` in this process.

A block is a session where a line begins with `$ `: what follows a command is what it prints. Else every line is one.
A command ends with 0, unless a remark says `exit code N` behind it or at the end of what it prints.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from replay.cli import cli
from tests.docs.blocks import Block
from tests.docs.blocks import words as words_of

#: What differs from run to run: names and times of bundles, ids, how long something took.
VARYING = [
    (r"\d{8}T\d{6}(?:\.\d{6})?Z-[0-9a-f]{12}", "BUNDLE"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME"),
    (r"\b[0-9a-f]{8,64}\b", "DIGEST"),
    (r"[-+]?\d+\.\d+(?:e-?\d+)?", "NUMBER"),
    (r"\d+(?:\.\d+)? [kM]B", "SIZE"),
    (r" +", " "),
]
_CODE = re.compile(r"#.*?\bexit code (\d+)")


@dataclass(frozen=True)
class Step:
    """One command of a page, the code it ends with, and what it prints if the page shows that."""

    place: str
    command: str
    code: int
    output: str | None


@dataclass
class Scratch:
    """The folder in which a page's commands run, and what stands there for names of other machines."""

    directory: Path
    monkeypatch: pytest.MonkeyPatch
    stands_for: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Scratch:
        """Work in a folder, with nothing of this machine's user in the environment."""
        for name in [name for name in os.environ if name.startswith(("AWS_", "REPLAY_", "FLIGHT_RECORDER_"))]:
            monkeypatch.delenv(name)
        for name in ("CONFIG", "CACHE", "STATE"):
            monkeypatch.setenv(f"XDG_{name}_HOME", str(directory.parent / name.lower()))
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.chdir(directory)
        return cls(directory, monkeypatch)

    def replaced(self, text: str) -> str:
        """The text with what stands for the names in it."""
        for name, here in self.stands_for.items():
            text = text.replace(name, here)
        return text


def steps(block: Block) -> list[Step]:
    """Return the commands of a block, in order."""
    text = block.text.replace("\\\n", " ")
    if not re.search(r"^\$ ", text, re.M):
        return [_step(block, line, None) for line in text.splitlines() if line.strip() and line[0] != "#"]
    return [_step(block, *part.partition("\n")[::2]) for part in re.split(r"^\$ ", text, flags=re.M)[1:]]


def _step(block: Block, command: str, output: str | None) -> Step:
    said = _CODE.search(command) or _CODE.search(output or "")
    shown = None if output is None else re.sub(r"^# exit code.*\n?", "", output, flags=re.M).strip()
    return Step(block.place, command.strip(), int(said[1]) if said else 0, shown or None)


def run(step: Step, scratch: Scratch) -> None:
    """Run a command; fail where it ends with another code, or prints something else, than the page says."""
    typed = scratch.replaced(step.command)
    words = words_of(typed)
    if words[0] == "replay":
        found = [name for word in words[1:] for name in _expanded(word)]
        ended = CliRunner().invoke(cli, found, prog_name="replay")
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        code, printed, errors = ended.exit_code, ended.stdout, ended.stderr
    else:
        paths = os.pathsep.join([str(scratch.directory / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", typed], env={**os.environ, "PATH": paths}, capture_output=True, text=True, timeout=120
        )
        code, printed, errors = done.returncode, done.stdout, done.stderr
    assert code == step.code, f"{step.place}: {typed}: {code}\n{printed}\n{errors}"
    if step.output is not None:
        printed = printed.replace(f"{scratch.directory}/", "")
        said = "".join(
            f"{re.escape(each)}" if each != "…" else "(?s:.*)" for each in re.split("(…)", plain(step.output))
        )
        assert re.fullmatch(said, plain(printed)), f"{step.place}: {typed} prints\n{printed}"


def _expanded(word: str) -> list[str]:
    """As the shell does: a pattern that fits nothing stays."""
    return (sorted(map(str, Path().glob(word))) if "*" in word else []) or [word]


def plain(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
