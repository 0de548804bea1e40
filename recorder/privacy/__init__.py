"""Privacy as pure functions: levels, redactors of images, scrubbing of metadata, keyed digests and pseudonyms.

The recorder's sealer and ``replay redact`` both stand on it. No torch, no files but the key's, nobody's code imported.
"""

from __future__ import annotations

from recorder.privacy.keys import KEY_VARIABLE, PrivacyKey, load_key
from recorder.privacy.policy import Level, PrivacyPolicy
from recorder.privacy.redaction import Redactor
from recorder.privacy.scrub import DENYLIST

#: What a service says its policy with; the functions that carry it out are imported from their modules.
__all__ = ["DENYLIST", "KEY_VARIABLE", "Level", "PrivacyKey", "PrivacyPolicy", "Redactor", "load_key"]
