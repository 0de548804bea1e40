"""The smallest part of an incident that still fails: delta debugging over frames, then over the items of a batch.

Every part is run again in models loaded anew, so that what an earlier frame leaves behind in a model counts only if
that frame is kept. What "fails" means is read off the incident: the trigger that opened it fires again on its frame's
replayed answer; where no single answer can decide that (latency, an operator), the frame's recorded answer comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recorder.bundle import Bundle
from recorder.bundle.manifest import Call, Frame, Manifest
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import TensorValue, Value, map_tensors
from recorder.bundle.writer import BundleWriter
from recorder.environment import describe_cpu
from recorder.sinks.s3.address import S3Address
from replay.batch import batch_size, is_batch, rows_of
from replay.conclusion import reaches
from replay.failure import failure_shows, frame_fails
from replay.jobs import plan_jobs
from replay.judge import judge
from replay.load import UserConfig
from replay.numerics.settings import plan_worker
from replay.packed import PackedModels
from replay.process import Limits
from replay.reduce import reduce_to_failing
from replay.session import Failed, Job, Outcome, Raised, Session

__all__ = ["Minimized", "NothingFails", "minimize_bundle"]

Progress = Callable[[str], None]


class NothingFails(Exception):
    """The incident does not fail here, or it cannot be told; the message is one sentence with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimized:
    """The smaller bundle."""

    bundle: str  #: its id
    frames: tuple[int, ...]  #: ids that are left
    frames_before: int
    items: tuple[int, ...] | None  #: items of the failing call's batch that are left; None: it was left whole
    items_before: int
    fails_by: str  #: one phrase: what was looked for in every part
    replays: int  #: parts that were run


def minimize_bundle(
    bundle: Bundle,
    out: Path,
    *,
    frame: int | None = None,
    model: Sequence[str] = (),
    model_directory: str | None = None,
    models: str | None = None,
    bundle_path: Path | S3Address | None = None,
    config: UserConfig | None = None,
    timeout_seconds: float | None = None,
    progress: Progress | None = None,
) -> Minimized:
    """Write the smallest part of a bundle that still fails.

    Args:
        bundle: open; it is only read.
        out: the new bundle, which names this one as its parent.
        frame: id of the frame that fails; None: that of the trigger.
        model, model_directory, models, bundle_path, config: see `replay.options.ReplayOptions`.
        timeout_seconds: for one call of a model.
        progress: called before every part that is run, with what is tried.

    Raises:
        NothingFails: the failure does not show in a replay of the whole, or no model could be had.
        ValueError: there is no such frame, or an option has another form.
        BundleInvalid, BundleUnavailable: the bundle is damaged or cannot be read.
        OSError: the new bundle cannot be written; nothing is left behind.
    """
    with PackedModels(bundle) as packed:
        jobs = plan_jobs(
            bundle.manifest,
            bundle.manifest.frames,
            model=model,
            model_directory=model_directory,
            models=models,
            bundle_path=bundle_path,
            config=config,
            packed=packed,
        )
        search = _Search(bundle, jobs, _failing_frame(bundle.manifest, frame), timeout_seconds, progress)
        with search:
            kept = search.frames()
            items = search.items(kept)
    target, call, count = search.target, search.call, search.batch
    frames = tuple(sorted({target.id, *kept}))
    if items is not None and call is not None and len(call.frames) == count:
        frames = tuple(sorted({*kept, *(call.frames[item] for item in items)} & {each.id for each in search.all}))

    def transform(manifest: Manifest, writer: BundleWriter) -> Manifest:
        if items is None or call is None:
            return manifest
        smaller = _with_items(bundle, writer, call, count, items)
        return replace(manifest, calls=tuple(smaller if each.id == call.id else each for each in manifest.calls))

    identity = rewrite(bundle, out, operation="minimize", frames=frames, transform=transform)
    return Minimized(
        bundle=identity,
        frames=frames,
        frames_before=len(bundle.manifest.frames),
        items=None if items is None else tuple(items),
        items_before=count,
        fails_by=search.fails_by,
        replays=search.replays,
    )


def _failing_frame(manifest: Manifest, wanted: int | None) -> Frame:
    by_id = {frame.id: frame for frame in manifest.frames}
    if wanted is not None:
        if wanted not in by_id:
            raise ValueError(f"the bundle has no frame {wanted}")
        return by_id[wanted]
    found = next((by_id[trigger.frame] for trigger in manifest.incident.triggers if trigger.frame in by_id), None)
    if found is None:
        raise ValueError("no trigger names a frame of this bundle: say which one fails with --frame")
    return found


class _Search:
    """Runs parts of a bundle and says whether they fail."""

    def __init__(
        self,
        bundle: Bundle,
        jobs: Sequence[Job],
        target: Frame,
        timeout_seconds: float | None,
        progress: Progress | None,
    ) -> None:
        self.target = target
        self.all = bundle.manifest.frames
        self.replays = 0
        self.fails_by = ""
        self._bundle = bundle
        self._jobs = jobs
        self._progress = progress or (lambda text: None)
        self._trigger = next((each for each in bundle.manifest.incident.triggers if each.frame == target.id), None)
        own = [job for job in jobs if job.call.id in target.calls and job.call.status != "open"]
        if not own:
            raise NothingFails(f"no model call was recorded in frame {target.id}, so there is nothing to run again")
        self._own = own
        self.call: Call | None = own[-1].call
        self.batch = batch_size(own[-1].call.args) or 1
        cpu = describe_cpu()
        plans = {context.id: plan_worker(context.environment, "faithful", cpu) for context in bundle.manifest.contexts}
        self._slices: dict[str, tuple[TensorValue, int, tuple[int, ...]]] = {}
        self._session = Session(self._read, plans, device=None, limits=Limits(timeout_seconds=timeout_seconds))

    def __enter__(self) -> _Search:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.__exit__(*error)

    def frames(self) -> list[int]:
        """Ids of the frames without which the target's failure does not show, itself left out."""
        others = [frame.id for frame in self.all if frame.id != self.target.id]
        if not self._fails(others, None):
            raise NothingFails(
                f"frame {self.target.id} does not fail in a replay here, so nothing can be told of its parts; "
                "see `replay run` for what comes out, or name another with --frame"
            )
        return reduce_to_failing(others, lambda part: self._fails(part, None))

    def items(self, kept: Sequence[int]) -> list[int] | None:
        """Items of the failing call's batch that have to stay; None where it is no batch that can be cut."""
        if self.call is None or self.batch < 2:
            return None
        own = self.call.frames.index(self.target.id) if len(self.call.frames) == self.batch else None
        if self.call.status == "returned" and own is None:
            return None  # nothing says which of the items' answers is the failing one
        others = [item for item in range(self.batch) if item != own]

        def fails(part: Sequence[int]) -> bool:
            chosen = sorted({*part, *([] if own is None else [own])})
            return bool(chosen) and self._fails(kept, tuple(chosen))

        left = reduce_to_failing(others, fails)
        chosen = sorted({*left, *([] if own is None else [own])})
        return chosen if len(chosen) < self.batch and fails(left) else None

    def _fails(self, others: Sequence[int], items: tuple[int, ...] | None) -> bool:
        wanted = {self.target.id, *others}
        calls = {call for frame in self.all if frame.id in wanted for call in frame.calls}
        jobs = [job for job in self._jobs if job.call.id in calls and job.call.status != "open"]
        if items is not None:
            jobs = [self._cut(job, items) if job.call.id == self._own[-1].call.id else job for job in jobs]
        cut = "" if items is None else f", {len(items)} of {self.batch} items"
        self._progress(f"{len(wanted)} of {len(self.all)} frames{cut}")
        self.replays += 1
        self._session.forget_models()
        targets = {job.call.id for job in self._own}
        shown: list[bool | None] = []
        same: list[bool] = []
        for job, outcome in self._session.run(jobs):
            if job.call.id in targets:
                ran = self._ran(outcome, items)
                shown.append(failure_shows(self._trigger, job.call, outcome, self._row(job, items)) if ran else None)
                same.append(ran and reaches(judge(job, outcome, self._read).level, "decision"))
        found = None if self._trigger is None else frame_fails(self._trigger.kind, shown)
        if found is None or self._trigger is None:
            self.fails_by = self.fails_by or "the recorded answer comes back"
            return bool(same) and all(same)
        self.fails_by = f"the trigger {self._trigger.kind} fires again"
        return found

    def _ran(self, outcome: Outcome, items: tuple[int, ...] | None) -> bool:
        if isinstance(outcome, Failed) or (isinstance(outcome, Raised) and outcome.cannot is not None):
            reason = outcome.reason if isinstance(outcome, Failed) else outcome.cannot
            if items is None:
                raise NothingFails(f"frame {self.target.id} cannot be run here: {reason}")
            return False  # it ran whole: a graph, or a state, that is of that many items alone
        return True

    def _row(self, job: Job, items: tuple[int, ...] | None) -> int | None:
        """The failing frame's item in a batch that was cut."""
        if items is None or job.call.id != self._own[-1].call.id or len(self.call_frames) != self.batch:
            return None
        return items.index(self.call_frames.index(self.target.id))

    @property
    def call_frames(self) -> tuple[int, ...]:
        return self._own[-1].call.frames

    def _cut(self, job: Job, items: tuple[int, ...]) -> Job:
        """The job with only some items of its batch; the bytes are cut when they are read."""

        def cut(tensor: TensorValue) -> Value:
            if not is_batch(tensor, self.batch):
                return tensor
            name = f"{tensor.sha256}:{','.join(map(str, items))}"
            self._slices[name] = (tensor, self.batch, items)
            shape = (len(items), *tensor.shape[1:])
            size_bytes = tensor.size_bytes // self.batch * len(items)
            return replace(tensor, shape=shape, size_bytes=size_bytes, sha256=name)

        call = job.call
        return replace(job, call=_mapped(call, cut))

    def _read(self, tensor: TensorValue) -> bytes:
        if tensor.sha256 in self._slices:
            whole, count, items = self._slices[tensor.sha256]
            return rows_of(self._bundle.tensor_bytes(whole), count, items)
        return self._bundle.tensor_bytes(tensor)


def _with_items(bundle: Bundle, writer: BundleWriter, call: Call, count: int, items: Sequence[int]) -> Call:
    """The recorded call with only some items of its batch, stored anew."""

    def stored(tensor: TensorValue) -> Value:
        if not is_batch(tensor, count):
            return tensor
        return writer.tensor_like(
            rows_of(bundle.tensor_bytes(tensor), count, items), tensor, (len(items), *tensor.shape[1:])
        )

    frames = tuple(call.frames[item] for item in items) if len(call.frames) == count else call.frames
    return replace(_mapped(call, stored), frames=frames)


def _mapped(call: Call, function: Callable[[TensorValue], Value]) -> Call:
    """The call with its tensors replaced: what it was given and gave, and the state of its model, item by item."""
    return replace(
        call,
        args=map_tensors(call.args, function),
        kwargs=map_tensors(call.kwargs, function),
        output=None if call.output is None else map_tensors(call.output, function),
        state=None if call.state is None else map_tensors(call.state, function),
    )
