"""A case from an incident: its bundle minimised into the suite's folder, its expectations checked against it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle import Bundle
from recorder.bundle.durable import durable_file
from recorder.bundle.manifest import Frame
from recorder.bundle.rewrite import rewrite
from replay.class_names import answers_of, told_by
from replay.minimize import NothingFails, minimize_bundle
from replay.show.text import inert
from replay.suite.document import MAX_CLASSES, Case, Suite, held, is_case_name, read_suite, write_suite
from replay.suite.expectation import BadExpectation, Expectation, parse_expectation
from replay.suite.ground_truth import boxes_file, boxes_in
from replay.whatif import JUDGING

__all__ = ["Added", "add_case"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What was put into the suite."""

    case: Case
    path: Path  #: its bundle
    frames_before: int
    frames: int
    remark: str = ""  #: why it is not smaller


def add_case(
    bundle: Bundle,
    folder: Path,
    expectations: Sequence[str],
    *,
    name: str | None = None,
    frame: int | None = None,
    labels: Mapping[str, int] | None = None,
    minimize: bool = True,
    note: str = "",
    replace_case: bool = False,
    progress: Callable[[str], None] | None = None,
    **models: Any,
) -> Added:
    """Put an incident into a suite.

    Args:
        bundle: open; it is only read.
        folder: of the suite; made when it is not there.
        expectations: as `replay.suite.expectation` has them; of boxes, with the path of their file.
        name: of the case; None: made from trigger and incident.
        frame: id of the frame that is judged; None: that of the trigger.
        labels: index of every class by its name; None: what the bundle itself tells.
        minimize: leave out what the failure does not need; where it does not fail here, only the frame is kept.
        note: for people.
        replace_case: take the place of a case of that name.
        progress: told of every part that is tried.
        models: where the recorded models come from: see `replay.minimize.minimize_bundle`.

    Raises:
        ValueError: an expectation, a name or a frame is none; one sentence. `BadExpectation` is one of them.
        SuiteInvalid: the suite there cannot be read.
        BundleInvalid, BundleUnavailable: the bundle is damaged or cannot be read.
        OSError: the folder cannot be written.
    """
    target = _target(bundle, frame)
    expected = tuple(map(parse_expectation, dict.fromkeys(expectations)))
    if not expected:
        raise BadExpectation("say what is expected of a candidate: --expect class=NAME, or --expect same-as-recorded")
    name = name or _made_name(bundle)
    if not is_case_name(name):
        raise ValueError(f"{name!r} is no name of a case: letters, digits, - and _, at most 100")
    boxes = _boxes(expected)
    classes = _classes(bundle, target, expected, labels)
    _require_judgeable(bundle, target, expected)
    folder.mkdir(parents=True, exist_ok=True)
    _require_free(read_suite(folder), name, replace_case)
    expected = tuple(
        parse_expectation(f"boxes~{name}.boxes.json") if each.kind == "boxes" else each for each in expected
    )
    path = folder / f"{name}.zst"
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=folder) as scratch:
        smaller = Path(scratch) / "case.zst"
        identity, frames, remark = _smaller(bundle, smaller, target, minimize, progress, models)
        reason = note or next((inert(each.reason, 200) for each in bundle.manifest.incident.triggers), "")
        case = Case(name=name, bundle=identity, frame=target.id, expect=expected, classes=classes, note=reason[:500])
        with held(folder):
            suite = read_suite(folder)  # again: minimising takes minutes, in which others add cases
            _require_free(suite, name, replace_case)
            smaller.replace(path)
            if boxes is not None:
                with durable_file(folder / case.boxes_file) as file:
                    file.write(boxes)
            kept = tuple(each for each in suite.cases if each.name != name)
            write_suite(Suite(folder, (*kept, case)))
    return Added(case=case, path=path, frames_before=len(bundle.manifest.frames), frames=frames, remark=remark)


def _require_free(suite: Suite, name: str, replace_case: bool) -> None:
    if not replace_case and any(each.name == name for each in suite.cases):
        raise ValueError(f"the suite has a case {name} already; name this one with --name, or --replace it")


def _target(bundle: Bundle, wanted: int | None) -> Frame:
    by_id = {frame.id: frame for frame in bundle.manifest.frames}
    if wanted is not None:
        if wanted not in by_id:
            raise ValueError(f"the bundle has no frame {wanted}")
        return by_id[wanted]
    triggers = bundle.manifest.incident.triggers
    found = next((by_id[each.frame] for each in triggers if each.frame in by_id), None)
    if found is None:
        raise ValueError("no trigger names a frame of this bundle: say which one is judged with --frame")
    return found


def _smaller(
    bundle: Bundle,
    out: Path,
    target: Frame,
    minimize: bool,
    progress: Callable[[str], None] | None,
    models: Mapping[str, Any],
) -> tuple[str, int, str]:
    """Write the case's bundle; return its id, how many frames it has, and why it is not the smallest."""
    if not minimize:
        return rewrite(bundle, out, operation="minimize"), len(bundle.manifest.frames), "kept whole"
    try:
        done = minimize_bundle(bundle, out, frame=target.id, progress=progress, **models)
    except NothingFails as nothing:
        remark = f"frame {target.id} is kept alone, because {nothing}"
        return rewrite(bundle, out, operation="minimize", frames=(target.id,)), 1, remark
    return done.bundle, len(done.frames), ""


def _made_name(bundle: Bundle) -> str:
    incident = bundle.manifest.incident
    kind = incident.triggers[0].kind if incident.triggers else "incident"
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in kind).strip("-")[:40]
    return f"{plain or 'incident'}-{incident.id[:12]}"


def _boxes(expected: Sequence[Expectation]) -> bytes | None:
    """The content of the file of boxes that is named, checked."""
    named = [Path(each.name) for each in expected if each.kind == "boxes"]
    if len(named) > 1:
        raise BadExpectation("a case expects one file of boxes; put all its boxes into it")
    if not named:
        return None
    content = boxes_file(named[0])
    boxes_in(named[0].name, content)
    return content


def _require_judgeable(bundle: Bundle, target: Frame, expected: Sequence[Expectation]) -> None:
    """A case that no answer could ever decide is no test."""
    kinds = {each.kind for each in bundle.manifest.incident.triggers if each.frame == target.id}
    if kinds.isdisjoint(JUDGING) and any(each.kind == "no-failure" for each in expected):
        of = f"the trigger {inert(min(kinds), 60)}" if kinds else "a frame that no trigger names"
        raise BadExpectation(f"no-failure: of {of} one answer cannot tell; expect a class or a confidence instead")


def _classes(
    bundle: Bundle, target: Frame, expected: Sequence[Expectation], labels: Mapping[str, int] | None
) -> dict[str, int]:
    """The names worth keeping with the case; refuses classes that the model lacks, and names nobody knows."""
    known = dict(labels) if labels is not None else told_by(bundle)
    count = max((view.classes or 0 for view in answers_of(bundle, target)), default=0)
    texts = any(not name.lstrip("-").isdigit() for view in answers_of(bundle, target) for name in view.names)
    named = [each.name for each in expected if each.kind in ("class", "not")]
    for name in named:
        if name.isdigit() and count and int(name) >= count:
            raise BadExpectation(f"class {name}: the recorded model has {count} classes, 0 to {count - 1}")
        if name.isdigit() or name in known:
            continue
        if labels is not None:
            raise BadExpectation(f"{name!r} is not among the {len(labels)} names of --labels")
        if not texts:
            raise BadExpectation(
                f"nothing says which class {name!r} is: give its index, or the names with --labels FILE"
            )
    if len(known) <= MAX_CLASSES:
        return known
    return {name: index for name, index in known.items() if name in named or str(index) in named}
