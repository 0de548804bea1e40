"""What options of several commands take."""

from __future__ import annotations

import math
import re
from typing import Any

import click

__all__ = ["MOST_SECONDS", "Device", "Factory", "Number"]

#: Longest time that an option takes, a year: beyond what the system's own clocks and limits take there is no meaning.
MOST_SECONDS = 31_536_000.0


class Device(click.ParamType[str]):
    """A device to run on: "cpu", "cuda" (the first GPU) or "cuda:n"."""

    name = "device"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or say what a device is."""
        if re.fullmatch(r"cpu|cuda(:\d{1,3})?", value) is None:
            self.fail(f"{value!r} is no device: cpu, cuda or cuda:0", param, ctx)
        return "cuda:0" if value == "cuda" else value


class Number(click.FloatRange):
    """A number within bounds; "nan" is none, though no bound keeps it out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the value, or say that it is no number."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value} is no number", param, ctx)
        return found


class Factory(click.ParamType[str]):
    """``pkg.mod:factory`` or ``name=pkg.mod:factory``."""

    name = "factory"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form."""
        path = value.rpartition("=")[2]
        if path.count(":") != 1 or not all(word.isidentifier() for word in path.replace(":", ".").split(".")):
            self.fail(f"{value!r} names no function: package.module:function", param, ctx)
        return value
