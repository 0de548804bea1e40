"""What was recorded of somebody or something goes: from a sink and from spools, found by metadata.

A bundle all of whose frames match is deleted; one in which only some do is replaced by one without them. Whatever
cannot be read is named, since it may hold what is to go.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from recorder.bundle import BundleWriter
from recorder.bundle.custody import custody
from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Call, ExceptionInfo, Frame, Manifest, Redaction, Trigger
from recorder.bundle.reader import Bundle
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import JsonValue, MappingValue, SequenceValue, Value
from recorder.privacy import REMOVED, PrivacyKey, without_content
from replay.quotations import texts_of, unquoted
from replay.result import result_path

__all__ = ["Erasure", "Found", "Where", "find", "without_frames"]

_BUNDLES = (".zst", ".zst.age")
#: What a process that died leaves while it writes a bundle or copies one.
_FRAGMENTS = (".part", ".partial", ".spool")
_RING = ".ring"

OpenBundle = Callable[[str], Bundle]


@dataclass(frozen=True, slots=True)
class Where:
    """Which frames are meant: those that meet every condition.

    Attributes:
        conditions: by key, dots lead into dictionaries, the text that the value must have.
        key: under which values may stand as pseudonyms.
    """

    conditions: Mapping[str, str]
    key: PrivacyKey | None = None

    def matches(self, metadata: Mapping[str, JsonValue]) -> bool:
        """Whether a frame of that metadata is meant; of a list, one element is enough."""
        return all(
            any(self._is(value, text) for value in _at(metadata, path)) for path, text in self.conditions.items()
        )

    def quotes(self) -> set[str]:
        """Return the texts that must not be left anywhere."""
        pseudonyms = [] if self.key is None else [self.key.pseudonym(text) for text in self.conditions.values()]
        return {*self.conditions.values(), *pseudonyms}

    def _is(self, value: JsonValue, text: str) -> bool:
        if isinstance(value, list):
            return any(self._is(item, text) for item in value)
        if isinstance(value, str):
            return value == text or (self.key is not None and value == self.key.pseudonym(text))
        with suppress(ValueError, RecursionError):
            wanted = json.loads(text)
            return type(wanted) is type(value) and wanted == value
        return False


def _at(metadata: Mapping[str, JsonValue], path: str) -> Iterator[JsonValue]:
    """Yield what stands under a key, dots in it taken as steps or as part of the key."""
    if path in metadata:
        yield metadata[path]
    head, dot, rest = path.partition(".")
    while dot:
        inner = metadata.get(head)
        if isinstance(inner, dict):
            yield from _at(inner, rest)
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A bundle that holds frames which are meant."""

    path: Path
    bundle: str
    frames: tuple[int, ...]  #: that are meant
    whole: bool  #: the bundle goes, not only these frames
    problem: str | None = None  #: why it cannot be done


@dataclass(slots=True, kw_only=True)
class Erasure:
    """What was found, and what came of it."""

    found: list[Found] = field(default_factory=list)
    untouched: int = 0  #: bundles that hold nothing of it
    unreadable: list[tuple[Path, str]] = field(default_factory=list)  #: may hold some of it, and why that is not known
    descendants: list[tuple[Path, str]] = field(default_factory=list)  #: made from one that was found, without a match

    @property
    def is_complete(self) -> bool:
        """Whether nothing else can hold what is meant, as far as can be seen here."""
        return not (self.unreadable or self.descendants or any(each.problem for each in self.found))

    def carry_out(self, open_bundle: OpenBundle, where: Where) -> None:
        """Do it, bundle by bundle: a new one is durable before the old one goes, in one step under the same name.

        What fails is noted as the bundle's problem, and the others are done all the same.
        """
        for number, each in enumerate(self.found):
            if each.problem is not None:
                continue
            try:
                _remove(
                    result_path(str(each.path))
                )  # first: it quotes what goes, and without its bundle nobody finds it
                if each.whole:
                    _remove(each.path)
                    continue
                status = each.path.stat()
                with open_bundle(str(each.path)) as bundle:
                    without_frames(bundle, each.path, each.frames, where)
                each.path.chmod(stat.S_IMODE(status.st_mode))
                os.utime(each.path, ns=(status.st_atime_ns, status.st_mtime_ns))  # retention goes by age
            except (BundleError, OSError) as error:
                self.found[number] = replace(each, problem=str(error))


def find(sink: Path, spools: Sequence[Path], where: Where, open_bundle: OpenBundle, *, whole: bool = False) -> Erasure:
    """Look through a sink and spools; nothing is changed.

    Args:
        sink: a directory of bundles.
        spools: directories, looked through with all that is below them.
        where: which frames are meant.
        open_bundle: opens a bundle; what it raises makes the bundle unreadable.
        whole: whether a bundle goes although only some of its frames match.

    Raises:
        OSError: a directory cannot be read.
    """
    erasure = Erasure()
    others: list[tuple[Path, tuple[str, ...]]] = []
    for path in _files(sink, spools):
        if path.name.endswith(_FRAGMENTS):
            erasure.unreadable.append((path, "a file that was not finished; remove it when its writer is gone"))
            continue
        if path.name.endswith(_RING):
            advice = f"a ring; seal it with `replay seal --once --watch {path.parent}`, and erase again"
            erasure.unreadable.append((path, advice))
            continue
        try:
            with open_bundle(str(path)) as bundle:
                frames = bundle.manifest.frames
                meant = tuple(frame.id for frame in frames if where.matches(frame.metadata))
                problems = bundle.verify() if meant and not (whole or len(meant) == len(frames)) else []
                bundle_id, chain = bundle.id, tuple(parent.bundle for parent in custody(bundle.manifest))
        except BundleError as error:
            erasure.unreadable.append((path, str(error)))
            continue
        if not meant:
            erasure.untouched += 1
            others.append((path, chain))
            continue
        goes = whole or len(meant) == len(frames)
        problem = None
        if not goes and path.name.endswith(".age"):
            problem = "it is encrypted, so it can only go as a whole: --whole, or decrypt it first"
        elif problems:
            problem = f"it is damaged, so it can only go as a whole: --whole ({problems[0]})"
        erasure.found.append(Found(path=path, bundle=bundle_id, frames=meant, whole=goes, problem=problem))
    gone = {each.bundle for each in erasure.found}
    erasure.descendants = [(path, next(b for b in chain if b in gone)) for path, chain in others if gone & {*chain}]
    return erasure


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
            values = (value for key in where.conditions for value in _at(frame.metadata, key))
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


def _files(sink: Path, spools: Sequence[Path]) -> Iterator[Path]:
    """Everything that may be a bundle or become one, hidden files too, each once; links are not followed."""
    seen: set[Path] = set()
    places = [path for path in sink.iterdir() if not path.is_dir()]
    for spool in spools:
        for folder, _, names in os.walk(spool, onerror=_raise):
            places += [Path(folder) / name for name in names]
    for path in sorted(places):
        wanted = path.name.endswith((*_BUNDLES, *_FRAGMENTS, _RING))
        if wanted and path.is_file() and not path.is_symlink() and path.absolute() not in seen:
            seen.add(path.absolute())
            yield path


def _raise(error: OSError) -> None:
    raise error


def _remove(path: Path) -> None:
    """Remove a file for good: the directory is on the disk without it."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
