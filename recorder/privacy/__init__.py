"""Privacy as pure functions: levels, redactors of images, scrubbing of metadata, keyed digests and pseudonyms.

The recorder's sealer and ``replay redact`` both stand on it. No torch, no files but the key's, nobody's code imported.
"""

from __future__ import annotations

from recorder.privacy.keys import KEY_VARIABLE, PrivacyKey, load_key
from recorder.privacy.location import without_location
from recorder.privacy.policy import DERIVED_FROM, FIELDS, Level, PrivacyPolicy
from recorder.privacy.redaction import ImageFunction, RedactionFailed, Redactor, redact
from recorder.privacy.redactors import blank, downscale, fill, pixelate
from recorder.privacy.scrub import DENYLIST, REMOVED, Change, Scrubber, scrub_text, without_places
from recorder.privacy.values import without_content

__all__ = [
    "DENYLIST",
    "DERIVED_FROM",
    "FIELDS",
    "KEY_VARIABLE",
    "REMOVED",
    "Change",
    "ImageFunction",
    "Level",
    "PrivacyKey",
    "PrivacyPolicy",
    "RedactionFailed",
    "Redactor",
    "Scrubber",
    "blank",
    "downscale",
    "fill",
    "load_key",
    "pixelate",
    "redact",
    "scrub_text",
    "without_content",
    "without_location",
    "without_places",
]
