"""Validation by the published schemas: ``schemas/*.schema.json``, never one that a bundle brings.

The keywords of draft 2020-12 that our schemas use are compiled to functions once. jsonschema agrees (the tests
compare), but takes seven times as long, and its import alone a third of the time `replay show` may take. A keyword
that is not known here is an error when a schema is compiled, not something passed over.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

from recorder.bundle.errors import BundleInvalid

__all__ = ["load_schema", "validate"]

_Check = Callable[[Any], None]


class _Broken(Exception):
    """A rule does not hold; the path to the place grows while the exception passes outwards."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.path: list[str | int] = []


@functools.cache
def load_schema(name: str) -> dict[str, Any]:
    """Return a published schema, such as "manifest", from the installed package or from the checkout.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    file = f"{name}.schema.json"
    installed = importlib.resources.files("recorder") / "schemas" / file
    if installed.is_file():
        text = installed.read_text(encoding="utf-8")
    else:
        text = (Path(__file__).parents[2] / "schemas" / file).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def validate(data: object, name: str = "manifest", part: str | None = None) -> None:
    """Validate JSON data against a published schema, or against one of its definitions.

    Args:
        data: parsed JSON.
        name: of the schema.
        part: of the definition, such as "Trigger"; None: the whole.

    Raises:
        BundleInvalid: names the first place that breaks the schema, and the rule.
    """
    try:
        _compiled(name, part)(data)
    except _Broken as broken:
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in reversed(broken.path))
        raise BundleInvalid(
            f"{name}{place} breaks the schema's rule {broken.rule!r}; fetch the bundle again from where it was sealed"
        ) from None


@functools.cache
def _compiled(name: str, part: str | None) -> _Check:
    schema = load_schema(name)
    definitions = schema.get("$defs", {})
    return _Compiler(definitions).compile(schema if part is None else definitions[part])


class _Compiler:
    """Turns schemas into functions; definitions refer to each other by name."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._checks: dict[str, _Check] = {}
        self._targets = {f"#/$defs/{name}": schema for name, schema in definitions.items()}
        for target, schema in self._targets.items():
            self._checks[target] = self.compile(schema)

    def compile(self, schema: dict[str, Any]) -> _Check:
        """Compile one schema.

        Raises:
            ValueError: it has a keyword or a form that is not known here.
        """
        checks: list[_Check] = []
        for keyword, content in schema.items():
            if keyword in _ANNOTATIONS:
                continue
            if keyword in _PLAIN:
                checks.append(_PLAIN[keyword](content))
            elif keyword == "$ref":
                checks.append(self._reference(content))
            elif keyword == "properties":
                checks.append(_properties({key: self.compile(part) for key, part in content.items()}))
            elif keyword == "additionalProperties":
                checks.append(self._additional(content, frozenset(schema.get("properties", ()))))
            elif keyword == "items":
                checks.append(_items(self.compile(content), len(schema.get("prefixItems", ()))))
            elif keyword == "prefixItems":
                checks.append(_prefix([self.compile(part) for part in content]))
            elif keyword == "anyOf":
                checks.append(_any_of([self.compile(part) for part in content]))
            else:
                raise ValueError(f"the schema uses {keyword}, which is not known here")
        if len(checks) == 1:
            return checks[0]

        def check_all(data: Any) -> None:
            for check in checks:
                check(data)

        return check_all

    def _reference(self, target: str) -> _Check:
        if target not in self._targets:
            raise ValueError(f"the schema refers to {target}, which is not one of its definitions")
        checks = self._checks

        def follow(data: Any) -> None:
            checks[target](data)

        return follow

    def _additional(self, content: Any, known: frozenset[str]) -> _Check:
        check = _never if content is False else self.compile(content)

        def additional(data: Any) -> None:
            if isinstance(data, dict):
                for key, item in data.items():
                    if key not in known:
                        _descend(check, item, key)

        return additional


def _descend(check: _Check, item: Any, key: str | int) -> None:
    try:
        check(item)
    except _Broken as broken:
        broken.path.append(key)
        raise


def _never(data: Any) -> None:
    raise _Broken("additionalProperties")


def _properties(checks: dict[str, _Check]) -> _Check:
    def properties(data: Any) -> None:
        if isinstance(data, dict):
            for key, item in data.items():
                if key in checks:
                    _descend(checks[key], item, key)

    return properties


def _items(check: _Check, start: int) -> _Check:
    def items(data: Any) -> None:
        if isinstance(data, list):
            for index in range(start, len(data)):
                _descend(check, data[index], index)

    return items


def _prefix(checks: list[_Check]) -> _Check:
    def prefix(data: Any) -> None:
        if isinstance(data, list):
            for index, (check, item) in enumerate(zip(checks, data, strict=False)):
                _descend(check, item, index)

    return prefix


def _any_of(checks: list[_Check]) -> _Check:
    def any_of(data: Any) -> None:
        broken = None
        for check in checks:
            try:
                return check(data)
            except _Broken as error:
                broken = error
        raise broken or _Broken("anyOf")

    return any_of


def _is_number(data: Any) -> bool:
    return isinstance(data, int | float) and not isinstance(data, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda data: data is None,
    "boolean": lambda data: isinstance(data, bool),
    "integer": lambda data: _is_number(data) and (isinstance(data, int) or data.is_integer()),
    "number": _is_number,
    "string": lambda data: isinstance(data, str),
    "array": lambda data: isinstance(data, list),
    "object": lambda data: isinstance(data, dict),
}


def _type(names: str | list[str]) -> _Check:
    tests = [_TYPES[name] for name in ([names] if isinstance(names, str) else names)]
    return _rule("type", lambda data: any(test(data) for test in tests))


def _rule(name: str, holds: Callable[[Any], bool]) -> _Check:
    def rule(data: Any) -> None:
        if not holds(data):
            raise _Broken(name)

    return rule


def _enum(values: list[Any]) -> _Check:
    if not all(isinstance(value, str) for value in values):
        raise ValueError("the schema enumerates something else than strings, which is not known here")
    allowed = frozenset(values)
    return _rule("enum", lambda data: isinstance(data, str) and data in allowed)


def _pattern(pattern: str) -> _Check:
    search = re.compile(pattern).search
    return _rule("pattern", lambda data: not isinstance(data, str) or search(data) is not None)


def _required(names: list[str]) -> _Check:
    wanted = frozenset(names)
    return _rule("required", lambda data: not isinstance(data, dict) or wanted <= data.keys())


def _sized(name: str, kind: type[Sized], fits: Callable[[int, int], bool]) -> Callable[[int], _Check]:
    return lambda bound: _rule(name, lambda data: not isinstance(data, kind) or fits(len(data), bound))


_ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "title", "description"})

_PLAIN: dict[str, Callable[[Any], _Check]] = {
    "type": _type,
    "enum": _enum,
    "const": lambda value: _enum([value]),
    "required": _required,
    "pattern": _pattern,
    "minimum": lambda bound: _rule("minimum", lambda data: not _is_number(data) or data >= bound),
    "maximum": lambda bound: _rule("maximum", lambda data: not _is_number(data) or data <= bound),
    "minLength": _sized("minLength", str, int.__ge__),
    "maxLength": _sized("maxLength", str, int.__le__),
    "minItems": _sized("minItems", list, int.__ge__),
    "maxItems": _sized("maxItems", list, int.__le__),
    "minProperties": _sized("minProperties", dict, int.__ge__),
    "maxProperties": _sized("maxProperties", dict, int.__le__),
}
