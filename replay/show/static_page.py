"""A page that is one HTML file: nothing loaded, no script, every string escaped, a policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from replay.show.text import inert

__all__ = ["render"]


def render(package: str, **values: Any) -> str:
    """Return ``page.html`` of a package with the style of all such pages and its own ``page.css`` inside.

    Args:
        package: such as "replay.probe".
        values: for the template, besides ``style`` and ``policy``; the filter ``inert`` is there.
    """
    files = (resources.files("replay.show").joinpath("static_page.css"), resources.files(package).joinpath("page.css"))
    style = "".join(file.read_text("utf-8") for file in files)
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inert"] = inert
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return environment.get_template("page.html").render(
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 - our own file, word for word
        **values,
    )
