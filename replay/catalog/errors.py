"""What a catalogue's file can be instead of one; each message is one sentence with the remedy."""

from __future__ import annotations

__all__ = ["CatalogInvalid", "CatalogUnavailable"]


class CatalogInvalid(Exception):
    """The file is no catalogue, or damaged."""


class CatalogUnavailable(Exception):
    """Nothing can be opened at that path: it is a directory, or lies in none."""
