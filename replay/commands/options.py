"""Arguments and options that several commands share, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from recorder.bundle.reader import Bundle

__all__ = ["Device", "Factory", "bundle_argument", "json_option", "open_bundle", "parse_frame_ids", "parse_since"]

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Device(click.ParamType[str]):
    """A device to run on: "cpu", "cuda" or "cuda:n"."""

    name = "device"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or say what a device is."""
        if re.fullmatch(r"cpu|cuda(:\d{1,3})?", value) is None:
            self.fail(f"{value!r} is no device: cpu, cuda or cuda:0", param, ctx)
        return value


class Factory(click.ParamType[str]):
    """A function that builds a model: "pkg.mod:function", also "NAME=pkg.mod:function"."""

    name = "factory"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or say what a factory is."""
        path = value.rpartition("=")[2]
        if path.count(":") != 1 or not all(word.isidentifier() for word in path.replace(":", ".").split(".")):
            self.fail(f"{value!r} names no function: package.module:function", param, ctx)
        return value


def bundle_argument(command: Command) -> Command:
    """Add the BUNDLE argument: a path or an s3:// location."""
    return click.argument("bundle", metavar="BUNDLE")(command)


def json_option(command: Command) -> Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def open_bundle(location: str) -> Bundle:
    """Open a bundle for reading.

    Raises:
        BundleInvalid: it is not an intact bundle.
        BundleUnavailable: there is no such file, or it cannot be read.
    """
    from recorder.bundle.errors import BundleUnavailable
    from recorder.bundle.reader import Bundle

    if "://" in location:
        raise BundleUnavailable(f"{location}: only local files can be opened; copy the bundle to this machine first")
    return Bundle.open(location)


def parse_since(text: str) -> int:
    """Return the time meant by "90s", "15m", "1h", "2d", "1w" ago or an ISO date, in ns since the epoch.

    Raises:
        click.BadParameter: it is neither.
    """
    now = datetime.now(UTC)
    if match := re.fullmatch(r"(\d{1,9})([smhdw])", text.strip().lower()):
        seconds = int(match[1]) * _UNITS_SECONDS[match[2]]
        return int((now.timestamp() - seconds) * 1e9)
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time: give a span such as 90s, 15m, 1h or 2d, or a date such as 2026-03-01T03:00"
        ) from None


def parse_frame_ids(text: str, existing: tuple[int, ...]) -> frozenset[int]:
    """Return the ids that "3,7-9" selects among those a bundle has.

    A range may have gaps (ids count the frames of all streams of a process), but selects at least one frame.

    Raises:
        click.BadParameter: it is not of that form, or a frame is not there.
    """
    from replay.show.text import id_ranges

    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part)
        if match is None:
            raise click.BadParameter(f"{text!r} is no list of frame ids: give ids and ranges such as 3,7-9")
        low, high = int(match[1]), int(match[2] or match[1])
        found = {each for each in existing if low <= each <= high}
        if not found:
            raise click.BadParameter(f"there is no frame {part.strip()}; this bundle has {id_ranges(existing)}")
        chosen |= found
    return frozenset(chosen)
