"""What every sink must do. A backend's tests subclass :class:`SinkConformance` and say how to make one."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from recorder.sinks import Sink, SinkUnavailable

#: How every bundle begins: a skippable zstd frame with the format's magic (schemas/FORMAT.md).
BUNDLE_HEAD = b"\x50\x2a\x4d\x18" + (44).to_bytes(4, "little") + b"\x89VFR\r\n\x1a\n"


class SinkConformance(ABC):
    """The behaviour of a sink, whatever lies behind it."""

    @abstractmethod
    def make(self, tmp_path: Path, **options: object) -> Sink:
        """A sink for this test; the same arguments lead to the same place."""

    @abstractmethod
    def make_unreachable(self, tmp_path: Path) -> Sink:
        """A sink that nothing can be published to."""

    @abstractmethod
    def read(self, sink: Sink, location: str) -> bytes:
        """The bytes at a location."""

    def put(self, sink: Sink, local_file: Path, name: str) -> str:
        """Publish a bundle and wait until it has arrived; return where it has."""
        return sink.publish(local_file, name)

    def spooled(self, tmp_path: Path, content: bytes = b"", size_bytes: int = 100) -> Path:
        """A finished bundle, waiting to be published."""
        spool = tmp_path / "spool"
        spool.mkdir(exist_ok=True)
        path = spool / f"{len(list(spool.iterdir()))}.zst"
        path.write_bytes((BUNDLE_HEAD + content).ljust(size_bytes, b"."))
        return path

    def test_a_published_bundle_is_all_there_and_the_local_file_is_gone(self, tmp_path: Path) -> None:
        """Publishing moves."""
        sink = self.make(tmp_path)
        sink.check()
        local = self.spooled(tmp_path, os.urandom(100_000))
        content = local.read_bytes()
        location = self.put(sink, local, "one.zst")
        assert self.read(sink, location) == content
        assert not local.exists()

    def test_bundles_are_listed(self, tmp_path: Path) -> None:
        """With what a listing tells without opening them."""
        sink = self.make(tmp_path)
        before = time.time()
        files = [self.spooled(tmp_path, size_bytes=100 + number) for number in range(3)]
        locations = [self.put(sink, file, f"{number}.zst") for number, file in enumerate(files)]
        listings = sorted(self.make(tmp_path).bundles(), key=lambda listing: listing.name)
        assert [listing.name for listing in listings] == ["0.zst", "1.zst", "2.zst"]
        assert [listing.location for listing in listings] == locations
        assert [listing.size_bytes for listing in listings] == [100, 101, 102]
        assert all(before - 5 < listing.modified < time.time() + 5 for listing in listings)

    def test_a_bundle_is_found_by_its_name(self, tmp_path: Path) -> None:
        """A sealer that takes over asks whether the one before it was done."""
        sink = self.make(tmp_path)
        location = self.put(sink, self.spooled(tmp_path), "one.zst")
        assert (sink.find("one.zst"), sink.find("two.zst")) == (location, None)

    def test_an_existing_bundle_is_never_overwritten(self, tmp_path: Path) -> None:
        """The newcomer gets a suffix."""
        sink = self.make(tmp_path)
        contents = [b"first", b"second", b"third"]
        locations = [self.put(sink, self.spooled(tmp_path, content), "same.zst") for content in contents]
        assert len(set(locations)) == 3
        for location, content in zip(locations, contents, strict=True):
            assert content in self.read(sink, location)
        assert sorted(listing.name for listing in sink.bundles()) == ["same-1.zst", "same-2.zst", "same.zst"]

    def test_two_writers_of_one_name_both_keep_their_bundle(self, tmp_path: Path) -> None:
        """Workers of one service share a sink."""
        files = [self.spooled(tmp_path, str(number).encode()) for number in range(20)]
        locations: list[str] = []

        def publish(mine: list[Path]) -> None:
            sink = self.make(tmp_path)
            locations.extend(self.put(sink, path, "same.zst") for path in mine)

        threads = [threading.Thread(target=publish, args=(files[start::2],)) for start in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink = self.make(tmp_path)
        assert len({self.read(sink, location) for location in locations}) == 20

    @pytest.mark.parametrize(
        "name", ["", "a", "../a.zst", "a/b.zst", ".a.zst", "a b.zst", "-a.zst", "x" * 300 + ".zst"]
    )
    def test_a_name_that_could_lead_elsewhere_is_a_wrong_argument(self, tmp_path: Path, name: str) -> None:
        """Names are made from stream keys, which callers choose."""
        local = self.spooled(tmp_path)
        with pytest.raises(ValueError, match="cannot name a bundle"):
            self.make(tmp_path).publish(local, name)
        assert local.exists()

    def test_a_missing_local_file_is_the_callers_error(self, tmp_path: Path) -> None:
        """Not the sink's."""
        with pytest.raises(FileNotFoundError):
            self.make(tmp_path).publish(tmp_path / "missing.zst", "a.zst")

    def test_an_unreachable_sink_is_one_sentence_and_keeps_the_local_file(self, tmp_path: Path) -> None:
        """The bundle waits in the spool."""
        sink = self.make_unreachable(tmp_path)
        local = self.spooled(tmp_path)
        for attempt in (lambda: sink.check(), lambda: sink.publish(local, "a.zst"), lambda: list(sink.bundles())):
            with pytest.raises(SinkUnavailable) as caught:
                attempt()
            assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
        assert local.exists()


class RetentionConformance(SinkConformance):
    """The behaviour of a sink that keeps itself within bounds."""

    @abstractmethod
    def age(self, sink: Sink, location: str, seconds: float) -> None:
        """Make a published bundle look older."""

    def test_bundles_are_listed_oldest_first(self, tmp_path: Path) -> None:
        """With what a listing tells without opening them."""
        sink = self.make(tmp_path)
        before = time.time()
        locations = [
            sink.publish(self.spooled(tmp_path, size_bytes=100 + number), f"{number}.zst") for number in range(3)
        ]
        self.age(sink, locations[1], 100)
        listings = list(self.make(tmp_path).bundles())
        assert [listing.name for listing in listings] == ["1.zst", "0.zst", "2.zst"]
        assert [listing.location for listing in listings] == [locations[1], locations[0], locations[2]]
        assert [listing.size_bytes for listing in listings] == [101, 100, 102]
        assert before - 110 < listings[0].modified < before and listings[2].modified > before - 5

    def test_without_limits_nothing_is_swept(self, tmp_path: Path) -> None:
        """Retention is opt-in."""
        sink = self.make(tmp_path)
        location = sink.publish(self.spooled(tmp_path), "a.zst")
        self.age(sink, location, 10**7)
        assert sink.sweep() == ()

    def test_the_oldest_go_until_the_total_fits(self, tmp_path: Path) -> None:
        """A bound in bytes."""
        sink = self.make(tmp_path, max_total_bytes=2500)
        locations = [sink.publish(self.spooled(tmp_path, size_bytes=1000), f"{number}.zst") for number in range(5)]
        for number, location in enumerate(locations):
            self.age(sink, location, 100 - number)
        assert sink.sweep() == tuple(locations[:3])
        assert [listing.location for listing in sink.bundles()] == locations[3:]
        assert sink.sweep() == ()

    def test_the_newest_is_kept_even_when_it_alone_is_too_large(self, tmp_path: Path) -> None:
        """A sink that deletes what it was just given is of no use."""
        sink = self.make(tmp_path, max_total_bytes=500)
        old = sink.publish(self.spooled(tmp_path, size_bytes=1000), "old.zst")
        self.age(sink, old, 10)
        new = sink.publish(self.spooled(tmp_path, size_bytes=1000), "new.zst")
        assert sink.sweep() == (old,)
        assert [listing.location for listing in sink.bundles()] == [new]

    def test_what_is_too_old_goes(self, tmp_path: Path) -> None:
        """A bound in age, for the newest too."""
        sink = self.make(tmp_path, max_age_seconds=3600)
        locations = [sink.publish(self.spooled(tmp_path), f"{number}.zst") for number in range(3)]
        self.age(sink, locations[1], 4000)
        assert sink.sweep() == (locations[1],)
        for location in (locations[0], locations[2]):
            self.age(sink, location, 4000)
        assert len(sink.sweep()) == 2

    @pytest.mark.parametrize("options", [{"max_total_bytes": 0}, {"max_age_seconds": -1.0}])
    def test_limits_that_make_no_sense_are_wrong_arguments(self, tmp_path: Path, options: dict[str, float]) -> None:
        """At construction."""
        with pytest.raises(ValueError, match="must be positive"):
            self.make(tmp_path, **options)
