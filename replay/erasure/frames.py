"""A bundle without some of its frames, and without what else is known of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

from recorder.bundle import BundleWriter
from recorder.bundle.manifest import Call, ExceptionInfo, Frame, Manifest, Redaction, Trigger
from recorder.bundle.reader import Bundle
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import JsonValue, MappingValue, SequenceValue, Value
from recorder.privacy.scrub import REMOVED
from recorder.privacy.values import without_content
from replay.erasure.conditions import Where, values_at
from replay.quotations import texts_of, unquoted

__all__ = ["without_frames"]


def without_frames(source: Bundle, out: str | os.PathLike[str], frames: Iterable[int], where: Where) -> str:
    """Write a bundle without some frames and without what else is known of them.

    Batches that they shared with other frames lose their values, which cannot be told apart; the history goes, because
    nobody can say which of it is theirs; triggers keep their kind, and no text quotes the conditions. The frames are
    counted as lost, ``erased:frame``.

    Args:
        source: the old bundle.
        out: the new file; it may be the source's own, which is then replaced in one step.
        frames: ids of those that go.
        where: why they go.

    Returns:
        The new bundle's id.
    """
    gone = frozenset(frames)
    quotes = where.quotes()
    for frame in source.manifest.frames:
        if frame.id in gone:
            values = (value for key in where.conditions for value in values_at(frame.metadata, key))
            quotes |= {text for value in values for text in texts_of(value)}

    later = _calls_after(gone, source.manifest.calls)

    def transform(manifest: Manifest, writer: BundleWriter) -> Manifest:
        calls = tuple(_without_state(_unshared(call, gone), later) for call in manifest.calls)
        shared = sum(not gone.isdisjoint(call.frames) or _has_state(call, later) for call in calls)
        accounts = [_account("frame", len(gone)), *([_account("model_input", shared)] if shared else [])]
        accounts += [_account("track", 1)] if manifest.track is not None else []
        incident = manifest.incident
        return replace(
            manifest,
            frames=tuple(_frame(frame, quotes) for frame in manifest.frames),
            calls=tuple(replace(call, exception=_exception(call.exception, quotes)) for call in calls),
            incident=replace(
                incident,
                stream=str(unquoted(incident.stream, quotes)),
                triggers=tuple(_trigger(trigger, gone, quotes) for trigger in incident.triggers),
                lost={**incident.lost, "erased:frame": incident.lost.get("erased:frame", 0) + len(gone)},
            ),
            track=None,
            redactions=(*manifest.redactions, *accounts),
        )

    kept = [frame.id for frame in source.manifest.frames if frame.id not in gone]
    return rewrite(source, out, operation="erase", frames=kept, transform=transform)


def _account(field_name: str, count: int) -> Redaction:
    return Redaction(field=field_name, level="redacted", method="erased", stage="finished", count=count)


def _frame(frame: Frame, quotes: set[str]) -> Frame:
    return replace(
        frame,
        metadata=cast(dict[str, JsonValue], unquoted(frame.metadata, quotes)),
        sensor_time=unquoted(frame.sensor_time, quotes),
        exception=_exception(frame.exception, quotes),
    )


def _exception(info: ExceptionInfo | None, quotes: set[str]) -> ExceptionInfo | None:
    return None if info is None else replace(info, message=str(unquoted(info.message, quotes)))


def _unshared(call: Call, gone: frozenset[int]) -> Call:
    """A call that also served a frame that goes keeps no value."""
    if gone.isdisjoint(call.frames):
        return call

    return replace(
        call,
        args=cast(SequenceValue, _bare(call.args)),
        kwargs=cast(MappingValue, _bare(call.kwargs)),
        output=None if call.output is None else _bare(call.output),
        exception=None if call.exception is None else replace(call.exception, message=""),
    )


def _bare(value: Value) -> Value:
    return without_content(value, lambda tensor: None, keep_keys=True)


def _calls_after(gone: frozenset[int], calls: Sequence[Call]) -> frozenset[int]:
    """Ids of the calls, those that go among them, that may have been made of what a frame that goes left behind."""
    first = next((at for at, call in enumerate(calls) if not gone.isdisjoint(call.frames)), len(calls))
    return frozenset(call.id for call in calls[first:])  # they stand in the order in which they began


def _without_state(call: Call, later: frozenset[int]) -> Call:
    """A call without its model's state, where that may hold something of a frame that goes."""
    if not _has_state(call, later):
        return call
    return replace(call, state=cast(MappingValue, _bare(cast(MappingValue, call.state))))


def _has_state(call: Call, later: frozenset[int]) -> bool:
    return call.state is not None and call.id in later


def _trigger(trigger: Trigger, gone: frozenset[int], quotes: set[str]) -> Trigger:
    if trigger.frame in gone:
        return replace(trigger, reason=REMOVED, value=None, parameters={})
    parameters = cast(dict[str, JsonValue], unquoted(dict(trigger.parameters), quotes))
    return replace(trigger, reason=str(unquoted(trigger.reason, quotes)), parameters=parameters)
