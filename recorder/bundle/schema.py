"""Validation by the published schemas: ``schemas/*.schema.json``, never one that a bundle brings."""

from __future__ import annotations

import functools
import importlib.resources
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bundle.errors import BundleInvalid

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

__all__ = ["load_schema", "validate"]


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


def validate(data: object, name: str = "manifest") -> None:
    """Validate JSON data against a published schema.

    Raises:
        BundleInvalid: names the first place that breaks the schema.
    """
    error = next(_validator(name).iter_errors(data), None)
    if error is not None:
        # Not the error's own message: it quotes the data, however long.
        raise BundleInvalid(
            f"{name} field {error.json_path} breaks the schema's rule {error.validator!r}; "
            "fetch the bundle again from where it was sealed"
        )


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    import referencing
    from jsonschema import Draft202012Validator

    # An empty registry: the default one would fetch a remote reference.
    return Draft202012Validator(load_schema(name), registry=referencing.Registry())
