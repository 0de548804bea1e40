"""Whatever is wrong with a command's arguments: the contract's exit code, a remedy, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from replay.cli import COMMANDS, cli
from tests.cli.conftest import Run, assert_one_sentence


def _leaves() -> Iterator[tuple[str, ...]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((name, each) for each in command.list_commands(context))
        else:
            yield (name,)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file and an empty directory in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.zst").write_text("a text\n" * 300)
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize("command", tuple(_leaves()), ids=" ".join)
def test_an_option_that_there_is_none_of_is_a_usage_error(replay: Run, command: tuple[str, ...]) -> None:
    ended = replay(*command, "--nonsense")
    assert ended.code == 2
    assert_one_sentence(ended.err, [f"`replay {' '.join(command)} --help`"])


@pytest.mark.parametrize(
    "words",
    [["report"], ["redact"], ["minimize"], ["probe"], ["decrypt"], ["export", "--to", "parquet"]],
    ids=lambda words: words[0],
)
def test_no_output_goes_where_something_is(replay: Run, bundle: Path, here: Path, words: list[str]) -> None:
    """Least of all onto the bundle itself."""
    before = bundle.read_bytes()
    for place in (here / "text.zst", here / "empty", bundle):
        ended = replay(*words, bundle, "-o", place)
        assert ended.code == 2
        assert_one_sentence(ended.err, ["exists", "name a new"])
    assert bundle.read_bytes() == before and not any((here / "empty").iterdir())
    assert (here / "text.zst").read_text().startswith("a text")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["recover", "text.zst", "-o", "out/in"], 4, ["no ring file", "check the path"]),
        (["recover", "beheaded.zst", "-o", "out"], 4, []),
        (["fleet", "run", "missing", "-o", "out"], 2, ["make it, or name another"]),
        (["fleet", "run", "text.zst", "-o", "out"], 2, ["is a file"]),
        (["catalog", "add", "missing", "--db", "out"], 2, ["make it, or name another"]),
        (["catalog", "add", "empty", "--db", "nowhere/out"], 2, ["nowhere/out cannot be opened", "--db"]),
        (["catalog", "add", "empty", "--db", "empty"], 2, ["empty cannot be opened", "--db"]),
        (["suite", "run", "empty", "--junit", "nowhere/out.xml"], 2, ["nowhere is no directory; make it first"]),
        (["ls", "empty", "--since", ""], 2, ["is no time"]),
        (["catalog", "ls", "--since", ""], 2, ["is no time"]),
        (["profile", "show", "missing"], 2, ["`replay profile build`"]),
        (["diagnose", "BUNDLE", "--profile", "empty"], 2, ["`replay profile build`"]),
        (["report", "BUNDLE", "-o", "/proc/out"], 2, ["name another file"]),
        (["run", "BUNDLE", "--model-dir", "text.zst"], 2, ["--model-dir text.zst is no directory"]),
        (
            ["export", "BUNDLE", "--to", "coco", "-o", "out", "--labels", "BUNDLE"],
            2,
            ["it is no text", "one name a line"],
        ),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_is_wrong_is_said_with_its_remedy_and_leaves_nothing(
    replay: Run, bundle: Path, here: Path, words: list[str], code: int, says: list[str]
) -> None:
    (here / "beheaded.zst").write_bytes(bundle.read_bytes()[:400])
    before = sorted(here.rglob("*"))
    ended = replay(*(bundle if word == "BUNDLE" else word for word in words))
    assert ended.code == code
    assert_one_sentence(ended.err, says)
    assert sorted(here.rglob("*")) == before
