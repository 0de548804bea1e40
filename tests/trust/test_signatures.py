"""A signature vouches for a manifest: it survives copies, and nothing else passes for it."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

from examples.minimal_reader import Reader
from recorder.bundle import Bundle
from recorder.bundle.annotations import annotate
from recorder.bundle.limits import MAX_ANNOTATIONS
from recorder.trust import TrustError
from recorder.trust.signatures import (
    encoded_for_signing,
    is_valid,
    key_id,
    load_public_key,
    load_signing_key,
    sign_bundle,
    signatures_of,
)
from tests.cli.conftest import assert_one_sentence
from tests.trust.conftest import KeyPair, Run, make_key, openssl

Keys = tuple[KeyPair, KeyPair]


def test_openssl_verifies_our_signature_from_the_written_layout_alone(bundle: Path, keys: Keys, tmp_path: Path) -> None:
    """FORMAT.md, section 1.6, read with struct; DSSE's encoding built by hand."""
    out = tmp_path / "signed.zst"
    with Bundle.open(bundle) as source:
        sign_bundle(source, out, load_signing_key(keys[0].private))
    data = out.read_bytes()
    assert Reader(data).id  # what reads the layout alone takes it too
    with Bundle.open(out) as signed:
        text = signed.manifest_bytes
    table_bytes = 17 + 8 * struct.unpack_from("<I", data, len(data) - 9)[0]
    annotation = data[: len(data) - table_bytes][-112:]
    magic, length, tag, public, signature = struct.unpack("<II8s32s64s", annotation)
    assert (magic, length, tag) == (0x184D2A51, 104, b"VFRSIG\0\1")
    der = openssl("pkey", "-pubin", "-in", keys[0].public, "-outform", "DER")
    assert der[-32:] == public
    assert key_id(public) == hashlib.sha256(der).hexdigest()
    kind = b"application/vnd.vision-flight-recorder.manifest+json"
    message = b"DSSEv1 52 " + kind + b" " + str(len(text)).encode() + b" " + text
    assert message == encoded_for_signing(text)
    (tmp_path / "message").write_bytes(message)
    (tmp_path / "signature").write_bytes(signature)
    said = openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", keys[0].public, "-rawin", "-in", tmp_path / "message",
        "-sigfile", tmp_path / "signature",
    )  # fmt: skip
    assert b"Verified Successfully" in said


def test_several_keys_sign_once_each_and_the_id_stays(bundle: Path, keys: Keys, tmp_path: Path) -> None:
    """Signing again with the same key changes nothing; any reader passes over signatures."""
    one, two, three = (tmp_path / name for name in ("1.zst", "2.zst", "3.zst"))
    first, second = (load_signing_key(pair.private) for pair in keys)
    with Bundle.open(bundle) as source:
        sign_bundle(source, one, first)
    with Bundle.open(one) as source:
        sign_bundle(source, two, second)
    with Bundle.open(two) as source:
        sign_bundle(source, three, second)
        assert [each.key_id for each in signatures_of(source)] == [key_id(k.public_key) for k in (first, second)]
        assert all(is_valid(each, source.manifest_bytes) for each in signatures_of(source))
        assert source.verify() == []
        assert Reader(two.read_bytes()).id == source.id == Bundle.open(bundle).id
    assert three.read_bytes() == two.read_bytes()


def test_signatures_are_bounded(bundle: Path, keys: Keys, tmp_path: Path, replay: Run) -> None:
    """As many as the format has annotations; then one sentence."""
    other = load_signing_key(keys[1].private)
    with Bundle.open(bundle) as source:
        frames = [other.annotation(bytes([number])) for number in range(MAX_ANNOTATIONS)]
        annotate(source, tmp_path / "full.zst", frames)
    ended = replay("sign", tmp_path / "full.zst", "--key", keys[0].private)
    assert ended.code == 3
    assert_one_sentence(ended.err, ["at most 16"])


def test_verify_tells_whom_the_user_trusts(bundle: Path, keys: Keys, tmp_path: Path, config: Path, replay: Run) -> None:
    """By --key, by the folder of trusted keys, by neither; text and JSON."""
    signed = tmp_path / "incident-signed.zst"
    ended = replay("sign", bundle, "--key", keys[0].private, "-o", signed, "--json")
    assert ended.code == 0
    assert ended.json()["bundle"] == Bundle.open(bundle).id
    assert replay("verify", bundle, "--json").json()["signed"] == "none"

    unknown = replay("verify", signed)
    assert (unknown.code, "not among those you trust" in unknown.out) == (0, True)
    assert replay("verify", signed, "--require-signed").code == 1
    assert replay("verify", signed, "--key", keys[1].public).code == 1
    assert replay("verify", bundle, "--key", keys[0].public).code == 1

    given = replay("verify", signed, "--key", keys[0].public, "--json").json()
    [signature] = given["signatures"]
    assert (given["signed"], signature["valid"], signature["trusted"]) == ("trusted", True, True)
    (config / "trusted_keys").mkdir()
    (config / "trusted_keys" / "line-3.pem").write_bytes(keys[0].public.read_bytes())
    kept = replay("verify", signed, "--require-signed")
    assert kept.code == 0
    assert "Signed by line-3.pem" in kept.out
    assert ended.json()["key"][:16] in kept.out


@pytest.mark.parametrize(
    "command", [["show"], ["run"], ["extract", "-o", "out"], ["encrypt", "--to", "age1" + "q" * 58]]
)
def test_what_requires_a_signature_opens_nothing_without(
    bundle: Path, keys: Keys, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """One sentence and exit code 3: no verdict, no file."""
    monkeypatch.chdir(tmp_path)
    for option in (["--require-signed"], ["--key", keys[0].public]):
        ended = replay(command[0], bundle, *command[1:], *option)
        assert (ended.code, ended.out) == (3, "")
        assert_one_sentence(ended.err, ["a signature by", "is required and it is not signed"])
    assert not (tmp_path / "out").exists()


def test_a_signed_bundle_opens_for_those_who_require_it(bundle: Path, keys: Keys, tmp_path: Path, replay: Run) -> None:
    """The options stand on every command that opens a bundle."""
    signed = tmp_path / "signed.zst"
    assert replay("sign", bundle, "--key", keys[0].private, "-o", signed).code == 0
    assert replay("show", signed, "--key", keys[0].public, "--json").json()["bundle"] == Bundle.open(bundle).id
    assert replay("extract", signed, "--key", keys[0].public, "-o", tmp_path / "out").code == 0


def test_a_signature_of_another_manifest_makes_a_bundle_invalid(
    bundle: Path, keys: Keys, tmp_path: Path, replay: Run
) -> None:
    """Whoever moves a signature to another bundle, or changes one bit of it, is found out; so is a changed manifest."""
    key = load_signing_key(keys[0].private)
    with Bundle.open(bundle) as source:
        good = key.annotation(source.manifest_bytes)
        forged = [key.annotation(source.manifest_bytes + b" "), *(_flipped(good, place) for place in (16, 60, 111))]
        for annotation in forged:
            annotate(source, tmp_path / "forged.zst", [annotation])
            ended = replay("verify", tmp_path / "forged.zst", "--key", keys[0].public, "--json")
            assert ended.code == 4
            assert ended.json()["signed"] == "untrusted"
            assert "do not fit" in ended.json()["problems"][0]
            assert replay("show", tmp_path / "forged.zst", "--key", keys[0].public).code == 3
        annotate(source, tmp_path / "cut.zst", [good[:4] + struct.pack("<I", 99) + good[8:107]])
        assert replay("verify", tmp_path / "cut.zst", "--json").json()["signed"] == "none"


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_damaged_bundle_is_not_signed(bundle: Path, keys: Keys, tmp_path: Path, replay: Run) -> None:
    """Exit code 4, nothing written."""
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.zst").write_bytes(data)
    ended = replay("sign", tmp_path / "damaged.zst", "--key", keys[0].private)
    assert ended.code == 4
    assert_one_sentence(ended.err, ["nothing was signed"])
    assert not (tmp_path / "damaged-signed.zst").exists()


def test_nothing_is_overwritten(bundle: Path, keys: Keys, tmp_path: Path, replay: Run) -> None:
    """A bundle is never modified."""
    before = bundle.read_bytes()
    ended = replay("sign", bundle, "--key", keys[0].private, "-o", bundle)
    assert ended.code == 2
    assert_one_sentence(ended.err, ["never modified"])
    assert bundle.read_bytes() == before


def test_an_encrypted_private_key_takes_its_password_from_the_environment(
    bundle: Path, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing or wrong one is one sentence."""
    pair = make_key(tmp_path, "locked", "-aes-256-cbc", "-pass", "pass:correct horse")
    out = tmp_path / "signed.zst"
    missing = replay("sign", bundle, "--key", pair.private, "-o", out)
    assert missing.code == 3
    assert_one_sentence(missing.err, ["FLIGHT_RECORDER_KEY_PASSWORD"])
    monkeypatch.setenv("FLIGHT_RECORDER_KEY_PASSWORD", "wrong")
    wrong = replay("sign", bundle, "--key", pair.private, "-o", out)
    assert wrong.code == 3
    assert_one_sentence(wrong.err, ["password is wrong"])
    monkeypatch.setenv("FLIGHT_RECORDER_KEY_PASSWORD", "correct horse")
    assert replay("sign", bundle, "--key", pair.private, "-o", out).code == 0
    assert replay("verify", out, "--key", pair.public).code == 0


def test_other_files_than_ed25519_keys_are_refused(bundle: Path, keys: Keys, tmp_path: Path, replay: Run) -> None:
    """RSA, noise, a public key as a private one, and the other way round."""
    rsa, noise = tmp_path / "rsa.pem", tmp_path / "noise.pem"
    openssl("genpkey", "-algorithm", "RSA", "-out", rsa, "-pkeyopt", "rsa_keygen_bits:2048")
    noise.write_bytes(os.urandom(500))
    for path in (rsa, noise, keys[0].public):
        with pytest.raises(TrustError):
            load_signing_key(path)
        ended = replay("sign", bundle, "--key", path, "-o", tmp_path / "out.zst")
        assert ended.code == 3
        assert_one_sentence(ended.err, ["ed25519"])
    signed = tmp_path / "signed.zst"
    assert replay("sign", bundle, "--key", keys[0].private, "-o", signed).code == 0
    for path in (rsa, noise, keys[0].private):
        with pytest.raises(TrustError):
            load_public_key(path)
        ended = replay("verify", signed, "--key", path)
        assert ended.code == 3
        assert_one_sentence(ended.err)
    assert replay("sign", bundle, "--key", tmp_path / "missing.pem").code == 2


def test_without_the_library_that_is_said(
    bundle: Path, keys: Keys, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to install; an unsigned bundle is verified all the same, a signed one shown."""
    signed = tmp_path / "signed.zst"
    assert replay("sign", bundle, "--key", keys[0].private, "-o", signed).code == 0
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    assert replay("verify", bundle).code == 0
    assert replay("show", signed).code == 0
    verified = replay("verify", signed, "--json")
    assert (verified.code, verified.json()["signed"]) == (0, "untrusted")
    assert verified.json()["signatures"][0]["valid"] is None
    required = replay("show", signed, "--require-signed")
    assert required.code == 3
    assert_one_sentence(required.err, ["vision-flight-recorder[crypto]"])
    assert replay("verify", signed, "--require-signed").code == 3
    assert replay("sign", bundle, "--key", keys[0].private, "-o", tmp_path / "x.zst").code == 3
