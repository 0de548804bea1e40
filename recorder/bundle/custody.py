"""The chain of custody: which bundles a bundle was made from, and what was done to them."""

from __future__ import annotations

from dataclasses import replace

from recorder.bundle.errors import BundleError
from recorder.bundle.limits import MAX_ANCESTORS
from recorder.bundle.manifest import Manifest, Parent

__all__ = ["custody", "descended"]


def custody(manifest: Manifest) -> tuple[Parent, ...]:
    """Return the chain, newest first: the parent and what was done to it, then what the parent was made from."""
    return () if manifest.parent is None else (manifest.parent, *manifest.ancestors)


def descended(manifest: Manifest, bundle_id: str, operation: str) -> Manifest:
    """Return a manifest as that of a bundle made from its own.

    Args:
        manifest: of the old bundle.
        bundle_id: the old bundle's.
        operation: what is done to it.

    Raises:
        BundleError: more bundles would stand behind it than a manifest may name.
    """
    ancestors = custody(manifest)
    if len(ancestors) > MAX_ANCESTORS:
        raise BundleError(
            f"the bundle was made over from more than {MAX_ANCESTORS} others already; begin again from an earlier one"
        )
    return replace(manifest, parent=Parent(bundle=bundle_id, operation=operation), ancestors=ancestors)
