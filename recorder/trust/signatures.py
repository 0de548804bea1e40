"""Ed25519 signatures over a bundle's manifest, kept in annotations (schemas/FORMAT.md, section 1.6).

What is signed is DSSE's pre-authentication encoding (https://github.com/secure-systems-lab/dsse, v1.0) of the bytes of
``manifest.json`` as they stand. The manifest has the digest of every member, so a signature vouches for all of them.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recorder.bundle import Bundle
from recorder.bundle.annotations import annotate, pack_annotation, unpack_annotation
from recorder.trust import TrustError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "PASSWORD_VARIABLE",
    "Signature",
    "SigningKey",
    "encoded_for_signing",
    "is_valid",
    "key_id",
    "load_public_key",
    "load_signing_key",
    "sign_bundle",
    "signatures_of",
]

PAYLOAD_TYPE = "application/vnd.vision-flight-recorder.manifest+json"

#: Where the password of an encrypted private key is looked for.
PASSWORD_VARIABLE = "FLIGHT_RECORDER_KEY_PASSWORD"  # noqa: S105  # its name, not a password

_MAGIC = 0x184D2A51
_TAG = b"VFRSIG\0\1"
_CONTENT = struct.Struct("<8s32s64s")  # tag, public key, signature

#: An Ed25519 SubjectPublicKeyInfo is this and the key's 32 bytes (RFC 8410, section 4).
_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")

#: A PEM file of one key is some hundred bytes.
_MAX_PEM_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Signature:
    """A claim that whoever has this key made this manifest."""

    public_key: bytes  #: 32 bytes
    signature: bytes  #: 64 bytes

    @property
    def key_id(self) -> str:
        """See `key_id`."""
        return key_id(self.public_key)


class SigningKey:
    """An Ed25519 private key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes_raw()

    def annotation(self, manifest_bytes: bytes) -> bytes:
        """Return the annotation that signs a manifest."""
        signature = self._private.sign(encoded_for_signing(manifest_bytes))
        return pack_annotation(_MAGIC, _CONTENT.pack(_TAG, self.public_key, signature))


def key_id(public_key: bytes) -> str:
    """Return a key's name: the SHA-256 of its SubjectPublicKeyInfo in DER, hex.

    ``openssl pkey -pubin -in public.pem -outform DER | sha256sum`` says the same.
    """
    return hashlib.sha256(_SPKI_PREFIX + public_key).hexdigest()


def encoded_for_signing(manifest_bytes: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of a manifest."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(manifest_bytes), manifest_bytes)


def signatures_of(bundle: Bundle) -> list[Signature]:
    """Return the signatures of a bundle, one a key, in file order; none has been checked."""
    found: dict[bytes, Signature] = {}
    for frame in bundle.annotations():
        magic, content = unpack_annotation(frame)
        if magic == _MAGIC and len(content) == _CONTENT.size and content.startswith(_TAG):
            _, public_key, signature = _CONTENT.unpack(content)
            found.setdefault(public_key + signature, Signature(public_key, signature))
    return list(found.values())


def is_valid(signature: Signature, manifest_bytes: bytes) -> bool:
    """Whether a signature was made over this manifest with the key it names.

    Raises:
        TrustError: the library is not installed.
    """
    _require_library()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(signature.public_key)
        key.verify(signature.signature, encoded_for_signing(manifest_bytes))
    except (InvalidSignature, ValueError):
        return False
    return True


def sign_bundle(bundle: Bundle, path: str | os.PathLike[str], key: SigningKey) -> None:
    """Write a signed copy of a bundle, with the same id; signatures by other keys stay.

    Raises:
        BundleError: it has as many annotations as the format allows.
        BundleUnavailable: the bundle could not be read.
        OSError: the copy cannot be written; nothing is left behind.
    """
    mine = key.annotation(bundle.manifest_bytes)  # Ed25519 is deterministic: signing twice says the same
    annotate(bundle, path, [*(frame for frame in bundle.annotations() if frame != mine), mine])


def load_signing_key(path: str | os.PathLike[str], ask: Callable[[], str | None] = lambda: None) -> SigningKey:
    """Read an Ed25519 private key in PEM (PKCS #8).

    Args:
        path: of the file.
        ask: for the password of an encrypted key, where the environment variable PASSWORD_VARIABLE is not set.

    Raises:
        TrustError: it cannot be read, is another kind of key, or the password is missing or wrong; or the library is
            not installed.
    """
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read_pem(path)
    password = None
    if b"ENCRYPTED" in data:
        password = os.environ.get(PASSWORD_VARIABLE) or ask()
        if not password:
            raise TrustError(f"{path} is encrypted; put its password into the environment variable {PASSWORD_VARIABLE}")
    try:
        private = load_pem_private_key(data, password=password.encode() if password else None)
    except Exception as error:  # cryptography raises several kinds, and its own backend's
        reason = "its password is wrong, or it is no private key in PEM" if password else "it is no private key in PEM"
        raise TrustError(
            f"{path} cannot be used: {reason}; make one with `openssl genpkey -algorithm ed25519`"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise TrustError(f"{path} is not an Ed25519 key; make one with `openssl genpkey -algorithm ed25519`")
    return SigningKey(private)


def load_public_key(path: str | os.PathLike[str]) -> bytes:
    """Read an Ed25519 public key in PEM (SubjectPublicKeyInfo); return its 32 bytes.

    Raises:
        TrustError: it cannot be read, is another kind of key, or the library is not installed.
    """
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(_read_pem(path))
    except TrustError:
        raise
    except Exception as error:  # as above
        raise TrustError(
            f"{path} is no public key in PEM; make it with `openssl pkey -in private.pem -pubout`"
        ) from error
    if not isinstance(public, Ed25519PublicKey):
        raise TrustError(f"{path} is not an Ed25519 public key; make one with `openssl genpkey -algorithm ed25519`")
    return public.public_bytes_raw()


def _read_pem(path: str | os.PathLike[str]) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_PEM_BYTES)
    except OSError as error:
        raise TrustError(f"the key {path} cannot be read: {error.strerror}; check the path") from error


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise TrustError("signatures need a library: pip install 'vision-flight-recorder[crypto]'") from error
