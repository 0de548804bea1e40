"""What options of several commands take."""

from __future__ import annotations

import click

__all__ = ["Factory"]


class Factory(click.ParamType[str]):
    """``pkg.mod:factory`` or ``name=pkg.mod:factory``."""

    name = "factory"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form."""
        path = value.rpartition("=")[2]
        if path.count(":") != 1 or not all(word.isidentifier() for word in path.replace(":", ".").split(".")):
            self.fail(f"{value!r} names no function: package.module:function", param, ctx)
        return value
