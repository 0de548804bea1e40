"""Where sealed bundles go. A sink is named by a string of the running configuration, never by a ring or a bundle."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from typing import Any

from recorder.sinks.base import BundleListing, Sink, SinkUnavailable
from recorder.sinks.claims import Claims
from recorder.sinks.directory import DirectorySink

__all__ = ["BundleListing", "Claims", "DirectorySink", "Sink", "SinkUnavailable", "list_bundles", "open_sink"]

_FACTORY = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def open_sink(spec: str | os.PathLike[str], **options: Any) -> Sink:
    """The sink that ``spec`` names: a directory, ``s3://bucket/prefix`` or ``pkg.mod:factory``.

    ``options`` go to the sink (for a directory ``max_total_bytes`` and ``max_age_seconds``) or to the factory, which
    returns a :class:`Sink`. Nothing is written yet. SinkUnavailable when there is no such sink, ValueError when a
    directory's options make no sense. A directory whose name looks like a factory's is written ``./pkg.mod:factory``.
    """
    text = os.fspath(spec)
    if not text:
        raise ValueError("A sink needs a name: a directory, s3://bucket/prefix or pkg.mod:factory.")
    if text.startswith("s3://"):
        raise SinkUnavailable(f"This version cannot write to {text}; name a directory and copy its bundles to S3.")
    if _SCHEME.match(text):
        raise SinkUnavailable(f"There is no sink for {text}; name a directory by its path, or pkg.mod:factory.")
    if isinstance(spec, str) and (factory := _FACTORY.fullmatch(spec)):
        return _from_factory(spec, factory[1], factory[2], options)
    return DirectorySink(text, **options)


def list_bundles(spec: str | os.PathLike[str]) -> Iterator[BundleListing]:
    """The bundles of the sink that ``spec`` names, oldest first; SinkUnavailable when they cannot be listed."""
    return open_sink(spec).bundles()


def _from_factory(spec: str, module: str, name: str, options: dict[str, Any]) -> Sink:
    try:
        sink = getattr(importlib.import_module(module), name)(**options)
    except Exception as error:  # the user's code: whatever it raises becomes one sentence
        raise SinkUnavailable(f"The sink {spec} could not be made: {type(error).__name__}: {error}.") from error
    if not isinstance(sink, Sink):
        raise SinkUnavailable(f"The sink {spec} returned {type(sink).__name__}, not a recorder.sinks.Sink.")
    return sink
