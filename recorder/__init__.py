"""A flight recorder for vision inference: keeps the last seconds and seals an incident into one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["FlightRecorder", "PrivacyPolicy", "Profile", "Redactor", "triggers", "__version__"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from recorder import triggers
    from recorder.flight_recorder import FlightRecorder
    from recorder.privacy import PrivacyPolicy, Redactor
    from recorder.profile import Profile


def __getattr__(name: str) -> object:
    """Import the public names on first use, so that `import recorder` stays cheap."""
    import importlib

    if name == "FlightRecorder":
        return importlib.import_module("recorder.flight_recorder").FlightRecorder
    if name in ("PrivacyPolicy", "Redactor"):
        return getattr(importlib.import_module("recorder.privacy"), name)
    if name == "Profile":
        return importlib.import_module("recorder.profile").Profile
    if name == "triggers":
        return importlib.import_module("recorder.triggers")
    raise AttributeError(f"module 'recorder' has no attribute {name!r}")
