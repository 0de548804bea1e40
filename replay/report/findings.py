"""What locate, bisect and probe saved, as what the page draws of it: read from a file that may be anybody's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replay.probe.curves import drawn
from replay.probe.finding import Curve
from replay.report import layers
from replay.show.text import id_ranges, inert

__all__ = ["Bisected", "Found", "Located", "LocatedCall", "Probed", "found"]

#: Rows of all trees on a page, 400 bytes each, and calls of one pair of sides: the page has to stay below 8 MB.
_MAX_ROWS = 2000
_CALLS_SHOWN = 3

_SETTINGS_SHOWN = _TRIED_SHOWN = 60
_EVIDENCE_SHOWN = 12
_FAILED_NAMED = 4

#: Points of a curve; probes try a dozen amounts.
_POINTS_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedCall:
    """One call's tree."""

    title: str
    conclusion: str
    rows: layers.Rows  #: empty where it would have made the page too large


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Two sides held against each other."""

    sides: str
    stamp: str
    conclusion: str
    calls: tuple[LocatedCall, ...]
    left_out: int  #: calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisected:
    """The search for the setting that explains the bits."""

    stamp: str
    explained: bool
    outcome: str
    conclusion: str
    settings: tuple[tuple[str, str, str, str, bool], ...]  #: name, recorded, here, restored alone, explains
    tried: tuple[tuple[str, str, str, str, str], ...]  #: restored, bit-exact, largest difference, decisions, failed
    skipped: tuple[tuple[str, str], ...]  #: setting, why it was not tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """One probe."""

    name: str
    mark: str  #: "pass", "fail" or "undecided"
    about: str
    stamp: str
    sentence: str
    facts: tuple[tuple[str, str], ...]
    evidence: tuple[tuple[str, Any], ...]
    curves: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Everything saved."""

    located: tuple[Located, ...] = ()  #: the latest first
    bisected: Bisected | None = None
    probed: tuple[Probed, ...] = ()  #: failed ones first

    @property
    def probes(self) -> str:
        """How many came to what: "2 fail (background, batch), 5 pass"."""
        said = []
        for mark in ("fail", "undecided", "pass"):
            names = [each.name for each in self.probed if each.mark == mark]
            shown = ", ".join(names[:_FAILED_NAMED]) + ", …" * (len(names) > _FAILED_NAMED)
            said += [f"{len(names)} {mark}" + (f" ({shown})" if mark == "fail" else "")] if names else []
        return ", ".join(said)


def found(result: Mapping[str, Any] | None) -> Found:
    """Return what a saved result holds besides the verdict.

    Args:
        result: validated by replay.schema.json; None: there is none.
    """
    saved = (result or {}).get("findings") or {}
    bisected = saved.get("bisect")
    order = {"fail": 0, "undecided": 1, "pass": 2}
    return Found(
        located=_located(saved.get("locate") or []),
        bisected=None if bisected is None else _bisected(bisected),
        probed=tuple(sorted((_probed(each) for each in saved.get("probe") or []), key=lambda each: order[each.mark])),
    )


def _stamp(about: Mapping[str, Any]) -> str:
    torch = f", torch {inert(about['torch'], 30)}" if about["torch"] else ""
    time = inert(about["time"], 40).replace("T", " ").removesuffix("+00:00") + " UTC"
    return f"{time}{torch}, {inert(about['cpu'], 80)}"


def _located(saved: list[Mapping[str, Any]]) -> tuple[Located, ...]:
    left, shown = _MAX_ROWS, []
    for each in reversed(saved):
        calls = []
        differing = [call for call in each["calls"] if call["differs"]]
        for call in differing[:_CALLS_SHOWN]:
            rows = layers.tree(call)
            size = layers.count(rows)
            rows = rows if size <= left else ()
            left -= size if rows else 0
            frames = f"frame{'' if len(call['frames']) == 1 else 's'} {id_ranges(call['frames'])}"
            title = f"{frames}, call {call['call']} of {inert(call['model'], 60)}"
            calls.append(LocatedCall(title=title, conclusion=inert(call["conclusion"], 800), rows=rows))
        shown.append(
            Located(
                sides=f"{inert(each['reference'], 120)} against {inert(each['other'], 120)}",
                stamp=_stamp(each["found"]),
                conclusion=inert(each["conclusion"], 900),
                calls=tuple(calls),
                left_out=len(differing) - len(calls),
            )
        )
    return tuple(shown)


def _bisected(saved: Mapping[str, Any]) -> Bisected:
    whole, *factors = saved["findings"]
    evidence = whole["evidence"]
    outcome = inert(evidence.get("outcome", ""), 60)
    needed = set(evidence.get("settings", ()))
    settings: list[tuple[str, str, str, str, bool]] = []
    skipped: list[tuple[str, str]] = []
    for factor in factors:
        said, name = factor["evidence"], inert(factor["name"], 60)
        if "skipped" in said:
            skipped.append((name, inert(said["skipped"], 200)))
            continue
        alone = said.get("alone")
        exact = "" if alone is None else f"{alone['calls_bit_exact']} of {alone['calls']} calls"
        recorded, here = (inert(said.get(side, ""), 200) for side in ("recorded", "here"))
        settings.append((name, recorded, here, exact, factor["name"] in needed))
    settings.sort(key=lambda row: not row[-1])
    return Bisected(
        stamp=_stamp(saved["found"]),
        explained=whole["passed"],
        outcome=outcome,
        conclusion=inert(evidence.get("conclusion", ""), 900).removeprefix(f"{outcome}: "),
        settings=tuple(settings[:_SETTINGS_SHOWN]),
        tried=tuple(_cell(cell) for cell in evidence.get("cells", ())[:_TRIED_SHOWN]),
        skipped=tuple(skipped[:_SETTINGS_SHOWN]),
    )


def _cell(cell: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    return (
        ", ".join(inert(name, 60) for name in cell["restored"][:20]) or "nothing",
        f"{cell['calls_bit_exact']} of {cell['calls']}",
        "" if cell["max_abs"] is None else f"{cell['max_abs']:.2g}",
        str(cell["changed_decisions"] or ""),
        inert(cell["failed"] or "", 120),
    )


def _probed(saved: Mapping[str, Any]) -> Probed:
    facts = (("asked for", "threshold"), ("proves", "proves"), ("does not prove", "does_not_prove"))
    curves = (_curve(each) for each in saved["evidence"].get("curves", ())[:4])
    evidence = [(inert(key, 60), value) for key, value in saved["evidence"].items() if key != "curves"]
    return Probed(
        name=inert(saved["name"], 60),
        mark={True: "pass", False: "fail"}.get(saved["passed"], "undecided"),
        about=f"{inert(saved['task'], 40)}, frames {id_ranges(saved['frames'])}",
        stamp=_stamp(saved["found"]),
        sentence=inert(saved["sentence"], 600),
        facts=tuple((name, inert(saved[key], 400)) for name, key in facts if saved[key]),
        evidence=tuple(evidence[:_EVIDENCE_SHOWN]),
        curves=tuple(each for each in curves if each is not None),
    )


def _curve(saved: Mapping[str, Any]) -> Mapping[str, object] | None:
    at, kept, sure = saved["at"], saved["kept"], saved["confidence"]
    if not 0 < len(at) == len(kept) == len(sure) <= _POINTS_SHOWN or not math.isfinite(float(max(at)) - float(min(at))):
        return None
    curve = Curve(
        name=inert(saved["name"], 60),
        unit=inert(saved["unit"], 30),
        at=tuple(map(float, at)),
        kept=tuple(map(float, kept)),
        confidence=tuple(None if each is None else float(each) for each in sure),
    )
    return drawn(curve)
