"""What can go wrong between here and a tracker. The base class of each carries the contract's exit code."""

from __future__ import annotations

from recorder.bundle.errors import BundleError, BundleUnavailable

__all__ = ["AddressInvalid", "TooLarge", "TrackerUnavailable"]


class AddressInvalid(BundleUnavailable):
    """The address or the credentials are wrong: exit code 2."""


class TrackerUnavailable(BundleError):
    """The tracker cannot be reached, or refuses: exit code 3. Nothing was changed here, and it can be tried again."""


class TooLarge(TrackerUnavailable):
    """The tracker refuses the file for its size."""
