"""Arguments and options that several commands share, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from replay.commands.types import MOST_SECONDS, Factory, Number

if TYPE_CHECKING:
    from recorder.bundle.reader import Bundle
    from replay.opening import Opening

__all__ = [
    "bundle_argument",
    "identity_option",
    "json_option",
    "model_options",
    "new_file",
    "open_bundle",
    "opening",
    "opening_options",
    "parse_frame_ids",
    "parse_since",
    "save_beside",
    "save_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def bundle_argument(command: Command) -> Command:
    """Add the BUNDLE argument, a path or an s3:// location, and the options that say how bundles are opened."""
    return click.argument("bundle", metavar="BUNDLE")(opening_options(command))


def opening_options(command: Command) -> Command:
    """Add --identity, --key and --require-signed. `open_bundle` finds them by itself: the command is not given them."""
    command = click.option(
        "--require-signed",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="Refuse a bundle without a signature by a trusted key.",
    )(identity_option(command))
    return click.option(
        "--key",
        "keys",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        expose_value=False,
        callback=_remember,
        help="Require a signature by this public key (PEM) instead.",
    )(command)


def identity_option(command: Command) -> Command:
    """Add --identity, which `open_bundle` finds by itself."""
    return click.option(
        "--identity",
        "identities",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        expose_value=False,
        callback=_remember,
        help="age identity that opens an encrypted bundle.",
    )(command)


_MEMORY = "replay.opening."


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    context.meta[f"{_MEMORY}{parameter.name}"] = value


def opening() -> Opening:
    """Return how the command that is running was told to open bundles."""
    from replay.opening import Opening

    context = click.get_current_context(silent=True)
    told = {} if context is None else context.meta
    return Opening(
        keys=tuple(told.get(f"{_MEMORY}keys") or ()),
        require_signed=bool(told.get(f"{_MEMORY}require_signed")),
        identities=tuple(told.get(f"{_MEMORY}identities") or ()),
    )


def model_options(command: Command) -> Command:
    """Add --model, --model-dir, --models and --timeout: where the models come from, and how long one may take."""
    for option in (
        click.option(
            "--timeout",
            type=Number(min=0, min_open=True, max=MOST_SECONDS),
            metavar="SECONDS",
            help="Longest time for one call of a model.",
        ),
        click.option(
            "--models",
            metavar="LOCATION",
            help="Model store. Default: REPLAY_MODELS, your config, models/ beside the bundle.",
        ),
        click.option(
            "--model-dir",
            metavar="DIR",
            help="Directory that --model may be imported from, besides what is installed.",
        ),
        click.option(
            "--model",
            type=Factory(),
            multiple=True,
            metavar="[NAME=]pkg.mod:factory",
            help="Function that builds the model, for NAME or for all. Its code is run: trust it.",
        ),
    ):
        command = option(command)
    return command


def json_option(command: Command) -> Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def save_option(command: Command) -> Command:
    """Add --save."""
    return click.option("--save", is_flag=True, help="Write the result to BUNDLE.replay.json.")(command)


def save_beside(bundle: str, write: Callable[[Path], None]) -> None:
    """Write what was found to the file beside a bundle; of one in a bucket, here under its own name.

    Raises:
        BundleUnavailable: the directory cannot be written.
    """
    from recorder.bundle.errors import BundleUnavailable
    from replay.opening import local_name
    from replay.result import result_path

    path = result_path(local_name(bundle))
    try:
        write(path)
    except OSError as error:
        raise BundleUnavailable(f"the result cannot be written to {path}: {error.strerror}") from error


def open_bundle(location: str) -> Bundle:
    """Open a bundle for reading, as the options of `opening_options` say.

    Raises:
        BundleInvalid: it is not an intact bundle.
        BundleUnavailable: there is no such file, or it cannot be read.
        BundleError: it is encrypted and no identity opens it, or a signature is required and missing.
    """
    return opening().open(location)


def new_file(output: str) -> Path:
    """Return the path of a file that a command is to make.

    Raises:
        click.BadParameter: it is there already (nothing is ever overwritten), or its directory is not.
    """
    path = Path(output)
    if path.exists() or path.is_symlink():
        raise click.BadParameter(f"{output} exists; bundles are never modified, so name a new file")
    if not path.parent.is_dir():
        raise click.BadParameter(f"{path.parent} is no directory; make it first")
    return path


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
