"""An encrypted bundle opens for its recipients and for nobody else."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pyrage
import pytest

from recorder.bundle import Bundle, BundleInvalid
from recorder.bundle.source import FileSource
from recorder.trust.encryption import decrypted
from tests.bundles import small_bundle
from tests.cli.conftest import assert_one_sentence
from tests.golden.regenerate import FOLDER
from tests.trust.conftest import KeyPair, Run


def make_identity(path: Path) -> str:
    """Write an identity file as age-keygen does; return its recipient."""
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    path.write_text(f"# created: 2026-03-01T03:00:00Z\n# public key: {recipient}\n{identity}\n")
    return recipient


@pytest.fixture
def encrypted(bundle: Path, tmp_path: Path, replay: Run) -> Path:
    """A bundle encrypted to two identities of the test's own directory."""
    recipients = [make_identity(tmp_path / name) for name in ("one.txt", "two.txt")]
    options = [word for recipient in recipients for word in ("--to", recipient)]
    target = tmp_path / "incident.zst.age"
    assert replay("encrypt", bundle, *options, "-o", target).code == 0
    return target


def test_each_recipient_opens_it_with_every_command(bundle: Path, encrypted: Path, tmp_path: Path, replay: Run) -> None:
    """Named on the command line or in the config; the plain copy is the original, byte for byte."""
    for name in ("one.txt", "two.txt"):
        assert replay("verify", encrypted, "--identity", tmp_path / name, "--json").json()["valid"]
    shown = replay("show", encrypted, "--identity", tmp_path / "two.txt", "--json")
    assert shown.json()["bundle"] == Bundle.open(bundle).id
    assert replay("decrypt", encrypted, "--identity", tmp_path / "one.txt", "-o", tmp_path / "plain.zst").code == 0
    assert (tmp_path / "plain.zst").read_bytes() == bundle.read_bytes()


def test_the_config_names_identities(encrypted: Path, tmp_path: Path, config: Path, replay: Run) -> None:
    """Then no option is needed, and listing a directory opens what is in it."""
    (config / "config.toml").write_text(f'identities = ["{tmp_path}/two.txt"]\n')
    assert replay("show", encrypted).code == 0
    listed = replay("ls", tmp_path, "--json").json()
    assert [Path(entry["path"]).name for entry in listed["incidents"]] == [encrypted.name]


def test_without_the_right_identity_it_stays_closed(encrypted: Path, tmp_path: Path, replay: Run) -> None:
    """One sentence with the remedy and exit code 3; nothing of it is shown."""
    make_identity(tmp_path / "other.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "noise.txt").write_text("AGE-SECRET-KEY-1QQQ\n")
    for command in ("show", "verify", "run", "decrypt"):
        none = replay(command, encrypted, *(["-o", tmp_path / "x.zst"] if command == "decrypt" else []))
        assert none.code == 3
        assert_one_sentence(none.err, ["encrypted", "--identity FILE"])
    for name, word in (("other.txt", "to others"), ("empty.txt", "no age identity"), ("noise.txt", "age-keygen")):
        ended = replay("show", encrypted, "--identity", tmp_path / name)
        assert (ended.code, ended.out) == (3, "")
        assert_one_sentence(ended.err, [word])
    listed = replay("ls", tmp_path, "--json").json()
    assert (listed["incidents"], len(listed["unreadable"])) == ([], 1)
    assert not (tmp_path / "x.zst").exists()
    given = replay("ls", tmp_path, "--identity", tmp_path / "one.txt", "--json").json()
    assert len(given["incidents"]) == 1


def test_damage_is_told_from_a_wrong_key(encrypted: Path, tmp_path: Path, replay: Run) -> None:
    """Flipped, cut and extended files are invalid; no decrypted file is left anywhere."""
    data = encrypted.read_bytes()
    header = data.index(b"\n---") + 60
    damaged = [data[:-1], data[: len(data) // 2], data + b"x", data[: header + 40]]
    damaged += [data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] for place in (header + 50, len(data) - 20)]
    for content in damaged:
        (tmp_path / "damaged.zst.age").write_bytes(content)
        ended = replay("show", tmp_path / "damaged.zst.age", "--identity", tmp_path / "one.txt")
        assert (ended.code, ended.out) == (4, "")
        assert_one_sentence(ended.err, ["damaged"])


def test_what_is_encrypted_is_a_bundle_and_only_once(encrypted: Path, tmp_path: Path, replay: Run) -> None:
    """Anything else inside is refused as any file is."""
    recipient = make_identity(tmp_path / "own.txt")
    again = replay(
        "encrypt", encrypted, "--to", recipient, "--identity", tmp_path / "one.txt", "-o", tmp_path / "b.age"
    )
    assert again.code == 2
    assert_one_sentence(again.err, ["encrypted already"])
    pyrage.encrypt_file(__file__, str(tmp_path / "foreign.zst.age"), [pyrage.x25519.Recipient.from_str(recipient)])
    ended = replay("show", tmp_path / "foreign.zst.age", "--identity", tmp_path / "own.txt")
    assert ended.code == 4
    assert_one_sentence(ended.err)
    wrong = replay("encrypt", encrypted, "--to", "age1nobody")
    assert wrong.code == 2
    assert_one_sentence(wrong.err, ["age1nobody"])


def test_an_encrypted_file_is_not_salvaged(encrypted: Path, tmp_path: Path, replay: Run) -> None:
    """Its parts stand or fall together; the sentence says what to do."""
    ended = replay("recover", encrypted, "-o", tmp_path / "out")
    assert ended.code == 4
    assert_one_sentence(ended.err, ["replay decrypt"])


def test_signed_then_encrypted(bundle: Path, keys: tuple[KeyPair, KeyPair], tmp_path: Path, replay: Run) -> None:
    """The signature is inside, and is required of an encrypted bundle as of any."""
    recipient = make_identity(tmp_path / "own.txt")
    signed, locked = tmp_path / "signed.zst", tmp_path / "signed.zst.age"
    assert replay("sign", bundle, "--key", keys[0].private, "-o", signed).code == 0
    assert replay("encrypt", signed, "--to", recipient).code == 0
    own = ("--identity", tmp_path / "own.txt")
    assert replay("verify", locked, *own, "--key", keys[0].public, "--json").json()["signed"] == "trusted"
    assert replay("show", locked, *own, "--key", keys[1].public).code == 3


def test_large_bundles_are_decrypted_in_parts(tmp_path: Path, replay: Run) -> None:
    """Above what is read ahead at once."""
    plain = small_bundle(tmp_path / "large.zst", frames=3, height=900, width=1200)
    assert plain.stat().st_size > 3 * 2**20
    recipient = make_identity(tmp_path / "own.txt")
    assert replay("encrypt", plain, "--to", recipient).code == 0
    assert replay("verify", f"{plain}.age", "--identity", tmp_path / "own.txt").code == 0


def test_the_golden_one_is_read_for_ever() -> None:
    """Encrypted by pyrage 1.4 to the test identity beside it."""
    source = FileSource(FOLDER / "1.0-exception.zst.age")
    with Bundle.open(decrypted(source, [FOLDER / "TEST-IDENTITY-protects-nothing.txt"])) as bundle:
        assert bundle.id == Bundle.open(FOLDER / "1.0-exception.zst").id


def test_without_the_library_that_is_said(
    encrypted: Path, bundle: Path, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to install; plain bundles open all the same."""
    monkeypatch.setitem(sys.modules, "pyrage", None)
    ended = replay("show", encrypted, "--identity", tmp_path / "one.txt")
    assert ended.code == 3
    assert_one_sentence(ended.err, ["vision-flight-recorder[crypto]"])
    assert replay("show", bundle).code == 0


def test_nothing_decrypted_is_left(
    encrypted: Path, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain bytes are in a file without a name."""
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    assert replay("show", encrypted, "--identity", tmp_path / "one.txt").code == 0
    with pytest.raises(BundleInvalid):
        decrypted(_Cut(encrypted), [tmp_path / "one.txt"])
    assert list((tmp_path / "temp").iterdir()) == []


class _Cut:
    """A source that is shorter than it says."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self.size_bytes = len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        if offset + length == self.size_bytes:
            raise BundleInvalid("it became shorter while it was read")
        return self._data[offset : offset + length]

    def close(self) -> None:
        """Nothing to let go of."""
