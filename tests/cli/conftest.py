"""What the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from recorder.bundle import Bundle, BundleWriter, Manifest
from replay.cli import cli
from tests.bundles import small_bundle


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        data: dict[str, Any] = json.loads(self.out)
        return data


Run = Callable[..., Ended]


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `replay` with some arguments in this process."""
    monkeypatch.delenv("REPLAY_DEBUG", raising=False)

    def run(*arguments: object) -> Ended:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="replay")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of four frames; the third has triggered."""
    return small_bundle(tmp_path_factory.mktemp("bundle") / "incident.zst")


def rewrite(source: Path, target: Path, change: Callable[[Manifest], Manifest]) -> Path:
    """Write a bundle with the images and answers of another and a changed manifest."""
    from recorder.bundle.values import TensorValue

    with Bundle.open(source) as old, BundleWriter(target.parent) as writer:
        frames = tuple(
            replace(
                frame,
                images=tuple(
                    replace(writer.image(frame.id, image.name, old.pixels(image)), source=image.source)
                    for image in frame.images
                ),
            )
            for frame in old.manifest.frames
        )

        def stored(value: Any) -> Any:
            assert isinstance(value, TensorValue)
            return writer.tensor_like(old.tensor_bytes(value), value)

        calls = tuple(
            replace(
                call,
                args=replace(call.args, items=tuple(stored(item) for item in call.args.items)),
                output=stored(call.output),
            )
            for call in old.manifest.calls
        )
        writer.finish(target, change(replace(old.manifest, frames=frames, calls=calls, members=())))
    return target


def assert_one_sentence(text: str, words: Sequence[str] = ()) -> None:
    """A message for people: one line on stderr, no traceback, nothing that could act on a terminal."""
    assert text.startswith("replay: ")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    assert text.rstrip("\n").isprintable()
    for word in words:
        assert word in text
