"""What may be said about an S3 sink, checked once; all of it comes from the running configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recorder.sinks.s3.address import S3Address

__all__ = ["S3Options", "default_spool"]

#: A spool must not fill the disk of a service whose bucket is away: as much as a directory of incidents takes.
_MAX_SPOOL_BYTES = 10 * 2**30
#: What nobody fetched for so long was given up on.
_MAX_SPOOL_AGE_SECONDS = 30 * 86_400.0
_FIELDS = ("service", "host", "date", "incident")
_PLACEHOLDER = re.compile(r"\{([a-z]*)\}")
#: Letters that need no quoting anywhere, in a template and in what fills it.
_PLAIN = re.compile(r"[A-Za-z0-9!_.*'()/=-]*")
_STAMP = re.compile(r"(\d{4})(\d{2})(\d{2})T\d{6}")
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
#: S3's own limits on tags.
_MAX_TAGS, _MAX_TAG_CHARACTERS, _MAX_TAG_VALUE_CHARACTERS = 10, 128, 256


def default_spool(address: S3Address, environment: Mapping[str, str] | None = None) -> Path:
    """Return where bundles for an address wait: the same after a restart, below the user's state directory."""
    variables = os.environ if environment is None else environment
    state, home = variables.get("XDG_STATE_HOME") or "", variables.get("HOME") or ""
    if Path(state).is_absolute():
        base = Path(state) / "vision-flight-recorder"
    elif Path(home).is_absolute() and os.access(home, os.W_OK):
        base = Path(home) / ".local" / "state" / "vision-flight-recorder"
    else:  # a container without a home
        base = Path(tempfile.gettempdir()) / f"vision-flight-recorder-{os.geteuid()}"
    return base / "spool" / hashlib.sha256(str(address).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """The options of an S3 sink; `checked` makes one."""

    spool: str | None = None  #: directory in which bundles wait; None: `default_spool`
    max_spool_bytes: int = _MAX_SPOOL_BYTES  #: the oldest waiting bundles go first, counted
    max_spool_age_seconds: float = _MAX_SPOOL_AGE_SECONDS
    service: str = ""  #: for the key
    key: str = (
        ""  #: template below the prefix; "": {service}/{date}/{incident}.zst, without {service} where there is none
    )
    encryption: str | None = None  #: server-side: "AES256", "aws:kms" or "aws:kms:dsse"; None: as the bucket says
    kms_key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    bytes_per_second: float | None = None  #: what uploads may take of the line; None: all
    endpoint_url: str | None = None  #: of another S3 than Amazon's; None: AWS's usual configuration
    region: str | None = None
    retry_seconds: float = 1.0  #: pause after a first failure; doubled for each further one …
    max_retry_seconds: float = 300.0  #: … up to this

    @classmethod
    def checked(cls, options: Mapping[str, Any]) -> S3Options:
        """Check options by name and value.

        Raises:
            ValueError: one is unknown or makes no sense; the message names it.
        """
        known = {each.name for each in dataclasses.fields(cls)}
        if unknown := sorted(set(options) - known):
            raise ValueError(f"An S3 sink has no option {unknown[0]!r}; it knows {', '.join(sorted(known))}.")
        made = cls(**options)
        for name in ("max_spool_bytes", "max_spool_age_seconds", "retry_seconds", "max_retry_seconds"):
            _positive(name, getattr(made, name))
        if made.bytes_per_second is not None:
            _positive("bytes_per_second", made.bytes_per_second)
        for name in ("spool", "kms_key_id", "endpoint_url", "region"):
            if getattr(made, name) is not None and (
                not isinstance(getattr(made, name), str) or not getattr(made, name)
            ):
                raise ValueError(f"{name} must be text.")
        if made.encryption not in (None, *_ENCRYPTIONS):
            raise ValueError(f"encryption={made.encryption!r} must be one of {', '.join(_ENCRYPTIONS)}, or None.")
        if made.kms_key_id is not None and not (made.encryption or "").startswith("aws:kms"):
            raise ValueError('kms_key_id needs encryption="aws:kms".')
        _check_tags(made.tags)
        made.template()
        return made

    def template(self) -> str:
        """Return the key's template.

        Raises:
            ValueError: it cannot name every incident by a key of its own.
        """
        if not isinstance(self.service, str) or not _PLAIN.fullmatch(self.service):
            raise ValueError(f"service={self.service!r} must be made of letters, digits, dots and dashes.")
        text = self.key or ("{service}/" if self.service else "") + "{date}/{incident}.zst"
        if not isinstance(text, str) or not text.endswith("{incident}.zst") or text.count("{incident}") != 1:
            raise ValueError(f"key={text!r} must end in {{incident}}.zst: what else tells two incidents apart?")
        unknown = [name for name in _PLACEHOLDER.findall(text) if name not in _FIELDS]
        rest = _PLACEHOLDER.sub("", text)
        if unknown or not _PLAIN.fullmatch(rest) or text.startswith("/") or "//" in text or ".." in text:
            known = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise ValueError(f"key={text!r} may hold {known}, letters, digits, dots, dashes and slashes.")
        if "{service}" in text and not self.service:
            raise ValueError(f"key={text!r} names {{service}}: give the option service.")
        return text

    def key_of(self, name: str, modified_seconds: float) -> str:
        """Return the key, below the prefix, of a bundle of that name; the same whenever it is asked for."""
        stem = name.removesuffix(".age").removesuffix(".zst")
        stamp = _STAMP.match(name)
        date = "-".join(stamp.groups()) if stamp else datetime.fromtimestamp(modified_seconds, UTC).strftime("%Y-%m-%d")
        host = re.sub(r"[^A-Za-z0-9.-]", "-", os.uname().nodename)
        values = {"service": self.service.strip("/"), "host": host, "date": date, "incident": stem}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.template()) + (
            ".age" if name.endswith(".age") else ""
        )

    def pause_seconds(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row, drawn so that a fleet does not come back at once."""
        longest = min(self.max_retry_seconds, self.retry_seconds * 2 ** min(failures - 1, 30))
        return float(longest * random.uniform(0.5, 1.0))  # noqa: S311  # nothing to guess here

    def put_arguments(self) -> dict[str, str]:
        """Return what every new object is asked to be: encrypted and tagged."""
        from urllib.parse import urlencode

        arguments: dict[str, str] = {}
        if self.encryption is not None:
            arguments["ServerSideEncryption"] = self.encryption
        if self.kms_key_id is not None:
            arguments["SSEKMSKeyId"] = self.kms_key_id
        if self.tags:
            arguments["Tagging"] = urlencode(self.tags)
        return arguments


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be positive, not {value!r}.")


def _check_tags(tags: Any) -> None:
    if not isinstance(tags, Mapping) or len(tags) > _MAX_TAGS:
        raise ValueError(f"tags must be a dictionary of at most {_MAX_TAGS} texts.")
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError("tags must be a dictionary of texts.")
        if not 0 < len(name) <= _MAX_TAG_CHARACTERS or len(value) > _MAX_TAG_VALUE_CHARACTERS:
            raise ValueError(f"The tag {name[:40]!r} is longer than S3 takes.")
