"""From the name of a sink to the sink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from recorder.sinks import BundleListing, DirectorySink, Sink, SinkUnavailable, list_bundles, open_sink
from replay.commands.seal import seal
from tests.sinks.conformance import BUNDLE_HEAD


class Nowhere(Sink):
    """A user's own sink."""

    def __init__(self, bucket: str = "default") -> None:
        self.bucket = bucket

    def check(self) -> None: ...

    def publish(self, local_file: Path, name: str) -> str:
        return f"nowhere://{self.bucket}/{name}"

    def sweep(self) -> tuple[str, ...]:
        return ()

    def bundles(self) -> Iterator[BundleListing]:
        return iter(())

    def models_directory(self) -> None:
        return None


def broken(**_: object) -> Sink:
    """A factory with a fault."""
    raise RuntimeError("no credentials")


def test_a_path_is_a_directory_with_its_options(tmp_path: Path) -> None:
    """As text or as a path; relative ones hold even if the process changes its directory."""
    for spec in (tmp_path, str(tmp_path)):
        sink = open_sink(spec, max_total_bytes=5, max_age_seconds=7.0)
        assert isinstance(sink, DirectorySink)
        assert (sink.path, sink.max_total_bytes, sink.max_age_seconds) == (tmp_path, 5, 7.0)
    sink = open_sink("incidents/")
    assert isinstance(sink, DirectorySink) and sink.path == Path.cwd() / "incidents"


def test_the_bundles_of_a_named_sink_are_listed(tmp_path: Path) -> None:
    """For `replay ls`."""
    (tmp_path / "a.zst").write_bytes(BUNDLE_HEAD)
    (listing,) = list_bundles(tmp_path)
    assert (listing.location, listing.name, listing.size_bytes) == (str(tmp_path / "a.zst"), "a.zst", 16)


def test_a_factory_is_imported_and_given_the_options() -> None:
    """The extension point for other stores."""
    sink = open_sink(f"{__name__}:Nowhere", bucket="mine")
    assert isinstance(sink, Nowhere) and sink.bucket == "mine"
    assert list(list_bundles(f"{__name__}:Nowhere")) == []


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("s3:///prefix", "is no address in S3"),
        ("s3://b", "is no address in S3"),
        ("file:///tmp/x", "by its path"),
        ("gs://bucket", "There is no sink for"),
        ("no.such.module:factory", "ModuleNotFoundError"),
        (f"{__name__}:missing", "AttributeError"),
        (f"{__name__}:broken", "RuntimeError: no credentials"),
        (f"{__name__}:dict", "AttributeError"),
        ("builtins:dict", "returned dict, not a recorder.sinks.Sink"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(spec: str, sentence: str) -> None:
    """Also when a user's factory is at fault."""
    with pytest.raises(SinkUnavailable, match=sentence):
        open_sink(spec)


def test_an_empty_name_is_a_wrong_argument() -> None:
    """Not the current directory."""
    with pytest.raises(ValueError, match="needs a name"):
        open_sink("")


def test_a_directory_that_looks_like_a_factory_can_still_be_named() -> None:
    """By a path."""
    assert isinstance(open_sink("./pkg.mod:factory"), DirectorySink)
    assert isinstance(open_sink(Path("pkg.mod:factory")), DirectorySink)


@pytest.mark.parametrize(
    ("sink", "options", "sentence"),
    [
        ("s3://bucket", ["nonsense=1"], "no option 'nonsense'"),
        ("s3://bucket", ["service"], "NAME=VALUE"),
        ("s3://bucket", ["tags=[1]"], "tags must be"),
        ("s3://bucket", ["key={date}.zst"], "must end in {incident}.zst"),
        ("incidents", ["nonsense=1"], "nonsense"),
    ],
)
def test_a_sidecar_is_told_what_is_wrong_with_its_sinks_options(
    sink: str, options: list[str], sentence: str, tmp_path: Path
) -> None:
    """Exit code 2, before anything is served."""
    given = [word for option in options for word in ("--sink-option", option)]
    ended = CliRunner().invoke(seal, ["--watch", str(tmp_path), "--sink", sink, "--once", *given])
    assert ended.exit_code == 2 and sentence in " ".join(ended.output.split())
    assert not list(tmp_path.iterdir())
