"""One process's recording: its ring, its counters, and what runs in the background. A forked child begins a new one."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.beginnings import Beginnings
from recorder.bundle.codec import to_json
from recorder.bundle.manifest import Model
from recorder.capture.withheld import Withheld
from recorder.comparisons import Comparable, Comparisons
from recorder.contexts import ContextLog
from recorder.counts import Counts
from recorder.faults import MAX_FAULTS, WITHIN_SECONDS, FaultRow
from recorder.frame import Frame
from recorder.governor import Admission, Governor
from recorder.guard import Guard
from recorder.identify import FileToRead, Identifier, WeightsToRead
from recorder.jobs import Jobs
from recorder.keeper import Keeper
from recorder.opening import open_ring
from recorder.operator_requests import OperatorSignal
from recorder.outcomes import Incident, Outcomes
from recorder.record_writer import RecordWriter
from recorder.records import Kind
from recorder.retention import Retention
from recorder.ring import FRAMES, RingError, RingWriter
from recorder.settings import RecorderSettings
from recorder.sinks.s3.address import is_s3
from recorder.status import StatusReader, status_path
from recorder.trust.protection import complaints

if TYPE_CHECKING:
    import torch

__all__ = ["Session"]

#: A copy from a GPU takes milliseconds; a device that does not finish one in this time hangs.
LATE_SECONDS = 1.0


class _Evaluating(threading.local):
    """The frame that a `when` predicate is looking at on this thread."""

    frame: Frame | None = None


class Session:
    """Everything of a recorder that belongs to one process.

    Attributes:
        lost: what could not be recorded, by reason.
        errors: faults of the recorder or of user code it called, by reason.
        spent_ns: time spent in the recorder on calling threads.
        withheld: keeps fields out of the ring; None, most often: there is none to be kept out.
    """

    def __init__(
        self,
        settings: RecorderSettings,
        give_up: Callable[[Session, str], None],
        renew: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self.settings = settings
        self.stream_key = settings.stream_key
        self.withheld = Withheld.of(settings.privacy, settings.privacy_key, settings.stream_key)
        self.lost = Counts()
        self.errors = Counts()
        self.spent_ns = 0
        self.beginnings = Beginnings()
        self.governor = Governor(settings.overhead_budget, time.monotonic_ns())
        self.faults = FaultRow()
        self._give_up = give_up
        self._full_frames = 0
        self.started_ns = time.perf_counter_ns()
        self.frames_recorded = 0
        self.pid = os.getpid()
        self._calls = itertools.count(1)
        self.calls_begun = 0  #: id of the newest call
        self._models = itertools.count(1)
        self._weights = Comparisons(self)
        self._flushes = itertools.count(1)
        self._evaluating = _Evaluating()
        self.predicates = [trigger for trigger in settings.triggers if trigger.predicate is not None]
        self._reported: dict[str, int] = {}
        self._ring = self._open_ring(settings)
        self.records = RecordWriter(self._ring, self.lost, lambda: self.errors.add("stream-without-share"))
        self.jobs = Jobs(self.errors)
        self._exports = Jobs(self.errors)  # an export takes seconds, and another model's digest must not wait for it
        self._identifier = Identifier(self.write_head, self._model_directory(), self.jobs.stopping)
        self.contexts = ContextLog(self.write_head, self.jobs.submit, self.lost.add, _working_directory())
        for reason, sentence in complaints(settings.sealer.sign_key, settings.sealer.encrypt_to):
            self.errors.add(reason)
            self._warn(sentence)
        self.outcomes = Outcomes(StatusReader(status_path(self.ring_path))) if self.ring_path else None
        self._keeper: Keeper | None = None
        self._signal: OperatorSignal | None = None
        self._warned_of_age = self._warned_of_size = False
        if self._ring is not None:
            self._retention = Retention(self._ring, settings.min_age_seconds)
            self._write_config(settings)
            if settings.trigger_signal is not None:
                self._signal = OperatorSignal(settings.trigger_signal, self._refuse_signal)
            self._keeper = Keeper(
                self._ring, settings.sealer, self._beat, self.errors, settings.privacy_key, lambda: renew(self)
            )
            try:
                self._keeper.start()
            except RuntimeError:  # no thread can be had: nobody would read the ring
                self._discard_ring()
                raise
        self.contexts.current()

    @property
    def ring_path(self) -> Path | None:
        """Where the ring is; None when there could be none."""
        return self._ring.path if self._ring is not None else None

    @property
    def ring_bytes(self) -> int:
        """Size of the ring file."""
        return self._ring.size_bytes if self._ring is not None else 0

    def guard(self, name: str, *, timed: bool = True) -> Guard:
        """Return a context manager that keeps faults from the host and counts them under ``name``.

        ``timed`` adds the time inside to ``spent_ns``; not where the host asked to wait.
        """
        return Guard(self, name, timed)

    def next_call(self) -> int:
        """Return a new call id."""
        self.calls_begun = call = next(self._calls)
        return call

    def doubt_calls(self, model: int, first: int, last: int) -> None:
        """Say that a model's weights changed at some moment between two calls: which weights ran there is unknown.

        Args:
            model: its id until then.
            first: the first call that may have run with the new weights.
            last: the call before which the change was noticed.
        """
        if first < last and not self.write_head(Kind.DOUBT, {"model": model, "first": first, "before": last}):
            self.lost.add("contexts-full")

    def compared(self, model: Comparable) -> None:
        """Take in a model whose weights were compared at a call, to do so between calls too."""
        self._weights.add(model)

    def next_model(self) -> int:
        """Return a new model id."""
        return next(self._models)

    def fault(self, name: str, error: Exception) -> None:
        """Count a fault of the recorder itself, caught before it could reach the host."""
        self.errors.add(f"{name}: {type(error).__name__}")
        if self.faults.add(time.monotonic_ns()):
            reason = (
                f"{MAX_FAULTS} faults in a row within {WITHIN_SECONDS:.0f} seconds, "
                f"the last one {type(error).__name__} in {name}"
            )
            self._warn(f"The flight recorder switched itself off after {reason}. The service is not affected.")
            self._give_up(self, reason)

    def admit(self, now_ns: int) -> int:
        """Say how much of the next frame is recorded (`Admission`); once a second, compare the cost with the budget."""
        governor = self.governor
        if now_ns >= governor.due_ns:
            verdict = governor.look(now_ns, self.spent_ns, self._full_frames)
            if verdict is not None and verdict.first:
                self._warn(
                    "Recording everything takes more than overhead_budget="
                    f"{governor.budget:g} of this process's time: {verdict.affordable_per_second or 0:.1f} frames "
                    "per second are affordable in full. From here on the images and inputs of some frames are left "
                    "out; stats() counts them."
                )
        return governor.admit() if governor.payload_interval > 1 else Admission.FULL

    def write_head(self, kind: Kind, head: Mapping[str, Any]) -> bool:
        """Commit a record that belongs to no frame."""
        return self.records.write(kind, 0, head)

    def frame_ended(self, full: bool, faults_before: int) -> None:
        """Count a frame.

        Args:
            full: whether nothing of it was thinned out.
            faults_before: ``faults.total`` when it began.
        """
        self.frames_recorded += 1
        if self.records.late is not None:
            self.records.late.drain()
        self._full_frames += full
        if self.faults.total == faults_before:
            self.faults.end()

    def fire_predicates(self, frame: Frame) -> None:
        """Evaluate the `when` triggers on a frame that has just ended.

        Frames that a predicate begins, by calling an attached model, are recorded and not evaluated: they would never
        end.
        """
        if not self.predicates or self._evaluating.frame is not None:
            return
        self._evaluating.frame = frame
        try:
            self._evaluate_predicates(frame)
        finally:
            self._evaluating.frame = None

    def _evaluate_predicates(self, frame: Frame) -> None:
        for trigger in self.predicates:
            predicate = trigger.predicate
            try:
                fired = predicate(frame) if predicate is not None else None
                if not fired:
                    continue
                name = str(trigger.parameters.get("name"))
                reason = fired if isinstance(fired, str) else f"{name} was true"
                self.trigger(reason, kind="when", frame=frame, parameters={"name": name})
            except Exception as error:  # noqa: BLE001  # user code; counted, never seen by the host
                self.errors.add(f"trigger-raised: {type(error).__name__}")

    def trigger(
        self,
        reason: str,
        *,
        kind: str = "manual",
        severity: str = "normal",
        frame: Frame | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Incident:
        """Ask the sealer for an incident; returns at once."""
        incident = secrets.token_hex(16)
        self._report_losses()
        self._weights.compare()
        written = self.write_head(
            Kind.TRIGGER,
            {
                "incident": incident,
                "kind": kind,
                "reason": str(reason)[:1_000],
                "severity": severity,
                "frame": frame.id if frame is not None else None,
                "stream": frame.stream if frame is not None else None,
                "time": time.time_ns(),
                "after": self._last_number(),
                "parameters": dict(parameters or {}),
            },
        )
        if not written:
            self.lost.add("trigger-not-recorded")
        if self._keeper is not None:
            self._keeper.wake_sealer()
        return Incident(incident, self.outcomes)

    def announce_model(self, model: Model, weights: WeightsToRead | FileToRead | None) -> None:
        """Latch a model's description; its weights are read in the background, if there are any to read."""
        if not self.write_head(Kind.MODEL, to_json(model)):
            self.lost.add("contexts-full")
        match weights:
            case WeightsToRead():
                self.jobs.submit(lambda: self._identifier.identify(model.id, weights))
            case FileToRead():
                self.jobs.submit(lambda: self._identifier.identify_file(model.id, weights))

    def say_of_state(self, name: str, patterns: tuple[str, ...]) -> None:
        """Say that some of a model's tensors were found to be state: their change from call to call is no new model."""
        self.lost.add("calls-before-state-was-found")
        named = ", ".join(repr(pattern) for pattern in patterns[:8]) + (", ..." if len(patterns) > 8 else "")
        self._warn(
            f"The model {name} changes some of its tensors at every call; they are recorded as its state from now on. "
            f"To have that from the first call, attach it with state=({named},)."
        )

    def export_graph(self, model: int, module: torch.nn.Module, signature: str, example: Mapping[str, Any]) -> None:
        """Have a call's graph exported in the background, by a child process.

        Args:
            model: its id.
            module: the live module, which is only read.
            signature: of the call.
            example: the call's args, kwargs, state and settings, as they stand in its record, and "state_names".
        """
        if self._model_directory() is not None and self.write_head(
            Kind.EXPORT, {"model": model, "signature": signature}
        ):
            self._exports.submit(lambda: self._identifier.export(model, module, signature, example))

    def flush(self, timeout_seconds: float) -> bool:
        """Seal what was triggered so far and wait for it; say whether it was all done in time."""
        if self._ring is None or self.outcomes is None or self._keeper is None:
            return False
        deadline = time.monotonic() + timeout_seconds
        self.jobs.wait_idle(timeout_seconds)
        self._exports.wait_idle(max(0.0, deadline - time.monotonic()))
        self._report_losses()
        self._weights.compare()
        number = next(self._flushes)
        self.write_head(Kind.FLUSH, {"flush": number, "after": self._last_number()})
        self._keeper.wake_sealer()
        outcomes = self.outcomes
        return outcomes.wait(lambda: outcomes.flushed() >= number, max(0.0, deadline - time.monotonic()))

    def finish(self, timeout_seconds: float) -> None:
        """Wait for what was triggered and is not sealed yet."""
        if self.outcomes is not None and self._ring is not None:
            self.flush(timeout_seconds)

    def close(self) -> None:
        """End the recording. The sealer, which outlives this process, seals what was triggered."""
        if self._signal is not None:
            self._signal.close()
        self._weights.compare()
        self._identifier.close()
        self._exports.stop()
        self.jobs.stop()
        self.records.finish(LATE_SECONDS)
        if self._keeper is not None:
            self._keeper.stop()
        if self._ring is not None:
            self._ring.close()

    def continue_counts(self, former: Session) -> None:
        """Take over what a former session of this process had counted when it ended."""
        self.frames_recorded += former.frames_recorded
        self.lost.update(former.losses())
        self.errors.update(former.errors.snapshot())
        if self.outcomes is not None and former.outcomes is not None:
            self.outcomes.continue_counts(former.outcomes)

    def losses(self) -> dict[str, int]:
        """Return what was lost, by reason: here and in the ring."""
        total = Counts()
        total.update(self.lost.snapshot())
        if self._ring is not None:
            total.update(self._ring.losses)
        return total.snapshot()

    def forget_after_fork(self) -> None:
        """In a forked child: let go of the parent's ring without touching it."""
        if self._ring is not None:
            self._ring.after_fork_in_child()
            self._ring = None
            self.records.forget()
        if self._signal is not None:
            self._signal.close()

    def _open_ring(self, settings: RecorderSettings) -> RingWriter | None:
        try:
            return open_ring(settings, self._warn)
        except (RingError, OSError, ValueError) as error:
            self.errors.add("no-ring")
            self._warn(f"The flight recorder records nothing: {error}")
            return None

    def _discard_ring(self) -> None:
        if self._signal is not None:
            self._signal.close()
        if self._ring is not None:
            with contextlib.suppress(OSError):
                self._ring.path.unlink()
            self._ring.close()

    def _write_config(self, settings: RecorderSettings) -> None:
        self.write_head(
            Kind.CONFIG,
            {
                "pre_frames": settings.pre_frames,
                "post_frames": settings.post_frames,
                "post_seconds": settings.post_seconds,
                "cooldown_seconds": settings.cooldown_seconds,
                "dedupe_seconds": settings.dedupe_seconds,
                "max_incidents_per_hour": settings.max_incidents_per_hour,
                "max_incidents_per_day": settings.max_incidents_per_day,
                "privacy": settings.privacy.to_json() if settings.privacy is not None else None,
                "triggers": [
                    {"kind": trigger.kind, "parameters": trigger.parameters}
                    for trigger in settings.triggers
                    if trigger.predicate is None
                ],
            },
        )

    def _report_losses(self) -> None:
        """Tell the sealer what was lost, when it is news."""
        self.records.drain()
        losses = self.lost.snapshot()
        if losses != self._reported:
            self._reported = losses
            self.write_head(Kind.LOSSES, {"lost": losses})

    def _beat(self) -> None:
        """What the keeper does once a second."""
        self._report_losses()
        self._weights.compare()
        self._check_age()
        self._check_sizes()
        if self._signal is not None and self._signal.has_arrived():
            self.trigger(self._signal.reason, kind="signal")

    def _check_age(self) -> None:
        held = self._retention.held_seconds(time.monotonic())
        if held is None:
            return
        self.errors.add("min-age-not-held")
        if not self._warned_of_age:
            self._warned_of_age = True
            wanted = self.settings.min_age_seconds
            self._warn(
                f"At the present rate the flight recorder's ring holds {held:.0f} seconds, not the {wanted:g} of "
                f"min_age_seconds; raise max_bytes about {wanted / max(held, 1.0):.1f} times, or record less."
            )

    def _check_sizes(self) -> None:
        """Say once what no count can: how large a record may be, and what would make room for a larger one."""
        ring = self._ring
        if ring is None or self._warned_of_size or not ring.losses.get("frames-too-large"):
            return
        self._warned_of_size = True
        most = ring.capacity(FRAMES)[0] / 2**20
        self._warn(
            f"A frame's image or a call's tensors are larger than the {most:.1f} MiB that the flight recorder keeps of "
            "one record, a stream's share of the ring: they are left out (frames-too-large). Raise max_bytes, or lower "
            f"streams, of which {len(ring.lanes)} have a share."
        )

    def _refuse_signal(self, reason: str) -> None:
        self.errors.add(reason)
        if reason == "trigger-signal-taken":
            self._warn("The flight recorder does not listen to trigger_signal: this process handles it already.")
        else:
            self._warn("The flight recorder does not listen to trigger_signal: only the main thread could install it.")

    def _last_number(self) -> int:
        return self._ring.last_sequence if self._ring is not None else 0

    def _model_directory(self) -> Path | None:
        sealer = self.settings.sealer
        if is_s3(sealer.sink):
            return Path(str(sealer.sink_options["spool"])) / "models"
        return Path(sealer.sink) / "models" if Path(sealer.sink).is_absolute() else None

    @staticmethod
    def _warn(message: str) -> None:
        # A host that turns warnings into errors must not be stopped by ours.
        with contextlib.suppress(Exception):
            warnings.warn(message, RuntimeWarning, stacklevel=4)


def _working_directory() -> str | None:
    """Where the host's code may be; None where somebody has removed it."""
    with contextlib.suppress(OSError):
        return str(Path.cwd())
    return None
