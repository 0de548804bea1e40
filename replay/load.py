"""Find a bundle's models: weights and graphs by digest, where the user says they are.

`--models`, else `REPLAY_MODELS`, else the user's config, else ``models/`` beside the bundle. A location named in the
bundle is only displayed, and nothing of the working directory is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recorder.sinks.s3.address import S3Address, is_s3
from replay.packed import PackedModels
from replay.remote_models import MAX_MODEL_BYTES, RemoteModels, RemoteUnavailable
from replay.show.text import inert

__all__ = [
    "ConfigInvalid",
    "ModelLocations",
    "ModelMissing",
    "UserConfig",
    "config_directory",
    "find_locations",
    "is_factory",
    "read_user_config",
]

_APPLICATION = "vision-flight-recorder"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
#: A graph is some hundred kilobytes; a file this large is none.
MAX_GRAPH_BYTES = 64 * 2**20
#: What `recorder.models.ModelStore.remember_graph` writes is a hundred bytes.
_MAX_REFERENCE_BYTES = 4096
#: A config is a handful of lines.
_MAX_CONFIG_BYTES = 2**20


class ConfigInvalid(ValueError):
    """The user's config cannot be used; the message is one sentence with the remedy."""


class ModelMissing(Exception):
    """A weights file or graph that is nowhere; the message says where it was looked for and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserConfig:
    """What the user has written into ``~/.config/vision-flight-recorder/config.toml``."""

    models: tuple[str, ...] = ()  #: model stores
    trusted_factories: frozenset[str] = frozenset()  #: exactly these "pkg.mod:fn" may be run when a bundle names them
    identities: tuple[str, ...] = ()  #: files of age identities that open encrypted bundles


def config_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return where the user's config and trusted keys are; it need not be there."""
    variables = os.environ if environment is None else environment
    base = variables.get("XDG_CONFIG_HOME") or ""
    # The XDG rules: a relative path there is to be ignored, and it would depend on the working directory.
    home = Path(base) if Path(base).is_absolute() else Path(variables.get("HOME") or Path.home()) / ".config"
    return home / _APPLICATION


def read_user_config(environment: Mapping[str, str] | None = None) -> UserConfig:
    """Read the user's config; an absent one is empty.

    Raises:
        ConfigInvalid: it is not TOML, or a key has another type.
    """
    path = config_directory(environment) / "config.toml"
    try:
        with path.open("rb") as file:
            content = tomllib.loads(file.read(_MAX_CONFIG_BYTES).decode("utf-8"))
    except FileNotFoundError:
        return UserConfig()
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigInvalid(f"{path} cannot be read: {error}; correct or remove it.") from error
    return UserConfig(
        models=_strings(content, "models", path),
        trusted_factories=frozenset(_strings(content, "trusted_factories", path)),
        identities=_strings(content, "identities", path),
    )


def _strings(content: Mapping[str, object], key: str, path: Path) -> tuple[str, ...]:
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ConfigInvalid(f"{path}: {key} must be a list of strings.")
    return tuple(found)


def is_factory(name: str) -> bool:
    """Whether a name has the form ``pkg.mod:factory``."""
    return _FACTORY.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLocations:
    """Directories that may hold a bundle's models, most wanted first."""

    directories: tuple[Path, ...]
    remote: tuple[RemoteModels, ...] = ()  #: stores in buckets, asked when no directory has it
    packed: PackedModels | None = None  #: what the bundle holds itself, looked at last

    def weights(self, digest: str) -> Path:
        """Where the weights of that digest stand. They are verified when they are loaded, over the bytes loaded.

        Raises:
            ModelMissing: nowhere.
        """
        return self._find(digest, ".safetensors", "weights")

    def onnx(self, digest: str) -> Path:
        """Where the ONNX file of that digest stands; verified when it is loaded, over the bytes loaded.

        Raises:
            ModelMissing: nowhere.
        """
        return self._find(digest, ".onnx", "ONNX model")

    def graph_file(self, digest: str) -> Path:
        """Where the graph of that digest stands, unverified.

        Raises:
            ModelMissing: nowhere.
        """
        return self._find(digest, ".graph.json", "graph")

    def graph(self, digest: str) -> bytes:
        """The graph of that digest, verified.

        Raises:
            ModelMissing: nowhere, or what stands there is not it.
        """
        path = self.graph_file(digest)
        try:
            with path.open("rb") as file:
                content = file.read(MAX_GRAPH_BYTES + 1)
        except OSError as error:
            raise ModelMissing(f"the graph {digest[:12]}… cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise ModelMissing(f"the graph {digest[:12]}… is not what its name says; fetch it again.")
        return content

    def remembered_graph(self, weights_digest: str, signature: str) -> str | None:
        """The digest of a graph that was stored for these weights and calls at deployment; a claim, to be proven."""
        if not _DIGEST.fullmatch(weights_digest):
            return None
        for directory in self.directories:
            with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
                reference = directory / f"{weights_digest}-{signature[:16]}.graph-ref.json"
                with reference.open("rb") as file:
                    content = json.loads(file.read(_MAX_REFERENCE_BYTES))
                if content["signature"] == signature and _DIGEST.fullmatch(content["digest"]):
                    return str(content["digest"])
        for store in self.remote:
            with contextlib.suppress(RemoteUnavailable, ValueError, RecursionError, KeyError, TypeError):
                name = f"{weights_digest}-{signature[:16]}.graph-ref.json"
                content = json.loads(store.small_file(name, _MAX_REFERENCE_BYTES) or b"")
                if content["signature"] == signature and _DIGEST.fullmatch(content["digest"]):
                    return str(content["digest"])
        return None

    def _find(self, digest: str, suffix: str, what: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ModelMissing(f"the bundle names {what} by {inert(digest, 80)}, which is no digest.")
        for directory in self.directories:
            path = directory / f"{digest}{suffix}"
            if path.is_file():
                return path
        if self.packed is not None and (inside := self.packed.file(f"{digest}{suffix}")) is not None:
            return inside
        for store in self.remote:
            try:
                fetched = store.file(f"{digest}{suffix}", MAX_GRAPH_BYTES if what == "graph" else MAX_MODEL_BYTES)
            except RemoteUnavailable as error:
                raise ModelMissing(f"the {what} {digest[:12]}… cannot be fetched: {error}.") from error
            if fetched is not None:
                return fetched
        looked = ", ".join([*map(str, self.directories), *(str(store.address) for store in self.remote)]) or "no place"
        verb = "are" if what == "weights" else "is"
        raise ModelMissing(
            f"the {what} {digest[:12]}… {verb} not in {looked}; name the model store: --models LOCATION."
        )


def find_locations(
    bundle: Path | S3Address | None,
    models: str | None,
    config: UserConfig,
    environment: Mapping[str, str] | None = None,
) -> ModelLocations:
    """Decide where models are looked for.

    Args:
        bundle: where the bundle is; None: nowhere in particular. Beside an object means ``models/`` under its own or
            any shorter prefix, since keys are made of the service and the date.
        models: what the user passed as ``--models``, or None.
        config: the user's config.
        environment: variables; the process's own by default.

    Raises:
        ConfigInvalid: the location is of a kind that this version cannot read, or is not there.
    """
    variables = os.environ if environment is None else environment
    chosen = models or variables.get("REPLAY_MODELS")
    if chosen:
        if is_s3(chosen):
            return ModelLocations(directories=(), remote=(_remote(chosen),))
        directory = _directory(chosen)
        if not directory.is_dir():
            raise ConfigInvalid(f"the model store {directory} is not a directory; check --models or REPLAY_MODELS.")
        return ModelLocations(directories=(directory,))
    directories = [_directory(location) for location in config.models if not is_s3(location)]
    remote = [_remote(location) for location in config.models if is_s3(location)]
    if isinstance(bundle, S3Address):
        remote.extend(RemoteModels(prefix.within("models")) for prefix in bundle.prefixes())
    elif bundle is not None:
        directories.append(bundle.parent / "models")
    return ModelLocations(directories=tuple(directories), remote=tuple(remote))


def _remote(location: str) -> RemoteModels:
    try:
        return RemoteModels(S3Address.parse(location))
    except ValueError as error:
        raise ConfigInvalid(inert(str(error).rstrip("."), 300)) from error


def _directory(location: str) -> Path:
    if "://" in location and not location.startswith("file://"):
        raise ConfigInvalid(
            f"model stores are directories or s3:// addresses; copy {inert(location, 200)} to one and name that."
        )
    return Path(location.removeprefix("file://")).expanduser()
