"""The program as users start it: a process, a pipe, a help text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from replay.cli import cli
from tests.cli.conftest import assert_one_sentence

START = "from replay.cli import main; main()"


def _start(*arguments: object, python: tuple[str, ...] = (), **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-c", START, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **options)  # type: ignore[call-overload, no-any-return]


def _commands() -> list[tuple[str, click.Command]]:
    """Every command and subcommand, by the words that start it."""
    found: list[tuple[str, click.Command]] = [("", cli)]
    with click.Context(cli) as context:
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            assert command is not None
            found.append((name, command))
            if isinstance(command, click.Group):
                found += [(f"{name} {sub}", each) for sub, each in command.commands.items()]
    return found


@pytest.mark.parametrize(("words", "command"), _commands(), ids=lambda part: part if isinstance(part, str) else "")
def test_every_command_and_option_has_help_and_stands_in_the_reference(words: str, command: click.Command):
    """An undocumented option does not exist."""
    reference = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    heading = f"## `replay {words}" if words else "# The `replay` command"
    assert heading in reference
    section = reference.split(heading, 1)[1].split("\n## ", 1)[0] if words else reference
    section += reference.split("## What all commands have in common", 1)[1].split("\n## ", 1)[0]
    assert command.help
    assert "replay" in command.help.split("Example", 1)[1], "the help text shows an example"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert all(f"`{name}" in section or f"{name}`" in section for name in parameter.opts), parameter.opts
    assert words == "" or " " in words or command.short_help


def test_every_option_of_the_reference_exists():
    """A documented option that is gone would mislead."""
    reference = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    known = {name for _, command in _commands() for parameter in command.params for name in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", reference)) <= known | {"--help"}


def test_the_help_text_fits_80_columns():
    """Of the program and of every command."""
    for words, command in _commands():
        with click.Context(command, info_name=f"replay {words}".strip(), **command.context_settings) as context:
            assert all(len(line) <= 80 for line in command.get_help(context).splitlines()), words


def test_a_process_ends_with_the_contracts_codes(bundle: Path, tmp_path: Path):
    """Text on stdout, errors on stderr."""
    shown = _start("show", bundle)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout
    missing = _start("show", tmp_path / "missing.zst")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert_one_sentence(missing.stderr)
    version = _start("--version")
    assert version.returncode == 0
    assert version.stdout.startswith("replay ")


def test_showing_a_bundle_loads_neither_torch_nor_numpy_nor_pillow(bundle: Path):
    """What makes it quick; listing and help too."""
    for arguments in (["show", bundle], ["show", bundle, "--json"], ["ls", bundle.parent], ["--help"]):
        ended = _start(*arguments, python=("-X", "importtime"))
        assert ended.returncode == 0
        loaded = {
            line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time")
        }
        assert not loaded & {"torch", "numpy", "PIL", "boto3", "onnxruntime"}
        assert "replay.commands.run" not in loaded or arguments == ["--help"]


def test_a_reader_that_goes_away_is_no_error(bundle: Path):
    """`replay show BUNDLE | head -1`: quiet, and the code of a broken pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-c", START, "show", str(bundle)]
        ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=240, check=False)
    finally:
        os.close(writing)
    assert ended.returncode == 141
    assert ended.stderr == b""


def test_a_narrow_locale_gets_escapes_instead_of_an_error(bundle: Path):
    """PYTHONIOENCODING or a POSIX locale cannot make a command fail."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    ended = _start("show", "--help", env=environment)
    assert ended.returncode == 0
    assert "\\u2026" in ended.stdout
