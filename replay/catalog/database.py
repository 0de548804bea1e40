"""The catalogue's file: SQLite in WAL mode, and beside it the vectors (`replay.catalog.vectors`)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from replay.catalog.embedding import DIMENSIONS
from replay.catalog.entries import LABELS, UNNAMED, Entry, is_sound
from replay.catalog.errors import CatalogInvalid, CatalogUnavailable
from replay.catalog.vectors import Matrix, VectorFile, is_vector

__all__ = ["Catalog"]

#: "VFRc": tells our file from any other SQLite file.
_APPLICATION_ID = 0x56465263
_VERSION = 1

#: Incidents of one signature whose vectors are at least so alike are one group. At 64 dimensions a projected cosine is
#: off by about 0.1, so that equals stay together and strangers (cosine near 0) do not meet.
ALIKE_COSINE = 0.9

_COLUMNS = (
    "bundle, path, size_bytes, modified, opened_ns, stream, kind, reason, signature, cause, frames, models, recurrences"
)
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
CREATE TABLE spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, bundle TEXT NOT NULL UNIQUE, path TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    modified REAL NOT NULL, opened_ns INTEGER NOT NULL, stream TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
    signature TEXT NOT NULL, cause TEXT NOT NULL, frames INTEGER NOT NULL, models TEXT NOT NULL,
    recurrences INTEGER NOT NULL, space INTEGER REFERENCES spaces, vector BLOB, alike INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX entries_signature ON entries (signature, opened_ns);
CREATE INDEX entries_opened ON entries (opened_ns);
CREATE INDEX entries_path ON entries (path);
CREATE TABLE labels (bundle TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (bundle, name));
CREATE TABLE problems (
    path TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, modified REAL NOT NULL, problem TEXT NOT NULL
);
"""


class Catalog:
    """A catalogue, open. A context manager; one writer at a time, readers meanwhile."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open it.

        Raises:
            FileNotFoundError: there is none, and ``create`` is not said.
            CatalogUnavailable: nothing can be opened there.
            CatalogInvalid: the file is something else.
        """
        if not create and not path.is_file():
            raise FileNotFoundError(path)
        self.path = path
        self._file = VectorFile(path.with_name(f"{path.name}.vectors"))
        try:
            self._database = sqlite3.connect(path, timeout=60)
        except sqlite3.Error as error:
            raise CatalogUnavailable(f"{path} cannot be opened: {error}; name another file with --db") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise CatalogInvalid(f"{path} cannot be used: {error}; name another file, or make it anew") from error
        except CatalogInvalid:
            self.close()
            raise

    def _prepare(self) -> None:
        self._database.execute("PRAGMA trusted_schema = OFF")
        application = self._one("PRAGMA application_id")
        if application == 0 and not self._one("SELECT count(*) FROM sqlite_master"):
            self._file.remove()  # of a database that is gone
            self._database.executescript(_SCHEMA)
        elif application != _APPLICATION_ID or self._one("PRAGMA user_version") != _VERSION:
            raise CatalogInvalid(f"{self.path} is no catalogue of this version; name another file with --db")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        self._database.close()

    @property
    def count(self) -> int:
        """How many incidents there are."""
        return int(self._one("SELECT count(*) FROM entries"))

    def known(self) -> dict[str, tuple[int, float]]:
        """Size and time of every file that was looked into, by path, the damaged ones too."""
        rows = self._rows(
            "SELECT path, size_bytes, modified FROM entries UNION SELECT path, size_bytes, modified FROM problems"
        )
        return {path: (size, modified) for path, size, modified in rows}

    def add(self, entries: Iterable[Entry], problems: Iterable[tuple[str, int, float, str]] = ()) -> int:
        """Put incidents in, all or none; one that is there already is only told its new place.

        Returns:
            How many are new.
        """
        new = 0
        with self._writing():
            for entry in entries:
                new += self._insert(entry)
            self._database.executemany("INSERT OR REPLACE INTO problems VALUES (?, ?, ?, ?)", problems)
        self._extend_vectors()
        return new

    def _insert(self, entry: Entry) -> int:
        moved = self._database.execute(
            "UPDATE entries SET path = ?, size_bytes = ?, modified = ? WHERE bundle = ?",
            (entry.path, entry.size_bytes, entry.modified, entry.bundle),
        )
        self._database.execute("DELETE FROM problems WHERE path = ?", (entry.path,))
        if moved.rowcount:
            return 0
        values = tuple(getattr(entry, name) for name in _COLUMNS.split(", "))
        space, vector = self._space(entry), None if entry.vector is None else entry.vector[1].tobytes()
        alike = self._alike(entry, space)
        inserted = self._database.execute(
            f"INSERT INTO entries ({_COLUMNS}, space, vector, alike) VALUES ({', '.join('?' * 16)})",  # noqa: S608 - fixed
            (*values, space, vector, alike),
        )
        if not alike:
            self._database.execute("UPDATE entries SET alike = id WHERE id = ?", (inserted.lastrowid,))
        return 1

    def _space(self, entry: Entry) -> int | None:
        if entry.vector is None:
            return None
        self._database.execute("INSERT OR IGNORE INTO spaces (name) VALUES (?)", (entry.vector[0],))
        return int(self._one("SELECT id FROM spaces WHERE name = ?", entry.vector[0]))

    def _alike(self, entry: Entry, space: int | None) -> int:
        """The number of the group that an incident falls into; 0: it is the first of its own."""
        if not entry.signature:
            return 0
        same = "signature = ? AND cause IN (?, ?, ?)"  # no cause may be said in three ways
        values = (entry.signature, *(UNNAMED if entry.cause in UNNAMED else 3 * (entry.cause,)))
        if entry.vector is None:
            return int(self._one(f"SELECT min(id) FROM entries WHERE {same} AND vector IS NULL", *values) or 0)  # noqa: S608
        query = f"SELECT id, vector FROM entries WHERE {same} AND space = ? AND alike = id LIMIT 4096"  # noqa: S608 - fixed
        leaders = [(number, vector) for number, vector in self._rows(query, *values, space) if is_vector(vector)]
        if not leaders:
            return 0
        matrix = np.frombuffer(b"".join(vector for _, vector in leaders), np.float32).reshape(-1, DIMENSIONS)
        cosines = matrix @ entry.vector[1]
        best = int(np.argmax(cosines))
        return int(leaders[best][0]) if cosines[best] >= ALIKE_COSINE else 0

    def label(self, bundle: str, labels: dict[str, str]) -> None:
        """Label an incident; an empty value takes the label away.

        Raises:
            ValueError: a name is not one of `LABELS`.
        """
        if unknown := set(labels) - set(LABELS):
            raise ValueError(f"there is no label {min(unknown)!r}: {', '.join(LABELS)}")
        with self._writing():
            for name, value in labels.items():
                self._database.execute("DELETE FROM labels WHERE bundle = ? AND name = ?", (bundle, name))
                if value:
                    self._database.execute("INSERT INTO labels VALUES (?, ?, ?)", (bundle, name, value))

    def find(self, beginning: str) -> list[Entry]:
        """The incidents whose bundle id begins so, or whose file has that path; at most ten."""
        pattern = beginning if beginning and set(beginning) <= set("0123456789abcdef") else "-"
        return self._entries("bundle GLOB ? OR path = ? LIMIT 10", f"{pattern}*", beginning)

    def newest(
        self,
        *,
        limit: int = 50,
        cause: str | None = None,
        signature: str | None = None,
        stream: str | None = None,
        since_ns: int = 0,
        labels: Sequence[tuple[str, str]] = (),
    ) -> list[Entry]:
        """The incidents that fit, newest first."""
        wanted, values = ["opened_ns >= ?"], [since_ns]
        for column, value in (("cause", cause), ("signature", signature), ("stream", stream)):
            if value is not None:
                wanted.append(f"{column} = ?")
                values.append(value)  # type: ignore[arg-type]
        for name, value in labels:
            wanted.append("bundle IN (SELECT bundle FROM labels WHERE name = ? AND value = ?)")
            values += [name, value]  # type: ignore[list-item]
        return self._entries(f"{' AND '.join(wanted)} ORDER BY opened_ns DESC LIMIT ?", *values, limit)

    def numbered(self, ids: Sequence[int]) -> list[tuple[int, Entry]]:
        """The incidents with these numbers."""
        if not ids:
            return []
        where = f"id IN ({', '.join('?' * len(ids))}) ORDER BY id"
        found = self._entries(where, *ids)
        there = [number for (number,) in self._rows(f"SELECT id FROM entries WHERE {where}", *ids)]  # noqa: S608 - fixed
        return list(zip(there, found, strict=False))

    def of_signature(self, signature: str, limit: int) -> list[int]:
        """Numbers of the newest incidents with a signature."""
        rows = self._rows(
            "SELECT id FROM entries WHERE signature = ? ORDER BY opened_ns DESC LIMIT ?", signature, limit
        )
        return [number for (number,) in rows]

    def groups(self, limit: int) -> list[tuple[int, int, Entry]]:
        """The largest groups: how many incidents, how many suppressed ones besides, and the first of each."""
        rows = list(
            self._rows(
                "SELECT alike, count(*), sum(recurrences) FROM entries GROUP BY alike ORDER BY 2 DESC, 1 LIMIT ?",
                limit,
            )
        )
        first = dict(self.numbered([number for number, _, _ in rows]))
        if len(first) < len(rows):
            raise CatalogInvalid(f"{self.path} has lost incidents; make it anew")
        return [(count, again, first[number]) for number, count, again in rows]

    def counts(self, column: str) -> list[tuple[str, int]]:
        """How many incidents there are by "cause", "kind", "stream" or "signature", most first."""
        if column not in ("cause", "kind", "stream", "signature"):
            raise ValueError(column)
        order = f"SELECT {column}, count(*) FROM entries GROUP BY {column} ORDER BY count(*) DESC LIMIT 50"  # noqa: S608
        return [(str(name), int(count)) for name, count in self._rows(order)]

    def problems(self) -> list[tuple[str, str]]:
        """Files that cannot be read, and why."""
        return [(path, problem) for path, problem in self._rows("SELECT path, problem FROM problems ORDER BY path")]

    def space(self, name: str) -> int | None:
        """The number of a space of vectors, if an incident has one of it."""
        return self._one("SELECT id FROM spaces WHERE name = ?", name)  # type: ignore[no-any-return]

    def vectors(self) -> Matrix:
        """All vectors (entries, DIMENSIONS + 1), mapped; the last column is the space."""
        if self._file.rows != self._last():
            self._extend_vectors()
        return self._file.matrix()

    def _last(self) -> int:
        return int(self._one("SELECT coalesce(max(id), 0) FROM entries"))

    def _extend_vectors(self) -> None:
        """Append the rows of new entries; entries are never taken out."""
        rows = self._file.rows  # asked first: a writer that commits meanwhile makes it no surplus
        [(last, count)] = self._rows("SELECT coalesce(max(id), 0), count(*) FROM entries")  # of one moment
        if last != count:
            raise CatalogInvalid(f"{self.path} has lost incidents; make it anew")
        if rows > last:
            self._file.remove()
        self._file.append(lambda have: self._rows("SELECT space, vector FROM entries WHERE id > ? ORDER BY id", have))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._database:
                yield
        except sqlite3.Error as error:
            raise CatalogInvalid(f"{self.path} cannot be written: {error}; is another command writing it?") from error

    def _one(self, query: str, *values: Any) -> Any:
        return next((row[0] for row in self._rows(query, *values)), None)

    def _rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._database.execute(query, values)
        except (sqlite3.Error, OverflowError) as error:
            raise CatalogInvalid(f"{self.path} cannot be read: {error}; name another file, or make it anew") from error

    def _entries(self, where: str, *values: Any) -> list[Entry]:
        rows = list(self._rows(f"SELECT {_COLUMNS}, alike FROM entries WHERE {where}", *values))  # noqa: S608 - fixed
        names = [*_COLUMNS.split(", "), "group"]
        found = [Entry(**dict(zip(names, row, strict=True))) for row in rows]
        labelled = []
        for entry in found:
            labels = dict(self._rows("SELECT name, value FROM labels WHERE bundle = ? ORDER BY name", entry.bundle))
            if not is_sound(entry) or not labels.keys() <= set(LABELS):
                raise CatalogInvalid(f"{self.path} holds what no incident has; make it anew")
            labelled.append(replace(entry, labels={name: str(value) for name, value in labels.items()}))
        return labelled
