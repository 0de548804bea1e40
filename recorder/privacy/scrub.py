"""Metadata and texts without what names a person or opens a door.

A value under a key of the denylist becomes a pseudonym where there is a privacy key, else ``[removed]``. In strings
anywhere, credentials that can be told by their form are cut out.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from recorder.bundle.values import JsonValue
from recorder.privacy.keys import PrivacyKey

__all__ = ["DENYLIST", "REMOVED", "Change", "Scrubber", "scrub_text", "without_places"]

#: Stands where a value was.
REMOVED = "[removed]"

#: Words of keys whose values are not for others. ``api_key`` matches apiKey, API-KEY, my_api_key and apikey as well.
#: Names of cameras, lines, products and traces are no persons and stay.
DENYLIST: tuple[str, ...] = (
    # what opens doors
    "password", "passwd", "pwd", "passphrase", "passcode", "secret", "token", "authorization", "authentication",
    "auth", "bearer", "cookie", "set_cookie", "session_id", "csrf", "xsrf", "jwt", "api_key", "access_key",
    "private_key", "secret_key", "signing_key", "credential", "connection_string", "dsn",
    # who somebody is
    "email", "e_mail", "mail", "phone", "telephone", "fax", "first_name", "last_name", "full_name",
    "given_name", "family_name", "surname", "user_name", "login", "ssn", "social_security", "passport", "iban",
    "credit_card", "card_number", "cvv", "birth_date", "birthday", "date_of_birth", "dob", "street", "home_address",
    "license_plate", "licence_plate", "number_plate", "ip_address", "client_ip", "remote_addr", "mac_address",
)  # fmt: skip

#: Deeper or larger values than metadata have are removed whole.
MAX_DEPTH = 64

#: What `PrivacyKey.pseudonym` makes.
_PSEUDONYM = re.compile(r"p_[0-9a-f]{16}")

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\dA-Za-z_]+")

_NAMES = r"(?:pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|access[_-]?key|authorization|signature|credential)"
_QUOTED = r"\"[^\"\n]{1,4096}\"|'[^'\n]{1,4096}'"
_PRIVATE_KEY = r"[A-Z ]{0,40}PRIVATE KEY-----"
#: Each with what takes its place. Quantifiers are bounded: no text takes longer than its length says.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"-----BEGIN {_PRIVATE_KEY}.{{0,16384}}?(?:-----END {_PRIVATE_KEY}|\Z)", re.DOTALL), REMOVED),
    # scheme://user:password@host, the part before the last @ of the authority
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#'\"<>]{1,1024}@"), rf"\1{REMOVED}@"),
    (re.compile(r"\b(bearer|basic|digest|negotiate)([ \t]{1,4})[A-Za-z0-9._~+/=-]{6,4096}", re.I), rf"\1\2{REMOVED}"),
    # three parts of base64url: a JSON web token
    (re.compile(r"\beyJ[A-Za-z0-9_-]{4,4096}\.[A-Za-z0-9_-]{2,4096}(?:\.[A-Za-z0-9_-]{0,4096})?"), REMOVED),
    # AWS key ids; tokens of GitHub, GitLab, Slack and OpenAI, by their prefixes
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), REMOVED),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-)[\w-]{16,255}"), REMOVED),
    # password=…, "token": "…", ?X-Amz-Signature=…
    (
        re.compile(
            rf"({_NAMES}[\w-]{{0,20}}['\"]?[ \t]{{0,4}}[=:][ \t]{{0,4}})(?:{_QUOTED}|[^\s&;,'\"]{{1,4096}})", re.I
        ),
        rf"\1{REMOVED}",
    ),
)
#: One of these stands in every text that a pattern can match.
_HINTS = re.compile(r"[=:]|-----BEGIN|eyJ|A[KS]IA|gh[pousr]_|github_pat_|glpat-|xox|sk-|bearer|basic|digest|nego", re.I)


def scrub_text(text: str) -> str:
    """Cut credentials out of a text: in URLs, after "Bearer" and the like, after ``password=``, and known tokens."""
    if _HINTS.search(text) is None:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


#: An absolute path of a file system with at least one directory; not the path of an address.
_PATHS = re.compile(
    r"(?:(?<=file://)|(?<![\w.:/\\~-]))(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\":;,<>|()\[\]{}]{1,255}){1,64}(?=[/\\])(?=[/\\][^\s/\\'\":;,<>|()\[\]{}])"
)
#: Shorter names of machines are words of other texts, too.
_MIN_HOST_CHARS = 5


def without_places(text: str, host: str = "") -> str:
    """Cut directories out of a text, so that of a path the last name is left; and the name of a machine.

    Args:
        text: a message.
        host: the machine's name; of a full one the first label counts as well. Short ones and "localhost" stay.
    """
    for name in (host, host.partition(".")[0]):
        if len(name) >= _MIN_HOST_CHARS and name != "localhost":
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", REMOVED, text, flags=re.IGNORECASE)
    return _PATHS.sub("…", text)


@dataclass(frozen=True, slots=True)
class Change:
    """One value that was scrubbed."""

    path: str  #: of the value, keys joined by dots: "operator.email"
    method: str  #: "pseudonym" (under a key), "removed" or "pattern" (a part of a text)


@dataclass(frozen=True, slots=True)
class Scrubber:
    """Scrubs JSON values.

    Attributes:
        denylist: words of keys, in snake_case; a key is denied when they stand in it one after another.
        key: under which denied values become pseudonyms; None: they are removed.
        texts: whether credentials are cut out of strings.
    """

    denylist: tuple[str, ...] = DENYLIST
    key: PrivacyKey | None = None
    texts: bool = True

    def denies(self, key: str) -> bool:
        """Whether a key's value is not for others: letter case, separators and camelCase do not matter."""
        return _denied(key, self.denylist)

    def scrub(self, value: JsonValue, path: str = "") -> tuple[JsonValue, tuple[Change, ...]]:
        """Return the value without what the denylist and the patterns name, and what was changed.

        Args:
            value: any JSON value; it is not modified.
            path: where it stands, for the changes.
        """
        changes: list[Change] = []
        return self._visit(value, path, changes, 0), tuple(changes)

    def replace(self, value: JsonValue) -> tuple[JsonValue, str]:
        """Return what stands for a denied value, and by which method: "removed" or "pseudonym".

        What holds nothing stays as it is, and so does what was replaced before: the same value has the same pseudonym
        in every bundle, also in one that was redacted twice. Of a list each element is replaced, of a dictionary the
        whole.
        """
        method = "removed" if self.key is None else "pseudonym"
        if value is None or value == "" or value == {}:
            return value, method
        if isinstance(value, str) and (value == REMOVED or _PSEUDONYM.fullmatch(value)):
            return value, method
        if isinstance(value, list):
            return [self.replace(item)[0] for item in value], method
        return (REMOVED if self.key is None else self.key.pseudonym(value)), method

    def _visit(self, value: JsonValue, path: str, changes: list[Change], depth: int) -> JsonValue:
        if depth > MAX_DEPTH:
            changes.append(Change(path, "removed"))
            return REMOVED
        if isinstance(value, str):
            scrubbed = scrub_text(value) if self.texts else value
            if scrubbed != value:
                changes.append(Change(path, "pattern"))
            return scrubbed
        if isinstance(value, list):
            return [self._visit(item, f"{path}[{index}]", changes, depth + 1) for index, item in enumerate(value)]
        if isinstance(value, dict):
            scrubbed_items: dict[str, JsonValue] = {}
            for key, item in value.items():
                name = self._name(key, scrubbed_items)
                inner = f"{path}.{name}" if path else name
                if self.denies(key):
                    replaced, method = self.replace(item)
                    if replaced != item:
                        changes.append(Change(inner, method))
                    scrubbed_items[name] = replaced
                else:
                    scrubbed_items[name] = self._visit(item, inner, changes, depth + 1)
            return scrubbed_items
        return value

    def _name(self, key: str, taken: dict[str, JsonValue]) -> str:
        name = scrub_text(key) if self.texts else key
        while name in taken:
            name += "_"  # two keys that were told apart by what was cut out of them
        return name


@functools.lru_cache(maxsize=4096)
def _denied(key: str, denylist: tuple[str, ...]) -> bool:
    words = _words(key[:200])
    joined = "".join(words)
    for entry in denylist:
        wanted = _words(entry)
        if not wanted:
            continue
        if any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1)):
            return True
        # Written in one piece: authtoken, apikey. Not of short words, which end others by chance.
        together = "".join(wanted)
        if len(together) >= 5 and joined.endswith(together):
            return True
    return False


def _words(key: str) -> tuple[str, ...]:
    """The words of a key in lower case, without the plural's s."""
    found = (word.lower() for word in _WORDS.findall(key))
    return tuple(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in found
    )
