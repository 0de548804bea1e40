"""Secrets that are planted, and the search for them in everything that leaves."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np

from recorder.bundle import Bundle
from recorder.bundle.check import tensors_in

__all__ = ["everything_in", "forms_of", "pattern", "places_of"]


def pattern(edge: int) -> np.ndarray[Any, Any]:
    """A bright square of noise: no row of it stands anywhere else."""
    return np.random.default_rng(77).integers(180, 255, (edge, edge, 3), np.uint8)


def everything_in(bundle: Bundle) -> bytes:
    """The manifest, every member unpacked, every tensor and every image decoded."""
    parts = [bundle.manifest_bytes]
    parts += [bundle.read(member.path) for member in bundle.manifest.members]
    parts += [bytes(bundle.tensor_bytes(tensor)) for _, tensor in tensors_in(bundle.manifest)]
    for frame in bundle.manifest.frames:
        parts += [bundle.pixels(image).tobytes() for image in frame.images if image.pixels_sha256 is not None]
    return b"\n".join(parts)


def forms_of(secret: str) -> Iterable[bytes]:
    """A text as it may hide: in UTF-8 and UTF-16, in hexadecimal digits, in base64 at each of its three offsets."""
    plain = secret.encode()
    for text in {secret, secret.lower(), secret.upper()}:
        yield text.encode()
        yield text.encode("utf-16-le")
        yield text.encode("utf-16-be")
    yield plain.hex().encode()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + plain)
        # The first and last characters mix with what stands around the secret.
        yield encoded[4 if offset else 0 : len(encoded) // 4 * 4 - 4]


def places_of(secrets: Iterable[str], data: bytes) -> list[tuple[str, int]]:
    """Where secrets stand in the data, in any of their forms."""
    return [
        (secret, found) for secret in secrets for form in forms_of(secret) if (found := data.find(form)) >= 0 and form
    ]
