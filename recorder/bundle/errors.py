"""What can be wrong with a bundle, each error carrying the sentence a reader of the command line gets."""

from __future__ import annotations

__all__ = ["BundleError", "BundleInvalid", "BundleUnavailable"]


class BundleError(Exception):
    """Base of the family. ``str(error)`` is one sentence: what is wrong and what to do next."""


class BundleInvalid(BundleError):
    """Not an intact bundle this version may read: truncated, corrupt, hostile or of a newer major version."""


class BundleUnavailable(BundleError):
    """The bundle could not be reached: no such file, no permission, no connection."""
