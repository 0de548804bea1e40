"""From stage records to a bundle: frames and calls of a window are put together, their bytes encoded."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recorder import __version__
from recorder.bundle import BundleWriter
from recorder.bundle.codec import from_json, value_from_json
from recorder.bundle.manifest import (
    Call,
    CallSettings,
    ExceptionInfo,
    Frame,
    Image,
    ImageLeftOut,
    Incident,
    Manifest,
    Model,
    Parent,
)
from recorder.bundle.values import MappingValue, OpaqueValue, SequenceValue, TensorValue, Value, map_tensors
from recorder.counts import Counts
from recorder.privacy import Level
from recorder.records import Kind
from recorder.sealer.diagnosing import Diagnosing
from recorder.sealer.latched import Latched, placeholder_context
from recorder.sealer.placing import placed
from recorder.sealer.redacting import Redacting, image_field
from recorder.sealer.sound import finish_sound
from recorder.sealer.stages import MALFORMED, StageRecord
from recorder.sealer.thinning import thin
from recorder.sealer.tracking import TrackSource

__all__ = ["assemble"]


def assemble(
    incident: Incident,
    records: Sequence[StageRecord],
    latched: Latched,
    scratch: Path,
    *,
    privacy: Redacting | None = None,
    track: TrackSource | None = None,
    unverified: Mapping[int, int] | None = None,
    complete: bool = True,
    parent: Parent | None = None,
    max_bundle_bytes: int | None = None,
    profile: Path | None = None,
    pace: Callable[[], None] = lambda: None,
    annotate: Callable[[bytes], Sequence[bytes]] = lambda text: (),
) -> Path:
    """Write a bundle of these records into ``scratch`` and return its path.

    Records that are malformed or whose bytes are gone are counted in the incident's ``lost``.

    Args:
        incident: what happened; its ``lost`` is completed here.
        records: in the order of the ring, which is the order of the stages.
        latched: environments and models the records refer to.
        scratch: a directory of the caller's, removed by the caller.
        privacy: what may be written of them, and how; for this bundle alone. None: the default policy, without a key.
        track: the history before the window, if there is one.
        unverified: how many calls began after their model's weights were last compared, by model.
        complete: False when the records were salvaged from a damaged source.
        parent: the bundle these were salvaged from.
        max_bundle_bytes: how large the bundle may be: payloads far from the trigger are left out. None: any size.
        profile: by which the cause is named; None: it is not.
        pace: called between records; it may sleep.
        annotate: signs the manifest (`recorder.bundle.BundleWriter.finish`).
    """
    path = scratch / "bundle.zst"
    privacy = privacy if privacy is not None else Redacting(latched.privacy)
    with BundleWriter(scratch) as writer:
        diagnosing = Diagnosing(profile, incident, records) if profile is not None else None
        draft = _Draft(writer, latched, privacy, _last_metadata(records), diagnosing)
        for record in records:
            try:
                draft.take(record)
            except MALFORMED:
                draft.lost.add("record-malformed")
            pace()
        draft.lost.update(incident.lost)
        history = None
        if track is not None and privacy.keeps_track:
            history = track.store(writer, incident.stream, draft.lost)
        frames, calls = draft.finish()
        if diagnosing is not None:
            incident = dataclasses.replace(incident, cause=diagnosing.name(draft.lost, _only_weights(latched, calls)))
        context_ids = sorted({frame.context for frame in frames} | {call.context for call in calls})
        for context_id in context_ids:
            if context_id not in latched.contexts:
                draft.lost.add("context-unknown")
        manifest = Manifest(
            created_ns=time.time_ns(),
            producer=f"vision-flight-recorder {__version__}",
            incident=privacy.incident(dataclasses.replace(incident, lost=_countable(draft.lost))),
            contexts=tuple(latched.contexts.get(number, placeholder_context(number)) for number in context_ids),
            models=tuple(
                privacy.model(_with_doubt(latched.model(number), (unverified or {}).get(number, 0)))
                for number in sorted({call.model for call in calls})
            ),
            frames=tuple(privacy.frame(frame) for frame in frames),
            calls=tuple(privacy.call(call) for call in calls),
            members=(),
            complete=complete,
            parent=parent,
            track=history,
        )
        manifest = dataclasses.replace(manifest, redactions=privacy.redactions())
        if max_bundle_bytes is not None:
            manifest = thin(manifest, writer, max_bundle_bytes, annotate)
        finish_sound(writer, path, manifest, annotate)
    return path


def _only_weights(latched: Latched, calls: Sequence[Call]) -> str | None:
    """The digest of the weights in use, where the calls are of one model alone."""
    models = {call.model for call in calls}
    weights = latched.model(models.pop()).weights if len(models) == 1 else None
    return weights.digest if weights is not None else None


def _with_doubt(model: Model, unverified: int) -> Model:
    """Say of a model which of its calls nobody can vouch for."""
    if not unverified or model.weights is None:
        return model
    calls = "call" if unverified == 1 else f"{unverified} calls"
    sentence = f"Its weights were not compared again after its last {calls} here had begun: a change then is not seen."
    return dataclasses.replace(model, problems=(*model.problems, sentence))


class _Draft:
    """Frames and calls as far as their records have come."""

    def __init__(
        self,
        writer: BundleWriter,
        latched: Latched,
        privacy: Redacting,
        metadata: dict[int, dict[str, Any]],
        diagnosing: Diagnosing | None,
    ) -> None:
        self._diagnosing = diagnosing
        self._latched = latched
        self._privacy = privacy
        self._metadata = metadata
        self._writer = writer
        self._frames: dict[int, Frame] = {}
        self._calls: dict[int, Call] = {}
        self.lost = Counts()

    def take(self, record: StageRecord) -> None:
        match record.kind:
            case Kind.BEGIN:
                self._begin(record)
            case Kind.INPUT:
                self._input(record)
            case Kind.OUTPUT:
                self._output(record)
            case Kind.LAYERS:
                self._layers(record)
            case Kind.END:
                self._end(record)

    def finish(self) -> tuple[tuple[Frame, ...], tuple[Call, ...]]:
        """Return what stands; calls whose frames are not in the window are left out."""
        calls = {
            number: call for number, call in self._calls.items() if any(frame in self._frames for frame in call.frames)
        }
        frames = []
        for number, frame in sorted(self._frames.items()):
            own = tuple(sorted(call.id for call in calls.values() if number in call.frames))
            status = frame.status
            if frame.exception is not None or any(calls[call].status == "raised" for call in own):
                status = "raised" if status != "open" else status
            frames.append(dataclasses.replace(frame, calls=own, status=status))
        known = {
            number: dataclasses.replace(call, parent=call.parent if call.parent in calls else None)
            for number, call in calls.items()
        }
        return tuple(frames), tuple(call for _, call in sorted(known.items()))

    def _begin(self, record: StageRecord) -> None:
        head = record.head
        images = []
        left_out = [self._privacy.left_out(_left_out(entry)) for entry in head.get("left_out", ())]
        for entry in head["images"]:
            image = self._image(record, entry)
            if isinstance(image, Image):
                images.append(image)
            elif image is not None:
                left_out.append(image)
        self._frames[record.key] = Frame(
            id=_id(record.key),
            stream=str(head["stream"]),
            status="open",
            time_ns=int(head["time"]),
            monotonic_ns=int(head["monotonic"]),
            context=_id(head["context"]),
            calls=(),
            images=tuple(images),
            images_left_out=tuple(left_out),
            metadata=dict(head["metadata"]),
            sensor_time=head["sensor_time"],
        )

    def _image(self, record: StageRecord, entry: dict[str, Any]) -> Image | ImageLeftOut | None:
        data = record.payload(int(entry["offset"]), int(entry["size_bytes"]))
        if data is None:
            self.lost.add("image-overwritten")
            return None
        image = self._privacy.image(self._writer, record.key, entry, data, self._metadata.get(record.key, {}))
        if isinstance(image, ImageLeftOut) and image.reason == "redaction-failed":
            self.lost.add("image-not-redacted")
        # What was redacted is as good as corrupted: it would name the redaction.
        whole = self._privacy.policy.level_of(image_field(str(entry["name"]))) is Level.FULL
        if self._diagnosing is not None and whole and isinstance(image, Image):
            self._diagnosing.see(record.key, entry, data)
        return image

    def _input(self, record: StageRecord) -> None:
        head = record.head
        args = self._value(head["args"], record, "model_input")
        kwargs = self._value(head["kwargs"], record, "model_input", "kwargs")
        if not isinstance(args, SequenceValue) or not isinstance(kwargs, MappingValue):
            raise TypeError("the arguments of a call are a tuple and a dictionary")
        state = head.get("state")
        if state is not None:
            # It is made of what the model was given before, so it is as private as that.
            state = self._value(state, record, "model_input", "kwargs")
            if not isinstance(state, MappingValue):
                raise TypeError("the state of a call is a dictionary")
        call = Call(
            id=_id(head["call"]),
            model=self._latched.model_of(int(head["call"]), _id(head["model"])),
            context=_id(head["context"]),
            frames=tuple(int(frame) for frame in head["frames"]),
            parent=None if head["parent"] is None else int(head["parent"]),
            status="open",
            settings=from_json(CallSettings, head["settings"], "settings"),
            args=args,
            kwargs=kwargs,
            rng=None if head["rng"] is None else self._value(head["rng"], record),
            state=state,
            started_monotonic_ns=int(head["started"]),
        )
        self._calls[call.id] = call

    def _output(self, record: StageRecord) -> None:
        head = record.head
        call = self._calls.get(int(head["call"]))
        if call is None:
            self.lost.add("output-without-input")
            return
        exception = head.get("exception")
        self._calls[call.id] = dataclasses.replace(
            call,
            status="raised" if exception else "returned",
            exception=from_json(ExceptionInfo, exception, "exception") if exception else None,
            output=None if exception else self._value(head["output"], record, "model_output"),
            latency_seconds=float(head["latency"]),
        )

    def _layers(self, record: StageRecord) -> None:
        call = self._calls.get(int(record.head["call"]))
        if call is not None and self._privacy.keeps_layers:
            layers = self._value(record.head["layers"], record)
            self._calls[call.id] = dataclasses.replace(call, layers=layers)

    def _end(self, record: StageRecord) -> None:
        frame, head = self._frames.get(record.key), record.head
        if frame is None:
            self.lost.add("frame-without-beginning")
            return
        exception = head["exception"]
        self._frames[frame.id] = dataclasses.replace(
            frame,
            status="raised" if exception else "complete",
            latency_seconds=float(head["latency"]),
            metadata=dict(head["metadata"]),
            output=None if head["output"] is None else self._value(head["output"], record, "output"),
            exception=from_json(ExceptionInfo, exception, "exception") if exception else None,
            lost={str(reason): int(number) for reason, number in head["lost"].items()},
        )

    def _value(self, tagged: Any, record: StageRecord, field: str = "", part: str = "") -> Value:
        """Store a value; of one with a privacy field what its level leaves."""
        value = value_from_json(placed(tagged))
        left = self._privacy.value(field, value, record.payload, keep_keys=part == "kwargs") if field else None
        return self._store(value, record) if left is None else left

    def _store(self, value: Value, record: StageRecord) -> Value:
        def stored(tensor: TensorValue) -> Value:
            data = record.payload(tensor.offset, tensor.size_bytes)
            if data is None:
                self.lost.add("tensor-overwritten")
                return OpaqueValue(type=f"{tensor.container} tensor, overwritten before it was sealed")
            return self._writer.tensor_like(data, tensor)

        return map_tensors(value, stored)


def _id(value: Any) -> int:
    """An id that a manifest may hold: contexts and models are named by it even where nothing else is known of them."""
    if not 0 <= int(value) < 2**63:
        raise ValueError("an id that the host never gives")
    return int(value)


def _countable(lost: Counts) -> dict[str, int]:
    """Counts as a manifest may hold them; a damaged ring claims more losses than there can be."""
    return {reason: min(number, 2**63 - 1) for reason, number in lost.snapshot().items()}


def _last_metadata(records: Sequence[StageRecord]) -> dict[int, dict[str, Any]]:
    """Each frame's metadata as it ended with: the boxes of what an image shows are often found by the model itself."""
    return {
        record.key: metadata
        for record in records
        if record.kind in (Kind.BEGIN, Kind.END) and isinstance(metadata := record.head.get("metadata"), dict)
    }


def _left_out(entry: dict[str, Any]) -> ImageLeftOut:
    names = {field.name for field in dataclasses.fields(ImageLeftOut)}
    return from_json(ImageLeftOut, {name: value for name, value in entry.items() if name in names}, "image")
