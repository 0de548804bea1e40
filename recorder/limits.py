"""How often there may be an incident: of one defect, of one kind, in an hour and in a day.

One account serves a ring directory: the workers of a service share it as they share their sealer. It is kept in a file,
so that a sealer or service that starts again remembers. The file is untrusted: bounded, checked, and thrown away whole
when anything about it is wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bundle.manifest import Trigger

if TYPE_CHECKING:
    from recorder.incident import WindowPolicy

__all__ = ["ASKED_KINDS", "MAX_CAP", "Decision", "Limits", "limits_path", "signature_of"]

#: Streams and signatures remembered at a time; a stream key made of something unique must not grow the sealer.
MAX_REMEMBERED = 1_024
#: Incidents remembered by name, so that a sealer that takes over may open again what the one before had opened.
MAX_INCIDENTS = 256
#: Someone who asks wants a bundle, so neither cooldown nor signature holds an asked-for trigger back. Ten times the
#: caps are for them, counted apart: a hundred and twenty an hour is more than anybody looks at, and stops a loop.
ASKED_KINDS = frozenset({"manual", "operator_file", "signal"})
ASKED_FACTOR = 10
#: Caps of their own: neither a sampling rate nor a storm of exceptions may use up what a death of the process needs.
OWN_CAPS = {"sample": "sample", "process_died": "died"}

#: The largest cap that can be set: so many times are remembered.
MAX_CAP = 10_000

HOUR_SECONDS, DAY_SECONDS = 3_600.0, 86_400.0

#: What tells two incidents of a kind apart, besides the stream: parameters without measured values or free text, so
#: that the same defect has the same signature tomorrow and in another process. A kind not listed is all one.
IDENTITY: dict[str, tuple[str, ...]] = {
    "exception": ("type", "stage", "at"),
    "non_finite": ("part", "model"),
    "low_confidence": ("source", "key"),
    "output_shift": ("what", "key"),
    "image_quality": ("signal",),
    "process_died": ("ending",),
    "when": ("name",),
}

#: The file holds at most so many times of each limit, and is read only up to this size: 2,048 limits of one time and
#: six caps of a thousand take a third of it.
MAX_STORED_TIMES, MAX_FILE_BYTES = 1_024, 2**20
#: How often the file is written while something changes.
STORE_SECONDS = 1.0
#: Another service's file that nobody has written for so long holds nothing any more: no limit is longer than a day.
STALE_SECONDS = 2 * DAY_SECONDS
_VERSION = 1

_Key = tuple[str, ...]


class Decision(StrEnum):
    """What became of a trigger; all but the first two are reasons of its suppression."""

    OPENED = "opened"
    JOINED = "joined"
    COOLDOWN = "cooldown"
    DUPLICATE = "duplicate"
    HOUR_CAP = "hour-cap"
    DAY_CAP = "day-cap"
    SIGNATURE_CAP = "signature-cap"


@dataclass(frozen=True, slots=True)
class _Limit:
    """At most ``number`` incidents under ``key`` in any ``seconds``."""

    reason: Decision
    key: _Key
    number: int
    seconds: float


class Limits:
    """The account of one ring directory.

    All limits are one thing: at most n incidents under a key in so many seconds. Sliding windows, not calendar
    hours, so that no moment lets two hours' worth through.

    Times are monotonic seconds: a wall clock that jumps moves nothing. Of a file that was written before the machine
    started again, the wall clock says how old it is, between no time at all and a day.

    Args:
        path: where it is kept; None: only in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._past: dict[_Key, deque[float]] = {}  # per limit: when its last incidents were, as many as it allows
        self._suppressed: dict[_Key, int] = {}  # per stream and signature
        self._incidents: dict[str, None] = {}
        self._changed = False
        self._stored_at = -math.inf
        if path is not None:
            self._load(path)

    def refuses(
        self, stream: str, trigger: Trigger, incident: str, policy: WindowPolicy, now_seconds: float
    ) -> Decision | None:
        """Return why a trigger may open no incident, and count it; None: it may.

        Args:
            stream: the stream it concerns.
            trigger: what happened.
            incident: the id it would get. One that was opened before, by a sealer that died since, may be again.
            policy: how much is allowed.
            now_seconds: monotonic time.
        """
        if incident in self._incidents:
            return None
        for limit in _limits(stream, trigger, policy):
            past = self._past.get(limit.key, ())
            if len(past) >= limit.number and now_seconds - past[-limit.number] < limit.seconds:
                key = (stream, signature_of(trigger))
                self._suppressed[key] = self._suppressed.pop(key, 0) + 1
                if len(self._suppressed) > MAX_REMEMBERED:
                    del self._suppressed[next(iter(self._suppressed))]
                self._changed = True
                return limit.reason
        return None

    def opened(self, trigger: Trigger, incident: str, policy: WindowPolicy, now_seconds: float) -> None:
        """Count an incident that was opened by a trigger, once."""
        if incident in self._incidents:
            return
        self._incidents[incident] = None
        if len(self._incidents) > MAX_INCIDENTS:
            del self._incidents[next(iter(self._incidents))]
        for limit in (*_signature_caps(trigger, policy), *_caps(trigger, policy)):
            self._note(limit, now_seconds)

    def listed(self, stream: str, trigger: Trigger, policy: WindowPolicy, now_seconds: float) -> int:
        """Note a trigger that an incident lists; return how many of its signature were suppressed since the last."""
        if _is_limited(trigger):
            self._note(_dedupe(stream, trigger, policy), now_seconds)
        return self._suppressed.pop((stream, signature_of(trigger)), 0)

    def closed(self, stream: str, trigger: Trigger, policy: WindowPolicy, now_seconds: float) -> None:
        """Note that the window of an incident with that trigger has closed."""
        if _is_limited(trigger):
            self._note(_cooldown(stream, trigger, policy), now_seconds)

    def store(self, now_seconds: float, *, at_once: bool = False) -> None:
        """Write the file when there is news; where it cannot be written, the memory ends with the sealer."""
        if self._path is None or not self._changed:
            return
        if not at_once and now_seconds - self._stored_at < STORE_SECONDS:
            return
        self._changed = False
        self._stored_at = now_seconds
        past = [
            [list(key), [round(moment, 3) for moment in list(times)[-MAX_STORED_TIMES:]]]
            for key, times in self._past.items()
            if now_seconds - times[-1] < DAY_SECONDS
        ]
        content = {
            "version": _VERSION,
            "boot": _boot(),
            "monotonic": now_seconds,
            "wall": time.time(),
            "past": past,
            "suppressed": [[*key, number] for key, number in self._suppressed.items()],
            "incidents": list(self._incidents),
        }
        data = json.dumps(content, separators=(",", ":")).encode()
        if len(data) > MAX_FILE_BYTES:
            return
        partial = self._path.with_name(self._path.name + ".partial")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(partial, flags, 0o600)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
            partial.replace(self._path)

    def _note(self, limit: _Limit, now_seconds: float) -> None:
        past = self._past.pop(limit.key, None)
        if past is None or (past.maxlen or 0) < limit.number:
            past = deque(past or (), maxlen=limit.number)
        past.append(now_seconds)
        self._past[limit.key] = past
        self._changed = True
        while len(self._past) > 2 * MAX_REMEMBERED:
            # The caps stay (their keys are pairs): forgetting one would lift it.
            del self._past[next(key for key in self._past if len(key) == 3)]

    def _load(self, path: Path) -> None:
        _sweep(path.parent)
        try:
            content = _read(path)
            saved, boot = float(content["monotonic"]), str(content["boot"])
            now, wall = time.monotonic(), float(content["wall"])
            if content["version"] != _VERSION or not math.isfinite(saved) or not math.isfinite(wall):
                return
            elapsed = now - saved if boot and boot == _boot() else time.time() - wall
            elapsed = min(max(0.0, elapsed), DAY_SECONDS)
            past: dict[_Key, deque[float]] = {}
            for key, times in content["past"][: 2 * MAX_REMEMBERED]:
                # Neither from the future nor out of order, whatever the file says.
                ages = sorted((max(0.0, saved - float(moment)) for moment in times[-MAX_STORED_TIMES:]), reverse=True)
                if not all(map(math.isfinite, ages)) or len(key) not in (2, 3) or not ages:
                    return
                past[tuple(str(part)[:200] for part in key)] = deque(
                    (now - elapsed - age for age in ages), maxlen=len(ages)
                )
            suppressed: dict[_Key, int] = {
                (str(stream)[:200], str(signature)[:16]): min(max(0, int(number)), 2**53)
                for stream, signature, number in content["suppressed"][:MAX_REMEMBERED]
            }
            incidents = dict.fromkeys(str(incident)[:32] for incident in content["incidents"][:MAX_INCIDENTS])
        except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError, AttributeError):
            return
        self._past, self._suppressed, self._incidents = past, suppressed, incidents


def limits_path(directory: Path, rings: Path) -> Path:
    """Return where, in a sink's directory, the account of a ring directory of this machine is kept."""
    seed = f"{os.uname().nodename} {os.geteuid()} {rings}"
    return directory / f".limits-{hashlib.sha256(seed.encode()).hexdigest()[:16]}.json"


def signature_of(trigger: Trigger) -> str:
    """Return 16 hex digits that name the defect: the same for the same kind and `IDENTITY`, in every process."""
    told_apart = {name: trigger.parameters.get(name) for name in IDENTITY.get(trigger.kind, ())}
    text = json.dumps([trigger.kind, told_apart], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _limits(stream: str, trigger: Trigger, policy: WindowPolicy) -> Iterator[_Limit]:
    if _is_limited(trigger):
        yield _cooldown(stream, trigger, policy)
        yield _dedupe(stream, trigger, policy)
    yield from _caps(trigger, policy)
    yield from _signature_caps(trigger, policy)


def _cooldown(stream: str, trigger: Trigger, policy: WindowPolicy) -> _Limit:
    return _Limit(Decision.COOLDOWN, (stream, "kind", trigger.kind), 1, policy.cooldown_seconds)


def _dedupe(stream: str, trigger: Trigger, policy: WindowPolicy) -> _Limit:
    return _Limit(Decision.DUPLICATE, (stream, "signature", signature_of(trigger)), 1, policy.dedupe_seconds)


def _signature_caps(trigger: Trigger, policy: WindowPolicy) -> Iterator[_Limit]:
    """One failure that hits all cameras at once leaves half of the caps to others; two of it may always be compared.

    A death is of one stream anyway.
    """
    if _is_limited(trigger) and trigger.kind not in OWN_CAPS:
        signature = signature_of(trigger)
        for name, cap, seconds in (
            ("hour", policy.max_incidents_per_hour, HOUR_SECONDS),
            ("day", policy.max_incidents_per_day, DAY_SECONDS),
        ):
            yield _Limit(Decision.SIGNATURE_CAP, ("all streams", name, signature), max(2, (cap + 1) // 2), seconds)


def _caps(trigger: Trigger, policy: WindowPolicy) -> tuple[_Limit, _Limit]:
    asked = trigger.kind in ASKED_KINDS
    group = "asked" if asked else OWN_CAPS.get(trigger.kind, "detected")
    factor = ASKED_FACTOR if asked else 1
    hour, day = policy.max_incidents_per_hour * factor, policy.max_incidents_per_day * factor
    return (
        _Limit(Decision.HOUR_CAP, (group, "hour"), hour, HOUR_SECONDS),
        _Limit(Decision.DAY_CAP, (group, "day"), day, DAY_SECONDS),
    )


def _is_limited(trigger: Trigger) -> bool:
    """Whether cooldown and signature hold it back; a sampled frame resembles the last one on purpose."""
    return trigger.kind not in ASKED_KINDS and trigger.kind != "sample"


def _boot() -> str:
    """The kernel's name for its present run: monotonic times of another one mean nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _read(path: Path) -> dict[str, Any]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_size > MAX_FILE_BYTES:
            raise ValueError("not a file of ours")
        content = json.loads(os.read(descriptor, MAX_FILE_BYTES))
    finally:
        os.close(descriptor)
    if not isinstance(content, dict):
        raise TypeError("not an object")
    return content


def _sweep(directory: Path) -> None:
    """Remove the accounts of services that are gone; names with a host's or a container's id would gather."""
    with contextlib.suppress(OSError):
        for path in directory.glob(".limits-*.json*"):
            status = path.lstat()
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > STALE_SECONDS:
                path.unlink()
