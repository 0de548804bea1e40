"""``suite.toml``: one table a case, sorted by name, one entry a line, so that git shows and merges what changed.

A suite is untrusted: its size is capped, unknown keys are refused, and it holds no paths. The bundle of the case NAME
is ``NAME.zst`` beside it, its boxes are ``NAME.boxes.json``; both have to be ordinary files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorder.bundle.durable import durable_file
from replay.suite.expectation import BadExpectation, Expectation, parse_expectation

__all__ = [
    "FILE",
    "Case",
    "Suite",
    "SuiteInvalid",
    "held",
    "is_case_name",
    "ordinary_file",
    "read_suite",
    "write_suite",
]

FILE = "suite.toml"
VERSION = 1

#: A case takes some 300 bytes.
_MAX_BYTES = 8 * 2**20
_MAX_CASES = 10_000
_MAX_EXPECTATIONS = 32
#: More are not kept with a case: only those that its expectations name.
MAX_CLASSES = 200
_MAX_NOTE_CHARS = 500

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYS = {"bundle", "frame", "expect", "classes", "note"}


class SuiteInvalid(Exception):
    """A suite that cannot be read; the message is one sentence with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One incident and what is expected of a candidate."""

    name: str
    bundle: str  #: id of the bundle: the digest of its manifest, which has the digests of everything else
    frame: int  #: id of the frame that is judged; the others of the bundle are run before it
    expect: tuple[Expectation, ...]
    classes: Mapping[str, int] = field(default_factory=dict)  #: index by name, as far as known
    note: str = ""  #: for people

    @property
    def file(self) -> str:
        """The name of its bundle in the suite's folder."""
        return f"{self.name}.zst"

    @property
    def boxes_file(self) -> str:
        """The name of its file of boxes, where it expects some."""
        return f"{self.name}.boxes.json"


@dataclass(frozen=True, slots=True)
class Suite:
    """A folder of cases."""

    folder: Path
    cases: tuple[Case, ...]  #: by name


def is_case_name(name: str) -> bool:
    """Whether a case may have this name: letters, digits, dashes and underscores, at most 100."""
    return _NAME.fullmatch(name) is not None


def ordinary_file(path: Path) -> bool:
    """Whether a path is an ordinary file itself: no link, no device, nothing that leads out of its folder."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def read_suite(folder: Path) -> Suite:
    """Read a suite; a folder without ``suite.toml`` has no cases.

    Raises:
        FileNotFoundError: there is no such folder.
        SuiteInvalid: its file is not of this form.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    path = folder / FILE
    if not path.is_symlink() and not path.exists():
        return Suite(folder, ())
    if not ordinary_file(path):
        raise SuiteInvalid(f"{path} is no ordinary file; a suite is a folder with its own {FILE}")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise SuiteInvalid(f"{path} is larger than {_MAX_BYTES} bytes; split the suite into several folders")
        data = tomllib.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SuiteInvalid(
            f"{path} is no TOML: {str(error)[:200]}; correct it or take it from version control"
        ) from error
    return Suite(folder, _cases(path, data))


def _cases(path: Path, data: Mapping[str, Any]) -> tuple[Case, ...]:
    if data.get("version") != VERSION:
        raise SuiteInvalid(
            f"{path} is of version {str(data.get('version'))[:40]!r}; this replay reads version {VERSION}"
        )
    tables = data.get("case", {})
    if not isinstance(tables, dict) or set(data) - {"version", "case"}:
        raise SuiteInvalid(f"{path} holds something besides version and [case.…] tables; a suite names no code")
    if len(tables) > _MAX_CASES:
        raise SuiteInvalid(f"{path} has {len(tables)} cases, more than {_MAX_CASES}; split the suite")
    return tuple(_case(path, name, tables[name]) for name in sorted(tables))


def _case(path: Path, name: str, table: object) -> Case:
    where = f"{path}: case {name[:100]!r}"
    if not is_case_name(name):
        raise SuiteInvalid(f"{where} has a name that is none: letters, digits, - and _")
    if not isinstance(table, dict) or (unknown := set(table) - _KEYS):
        named = f"the key {min(unknown)[:60]!r}" if isinstance(table, dict) else "no table"
        raise SuiteInvalid(f"{where} has {named}; it takes {', '.join(sorted(_KEYS))}")
    bundle, frame, note = table.get("bundle"), table.get("frame"), table.get("note", "")
    if not isinstance(bundle, str) or not _DIGEST.fullmatch(bundle):
        raise SuiteInvalid(f"{where} needs bundle = the id of {name}.zst, 64 hex digits")
    if not isinstance(frame, int) or isinstance(frame, bool) or not 0 <= frame < 2**63:
        raise SuiteInvalid(f"{where} needs frame = the id of the frame that is judged")
    if not isinstance(note, str) or len(note) > _MAX_NOTE_CHARS:
        raise SuiteInvalid(f"{where}: note is a text of at most {_MAX_NOTE_CHARS} characters")
    expect, classes = table.get("expect"), table.get("classes", {})
    if not isinstance(expect, list) or not 0 < len(expect) <= _MAX_EXPECTATIONS:
        raise SuiteInvalid(f"{where} needs expect = a list of 1 to {_MAX_EXPECTATIONS} expectations")
    if not isinstance(classes, dict) or len(classes) > MAX_CLASSES or not all(map(_is_index, classes.values())):
        raise SuiteInvalid(f"{where}: classes gives at most {MAX_CLASSES} names their index")
    try:
        expectations = tuple(parse_expectation(each if isinstance(each, str) else "") for each in expect)
    except BadExpectation as error:
        raise SuiteInvalid(f"{where}: {error}") from error
    case = Case(name=name, bundle=bundle, frame=frame, expect=expectations, classes=classes, note=note)
    if any(each.kind == "boxes" and each.name != case.boxes_file for each in expectations):
        raise SuiteInvalid(f"{where}: its boxes are in {case.boxes_file}, beside its bundle, and nowhere else")
    return case


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def write_suite(suite: Suite) -> None:
    """Write ``suite.toml`` whole, or leave it as it is.

    Raises:
        OSError: it cannot be written.
    """
    import tomli_w

    tables = {case.name: _table(case) for case in sorted(suite.cases, key=lambda case: case.name)}
    text = tomli_w.dumps({"version": VERSION, "case": tables}, multiline_strings=False)
    with durable_file(suite.folder / FILE) as file:  # under a name that nobody can have made a link of
        file.write(text.encode("utf-8"))


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a suite's folder: of all that add a case, only one reads and writes ``suite.toml`` meanwhile.

    Raises:
        OSError: it is no folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _table(case: Case) -> dict[str, Any]:
    table: dict[str, Any] = {"bundle": case.bundle, "frame": case.frame}
    table["expect"] = [each.text for each in case.expect]
    if case.note:
        table["note"] = case.note
    if case.classes:
        table["classes"] = dict(sorted(case.classes.items(), key=lambda item: item[1]))
    return table
