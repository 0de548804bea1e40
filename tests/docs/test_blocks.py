"""Every block of the documentation runs, or at least parses as what it says it is."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import click
import pytest

from replay.cli import COMMANDS, cli
from tests.docs.blocks import PAGES, ROOT, RUN_BY, Block, commands, every_block
from tests.docs.blocks import SHELL as languages
from tests.product.conftest import run

BLOCKS = every_block()
SHELL = [block for block in BLOCKS if block.language in languages]


def test_few_blocks_are_exempt_and_each_says_why() -> None:
    assert len([block for block in BLOCKS if block.exempt]) <= 10


def test_what_is_said_to_run_a_block_is_there() -> None:
    for place in {block.test for block in BLOCKS if block.test} | set(RUN_BY.values()):
        assert (ROOT / str(place)).is_file(), place


def test_every_command_stands_in_a_fence() -> None:
    """Else nothing would run it."""
    for page in PAGES:
        assert not re.findall(r"^(?: {4}|\t)(?:\$ )?replay .*", page.read_text(encoding="utf-8"), re.M), page


def test_every_block_is_of_a_language_that_is_checked() -> None:
    known = {"python", "sh", "console", "text", "toml", "json"}
    assert {block.language for block in BLOCKS} <= known


def test_python_blocks_run_in_order(tmp_path: Path) -> None:
    pages: dict[str, list[str]] = {}
    for block in BLOCKS:
        if block.language == "python":
            compile(block.text, block.place, "exec")
        if block.language == "python" and not block.exempt:
            pages.setdefault(block.page, []).append(block.text)
    pages["README.md"].pop(0)  # test_readme runs it, and compares what its commands print
    (tmp_path / "pages.json").write_text(json.dumps(pages))
    start = "import sys; sys.stdin = open('pages.json'); from tests.docs.pages import main; main()"
    done = run("-c", start, cwd=tmp_path, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_EC2_METADATA_DISABLED="true")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("ran ") == len(pages)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("toml", "json")], ids=lambda b: b.place)
def test_data_parses(block: Block) -> None:
    (tomllib.loads if block.language == "toml" else json.loads)(block.text)


@pytest.mark.parametrize("block", [b for b in SHELL if commands(b) and b.exempt], ids=lambda b: b.place)
def test_commands_that_are_not_run_exist_with_their_options(block: Block) -> None:
    for arguments in commands(block):
        _parse(arguments)


def _parse(arguments: list[str]) -> None:
    """Let click take the words apart as it would, without running the command or looking at its files."""
    name, *rest = arguments if arguments[0] in COMMANDS else ["run", *arguments]
    context = click.Context(cli, info_name="replay")
    command = cli.get_command(context, name)
    assert command is not None
    if isinstance(command, click.Group):
        command, rest = command.commands[rest[0]], rest[1:]
    inner = click.Context(command, parent=context)
    values, left, _ = command.make_parser(inner).parse_args(rest)
    assert not left, left
    required = [each.name for each in command.params if each.required and values.get(each.name or "") in (None, ())]
    assert not required, f"{arguments}: {required}"
