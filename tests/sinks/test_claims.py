"""Claims: whatever lies behind them, exactly one writer makes a record."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from recorder.sinks import Claims, DirectorySink
from recorder.sinks import claims as module


class ClaimsConformance:
    """The behaviour of every sink's claims; subclassed by each backend."""

    def make(self, tmp_path: Path) -> Claims:
        """Claims of a sink that is new for this test; the same arguments lead to the same place."""
        raise NotImplementedError

    def test_only_the_first_takes_it(self, tmp_path: Path) -> None:
        """And what it wrote stays."""
        first, second = self.make(tmp_path), self.make(tmp_path)
        assert first.take("defect-2026030103", b"first")
        assert not second.take("defect-2026030103", b"second")
        assert second.read("defect-2026030103") == b"first"

    def test_of_many_at_once_one_takes_it(self, tmp_path: Path) -> None:
        """A fleet."""
        ready = threading.Barrier(8)
        took: list[bool] = []

        def machine(number: int) -> None:
            claims = self.make(tmp_path)
            ready.wait(120)
            took.append(claims.take("one", str(number).encode()))

        threads = [threading.Thread(target=machine, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(took) == [False] * 7 + [True]

    def test_names_are_listed_by_their_beginning(self, tmp_path: Path) -> None:
        """Sorted; of a sink without any there are none."""
        claims = self.make(tmp_path)
        assert claims.names("") == []
        for name in ("a.2", "a.1", "b.1"):
            assert claims.take(name, b"")
        assert claims.names("a.") == ["a.1", "a.2"]
        assert len(claims.names("")) == 3

    def test_a_dropped_claim_can_be_taken_again(self, tmp_path: Path) -> None:
        """Dropping what is not there is no error."""
        claims = self.make(tmp_path)
        claims.drop("one")
        claims.take("one", b"1")
        claims.drop("one")
        assert claims.read("one") is None
        assert claims.take("one", b"2")

    @pytest.mark.parametrize("name", ["", "../x", "A", "a/b", ".a", "a\n", "a" * 200])
    def test_a_name_is_of_a_closed_grammar(self, name: str, tmp_path: Path) -> None:
        """Nothing leads elsewhere."""
        claims = self.make(tmp_path)
        for use in (lambda: claims.take(name, b""), lambda: claims.read(name), lambda: claims.drop(name)):
            with pytest.raises(ValueError, match="cannot name a claim"):
                use()


class TestDirectoryClaims(ClaimsConformance):
    """Files of a hidden directory."""

    def make(self, tmp_path: Path) -> Claims:
        """Of a directory sink."""
        return DirectorySink(tmp_path / "sink").claims()

    def test_they_are_no_bundles(self, tmp_path: Path) -> None:
        """Neither listed nor swept as such; nothing half-written stays."""
        self.make(tmp_path).take("one", b"1")
        sink = DirectorySink(tmp_path / "sink", max_age_seconds=1e-9)
        assert list(sink.bundles()) == []
        assert sink.sweep() == ()
        assert [each.name for each in (tmp_path / "sink" / ".claims").iterdir()] == ["one"]

    def test_old_ones_go(self, tmp_path: Path) -> None:
        """A week later nobody asks."""
        claims = self.make(tmp_path)
        claims.take("one", b"1")
        os.utime(tmp_path / "sink" / ".claims" / "one", (0, 0))
        claims.take("two", b"2")
        assert claims.names("") == ["two"]

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        """The directory has other writers."""
        claims = self.make(tmp_path)
        claims.take("one", b"1")
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "sink" / ".claims" / "two").symlink_to(tmp_path / "secret")
        (tmp_path / "sink" / ".claims" / "three").mkdir()
        assert claims.read("two") is None
        assert claims.read("three") is None

    def test_without_hard_links_they_are_made_exclusively(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some file systems have none."""

        def no_link(*_: object, **__: object) -> None:
            raise PermissionError

        monkeypatch.setattr(module.os, "link", no_link)
        claims = self.make(tmp_path)
        assert claims.take("one", b"1")
        assert not claims.take("one", b"2")
        assert claims.read("one") == b"1"
