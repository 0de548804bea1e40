"""The schema, the dataclasses and jsonschema say the same."""

from __future__ import annotations

import dataclasses
import json
import random
import typing
from typing import Any

import jsonschema
import pytest
import referencing
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle import Bundle, BundleInvalid, manifest, schema, values
from recorder.bundle.paths import is_member_path
from tests.bundle.forge import Forgery

SCHEMA = schema.load_schema("manifest")
ORACLE = jsonschema.Draft202012Validator(SCHEMA, registry=referencing.Registry())
KINDS = [
    kind
    for module in (manifest, values)
    for name in module.__all__
    if dataclasses.is_dataclass(kind := getattr(module, name)) and isinstance(kind, type)
]
#: Forms of values that are no objects of fields in JSON; their shape stands in the definition "Value".
TAGGED = {"SequenceValue", "MappingValue", "ScalarValue", "OpaqueValue"}


def definition(kind: type) -> dict[str, Any]:
    """The part of the schema that describes a dataclass."""
    return typing.cast(dict[str, Any], SCHEMA if kind is manifest.Manifest else SCHEMA["$defs"][kind.__name__])


def agrees(data: object) -> bool:
    """Whether both validators say the same; true also tells that it is valid."""
    valid = ORACLE.is_valid(data)
    try:
        schema.validate(data)
    except BundleInvalid:
        assert not valid, next(ORACLE.iter_errors(data))
        return False
    assert valid, next(ORACLE.iter_errors(data))
    return True


def test_the_schema_is_one() -> None:
    """It keeps to draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.__name__ not in TAGGED])
def test_every_field_of_every_dataclass_is_in_the_schema_and_no_other(kind: type) -> None:
    """Required exactly where the dataclass has no default, or the writer writes the default too."""
    described = definition(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    assert set(described["properties"]) == set(fields)
    without_default = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    always = {"format", "format_version", "complete"} & set(fields)
    assert set(described["required"]) == without_default | always


def test_every_definition_has_its_dataclass() -> None:
    """Nothing is described that does not exist."""
    assert set(SCHEMA["$defs"]) - {"Value", "Items", "Pairs"} == {
        kind.__name__ for kind in KINDS if kind.__name__ not in TAGGED
    } - {"Manifest"}


def test_dtypes_and_forms_are_the_same_on_both_sides() -> None:
    """The closed lists of the schema are those of the code."""
    assert SCHEMA["$defs"]["TensorValue"]["properties"]["dtype"]["enum"] == list(values.DTYPES)
    assert set(SCHEMA["$defs"]["Value"]["properties"]) == {
        "tensor", "tuple", "list", "dict", "record", "scalar", "float", "opaque", "removed",
    }  # fmt: skip


def test_every_string_is_bounded() -> None:
    """A pattern alone would accept a line end after it."""

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if "pattern" in node:
                assert "maxLength" in node
            for item in node.values():
                visit(item)
        elif isinstance(node, list):
            for item in node:
                visit(item)

    visit(SCHEMA)


@settings(max_examples=200, deadline=None)
@given(st.from_regex(SCHEMA["$defs"]["Member"]["properties"]["path"]["pattern"]))
def test_the_grammar_of_paths_is_that_of_the_code(path: str) -> None:
    """What the schema's pattern accepts the code accepts, but for a line end and over-long paths."""
    assert is_member_path(path) or path.endswith("\n") or len(path) > 100


def test_the_compiled_schema_agrees_with_jsonschema_on_mutations(forgery: Forgery) -> None:
    """Five hundred single changes of a real manifest: removed keys, other types, bounds overstepped."""
    dice = random.Random(0)
    with Bundle.open(forgery.build()) as bundle:
        members = json.loads(json.dumps([dataclasses.asdict(m) for m in bundle.manifest.members]))
    original = json.dumps({**forgery.manifest, "members": members})
    assert agrees(json.loads(original))
    replacements: list[Any] = [
        None, True, 0, -1, 1.5, 2.0, 2**63, "", "x" * 200, "A", "ab" * 32 + "\n", [], [1], [[1, 2]], {}, {"a": 1},
        {"scalar": 1}, {"scalar": 1, "float": "nan"}, {"float": "nan"}, {"dict": [["a", {"opaque": "x"}]]},
    ]  # fmt: skip
    outcomes = [agrees(mutated(json.loads(original), dice, replacements)) for _ in range(500)]
    assert 50 < sum(outcomes) < 450


def mutated(data: Any, dice: random.Random, replacements: list[Any]) -> Any:
    """Change one place, chosen by a walk from the root."""
    node, parent, key = data, None, None
    while isinstance(node, dict | list) and node and (parent is None or dice.random() < 0.85):
        parent, key = node, dice.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = parent[key]
    if isinstance(parent, dict) and dice.random() < 0.3:
        del parent[key]
    elif isinstance(parent, dict) and dice.random() < 0.1:
        parent["of_a_newer_version"] = 1
    elif parent is not None:
        parent[key] = dice.choice(replacements)
    return data


def test_a_keyword_the_compiler_does_not_know_is_an_error() -> None:
    """A schema must not be followed in part."""
    for broken in ({"format": "uri"}, {"$ref": "https://example.org/x"}, {"enum": [1]}, {"uniqueItems": True}):
        with pytest.raises(ValueError, match=r"not known here|not one of"):
            schema._Compiler({}).compile(broken)
