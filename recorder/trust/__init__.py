"""Who made a bundle and who may read it: signatures over the manifest, encryption to recipients.

Both stand on optional libraries (``pip install 'vision-flight-recorder[crypto]'``), imported when first needed.
"""

from __future__ import annotations

from recorder.bundle.errors import BundleError

__all__ = ["TrustError"]


class TrustError(BundleError):
    """A key, a password or a library is missing or of no use. ``str(error)`` is one sentence with the remedy."""
