"""The fenced blocks of the README and of docs/, and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "schemas" / "FORMAT.md"]
SHELL = ("sh", "console")
#: Pages whose commands run beside what they are about.
RUN_BY = {"README.md": "tests/docs/test_readme.py", "docs/tutorial.md": "tests/product/test_quickstart.py"}
_BLOCK = re.compile(
    r"(?:<!-- (?:not run: (?P<reason>[^\n]+)|run by (?P<test>\S+)) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """One fenced block; `exempt` is the reason for which it is not run, `test` what runs it, if the page says so."""

    page: str
    line: int
    language: str
    text: str
    exempt: str | None
    test: str | None

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(
            name,
            text.count("\n", 0, found.start("text")),
            found["language"],
            found["text"],
            found["reason"],
            found["test"],
        )
        for found in _BLOCK.finditer(text)
    ]


def every_block() -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES for block in blocks(page)]


def commands(block: Block) -> list[list[str]]:
    """Return the arguments of each `replay …` of a block of the shell or a console."""
    lines = (line.removeprefix("$ ") for line in block.text.splitlines())
    return [words(line)[1:] for line in lines if re.match(r"replay( |$)", line)]


def words(command: str) -> list[str]:
    """Take a command apart as a shell does, in which a remark begins with a word (`#7` within one is none)."""
    return shlex.split(re.sub(r"(^|\s)#.*", "", command))
