"""One subject of a comparison: the same, or what changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Finding", "changed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Whether one subject is the same on both sides."""

    name: str
    evidence: dict[str, Any] = field(default_factory=dict)  #: empty where nothing changed
    lines: tuple[str, ...] = ()  #: the same for people; strings of a bundle in it are claims

    @property
    def passed(self) -> bool:
        """Whether nothing changed."""
        return not self.evidence

    def to_json(self) -> dict[str, Any]:
        """The contract's form."""
        return {"name": self.name, "passed": self.passed, "evidence": self.evidence}


def changed(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Finding:
    """Compare two mappings key by key."""
    evidence = {
        key: {"a": a.get(key), "b": b.get(key)} for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)
    }
    lines = tuple(f"{key}: {_said(sides['a'])} → {_said(sides['b'])}" for key, sides in evidence.items())
    return Finding(name=name, evidence=evidence, lines=lines)


def _said(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    # Lists and mappings as the manifest has them: the reader of a ticket need not know Python.
    return json.dumps(value, ensure_ascii=False, default=str)
