"""Which signatures of a bundle hold, and whether the user trusts a key that made one.

Trusted keys are the ``*.pem`` files in ``trusted_keys/`` of the user's config directory, never any that came with a
bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle.reader import Bundle
from recorder.trust import TrustError
from replay.load import config_directory

__all__ = ["CheckedSignature", "Signed", "signed_by", "trusted_keys"]

FOLDER = "trusted_keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSignature:
    """A signature and what is known of it."""

    key: str  #: the key's id (`recorder.trust.signatures.key_id`)
    valid: bool | None  #: made over this manifest with that key; None: could not be checked here
    trusted: bool  #: valid, and by a key that is trusted
    name: str | None  #: the file the trusted key is in


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What the signatures of a bundle say together."""

    state: str  #: "none"; "trusted": a trusted key made this manifest; "untrusted": signed, but by no such key
    signatures: tuple[CheckedSignature, ...] = ()
    remark: str | None = None  #: why they could not be checked

    @property
    def forged(self) -> int:
        """Signatures that do not fit the manifest."""
        return sum(signature.valid is False for signature in self.signatures)


def trusted_keys(files: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the files of the trusted keys: those given, else all of the user's config."""
    if files:
        return tuple(files)
    folder = config_directory(environment) / FOLDER
    return tuple(str(path) for path in sorted(folder.glob("*.pem")))


def signed_by(bundle: Bundle, keys: Sequence[str]) -> Signed:
    """Check a bundle's signatures.

    Args:
        bundle: its manifest has been checked against its digest; whether its members are intact is not asked here.
        keys: what `trusted_keys` returned.

    Raises:
        TrustError: a trusted key cannot be used.
        BundleUnavailable: the bundle could not be read.
    """
    from recorder.trust.signatures import is_valid, load_public_key, signatures_of

    found = signatures_of(bundle)
    if not found:
        return Signed(state="none")
    try:
        valid = [is_valid(signature, bundle.manifest_bytes) for signature in found]
    except TrustError as error:
        unknown = (CheckedSignature(key=each.key_id, valid=None, trusted=False, name=None) for each in found)
        return Signed(state="untrusted", signatures=tuple(unknown), remark=str(error))
    trusted = {load_public_key(file): Path(file).name for file in keys}
    checked = tuple(
        CheckedSignature(
            key=signature.key_id,
            valid=holds,
            trusted=holds and signature.public_key in trusted,
            name=trusted.get(signature.public_key),
        )
        for signature, holds in zip(found, valid, strict=True)
    )
    return Signed(state="trusted" if any(each.trusted for each in checked) else "untrusted", signatures=checked)
