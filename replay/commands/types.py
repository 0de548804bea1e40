"""What options of several commands take."""

from __future__ import annotations

import re

import click

__all__ = ["Device", "Factory"]


class Device(click.ParamType[str]):
    """A device to run on: "cpu", "cuda" (the first GPU) or "cuda:n"."""

    name = "device"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or say what a device is."""
        if re.fullmatch(r"cpu|cuda(:\d{1,3})?", value) is None:
            self.fail(f"{value!r} is no device: cpu, cuda or cuda:0", param, ctx)
        return "cuda:0" if value == "cuda" else value


class Factory(click.ParamType[str]):
    """``pkg.mod:factory`` or ``name=pkg.mod:factory``."""

    name = "factory"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form."""
        path = value.rpartition("=")[2]
        if path.count(":") != 1 or not all(word.isidentifier() for word in path.replace(":", ".").split(".")):
            self.fail(f"{value!r} names no function: package.module:function", param, ctx)
        return value
