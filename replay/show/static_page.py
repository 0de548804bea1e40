"""A page that is one HTML file: its style and script inside, every string escaped, a policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from replay.show.text import inert

__all__ = ["StaticPage", "render"]


class StaticPage:
    """The pages of a package: templates, the style of all such pages with its ``page.css``, and a policy."""

    def __init__(
        self,
        package: str,
        *,
        script: bool = False,
        own_style: bool = False,
        allowed: Mapping[str, str] | None = None,
        filters: Mapping[str, Callable[..., str]] | None = None,
    ) -> None:
        """Read the package's files.

        Args:
            package: such as "replay.probe".
            script: whether its ``page.js`` is inside too; no other script ever runs.
            own_style: its ``page.css`` stands for itself, without the style of all such pages.
            allowed: directives of the policy that say otherwise than nothing loaded, nothing sent.
            filters: for its templates, besides ``inert``.
        """
        own = resources.files(package)
        shared = [] if own_style else [resources.files("replay.show").joinpath("static_page.css")]
        self._style = "".join(file.read_text("utf-8") for file in (*shared, own.joinpath("page.css")))
        self._script = own.joinpath("page.js").read_text("utf-8") if script else ""
        self._environment = Environment(
            loader=PackageLoader(package, "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update({"inert": inert, **(filters or {})})
        directives = {
            "default-src": "'none'",
            "img-src": "data:",
            "style-src": _digest(self._style),
            **({"script-src": _digest(self._script)} if script else {}),
            "base-uri": "'none'",
            "form-action": "'none'",
            **(allowed or {}),
        }
        #: Stands in the page; a server sends it as a header besides.
        self.policy = "; ".join(f"{name} {sources}" for name, sources in directives.items())

    def render(self, template: str = "page.html", **values: Any) -> str:
        """Return a page.

        Args:
            template: a file of the package.
            values: for it, besides ``style``, ``script`` and ``policy``; the filter ``inert`` is there.
        """
        return self._environment.get_template(template).render(
            policy=self.policy,
            style=Markup(self._style),  # noqa: S704 - our own file, word for word
            script=Markup(self._script),  # noqa: S704
            **values,
        )


def render(package: str, **values: Any) -> str:
    """Return ``page.html`` of a package that has no script and loads nothing."""
    return StaticPage(package).render(**values)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
