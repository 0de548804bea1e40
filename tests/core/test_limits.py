"""Caps, cooldown and duplicates hold for all workers of a directory, and for those that start again."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder import triggers
from recorder.bundle import Bundle
from recorder.bundle.manifest import Trigger
from recorder.incident import IncidentBook, WindowPolicy
from recorder.keeper import lock_path
from recorder.limits import DAY_SECONDS, MAX_FILE_BYTES, STALE_SECONDS, Decision, Limits, limits_path, signature_of
from recorder.sealer.process import serve
from recorder.settings import SealerSettings
from tests.core.bus import HOUR, Bus
from tests.waiting import is_empty

REPOSITORY = Path(__file__).parents[2]
POLICY = WindowPolicy(max_incidents_per_hour=4, max_incidents_per_day=6)


def trigger(name: str = "a", kind: str = "when") -> Trigger:
    return Trigger(kind=kind, reason="", frame=None, time_ns=0, parameters={"name": name})


def fire(limits: Limits, stream: str, name: str, now: float, policy: WindowPolicy = POLICY) -> Decision:
    """One trigger of some worker's book, whose window closes at once."""
    book = IncidentBook(policy, limits)
    decision, _ = book.fire(stream, trigger(name), f"{stream} {name} {now}", now)
    book.close_all("close", now)
    return decision


def test_workers_that_share_a_sealer_share_its_limits(tmp_path: Path) -> None:
    """The same camera's frames go to whichever worker is free: a defect is still sealed once."""
    limits = Limits()
    assert fire(limits, "line-3", "a", 0.0) is Decision.OPENED
    assert fire(limits, "line-3", "a", 1.0) is Decision.COOLDOWN
    assert fire(limits, "line-3", "a", 100.0) is Decision.DUPLICATE
    for number in range(3):
        assert fire(limits, f"line-{number}", f"b{number}", 200.0) is Decision.OPENED
    assert fire(limits, "line-9", "c", 300.0) is Decision.HOUR_CAP


def test_one_failure_on_many_cameras_takes_at_most_half_of_the_caps(tmp_path: Path) -> None:
    """A broken model fails on all streams at once; another defect in the same hour is sealed all the same."""
    with Bus(tmp_path, triggers.exception(), max_incidents_per_hour=4, dedupe_seconds=HOUR) as bus:
        for camera in range(10):
            bus.fail(f"camera-{camera}", line=1)
        for camera in range(2):
            bus.fail(f"camera-{camera}", line=2)
            bus.poll(10.0)
        bus.poll(10.0)
        assert [window.incident.stream for window in bus.sealed if window.incident.recurrences_since_last == 0] == [
            "camera-0",
            "camera-1",
        ] * 2
        bus.poll(HOUR)
        bus.fail("camera-7", line=1)
        bus.poll(10.0)
        assert bus.sealed[-1].incident.recurrences_since_last == 1
    assert bus.suppressed == {"signature-cap": 8}


def stored(path: Path, **changed: Any) -> Path:
    """An account with one incident of an hour's cap of two, written as a sealer does, some of it changed."""
    limits = Limits(path)
    assert fire(limits, "s", "a", time.monotonic()) is Decision.OPENED
    assert fire(limits, "s", "a", time.monotonic()) is Decision.COOLDOWN
    limits.store(time.monotonic())
    if changed:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    return path


def test_a_sealer_that_starts_again_remembers_and_counts_on(tmp_path: Path) -> None:
    """Its file is small, its own user's, and written at most once a second."""
    path = stored(tmp_path / ".limits-0.json")
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size < 2_000
    again = Limits(path)
    now = time.monotonic()
    assert fire(again, "s", "a", now + 100.0) is Decision.DUPLICATE
    assert again.listed("s", trigger(), POLICY, now) == 2
    before = path.read_bytes()
    again.store(now)
    again.closed("s", trigger(), POLICY, now)
    again.store(now + 0.5)
    between = path.read_bytes()
    again.store(now + 2.0)
    assert before != between != path.read_bytes()


def test_an_incident_that_was_open_when_the_sealer_died_opens_again(tmp_path: Path) -> None:
    """The next sealer gives it the same name; its own trace in the account must not make it a duplicate of itself."""
    path = tmp_path / ".limits-0.json"
    first = Limits(path)
    IncidentBook(POLICY, first).fire("s", trigger(), "the one", time.monotonic())
    first.store(time.monotonic())
    second = Limits(path)
    past = {key: list(times) for key, times in second._past.items() if len(key) == 2}
    decision, _ = IncidentBook(POLICY, second).fire("s", trigger(), "the one", time.monotonic())
    assert decision is Decision.OPENED
    assert {key: list(times) for key, times in second._past.items() if len(key) == 2} == past


@pytest.mark.parametrize(
    ("boot", "wall_offset", "decision"),
    [
        ("", 0.0, Decision.COOLDOWN),
        ("", 1_000.0, Decision.COOLDOWN),  # the clock was set back meanwhile: as if no time had passed
        ("", -100.0, Decision.DUPLICATE),
        ("", -4_000.0, Decision.OPENED),
        ("", -1e12, Decision.OPENED),
        (None, -1e12, Decision.COOLDOWN),  # the same boot: no wall clock is asked
        (None, 1e12, Decision.COOLDOWN),
    ],
)
def test_after_a_reboot_the_wall_clock_counts_and_before_it_never(
    tmp_path: Path, boot: str | None, wall_offset: float, decision: Decision
) -> None:
    """A file says when it was written by both clocks; the monotonic one is another's after a reboot."""
    changed: dict[str, Any] = {"wall": time.time() + wall_offset}
    if boot is not None:
        changed["boot"] = boot
    assert fire(Limits(stored(tmp_path / ".limits-0.json", **changed)), "s", "a", time.monotonic()) is decision


def test_times_from_the_future_are_taken_as_now(tmp_path: Path) -> None:
    """Otherwise a forged file could silence a service for ever."""
    path = tmp_path / ".limits-0.json"
    key = ["s", "signature", signature_of(trigger())]
    stored(path, past=[[key, [time.monotonic() + 1e9]]], monotonic=time.monotonic() + 1e9)
    limits = Limits(path)
    assert fire(limits, "s", "a", time.monotonic() + 100.0) is Decision.DUPLICATE
    assert fire(limits, "s", "a", time.monotonic() + HOUR + 1.0) is Decision.OPENED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["version", "boot", "monotonic", "wall", "past", "suppressed", "incidents"]), JSON)
def test_a_file_that_says_anything_else_is_thrown_away_whole(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    """It is untrusted; what remains usable never raises and never blocks a defect for more than a day."""
    path = tmp_path_factory.mktemp("limits") / ".limits-0.json"
    stored(path, **{name: value})
    limits = Limits(path)
    limits.store(time.monotonic(), at_once=True)
    assert fire(limits, "s", "a", time.monotonic() + DAY_SECONDS + 1.0) is Decision.OPENED


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"[" * 100_000, b"{}", b"[]", b'{"version": 1}', b" " * (MAX_FILE_BYTES + 1)]
)
def test_garbage_too_large_or_too_deep_is_no_account(tmp_path: Path, content: bytes) -> None:
    """Nor is a link to elsewhere."""
    path = tmp_path / ".limits-0.json"
    path.write_bytes(content)
    assert fire(Limits(path), "s", "a", 0.0) is Decision.OPENED
    link = tmp_path / ".limits-1.json"
    link.symlink_to(stored(tmp_path / "elsewhere"))
    assert fire(Limits(link), "s", "a", time.monotonic()) is Decision.OPENED


def test_accounts_of_services_that_are_gone_are_swept_and_a_place_that_cannot_be_written_harms_nobody(
    tmp_path: Path,
) -> None:
    """Containers have names of their own, and a sink outlives them."""
    old, young, other = (tmp_path / name for name in (".limits-0.json", ".limits-1.json", "limits-2.json"))
    for path in (old, young, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (0, time.time() - STALE_SECONDS - 10))
    limits = Limits(limits_path(tmp_path, tmp_path / "rings"))
    assert not old.exists() and young.exists() and other.exists()
    fire(limits, "s", "a", 0.0)
    blocked = Limits(young / "no directory")
    fire(blocked, "s", "a", 0.0)
    blocked.store(0.0)


HOST = textwrap.dedent("""
    import os, sys
    import numpy as np
    from recorder import FlightRecorder

    seconds = float(sys.argv[3])
    recorder = FlightRecorder(sink=sys.argv[1], ring=sys.argv[2], max_bytes=8 * 2**20, post_seconds=60,
                              dedupe_seconds=seconds, cooldown_seconds=seconds, overhead_budget=1)
    for number in range(3):
        with recorder.frame(image=np.full((4, 4), number, np.uint8), number=number):
            pass
    if sys.argv[4] == "ask":
        recorder.trigger("asked just before it died")
    os._exit(int(sys.argv[5]))
""")


def die(tmp_path: Path, times: int, dedupe_seconds: float, ask: str = "", status: int = 7) -> None:
    """Have a service die so many times; no sealer is there meanwhile."""
    (tmp_path / "host.py").write_text(HOST)
    ring = tmp_path / "ring" / "host.ring"
    ring.parent.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, str(tmp_path / "host.py"), str(tmp_path / "incidents"), str(ring)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with lock_path(ring.parent).open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        for _ in range(times):
            done = subprocess.run([*command, str(dedupe_seconds), ask, str(status)], env=environment, check=False)
            assert done.returncode == status


def seal(tmp_path: Path) -> list[tuple[list[str], int, int]]:
    """Seal what is left; return the kinds, recurrences and number of frames of all bundles by now."""
    sink = tmp_path / "incidents"
    given = SealerSettings(sink=str(sink), sink_options={}, notify=None, spool_bytes=2**20)
    assert serve(tmp_path / "ring", given, once=True)
    assert is_empty(tmp_path / "ring")
    found = []
    for path in sorted(sink.glob("*.zst"), key=lambda path: path.stat().st_mtime_ns):
        with Bundle.open(path) as bundle:
            assert bundle.verify() == []
            incident = bundle.manifest.incident
            kinds = [trigger.kind for trigger in incident.triggers]
            found.append((kinds, incident.recurrences_since_last, len(bundle.manifest.frames)))
    return found


def test_a_crash_loop_is_one_incident_an_hour_and_the_next_says_how_often_it_recurred(tmp_path: Path) -> None:
    """Also over sealers that come and go with the service."""
    die(tmp_path, 2, HOUR)
    assert seal(tmp_path) == [(["process_died"], 0, 3)]
    die(tmp_path, 1, HOUR)
    assert len(seal(tmp_path)) == 1
    die(tmp_path, 1, 0.0)
    assert seal(tmp_path)[1:] == [(["process_died"], 2, 3)]


def test_what_was_asked_for_before_one_more_death_of_a_loop_is_sealed(tmp_path: Path) -> None:
    """A death that is not sealed takes nothing else with it."""
    die(tmp_path, 1, HOUR)
    seal(tmp_path)
    die(tmp_path, 1, HOUR, ask="ask")
    assert seal(tmp_path)[1:] == [(["manual"], 0, 3)]
