"""What a recorder was asked for, checked once; and the part of it that the sealer process is started with."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle.values import JsonValue
from recorder.limits import MAX_CAP
from recorder.operator_requests import checked_signal
from recorder.privacy import Level, PrivacyKey, PrivacyPolicy, load_key
from recorder.sinks.s3.address import S3Address, is_s3
from recorder.sinks.s3.options import S3Options, default_spool
from recorder.ticket_address import names_a_ticket
from recorder.track.layout import MIN_TRACK_BYTES
from recorder.triggers import Trigger, exception, non_finite
from recorder.trust.recipients import checked_recipients

__all__ = ["RecorderSettings", "SealerSettings"]

#: Below this not even one small frame and its context would fit.
MIN_MAX_BYTES = 2**20
#: A manifest with its environment takes some ten kilobytes; below this no picture would ever stay.
MIN_MAX_BUNDLE_BYTES = 2**16
#: A directory of incidents must not fill the disk of a service that nobody looks at.
DEFAULT_MAX_TOTAL_BYTES = 10 * 2**30
#: A window is copied out of the ring before it is sealed; this share of ``max_bytes`` is kept for such copies.
SPOOL_SHARE = 1 / 4
#: The sealer's status file beside the ring, together with its progress: see recorder/status.py.
STATUS_BYTES = 2**17
#: Streams that can have a share of the ring of their own: a ring file has so many regions for frames.
MAX_STREAMS = 14
#: The compact track's share of ``max_bytes``, and the most it takes: see recorder/track/layout.py for what fits in.
TRACK_SHARE, MOST_TRACK_BYTES = 1 / 16, 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class SealerSettings:
    """What the sealer process needs to know; it comes from the running configuration, never from a ring."""

    sink: str
    sink_options: dict[str, JsonValue]
    notify: str | None
    spool_bytes: int
    trigger_file: str | None = None
    trigger_file_seen: tuple[int, ...] | None = None  #: its mark when the host began
    track_bytes: int = 0  #: size of the compact track beside each ring; 0: there is none
    history_seconds: float = 0.0  #: how far back it reaches
    max_bundle_bytes: int | None = None  #: how large a bundle may be; None: as large as its window is
    profile: str | None = None  #: path of the file with what is normal
    warmup_frames: int = 0  #: of each stream without a reference, from which one is learnt; 0: never
    sign_key: str | None = None  #: path of the private key that bundles are signed with
    encrypt_to: tuple[str, ...] = ()  #: age recipients that bundles are encrypted to
    python_path: tuple[str, ...] = ()  #: the host's import path, where a factory or notify must be imported
    privacy: dict[str, JsonValue] | None = None  #: the policy; None: the default one
    privacy_key_id: str | None = None  #: which key the sealer needs; the key itself is never among the settings

    def to_json(self) -> str:
        """Return what goes down the pipe to the sealer."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SealerSettings:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def privacy_policy(self) -> PrivacyPolicy | None:
        """The policy, checked."""
        return None if self.privacy is None else PrivacyPolicy.from_json(self.privacy)

    @property
    def beside_ring_bytes(self) -> int:
        """What of ``max_bytes`` is not the ring's: spools, the compact track and what the sealer says."""
        return self.spool_bytes + self.track_bytes + STATUS_BYTES

    @property
    def key(self) -> str:
        """Workers with the same settings share one ring directory and one sealer; this names the directory."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """The arguments of a FlightRecorder after the environment had its say."""

    sealer: SealerSettings
    triggers: tuple[Trigger, ...]
    max_bytes: int
    pre_frames: int
    post_frames: int
    post_seconds: float
    cooldown_seconds: float
    dedupe_seconds: float
    max_incidents_per_hour: int
    max_incidents_per_day: int
    trigger_signal: int | None
    stream_key: str
    streams: int
    min_age_seconds: float
    overhead_budget: float
    ring: Path | None
    disabled: bool
    privacy: PrivacyPolicy | None = None  #: None: the default one
    privacy_key: PrivacyKey | None = None

    @classmethod
    def checked(
        cls,
        *,
        sink: str | os.PathLike[str],
        sink_options: Mapping[str, JsonValue],
        triggers: Sequence[Trigger] | None,
        max_bytes: int,
        pre_frames: int,
        post_frames: int,
        post_seconds: float,
        cooldown_seconds: float,
        dedupe_seconds: float,
        max_incidents_per_hour: int,
        max_incidents_per_day: int,
        trigger_file: str | os.PathLike[str] | None,
        trigger_signal: int | None,
        stream_key: str,
        streams: int,
        min_age_seconds: float,
        overhead_budget: float,
        history_seconds: float = 3600.0,
        max_bundle_bytes: int | None = None,
        ring: str | os.PathLike[str] | None,
        notify: str | None,
        profile: str | os.PathLike[str] | None = None,
        warmup_frames: int = 0,
        sign_key: str | os.PathLike[str] | None = None,
        encrypt_to: Sequence[str] = (),
        privacy: PrivacyPolicy | Mapping[str, Any] | None = None,
        privacy_key: str | os.PathLike[str] | None = None,
    ) -> RecorderSettings:
        """Check the arguments and apply ``FLIGHT_RECORDER_DISABLED|SINK|MAX_BYTES|OVERHEAD_BUDGET``.

        Raises:
            ValueError: an argument is out of range; the message names it.
        """
        given = os.fspath(sink) if isinstance(sink, str | os.PathLike) else ""
        sink = os.environ.get("FLIGHT_RECORDER_SINK") or given
        if not isinstance(sink, str) or not sink:
            raise ValueError(
                "sink must be a directory, an address such as s3://bucket/prefix, or 'package.module:factory'"
            )
        max_bytes = _bytes_from_environment("FLIGHT_RECORDER_MAX_BYTES", max_bytes)
        if not isinstance(max_bytes, int) or max_bytes < MIN_MAX_BYTES:
            raise ValueError(f"max_bytes={max_bytes!r} must be an integer of at least {MIN_MAX_BYTES}")
        if max_bundle_bytes is not None and (
            not isinstance(max_bundle_bytes, int)
            or isinstance(max_bundle_bytes, bool)
            or max_bundle_bytes < MIN_MAX_BUNDLE_BYTES
        ):
            raise ValueError(
                f"max_bundle_bytes={max_bundle_bytes!r} must be an integer of at least {MIN_MAX_BUNDLE_BYTES}, or None"
            )
        for name, number in (("pre_frames", pre_frames), ("post_frames", post_frames)):
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 10_000:
                raise ValueError(f"{name}={number!r} must be an integer between 0 and 10000")
        for name, cap in (
            ("max_incidents_per_hour", max_incidents_per_hour),
            ("max_incidents_per_day", max_incidents_per_day),
        ):
            if not isinstance(cap, int) or isinstance(cap, bool) or not 1 <= cap <= MAX_CAP:
                raise ValueError(f"{name}={cap!r} must be an integer between 1 and {MAX_CAP}")
        for name, seconds in (
            ("post_seconds", post_seconds),
            ("cooldown_seconds", cooldown_seconds),
            ("dedupe_seconds", dedupe_seconds),
            ("min_age_seconds", min_age_seconds),
        ):
            if not isinstance(seconds, int | float) or not 0 <= seconds <= 86_400:
                raise ValueError(f"{name}={seconds!r} must be a number of seconds between 0 and 86400")
        if not isinstance(streams, int) or isinstance(streams, bool) or not 1 <= streams <= MAX_STREAMS:
            raise ValueError(f"streams={streams!r} must be an integer between 1 and {MAX_STREAMS}")
        overhead_budget = _number_from_environment("FLIGHT_RECORDER_OVERHEAD_BUDGET", overhead_budget)
        if isinstance(overhead_budget, bool) or not isinstance(overhead_budget, int | float):
            raise ValueError(f"overhead_budget={overhead_budget!r} must be a share between 0 and 1, such as 0.01")
        if not 0 < overhead_budget <= 1:
            raise ValueError(f"overhead_budget={overhead_budget!r} must be more than 0 and at most 1 (never thin out)")
        if not isinstance(history_seconds, int | float) or not 0 <= history_seconds <= 86_400:
            raise ValueError(
                f"history_seconds={history_seconds!r} must be a number of seconds between 0 (no history) and 86400"
            )
        chosen = tuple(triggers) if triggers is not None else (exception(), non_finite())
        for trigger in chosen:
            if not isinstance(trigger, Trigger):
                raise ValueError(f"triggers holds {trigger!r}; use the functions of recorder.triggers")
        if notify is not None and not names_a_ticket(notify) and not _names_a_function(notify):
            raise ValueError(
                f"notify={notify!r} must read 'package.module:function', which runs in the sealer's process, "
                "or 'ticket:' and what `replay ticket --to` takes, such as 'ticket:jira:KEY-1'"
            )
        if ring is not None and not isinstance(ring, str | os.PathLike):
            raise ValueError(f"ring={ring!r} must be the path of a file that does not exist yet")
        # A profile that was loaded or saved knows its file.
        profile = getattr(profile, "path", profile)
        if profile is not None and not isinstance(profile, str | os.PathLike):
            raise ValueError("profile must be a file, or a Profile that was saved to one")
        if not isinstance(warmup_frames, int) or isinstance(warmup_frames, bool) or not 0 <= warmup_frames <= 20_000:
            raise ValueError(f"warmup_frames={warmup_frames!r} must be an integer between 50 and 20000, or 0 for none")
        if 0 < warmup_frames < 50:
            raise ValueError(f"warmup_frames={warmup_frames} is too short to tell what is normal; use 50 to 20000")
        if sign_key is not None and not isinstance(sign_key, str | os.PathLike):
            raise ValueError("sign_key must be the path of a private key in PEM, not the key itself")
        if isinstance(encrypt_to, str):
            raise ValueError("encrypt_to must be a list of age recipients, such as ['age1…']")
        policy = privacy if privacy is None or isinstance(privacy, PrivacyPolicy) else PrivacyPolicy.from_json(privacy)
        key = load_key(privacy_key)
        calls = policy is not None and any(step.target for steps in policy.redactors.values() for step in steps)
        keeps_track = policy is None or policy.level_of("track") is not Level.DIGEST_ONLY
        options = dict(sink_options)
        if trigger_file is not None and not isinstance(trigger_file, str | os.PathLike):
            raise ValueError(f"trigger_file={trigger_file!r} must be a path")
        if "://" not in sink and not _names_a_function(sink):
            sink = _absolute("sink", sink)
            options.setdefault("max_total_bytes", DEFAULT_MAX_TOTAL_BYTES)
        elif is_s3(sink):
            # The host puts models where the sealer finds them, so both are told the same place.
            address = S3Address.parse(sink)
            options["spool"] = _absolute("spool", str(options.get("spool") or default_spool(address)))
            S3Options.checked(options)
        elif "://" in sink:
            raise ValueError(f"sink={sink!r} must be a directory, 's3://bucket/prefix' or 'package.module:factory'")
        return cls(
            sealer=SealerSettings(
                sink=sink,
                sink_options=options,
                notify=notify,
                trigger_file=_absolute("trigger_file", trigger_file) if trigger_file is not None else None,
                spool_bytes=int(max_bytes * SPOOL_SHARE),
                profile=_absolute("profile", profile) if profile is not None else None,
                warmup_frames=warmup_frames,
                sign_key=_absolute("sign_key", sign_key) if sign_key is not None else None,
                encrypt_to=checked_recipients(encrypt_to) if encrypt_to else (),
                track_bytes=_track_bytes(max_bytes) if history_seconds and keeps_track else 0,
                history_seconds=float(history_seconds),
                max_bundle_bytes=max_bundle_bytes,
                python_path=_python_path() if notify is not None or calls or _names_a_function(sink) else (),
                privacy=policy.to_json() if policy is not None else None,
                privacy_key_id=key.id if key is not None else None,
            ),
            triggers=chosen,
            max_bytes=max_bytes,
            pre_frames=pre_frames,
            post_frames=post_frames,
            post_seconds=float(post_seconds),
            cooldown_seconds=float(cooldown_seconds),
            dedupe_seconds=float(dedupe_seconds),
            max_incidents_per_hour=max_incidents_per_hour,
            max_incidents_per_day=max_incidents_per_day,
            trigger_signal=checked_signal(trigger_signal),
            stream_key=stream_key,
            streams=streams,
            min_age_seconds=float(min_age_seconds),
            overhead_budget=float(overhead_budget),
            ring=Path(_absolute("ring", ring)) if ring is not None else None,
            disabled=os.environ.get("FLIGHT_RECORDER_DISABLED", "") not in ("", "0", "false"),
            privacy=policy,
            privacy_key=key,
        )

    def beside(self) -> RecorderSettings:
        """The same for another ring of this process; where its path was chosen by the user, beside that path."""
        if self.ring is None:
            return self
        return dataclasses.replace(self, ring=self.ring.with_name(f"{self.ring.stem}-{secrets.token_hex(8)}.ring"))


def _track_bytes(max_bytes: int) -> int:
    """The track's part of the bound; none where it would hold too little to be of use."""
    size_bytes = min(MOST_TRACK_BYTES, int(max_bytes * TRACK_SHARE))
    return size_bytes if size_bytes >= MIN_TRACK_BYTES else 0


def _absolute(name: str, path: str | os.PathLike[str]) -> str:
    """The sealer has another working directory; the host's may be gone, as after a new version was deployed."""
    try:
        return str(Path(path).absolute())
    except FileNotFoundError:
        raise ValueError(
            f"{name}={os.fspath(path)!r} is relative to a working directory that is gone; give an absolute path"
        ) from None


def _python_path() -> tuple[str, ...]:
    found = []
    for entry in sys.path:
        with contextlib.suppress(FileNotFoundError):  # relative to a working directory that is gone
            found.append(str(Path(entry).absolute()))
    return tuple(found)


def _names_a_function(text: str) -> bool:
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in module.split(".")) and name.isidentifier()


def _bytes_from_environment(name: str, default: int) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"the environment variable {name}={text!r} must be a number of bytes") from None


def _number_from_environment(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"the environment variable {name}={text!r} must be a number") from None
