"""Run recorded calls in workers, one after the other: keeps a worker busy, replaces it when it dies or must change."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from recorder.bundle.codec import to_json
from recorder.bundle.manifest import Call, Environment, Model
from recorder.bundle.values import first_opaque, has_removed, tensors_of
from replay.exchange import Outgoing, ReadTensor
from replay.loaded import LoadedModels
from replay.numerics.settings import WorkerPlan
from replay.numerics.surroundings import compare_surroundings
from replay.outcome import Failed, Job, Outcome, Raised, Returned, outcome_from_wire
from replay.process import Limits, Worker, WorkerDied
from replay.protocol import MAX_PAYLOAD_BYTES, ProtocolError
from replay.show.text import inert
from replay.sources import Candidate

__all__ = ["Failed", "Job", "Outcome", "Raised", "Returned", "Session", "recorded_device", "was_compiled"]

REMOVED_INPUT = (
    "its arguments were removed for privacy, so it cannot be run again; to keep them, state a level for model_input "
    "when recording (docs/privacy.md)"
)
REMOVED_STATE = (
    "the state of its model was removed for privacy, so it cannot be run again; to keep it, state a level for "
    "model_input when recording (docs/privacy.md)"
)
#: Of an argument that stands as an object that is not there; the type and the place are filled in.
LACKS_INPUT = (
    "{where} was an object of type {type}, which could not be recorded, or was lost since with a damaged part of the "
    "bundle, so it cannot be run again"
)
NO_STATE = (
    "its model changes tensors of its own from call to call, and what they were before this call was not recorded: "
    "they were too large (the loss state-too-large is counted); attach the part of the model without them, or one "
    "whose state takes at most 4 MiB (docs/embedding.md)"
)
RUNS_EAGERLY = "compile: the recorded model was compiled by torch.compile, here it runs eagerly"
#: After so many workers have died, the rest is not tried any more.
_MAX_DEATHS = 3
#: An answer may be this much larger than the recorded one before it is refused unseen.
_ANSWER_ROOM_BYTES = 256 * 2**20
#: Sentences on one context; a worker that runs a stranger's graph is not believed to be brief either.
_MOST_LACKING = 100


class Session:
    """A replay's workers. A context manager: no worker outlives the block."""

    def __init__(self, read: ReadTensor, plans: dict[int, WorkerPlan], *, device: str | None, limits: Limits) -> None:
        """Start nothing yet.

        Args:
            read: gives a recorded tensor's bytes.
            plans: by id of the context.
            device: "cpu", "cuda:n", or None for where it was recorded, as far as that is here.
            limits: of one worker.
        """
        self._read = read
        self._plans = plans
        self._device = "cuda:0" if device == "cuda" else device
        self._limits = limits
        self._worker: Worker | None = None
        self._has_gpu = False  #: whether the worker may use one
        self._plan: WorkerPlan | None = None
        self._models = LoadedModels()
        self._deaths = 0
        self._no_device = ""  #: why the recorded device is not used, where none was asked for
        self.not_restored: dict[int, list[str]] = {}  #: sentences by context id, known once a call of it was run
        self.seconds = 0.0  #: spent in calls of models

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def forget_models(self) -> None:
        """Load every model anew before its next call: what a pass changed in them is gone."""
        self._models.let_go()

    def restore(self, plans: dict[int, WorkerPlan]) -> None:
        """Run what follows under other plans, by id of the context, every model loaded anew."""
        self._plans = plans
        self.not_restored.clear()
        self.forget_models()

    def turn_to(self, read: ReadTensor, plans: dict[int, WorkerPlan]) -> None:
        """Go on with another bundle: nothing of the last one's models is used again, the worker stays warm."""
        self._read = read
        self._models.clear()
        self._deaths = 0
        self.restore(plans)

    @property
    def environment(self) -> Environment | None:
        """What the worker said of itself when it last was set up; None while there is none."""
        return self._worker.environment if self._worker is not None else None

    def source_of(self, job: Job) -> Candidate | None:
        """The candidate that a job was run with, if any."""
        loading = self._models.of(job, self._device_of(job))
        return loading.chosen if loading else None

    def notes_of(self, job: Job) -> list[str]:
        """What of the job's model is not the recorded one."""
        loading = self._models.of(job, self._device_of(job))
        return loading.notes if loading else []

    def lacking(self, job: Job) -> list[str]:
        """What of the surroundings of the job's call was not restored."""
        return self.not_restored.get(job.context.id, [])

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Run calls in order. The next call's bytes are read and sent while the worker computes.

        Raises:
            BundleInvalid, BundleUnavailable: recorded bytes are not what the manifest says.
        """
        waiting = deque(jobs)
        running: deque[Job] = deque()
        while waiting or running:
            if waiting and len(running) < 2:
                job = waiting[0]
                try:
                    if not running or not self._must_change(job):
                        waiting.popleft()
                        failure = self._send(job)
                        if failure is not None:
                            while running:
                                yield self._take(running)
                            yield job, failure
                        else:
                            running.append(job)
                        continue
                except WorkerDied as death:
                    started = bool(running)  # else it died before the call reached it
                    culprit, *again = [*running, job]
                    running.clear()
                    waiting.extendleft(reversed(again))
                    yield culprit, self._bury(death, started)
                    continue
            job = running[0]
            try:
                yield self._take(running)
            except WorkerDied as death:
                running.popleft()
                waiting.extendleft(reversed(running))
                running.clear()
                yield job, self._bury(death, True)

    def _take(self, running: deque[Job]) -> tuple[Job, Outcome]:
        job = running[0]
        assert self._worker is not None  # noqa: S101 - a job runs in one
        try:
            limit = MAX_PAYLOAD_BYTES if job.watch is not None else _answer_limit(job)
            header, payload = self._worker.answer(min(MAX_PAYLOAD_BYTES, limit))
            outcome = outcome_from_wire(header, payload)
            if isinstance(outcome, Returned):
                self.seconds += outcome.seconds
            self._lack(job, header.get("lacking"))
        except ProtocolError as error:
            raise WorkerDied(f"the replay worker sent {error}") from error
        running.popleft()
        return job, outcome

    def _lack(self, job: Job, sentences: object) -> None:
        """Add what the worker could not restore for one call."""
        known = self.not_restored.setdefault(job.context.id, [])
        for each in sentences if isinstance(sentences, list) else ():
            sentence = inert(each, 300)
            if sentence and sentence not in known and len(known) < _MOST_LACKING:
                known.append(sentence)

    def _must_change(self, job: Job) -> bool:
        """Whether a job needs the worker idle: another process, other flags, or a model that is not loaded."""
        plan = self._plans[job.context.id]
        return self._worker is None or plan != self._plan or not self._models.holds(job, self._device_of(job))

    def _send(self, job: Job) -> Failed | None:
        """Bring the worker into the state a job needs, and hand it over."""
        if has_removed(job.call.args) or has_removed(job.call.kwargs):
            return Failed(reason=REMOVED_INPUT)
        if has_removed(job.call.state):
            return Failed(reason=REMOVED_STATE)
        for where, value in (("args", job.call.args), ("kwargs", job.call.kwargs)):
            if (lacking := first_opaque(value, where)) is not None:
                return Failed(reason=LACKS_INPUT.format(where=lacking[0], type=inert(lacking[1], 120)))
        if job.model.state and job.call.state is None:
            return Failed(reason=NO_STATE)
        if self._deaths >= _MAX_DEATHS:
            return Failed(reason=f"not tried: {_MAX_DEATHS} replay workers died before it")
        if not job.candidates:
            return Failed(reason=" ".join(job.reasons))
        worker = self._settle(job)
        device = self._device_of(job)
        loading = self._models.load(job, device, worker, self._plans[job.context.id].profile)
        if loading.chosen is None:
            return Failed(reason=loading.refused)
        outgoing = Outgoing(self._read)
        request = {
            "model": loading.key,
            "args": outgoing.add(job.call.args),
            "kwargs": outgoing.add(job.call.kwargs),
            "rng": None if job.call.rng is None else outgoing.add(job.call.rng),
            "state": None if job.call.state is None else outgoing.add(job.call.state),
            "settings": to_json(job.call.settings) | {"autocast": job.call.settings.autocast},
            "device": device,
            "recorded_device": recorded_device(job.call),
            "max_answer_bytes": _answer_limit(job),
        }
        if job.watch is not None:
            request["watch"] = job.watch.request(outgoing)
        if job.attribute is not None:
            request["attribute"] = job.attribute
        if outgoing.size_bytes > MAX_PAYLOAD_BYTES:
            return Failed(reason=f"its arguments take {outgoing.size_bytes} bytes, more than a replay worker accepts")
        worker.send_call(request, outgoing.parts)
        return None

    def _settle(self, job: Job) -> Worker:
        """Have a worker run under a job's plan, and note what of the surroundings it does not restore."""
        plan = self._plans[job.context.id]
        if self._worker is not None and self._plan is not None and self._plan.needs_another_process(plan):
            self._stop()
        if self._worker is not None and not self._has_gpu and self._device_of(job) != "cpu":
            self._stop()
        if self._worker is None:
            self._worker = self._start(plan, job)
        elif self._plan != plan:
            self._worker.switch(plan)
        self._plan = plan
        if job.context.id not in self.not_restored:
            lacking = [*plan.not_restored, *compare_surroundings(job.context.environment, self._worker.environment)]
            self.not_restored[job.context.id] = lacking
        self._lack(job, [self._other_device(job)])
        if was_compiled(job.model) and RUNS_EAGERLY not in self.not_restored[job.context.id]:
            self.not_restored[job.context.id].append(RUNS_EAGERLY)
        return self._worker

    def _start(self, plan: WorkerPlan, job: Job) -> Worker:
        device = self._device_of(job)
        self._has_gpu = device != "cpu"
        try:
            return Worker(plan, device=device, limits=self._limits)
        except WorkerDied as error:
            if self._device is not None or not self._has_gpu:
                raise
            self._device, self._has_gpu = "cpu", False
            self._no_device = f", because {error}"
        return Worker(plan, device="cpu", limits=self._limits)

    def _device_of(self, job: Job) -> str:
        """Where a job's model and tensors go."""
        return self._device or recorded_device(job.call)

    def _other_device(self, job: Job) -> str:
        """Say where the call was recorded, if that is not where it runs; else an empty string."""
        recorded, here = recorded_device(job.call), self._device_of(job)
        if recorded == here:
            return ""
        return f"device: recorded on {recorded}, run on {'the CPU' if here == 'cpu' else here}{self._no_device}"

    def _bury(self, death: WorkerDied, of_the_call: bool) -> Failed:
        self._deaths += 1
        self._stop()
        return Failed(reason=str(death), died=of_the_call)

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self._models.let_go()


def was_compiled(model: Model) -> bool:
    """Whether a recorded model ran through torch.compile; earlier bundles say so by its type."""
    return model.compiled or model.type.endswith("OptimizedModule")


def _answer_limit(job: Job) -> int:
    recorded = sum(tensor.size_bytes for _, tensor in tensors_of(job.call.output)) if job.call.output else 0
    return _ANSWER_ROOM_BYTES + 4 * recorded


def recorded_device(call: Call) -> str:
    """The first GPU a call's arguments were on, or "cpu"."""
    for value in (call.args, call.kwargs):
        for _, tensor in tensors_of(value):
            if tensor.device.startswith("cuda"):
                return tensor.device if tensor.device[5:].isdigit() else "cuda:0"
    return "cpu"
