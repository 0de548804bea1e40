"""What of a recording may leave the machine, field by field: one frozen value, checked once.

Fields are ``image`` (of several: ``image.left``), ``thumbnails``, ``track``, ``model_input``, ``model_output``,
``output``, ``metadata`` (one key: ``metadata.operator``), ``sensor_time`` and ``exception_message``. A field without a
level of its own takes the strictest level of what it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from recorder.privacy.redaction import Redactor
from recorder.privacy.scrub import DENYLIST

__all__ = ["DERIVED_FROM", "FIELDS", "Level", "PrivacyPolicy"]


class Level(StrEnum):
    """How much of a field is kept; each next one keeps less."""

    FULL = "full"  #: as it is
    REDACTED = "redacted"  #: in the ring as it is, changed before anything is written for others
    DIGEST_ONLY = "digest-only"  #: not even in the ring: what it was like, and at most a keyed digest


#: The fields that can be given a level.
FIELDS = (
    "image",
    "thumbnails",
    "track",
    "model_input",
    "model_output",
    "output",
    "metadata",
    "sensor_time",
    "exception_message",
)
#: Of these, one part can have a level of its own, after a dot.
_WITH_PARTS = ("image", "metadata")

#: What each field is made from unless the policy says otherwise. A model's input is the image in another form, its
#: answer may be (a segmentation, an embedding that a face can be rebuilt from), and what the service answers is made
#: from that.
DERIVED_FROM: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "thumbnails": ("image",),
        "track": ("image",),
        "model_input": ("image",),
        "model_output": ("model_input",),
        "output": ("model_output",),
    }
)

_ORDER = {Level.FULL: 0, Level.REDACTED: 1, Level.DIGEST_ONLY: 2}
_MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyPolicy:
    """Which level each field has, and how redacted fields are redacted.

    Attributes:
        levels: by field, "full", "redacted" or "digest-only"; fields that are not named take the strictest level of
            their sources, else "full".
        redactors: by image field, in order of application; an image at level "redacted" needs one.
        derived_from: by field, what it is made from; replaces the default of that field.
        denylist: words of metadata keys whose values never leave (`recorder.privacy.scrub.DENYLIST`).
        scrub_texts: whether credentials are cut out of metadata, exception messages and trigger reasons.
        strip_location: whether encoded originals at level "full" lose their position (EXIF GPS, XMP) as well. Their
            pixels stay as they are.
        keep_places: whether exception messages and trigger reasons keep directories and the machine's name.

    Raises:
        ValueError: a field, level or redactor that does not exist, or sources that go round in a circle.
    """

    levels: Mapping[str, str] = field(default_factory=dict)
    redactors: Mapping[str, tuple[Redactor, ...]] = field(default_factory=dict)
    derived_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    denylist: tuple[str, ...] = DENYLIST
    scrub_texts: bool = True
    strip_location: bool = False
    keep_places: bool = False

    def __post_init__(self) -> None:
        levels = {name: _level(name, level) for name, level in _items("levels", self.levels)}
        for name in levels:
            _check_field(name)
        redactors = {}
        for name, given in _items("redactors", self.redactors):
            _check_field(name, only=("image",))
            steps = (given,) if isinstance(given, Redactor) else tuple(given)
            if not steps or not all(isinstance(step, Redactor) for step in steps):
                raise ValueError(f"redactors[{name!r}] must be a Redactor or several in order")
            shrinks = [step.method == "downscale" for step in steps]
            if any(shrinks[:at] and step.boxes is not None for at, step in enumerate(steps) if any(shrinks[:at])):
                raise ValueError(f"redactors[{name!r}]: boxes are coordinates of the whole image; put downscale last")
            redactors[name] = steps
        sources = {}
        for name, given in _items("derived_from", self.derived_from):
            _check_field(name)
            sources[name] = (given,) if isinstance(given, str) else tuple(given)
            for source in sources[name]:
                _check_field(source)
        if isinstance(self.denylist, str) or not all(isinstance(word, str) and word for word in self.denylist):
            raise ValueError("denylist must be a sequence of words such as 'password'")
        object.__setattr__(self, "levels", MappingProxyType(levels))
        object.__setattr__(self, "redactors", MappingProxyType(redactors))
        object.__setattr__(self, "derived_from", MappingProxyType({**DERIVED_FROM, **sources}))
        object.__setattr__(self, "denylist", tuple(self.denylist))
        self._check_circles()
        for name, level in levels.items():
            if name.partition(".")[0] == "image" and level is Level.REDACTED and not self.redactors_of(name):
                raise ValueError(
                    f"{name!r} is to be redacted and no redactor says how; give redactors={{{name!r}: Redactor.…}}, "
                    "or the level 'digest-only'"
                )

    def level_of(self, name: str) -> Level:
        """A field's level: its own, else its whole's (``image`` of ``image.left``), else its sources' strictest."""
        return self._level_of(name, ())

    def sources_of(self, name: str) -> tuple[str, ...]:
        """What a field is made from, directly and through others, nearest first."""
        found: list[str] = []
        waiting = list(self._direct(name))
        while waiting:
            source = waiting.pop(0)
            if source not in found:
                found.append(source)
                waiting += self._direct(source)
        return tuple(found)

    def inherited_from(self, name: str) -> tuple[str, ...]:
        """The sources from which a field has its level; empty where it has one of its own, or "full"."""
        if self._own(name) is not None or self.level_of(name) is Level.FULL:
            return ()
        level = self.level_of(name)
        return tuple(source for source in self.sources_of(name) if self._strictest(source, ()) is level)

    def redactors_of(self, name: str) -> tuple[Redactor, ...]:
        """How an image field is redacted: its own redactors, else those of ``image``."""
        return self.redactors.get(name, self.redactors.get(name.partition(".")[0], ()))

    @property
    def is_full(self) -> bool:
        """Whether every field is at level "full"; metadata are scrubbed none the less."""
        return all(level == Level.FULL for level in self.levels.values())

    @property
    def is_digest_only_somewhere(self) -> bool:
        """Whether something must be kept out of the ring."""
        return any(level == Level.DIGEST_ONLY for level in self.levels.values())

    def to_json(self) -> dict[str, Any]:
        """A form that JSON and msgpack can hold; it has no key in it."""
        return {
            "levels": {name: str(level) for name, level in self.levels.items()},
            "redactors": {name: [step.to_json() for step in steps] for name, steps in self.redactors.items()},
            "derived_from": {name: list(sources) for name, sources in self.derived_from.items()},
            "denylist": list(self.denylist),
            "scrub_texts": self.scrub_texts,
            "strip_location": self.strip_location,
            "keep_places": self.keep_places,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrivacyPolicy:
        """The policy that `to_json` described, or one that a user wrote in this form; every part may be missing.

        Raises:
            ValueError: it describes none.
        """
        if not isinstance(data, Mapping):
            raise ValueError("a privacy policy must be a PrivacyPolicy or a dictionary of its parts")
        unknown = set(data) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"a privacy policy has no {sorted(map(str, unknown))[0]!r}")
        parts = dict(data)
        if "redactors" in parts:
            parts["redactors"] = {
                name: tuple(_redactor(step) for step in (given if isinstance(given, list | tuple) else [given]))
                for name, given in _items("redactors", parts["redactors"])
            }
        if "denylist" in parts and isinstance(parts["denylist"], list):
            parts["denylist"] = tuple(parts["denylist"])
        for name in ("scrub_texts", "strip_location", "keep_places"):
            if not isinstance(parts.get(name, True), bool):
                raise ValueError(f"{name} must be true or false")
        return cls(**parts)

    def _own(self, name: str) -> Level | None:
        level = self.levels.get(name, self.levels.get(name.partition(".")[0]))
        return None if level is None else Level(level)

    def _direct(self, name: str) -> tuple[str, ...]:
        return self.derived_from.get(name, self.derived_from.get(name.partition(".")[0], ()))

    def _level_of(self, name: str, path: tuple[str, ...]) -> Level:
        own = self._own(name)
        if own is not None:
            return own
        if name in path:
            return Level.FULL
        levels = (self._strictest(source, (*path, name)) for source in self._direct(name))
        return max(levels, key=_ORDER.__getitem__, default=Level.FULL)

    def _strictest(self, source: str, path: tuple[str, ...]) -> Level:
        """Of a source that has parts, the strictest of all of them: who knows which went into what."""
        levels = [self._level_of(source, path)]
        levels += [Level(level) for part, level in self.levels.items() if part.startswith(f"{source}.")]
        return max(levels, key=_ORDER.__getitem__)

    def _check_circles(self) -> None:
        for name in self.derived_from:
            if name in self.sources_of(name):
                raise ValueError(f"derived_from makes {name!r} come from itself")


def _items(what: str, given: object) -> list[tuple[str, Any]]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"{what} must be a dictionary by field")
    return list(given.items())


def _level(name: str, level: object) -> Level:
    try:
        return Level(level)  # type: ignore[arg-type]  # anything that is none raises
    except ValueError:
        raise ValueError(f"the level of {name!r} must be 'full', 'redacted' or 'digest-only', not {level!r}") from None


def _check_field(name: object, only: tuple[str, ...] = FIELDS) -> None:
    whole, dot, part = name.partition(".") if isinstance(name, str) else ("", "", "")
    if (
        whole not in only
        or len(part) > _MAX_NAME_CHARS
        or bool(dot) != bool(part)
        or (part and whole not in _WITH_PARTS)
    ):
        raise ValueError(
            f"{name!r} is no field with a privacy level; there are {', '.join(only)}, and parts such as image.left"
        )


def _redactor(step: object) -> Redactor:
    return step if isinstance(step, Redactor) else Redactor.from_json(step)
