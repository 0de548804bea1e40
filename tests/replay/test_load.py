"""Where models and the user's config are looked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from replay.load import ConfigInvalid, ModelLocations, ModelMissing, UserConfig, find_locations, read_user_config

DIGEST = "ab" * 32


def test_the_users_choice_comes_before_variable_config_and_neighbour(tmp_path: Path) -> None:
    for name in ("typed", "variable", "configured"):
        (tmp_path / name).mkdir()
    bundle = tmp_path / "x.zst"
    config = UserConfig(models=(str(tmp_path / "configured"),))
    variables = {"REPLAY_MODELS": str(tmp_path / "variable")}
    typed = find_locations(bundle, str(tmp_path / "typed"), config, variables)
    assert typed.directories == (tmp_path / "typed",)
    assert find_locations(bundle, None, config, variables).directories == (tmp_path / "variable",)
    assert find_locations(bundle, None, config, {}).directories == (tmp_path / "configured", tmp_path / "models")


def test_a_store_that_is_no_directory_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="is not a directory; check --models"):
        find_locations(None, str(tmp_path / "nowhere"), UserConfig(), {})
    with pytest.raises(ConfigInvalid, match="is no address in S3"):
        find_locations(None, "s3://bucket\x1b[2J", UserConfig(), {})


@pytest.mark.parametrize("digest", ["../../etc/passwd", "AB" * 32, "", "ab" * 31, "ab" * 32 + "\n"])
def test_what_is_no_digest_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ModelMissing, match="is no digest"):
        ModelLocations(directories=(tmp_path,)).weights(digest)


def test_a_graph_is_verified_before_it_is_handed_on(tmp_path: Path) -> None:
    locations = ModelLocations(directories=(tmp_path / "none", tmp_path))
    with pytest.raises(ModelMissing, match="--models LOCATION"):
        locations.graph(DIGEST)
    digest = hashlib.sha256(b"{}").hexdigest()
    (tmp_path / f"{digest}.graph.json").write_bytes(b"{}")
    assert locations.graph(digest) == b"{}"
    (tmp_path / f"{digest}.graph.json").write_bytes(b"[]")
    with pytest.raises(ModelMissing, match="is not what its name says"):
        locations.graph(digest)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"signature": 1, "digest": []}', b"[" * 4000, b"\xff"])
def test_a_damaged_note_of_a_graph_is_no_note(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{DIGEST}-{'cd' * 8}.graph-ref.json").write_bytes(content)
    assert ModelLocations(directories=(tmp_path,)).remembered_graph(DIGEST, "cd" * 32) is None


def test_the_config_is_the_users_and_never_the_working_directorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vision-flight-recorder"
    folder.mkdir()
    (folder / "config.toml").write_text('models = ["/srv/models"]\ntrusted_factories = ["service.nets:build"]\n')
    read = read_user_config({"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/nowhere"})
    assert read == UserConfig(models=("/srv/models",), trusted_factories=frozenset({"service.nets:build"}))
    monkeypatch.chdir(tmp_path)
    for relative in (".", "", "./"):
        assert read_user_config({"XDG_CONFIG_HOME": relative, "HOME": str(tmp_path / "home")}) == UserConfig()


@pytest.mark.parametrize("content", [b"models = 3", b"models = [1]", b"models =", b"\xff\xfe"])
def test_a_config_that_cannot_be_used_is_named(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "vision-flight-recorder"
    folder.mkdir()
    (folder / "config.toml").write_bytes(content)
    with pytest.raises(ConfigInvalid, match=r"config\.toml"):
        read_user_config({"XDG_CONFIG_HOME": str(tmp_path)})
