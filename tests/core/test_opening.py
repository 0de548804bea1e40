"""A ring is had, whatever others take away or put there in the moment it is made; what was told of another stays so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recorder import FlightRecorder
from recorder.keeper import _is_served, lock_path
from recorder.opening import open_ring
from recorder.ring import RingWriter
from recorder.sealer.process import serve
from recorder.sealer.progress import progress_path
from recorder.settings import RecorderSettings, SealerSettings
from recorder.status import status_path
from recorder.track import track_path
from tests.waiting import is_empty

Before = Callable[[Callable[[Path], Any]], None]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RecorderSettings]:
    """A function that checks arguments as a recorder does, without recording."""
    monkeypatch.setenv("FLIGHT_RECORDER_DISABLED", "1")
    return lambda **given: FlightRecorder(max_bytes=4 * 2**20, **given)._settings


@pytest.fixture
def before_creation(monkeypatch: pytest.MonkeyPatch) -> Before:
    """A function that has something done once, with the ring's path, right before the file is made."""

    def once(act: Callable[[Path], Any]) -> None:
        create, acts = RingWriter.create, iter([act])

        def created(path: Path, **given: Any) -> RingWriter:
            for each in acts:
                each(path)
            return create(path, **given)

        monkeypatch.setattr(RingWriter, "create", created)

    return once


def opened(settings: RecorderSettings) -> Path:
    """Open a ring without a warning, and close it; return its path."""
    said: list[str] = []
    ring = open_ring(settings, said.append)
    ring.close()
    assert said == []
    return ring.path


def test_a_directory_that_an_ending_sealer_took_away_is_made_again(
    settings: Callable[..., RecorderSettings], before_creation: Before, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.opening.choose_directory", lambda wanted: (tmp_path / "own", wanted, ()))
    before_creation(lambda path: shutil.rmtree(path.parent.parent))
    assert opened(settings(sink=tmp_path)).parent.parent == tmp_path / "own"


def test_workers_that_start_at_once_with_one_ring_path_get_a_ring_each(
    settings: Callable[..., RecorderSettings], before_creation: Before, tmp_path: Path
) -> None:
    given = settings(sink=tmp_path, ring=tmp_path / "host.ring")
    others: list[Path] = []

    def sibling(path: Path) -> None:
        others.append(opened(given))

    before_creation(sibling)
    ring = open_ring(given, lambda sentence: None)
    ring.close()
    assert others == [tmp_path / "host.ring"] and ring.path.name.startswith("host-") and ring.path.exists()


def test_a_former_ring_that_is_taken_away_at_the_first_look_is_not_in_the_way(
    settings: Callable[..., RecorderSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(sink=tmp_path, ring=tmp_path / "host.ring")
    path = opened(given)
    exists = Path.exists

    def there(self: Path) -> bool:
        found = exists(self)
        if self == path:
            self.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "exists", there)
    assert opened(given) == path


@pytest.mark.parametrize("beside", [status_path, progress_path, track_path])
def test_what_a_sealer_told_of_a_former_ring_is_not_taken_for_news_of_this_one(
    settings: Callable[..., RecorderSettings], tmp_path: Path, beside: Callable[[Path], Path]
) -> None:
    """It was stopped, or killed, between the ring and the files beside it; the next one takes those away."""
    given = settings(sink=tmp_path / "incidents", ring=tmp_path / "ring" / "host.ring")
    ring = tmp_path / "ring" / "host.ring"
    ring.parent.mkdir(mode=0o700)
    beside(ring).write_bytes(b'{"n":1,"event":"flushed","flush":9}\n')
    theirs = ring.with_name("notes.ring.txt")
    theirs.touch()
    fresh = opened(given)
    assert fresh.parent == ring.parent and fresh.name.startswith("host-")
    fresh.unlink()
    sealer = SealerSettings(sink=str(tmp_path / "incidents"), sink_options={}, notify=None, spool_bytes=2**20)
    assert serve(ring.parent, sealer, once=True)
    theirs.unlink()
    assert is_empty(ring.parent)
    assert opened(given) == ring


#: Takes the lock, says whether it has it, and holds it until its standard input is closed.
SEALER = """
import sys
from pathlib import Path
from recorder.sealer.own_process import SealerLock
print(SealerLock.take(Path(sys.argv[1])) is not None, flush=True)
sys.stdin.read()
"""


@contextmanager
def sealer_of(directory: Path) -> Iterator[str]:
    """Another process that would be the directory's sealer; yield whether it is: "True" or "False"."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", SEALER, str(lock_path(directory))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def test_who_asks_for_a_sealer_is_in_no_sealers_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recorder asks when it starts; a sealer that found the lock held for that moment would end."""
    lock_path(tmp_path).touch()
    close, taken = os.close, []

    def closing(descriptor: int) -> None:
        monkeypatch.setattr(os, "close", close)
        with sealer_of(tmp_path) as is_it:
            taken.append(is_it)
        close(descriptor)

    monkeypatch.setattr(os, "close", closing)
    assert not _is_served(tmp_path) and taken == ["True"]


def test_a_lock_that_another_process_holds_is_seen_until_it_ends(tmp_path: Path) -> None:
    with sealer_of(tmp_path) as is_it:
        assert is_it == "True" and _is_served(tmp_path)
    assert not _is_served(tmp_path)
