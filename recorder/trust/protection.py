"""What the sealer does to a bundle before it goes to the sink: signs it, encrypts it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.trust import TrustError

__all__ = ["Protection", "complaints"]


def complaints(sign_key: str | None, encrypt_to: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield ``(reason, sentence)`` for what the sealer would find out with the first incident.

    Asked by the recorder's host, which neither reads the key nor imports a library.
    """
    if sign_key is not None and not os.access(sign_key, os.R_OK):
        yield (
            "sign-key-unreadable",
            f"The flight recorder seals unsigned bundles: sign_key {sign_key} is unreadable.",
        )
    if encrypt_to and importlib.util.find_spec("pyrage") is None:
        remedy = "pip install 'vision-flight-recorder[crypto]'"
        yield "cannot-encrypt", f"The flight recorder seals nothing: encrypt_to needs a library, {remedy}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What was asked for; by default nothing."""

    sign_key: str | None = None  #: path of a private key, read anew for each bundle: keys are rotated
    encrypt_to: tuple[str, ...] = ()  #: age recipients

    def annotations(self, manifest_bytes: bytes, report: Callable[[dict[str, Any]], None]) -> Sequence[bytes]:
        """Return the bundle's signature; none when the key cannot be used, which is reported: evidence goes first."""
        if self.sign_key is None:
            return ()
        from recorder.trust.signatures import load_signing_key

        try:
            return [load_signing_key(self.sign_key).annotation(manifest_bytes)]
        except TrustError as error:
            report({"event": "fault", "reason": "not-signed", "detail": str(error)})
            return ()

    def suffix(self) -> str:
        """What an encrypted bundle's name ends in."""
        from recorder.trust.encryption import ENCRYPTED_SUFFIX

        return ENCRYPTED_SUFFIX if self.encrypt_to else ""

    def encrypted(self, path: Path) -> Path:
        """Return the file to publish: the bundle, or its encrypted form in its place.

        Raises:
            TrustError: it cannot be encrypted; it must not be published in the clear then.
            OSError: there is no room for it.
        """
        if not self.encrypt_to:
            return path
        from recorder.trust.encryption import encrypt_file

        target = path.with_name(f"{path.name}{self.suffix()}")
        encrypt_file(path, target, self.encrypt_to)
        path.unlink()
        return target
