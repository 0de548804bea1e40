"""Scrubbing of metadata and texts, pseudonyms, and the key they stand on."""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.privacy import PrivacyKey, load_key
from recorder.privacy.scrub import Scrubber, scrub_text, without_places

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEY = PrivacyKey(b"k" * 32)


@pytest.mark.parametrize(
    "key",
    [
        "password", "Password", "userPassword", "DB_PASSWORD", "passwords", "api_key", "apiKey", "API-KEY", "apikey",
        "my_apikey", "x-auth-token", "XAuthToken", "authtoken", "user.email", "eMail", "emails", "phone_number",
        "Authorization", "set-cookie", "client_ip", "licensePlate", "date of birth",
    ],
)  # fmt: skip
def test_keys_are_denied_however_they_are_written(key: str) -> None:
    """Case, separators, camelCase and plural do not matter."""
    assert Scrubber().denies(key)


@pytest.mark.parametrize(
    "key", ["camera", "trace_id", "tokenizer", "operator", "keyboard", "author", "line", "", "passes"]
)
def test_other_keys_are_not(key: str) -> None:
    """Words that only begin alike are others."""
    assert not Scrubber().denies(key)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://user:pa@ss@host/x?a=1", "https://[removed]@host/x?a=1"),
        ("redis://:pw@10.0.0.1:6379", "redis://[removed]@10.0.0.1:6379"),
        ("send Bearer abc.def-123", "send Bearer [removed]"),
        ("password = 'a b c' rest", "password = [removed] rest"),
        ('{"api_key": "k", "n": 1}', '{"api_key": [removed], "n": 1}'),
        ("https://s3/x?X-Amz-Signature=ab12&b=1", "https://s3/x?X-Amz-Signature=[removed]&b=1"),
        ("key AKIAABCDEFGHIJKLMNOP used", "key [removed] used"),
        ("eyJhbGciOiJI.eyJzdWIiOi.s1gn4ture", "[removed]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- end", "[removed] end"),
        ("confidence 0.31 < 0.5: see http://wiki/x and a@b", "confidence 0.31 < 0.5: see http://wiki/x and a@b"),
    ],
)
def test_credentials_are_cut_out_of_texts(text: str, left: str) -> None:
    """By their form; ordinary sentences stay."""
    assert scrub_text(text) == left
    assert scrub_text(left) == left


@pytest.mark.parametrize(
    "piece", ["eyJ-", "a://", "token=", "-----BEGIN PRIVATE KEY-----", "bearer ", "://x", "token='", "/a", "~/", "ghp_"]
)
def test_no_text_takes_long(piece: str) -> None:
    """A metadata string of 16,384 characters made to please a pattern takes less than a second of CPU time."""
    text = piece * (16_384 // len(piece))
    began = time.process_time()
    scrub_text(text)
    without_places(text, "build-host")
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[Errno 2] No such file: '/home/ada/models/x.pt'", "[Errno 2] No such file: '…/x.pt'"),
        ("file:///srv/data/a.png, C:\\Users\\ada\\b.png", "file://…/a.png, …\\b.png"),
        ("~/x/y and a/b and 3/4 at https://host/a/b", "…/y and a/b and 3/4 at https://host/a/b"),
        ("Build-Host.corp, build-host or build-hosting", "[removed], [removed] or build-hosting"),
    ],
)  # fmt: skip
def test_directories_and_the_machines_name_are_cut_out(text: str, left: str) -> None:
    """The last name of a path stays: it says which file was missing."""
    assert without_places(text, "build-host.corp") == left


@given(JSON)
def test_scrubbing_keeps_the_shape_and_changes_nothing_twice(value: object) -> None:
    """What was scrubbed is clean; without a denied key or a credential it is what it was."""
    scrubber = Scrubber(key=KEY)
    once, changes = scrubber.scrub(value)  # type: ignore[arg-type]
    assert type(once) is type(value)
    if not changes:
        assert once == value
    assert scrubber.scrub({"x": once})[0] == {"x": scrubber.scrub(once)[0]}


def test_pseudonyms_are_what_the_format_says() -> None:
    """HMAC-SHA256 of the UTF-8, or of compact JSON; equal values have one name, the rest of the value is gone."""
    expected = hmac.new(b"k" * 32, b"ada@example.org", hashlib.sha256).hexdigest()[:16]
    assert KEY.pseudonym("ada@example.org") == f"p_{expected}"
    assert KEY.pseudonym({"b": 1, "a": [2]}) == KEY.pseudonym({"a": [2], "b": 1})
    scrubbed, changes = Scrubber(key=KEY).scrub({"emails": ["a@b", "c@d"], "deep": [{"phone": 49}], "password": None})
    assert scrubbed == {
        "emails": [KEY.pseudonym("a@b"), KEY.pseudonym("c@d")],
        "deep": [{"phone": KEY.pseudonym(49)}],
        "password": None,
    }  # fmt: skip
    assert [(change.path, change.method) for change in changes] == [
        ("emails", "pseudonym"),
        ("deep[0].phone", "pseudonym"),
    ]
    assert PrivacyKey(b"j" * 32).pseudonym("a@b") != KEY.pseudonym("a@b")


def test_a_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """White space around it does not count; one that is short, long or not there is refused with a remedy."""
    monkeypatch.delenv("FLIGHT_RECORDER_PRIVACY_KEY", raising=False)
    assert load_key() is None
    monkeypatch.setenv("FLIGHT_RECORDER_PRIVACY_KEY", " " + "k" * 32 + "\n")
    assert load_key() == KEY
    file = tmp_path / "key"
    file.write_bytes(b"k" * 32 + b"\n")
    assert load_key(file) == KEY and "kkkk" not in repr(load_key(file))
    file.write_bytes(b"short")
    with pytest.raises(ValueError, match="openssl rand"):
        load_key(file)
    file.write_bytes(b"k" * 9_000)
    with pytest.raises(ValueError, match="16 to 4096"):
        load_key(file)
    with pytest.raises(ValueError, match="cannot be read"):
        load_key(tmp_path / "missing")
