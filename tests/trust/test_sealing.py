"""The recorder's own sealer signs and encrypts, and says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyrage
import pytest

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.bundle.source import FileSource
from recorder.trust.encryption import decrypted
from recorder.trust.signatures import is_valid, load_public_key, signatures_of
from tests.core.conftest import make_recorder
from tests.trust.conftest import KeyPair

__all__ = ["make_recorder"]

MakeRecorder = Callable[..., FlightRecorder]
IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def sealed(recorder: FlightRecorder) -> Path | None:
    """Record one frame and an incident; return where it was sealed."""
    with recorder.frame(image=IMAGE):
        pass
    path = recorder.trigger("of the test").wait(120).path
    return None if path is None else Path(path)


def test_bundles_are_signed_and_encrypted_as_they_are_sealed(
    make_recorder: MakeRecorder, keys: tuple[KeyPair, KeyPair], tmp_path: Path
) -> None:
    """Signed inside, encrypted outside; the sink sees nothing else."""
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "own.txt").write_text(f"{identity}\n")
    recorder = make_recorder(sign_key=keys[0].private, encrypt_to=[str(identity.to_public())])
    path = sealed(recorder)
    assert path is not None
    assert path.name.endswith(".zst.age")
    assert path.read_bytes().startswith(b"age-encryption.org/v1\n")
    kept = [each for each in path.parent.iterdir() if each.is_file() and not each.name.startswith(".limits-")]
    assert kept == [path]
    with Bundle.open(decrypted(FileSource(path), [tmp_path / "own.txt"])) as bundle:
        [signature] = signatures_of(bundle)
        assert signature.public_key == load_public_key(keys[0].public)
        assert is_valid(signature, bundle.manifest_bytes)
        assert np.array_equal(bundle.pixels(bundle.manifest.frames[0].images[0]), IMAGE)
    assert recorder.stats().errors == {}


def test_a_missing_key_is_one_warning_a_count_and_an_unsigned_bundle(
    make_recorder: MakeRecorder, tmp_path: Path
) -> None:
    """Evidence goes before authenticity."""
    with pytest.warns(RuntimeWarning, match=r"unsigned bundles.*missing\.pem") as caught:
        recorder = make_recorder(sign_key=tmp_path / "missing.pem")
    path = sealed(recorder)
    assert len(caught) == 1
    assert path is not None
    with Bundle.open(path) as bundle:
        assert signatures_of(bundle) == []
    assert recorder.stats().errors == {"sign-key-unreadable": 1, "not-signed": 1}


def test_what_cannot_be_encrypted_is_not_sealed(make_recorder: MakeRecorder, tmp_path: Path) -> None:
    """A recipient whose checksum is wrong is found out by the sealer; nothing reaches the sink in the clear."""
    recorder = make_recorder(encrypt_to=[f"age1{'q' * 58}"])
    assert sealed(recorder) is None
    assert any("recipient" in reason for reason in recorder.stats().errors)
    assert not list((tmp_path / "incidents").glob("*.zst*"))


def test_wrong_arguments_raise_at_construction(make_recorder: MakeRecorder) -> None:
    """A string instead of a list, something that is no recipient, a key instead of its path."""
    for arguments in ({"encrypt_to": "age1x"}, {"encrypt_to": ["me@example.org"]}, {"sign_key": b"-----BEGIN"}):
        with pytest.raises(ValueError, match=r"encrypt_to|recipient|sign_key"):
            make_recorder(**arguments)
