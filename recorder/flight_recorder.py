"""The recorder's public face: wires the parts; nothing else knows them all."""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from recorder.batch import Batch
from recorder.bundle.values import JsonValue
from recorder.capture import looks_like_image
from recorder.counts import Counts
from recorder.frame import Frame
from recorder.hooks.call import frames_at_hand
from recorder.outcomes import Incident
from recorder.privacy import PrivacyPolicy
from recorder.session import Session
from recorder.settings import RecorderSettings
from recorder.stats import Stats, stats_of
from recorder.triggers import Trigger

if TYPE_CHECKING:
    from recorder.hooks.attachments import Attachment

__all__ = ["FlightRecorder", "Stats"]

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")

#: How long interpreter exit may wait for incidents that were triggered and are not sealed: the sealer outlives us.
EXIT_SECONDS = 2.0


class FlightRecorder:
    """Keeps the last seconds of a vision service, and seals a window of them when a trigger fires.

    Nothing it does raises into the host, blocks it or changes its outputs; what it could not do is counted in
    `stats`. With ``FLIGHT_RECORDER_DISABLED=1`` every call is a no-op. Also a context manager, which closes it.

    Args:
        sink: a directory, "s3://bucket/prefix" (docs/s3.md), or "package.module:factory" for a sink of one's own, made
            in the sealer's process.
        triggers: from `recorder.triggers`; default: `exception` and `non_finite`. Manual ones are always possible.
        max_bytes: hard bound of the ring and of the windows being sealed together.
        pre_frames: frames of the stream before the trigger that belong to the incident.
        post_frames: frames after it; the window closes when they are there, or
        post_seconds: after so many seconds, whichever comes first.
        stream_key: the metadata key that separates streams: windows and cooldowns are per stream.
        streams: how many streams are guaranteed a share of the ring each, so that a busy camera cannot evict the
            others' frames. A stream that is alone uses all of it. Fewer where a share would be under 32 MiB.
        min_age_seconds: how far back the ring should reach. ``max_bytes`` wins: at a rate at which it cannot, that is
            said in one warning and counted, as "min-age-not-held", once for every second in which it is so.
        history_seconds: how far back a compact track of every frame's signals reaches, kept by the sealer beside the
            ring and sealed with each incident; 0: there is none. It takes a sixteenth of ``max_bytes``, at most 16 MiB.
        max_bundle_bytes: how large a sealed bundle may be (tickets take 10 to 25 MB); None: as large as its window is.
            Images and large tensors of frames far from the trigger are then left out, evenly; metadata and signals of
            every frame stay, and the bundle says what is not in it.
        ring: path of the mapped file; None: shared memory where there is room, else the temp directory.
        notify: "package.module:function", called by the sealer with the location of each sealed bundle, or
            "ticket:" and what `replay ticket --to` takes: incidents then file themselves (docs/tickets.md).
        overhead_budget: share of wall time that the recorder may take on calling threads, averaged over half a minute.
            Above it the images and inputs of some frames are left out, then whole frames; every n-th payload and all
            frames that raise are kept. 1 never leaves anything out.
        cooldown_seconds: after an incident, the same kind of trigger on the same stream is suppressed for so long.
        dedupe_seconds: after an incident, one of the same signature (`recorder.limits`) on the same stream is
            suppressed for so long; the next one says how often it recurred.
        max_incidents_per_hour: cap of what triggers detect, in any 60 minutes, all streams and workers together;
        max_incidents_per_day: and in any 24 hours. Manual ones have caps of their own, ten times as high.
        trigger_file: touching this file seals an incident of every stream, also when the host hangs. The sealer looks
            at it once a second and never opens it.
        trigger_signal: the same on this signal: SIGUSR1, SIGUSR2 or a real-time one. Left alone where the host
            handles it already.
        profile: file of what is normal (docs/drift.md), or a `recorder.Profile` that was saved to one: what `drift`,
            `image_quality` and `output_shift` compare with.
        warmup_frames: of a stream without a reference, learn one from its first so many frames; 0: never. A stretch
            that drifts is not learnt from, which is counted as "warm-up-refused".
        sign_key: path of an Ed25519 private key (PEM) that bundles are signed with, read by the sealer alone. A bundle
            is sealed unsigned, counted as "not-signed", where the key cannot be used.
        encrypt_to: age recipients ("age1…"): bundles are sealed as ``….zst.age``, which only these can open. Where that
            is not possible nothing is sealed, rather than in the clear. The ring and the model store are not encrypted.
        sink_options: further arguments of the sink; of a directory ``max_total_bytes`` (default 10 GiB) and
            ``max_age_seconds``: the oldest incidents go first; of S3 see `recorder.sinks.s3.options.S3Options`.
        privacy: what may leave the machine, field by field (docs/privacy.md): a `recorder.PrivacyPolicy` or a
            dictionary of its parts; None: everything but metadata under keys such as "password" or "email".
        privacy_key: path of a file with a secret of at least 16 bytes, for pseudonyms and digests of what was removed;
            None: from ``FLIGHT_RECORDER_PRIVACY_KEY``, if it is set. It is never written anywhere.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        sink: str | os.PathLike[str] = "incidents/",
        triggers: Sequence[Trigger] | None = None,
        *,
        max_bytes: int = 256 * 2**20,
        pre_frames: int = 16,
        post_frames: int = 4,
        post_seconds: float = 5.0,
        stream_key: str = "camera",
        streams: int = 4,
        min_age_seconds: float = 0.0,
        history_seconds: float = 3600.0,
        max_bundle_bytes: int | None = None,
        ring: str | os.PathLike[str] | None = None,
        notify: str | None = None,
        overhead_budget: float = 0.01,
        cooldown_seconds: float = 60.0,
        dedupe_seconds: float = 3_600.0,
        max_incidents_per_hour: int = 12,
        max_incidents_per_day: int = 100,
        trigger_file: str | os.PathLike[str] | None = None,
        trigger_signal: int | None = None,
        profile: str | os.PathLike[str] | None = None,
        warmup_frames: int = 0,
        sign_key: str | os.PathLike[str] | None = None,
        encrypt_to: Sequence[str] = (),
        sink_options: Mapping[str, JsonValue] | None = None,
        privacy: PrivacyPolicy | Mapping[str, Any] | None = None,
        privacy_key: str | os.PathLike[str] | None = None,
    ) -> None:
        self._settings = RecorderSettings.checked(
            sink=sink,
            sink_options=sink_options or {},
            triggers=triggers,
            max_bytes=max_bytes,
            pre_frames=pre_frames,
            post_frames=post_frames,
            post_seconds=post_seconds,
            cooldown_seconds=cooldown_seconds,
            dedupe_seconds=dedupe_seconds,
            max_incidents_per_hour=max_incidents_per_hour,
            max_incidents_per_day=max_incidents_per_day,
            trigger_file=trigger_file,
            trigger_signal=trigger_signal,
            stream_key=stream_key,
            streams=streams,
            min_age_seconds=min_age_seconds,
            overhead_budget=overhead_budget,
            history_seconds=history_seconds,
            max_bundle_bytes=max_bundle_bytes,
            ring=ring,
            notify=notify,
            profile=profile,
            warmup_frames=warmup_frames,
            sign_key=sign_key,
            encrypt_to=encrypt_to,
            privacy=privacy,
            privacy_key=privacy_key,
        )
        self._lock = threading.RLock()
        self._enabled = not self._settings.disabled
        self._session: Session | None = None
        self._attached: list[Attachment] = []
        self._errors = Counts()
        self._switched_off: str | None = None
        self._last_stats: Stats | None = None
        if self._enabled:
            self._active_session()
            _live.add(self)

    def attach(
        self,
        model: M,
        name: str | None = None,
        factory: str | None = None,
        store: bool = True,
        capture_rng: bool | None = None,
        state: Sequence[str] | None = None,
        layers: bool = False,
        embedding: str | None = None,
    ) -> M:
        """Record the calls of a model from now on; returns the same object, whose behaviour is unchanged.

        Args:
            model: a torch.nn.Module, an onnxruntime.InferenceSession, or a function, in whose place the function
                that is returned must be called. Anything else is returned as it is and counted as "unsupported-model".
            name: how bundles call it; default: the name of its class, or its own.
            factory: "package.module:function" that builds it, written into bundles as a hint for replay.
            store: whether weights and an exported graph go to the model store; else only their digest is known.
            capture_rng: whether the random state is recorded before each call; None: where a dropout is active.
            state: names, or glob patterns of names, of the tensors that the model changes from call to call, such as
                ("hidden", "memory.*"): buffers or attributes. They are recorded before each call instead of being part
                of the weights. None: those that change again and again are found, after some calls; (): there are none.
            layers: whether what each layer of a torch module gives is digested, so that `replay locate` can compare
                production itself. Takes up to 8 % of the time, outside of ``overhead_budget``: calls beyond go without.
            embedding: path of a layer of a torch module, such as "features.18": what it gives is pooled to at most 512
                numbers, on the calling thread, and compared with the reference by the `drift` trigger.

        Raises:
            ValueError: ``state`` is no sequence, or ``embedding`` names no layer of the model.
        """
        if isinstance(state, str):
            raise ValueError(f"state takes a sequence of names: state=({state!r},)")
        if not self._enabled:
            return model
        if embedding is not None and embedding not in _layers_of(model):
            raise ValueError(f"embedding={embedding!r} names no layer of the model; see model.named_modules()")
        try:
            from recorder.hooks.attachments import Unsupported, attachment_of

            with self._lock:
                self._attached = [known for known in self._attached if known.recorded is not None]
                for known in self._attached:
                    if known.is_for(model):
                        return known.recorded  # type: ignore[no-any-return]  # it stands for the model
                try:
                    attached = attachment_of(
                        model,
                        self._active_session,
                        name=lambda default: self._unique(name or default),
                        factory=factory,
                        store=store,
                        capture_rng=capture_rng,
                        state=None if state is None else tuple(state),
                        layers=layers,
                        embedding=embedding,
                    )
                except Unsupported:
                    self._errors.add("unsupported-model")
                    return model
                self._attached.append(attached)
                attached.announce()
                return attached.recorded  # type: ignore[no-any-return]  # see above
        except Exception as error:  # noqa: BLE001  # attaching must not stop a service from starting
            self._errors.add(f"attach: {type(error).__name__}")
        return model

    def frame(
        self,
        image: object = None,
        *,
        images: Mapping[str, object] | None = None,
        time: object = None,
        **metadata: object,
    ) -> Frame:
        """Begin one inference; use it in a ``with`` statement around the model call.

        Args:
            image: HWC or HW uint8 or uint16 array, PIL image, encoded bytes (JPEG, PNG, WebP) or a path.
            images: several images by name, instead.
            time: the sensor's time, kept as it is.
            **metadata: JSON-like values; the one under ``stream_key`` names the stream.
        """
        named = {} if image is None else {"image": image}
        if images:
            named |= images
        return Frame(self._session or self._active_session(), images=named, metadata=metadata, sensor_time=time)

    def frames(
        self, images: Sequence[object], metadata: Sequence[Mapping[str, object]] | None = None, *, time: object = None
    ) -> Batch:
        """Begin the inferences of one dynamic batch: one frame per item, the batch's tensors are recorded once.

        Args:
            images: one per item, None where there is none.
            metadata: one mapping per item.
            time: the sensor's time, for all.
        """
        session = self._active_session()
        given = list(metadata or [])
        given += [{}] * (len(images) - len(given))
        return Batch(
            session,
            [
                Frame(session, images={"image": image}, metadata=item, sensor_time=time)
                for image, item in zip(images, given, strict=False)
            ],
        )

    def watch(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a predict function: each call is a frame, its first image-like argument the image, its result the
        output. A call inside an open frame joins it. Coroutine functions work too.
        """
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def watched_coroutine(*args: Any, **kwargs: Any) -> Any:
                with self._watched(args, kwargs) as frame:
                    result = await function(*args, **kwargs)
                    frame.output = result
                    return result

            return watched_coroutine  # type: ignore[return-value]  # R is the coroutine's type here

        @functools.wraps(function)
        def watched(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._watched(args, kwargs) as frame:
                result = function(*args, **kwargs)
                frame.output = result
                return result

        return watched

    def trigger(self, reason: str, severity: str = "normal") -> Incident:
        """Seal an incident now, about the open frame or else the last one. Never blocks.

        Args:
            reason: one sentence, shown first in the bundle.
            severity: "normal" or "high".
        """
        session = self._active_session()
        if session is None:
            return Incident("0" * 32, None)
        with session.guard("trigger"):
            group = frames_at_hand(session)
            return session.trigger(reason, severity=severity, frame=group.first if group is not None else None)
        return Incident("0" * 32, None)

    def flush(self, timeout: float = 10.0) -> bool:
        """Close open windows, wait until everything triggered so far is sealed; say whether that was in time."""
        session = self._session
        if session is None:
            return False
        with session.guard("flush", timed=False):
            return session.flush(timeout)
        return False

    def stats(self) -> Stats:
        """Return the counters of this process; once closed, those it ended with."""
        session = self._session
        if session is None:
            return self._last_stats or Stats(frames_recorded=0, errors=self._errors.snapshot())
        unseen = max((attached.unseen_graphs for attached in self._attached), default=0)
        return stats_of(session, self._errors, unseen, self._switched_off)

    def disable(self) -> None:
        """Stop recording: hooks are removed, the ring is closed; every further call is a no-op."""
        with self._lock:
            self._last_stats = self.stats()
            self._enabled = False
            for attached in self._attached:
                attached.detach()
            self._attached.clear()
            session, self._session = self._session, None
        if session is not None and session.pid == os.getpid():
            with session.guard("close", timed=False):
                session.close()

    def close(self, timeout: float = 10.0) -> None:
        """Wait for incidents that are still open, at most ``timeout`` seconds, and stop recording."""
        session = self._session
        if session is not None and session.pid == os.getpid():
            with session.guard("close", timed=False):
                session.finish(timeout)
        self.disable()
        _live.discard(self)

    def __enter__(self) -> FlightRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _active_session(self) -> Session | None:
        """Return this process's session, made when it is first needed: in a forked child that is its first frame."""
        session = self._session
        if session is not None or not self._enabled:
            return session
        with self._lock:
            if self._session is None and self._enabled:
                try:
                    _close_at_end_of_worker()
                    self._session = Session(self._settings, self._give_up, self._renew)
                except Exception as error:  # noqa: BLE001  # surroundings that fail leave a recorder that does nothing
                    self._errors.add(f"session: {type(error).__name__}")
                    self._enabled = False
                    with contextlib.suppress(Exception):  # a host may turn warnings into errors
                        warnings.warn(f"The flight recorder records nothing: {error}", RuntimeWarning, stacklevel=3)
            return self._session

    def _give_up(self, session: Session, reason: str) -> None:
        """Stop recording for good, from within a hook: what takes time is done by a thread of its own."""
        if self._session is not session:
            return
        self._enabled = False
        self._switched_off = reason
        with contextlib.suppress(Exception):
            self._last_stats = self.stats()
        self._session = None

        def let_go() -> None:
            self.disable()
            with contextlib.suppress(Exception):
                session.close()

        # Not a daemon: an orderly exit right now must not look like a death in the ring.
        threading.Thread(target=let_go, name="flight-recorder-off").start()

    def _renew(self, session: Session) -> None:
        """Begin another ring where somebody has removed the present one; from a thread of the session's own."""
        with self._lock:
            if self._session is not session or not self._enabled:
                return
            # Beside the old path: a sealer that has the old file open still goes by its name.
            self._settings = self._settings.beside()
            self._session = None
            fresh = self._active_session()

        def let_go() -> None:
            with contextlib.suppress(Exception):
                session.close()
            if fresh is not None:
                fresh.continue_counts(session)

        threading.Thread(target=let_go, name="flight-recorder-renewal").start()

    def _after_fork_in_child(self) -> None:
        """The parent's ring, threads and locks are not ours; what is needed is made anew on first use."""
        session, self._session = self._session, None
        self._lock = threading.RLock()
        if session is not None:
            session.forget_after_fork()
        for attached in self._attached:
            attached.forget_after_fork()

    def _watched(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Frame:
        session = self._active_session()
        group = frames_at_hand(session)
        if group is not None:
            return Frame(None)
        image = next((value for value in (*args, *kwargs.values()) if looks_like_image(value)), None)
        return self.frame(image=image)

    def _unique(self, name: str) -> str:
        taken = {attached.name for attached in self._attached}
        candidates = (name, *(f"{name}-{number}" for number in range(2, 10_000)))
        return next((candidate for candidate in candidates if candidate not in taken), name)


def _layers_of(model: object) -> set[str]:
    """Paths of a torch module's layers; none of anything else."""
    named = getattr(model, "named_modules", None)
    return {path for path, _ in named()} - {""} if callable(named) else set()


_live: weakref.WeakSet[FlightRecorder] = weakref.WeakSet()


def _close_all() -> None:
    for recorder in list(_live):
        recorder.close(EXIT_SECONDS)


def _close_at_end_of_worker() -> None:
    """A process made by multiprocessing ends with os._exit, which runs none of the handlers registered with atexit."""
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=10)


def _forget_all_after_fork() -> None:
    for recorder in list(_live):
        recorder._after_fork_in_child()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all_after_fork)
