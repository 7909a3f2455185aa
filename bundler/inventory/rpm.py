"""The database of rpm, where it is SQLite: ``rpmdb.sqlite``, a header of rpm's in each row."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing

from bundler.inventory.package import MAX_PACKAGES, Package, few_enough

# Source: rpm, docs/manual/format_header.md: two counts, the index entries, the data.
_COUNTS = struct.Struct(">II")
_ENTRY = struct.Struct(">IIII")
_MAX_ENTRIES = 0xFFFF
_INT32, _STRING, _STRING_LIST, _TRANSLATED = 4, 6, 8, 9
# Source: rpm, include/rpm/rpmtag.h.
_NAME, _VERSION, _RELEASE, _EPOCH, _LICENCE, _ARCH, _SOURCE = (
    1000,
    1001,
    1002,
    1003,
    1014,
    1022,
    1044,
)
# A public key that rpm trusts has a row of its own, and is no package.
_KEY = "gpg-pubkey"

# Source: SQLite, fileformat2.html, "File format version numbers": 1 legacy, 2 for a file that is
# written with a log beside it. What lies in memory can have no log, so it is called the former.
_SQLITE_MAGIC = b"SQLite format 3\0"
_VERSIONS = slice(18, 20)
_MAX_ROW_BYTES = 32 << 20
# A database of thousands of packages takes some ten thousands of SQLite's instructions.
_INSTRUCTIONS, _MAX_CALLS = 10_000, 1_000


def read_rpm(content: bytes) -> tuple[Package, ...]:
    """Give the packages of a database; nothing in it is run.

    Raises:
        ValueError: It is no such database.
    """
    if not content.startswith(_SQLITE_MAGIC) or len(content) < 512:
        raise ValueError("expected an SQLite database, got something else")
    plain = bytearray(content)
    plain[_VERSIONS] = b"\1\1"
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW_BYTES)
            database.deserialize(plain)
            return few_enough(_packages(database, len(content)))
    # SQLite runs out of memory, it says, where pages of a broken database lead beyond its end.
    except (sqlite3.Error, OverflowError, MemoryError) as error:
        problem = str(error) or type(error).__name__
        raise ValueError(f"not an SQLite database that can be read: {problem}") from error


def _packages(database: sqlite3.Connection, size: int) -> Iterator[Package]:
    calls = iter(range(_MAX_CALLS))
    database.set_progress_handler(lambda: next(calls, None) is None, _INSTRUCTIONS)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    _require_stored(database)
    for (blob,) in database.execute("SELECT blob FROM Packages LIMIT ?", (MAX_PACKAGES + 1,)):
        if not isinstance(blob, bytes):
            raise ValueError("expected rpm headers in the table Packages")
        size -= len(blob)
        if size < 0:
            raise ValueError("rows of a database that share their bytes")
        package = _package(_Header(blob))
        if package is not None:
            yield package


def _require_stored(database: sqlite3.Connection) -> None:
    """Refuse rows that are computed as they are read: by a view, a module, an expression."""
    tables = database.execute("SELECT type, rootpage FROM sqlite_master WHERE name = 'Packages'")
    if [kind for kind, page in tables if page] != ["table"]:
        raise ValueError("expected a table Packages, found none")
    columns = database.execute("SELECT hidden FROM pragma_table_xinfo('Packages')")
    if any(hidden for (hidden,) in columns):
        raise ValueError("expected a table Packages with no computed columns")


def _package(header: _Header) -> Package | None:
    name = header.text(_NAME)
    if name == _KEY:
        return None
    release = header.text(_RELEASE)
    return Package(
        kind="rpm",
        name=name,
        version=header.text(_VERSION) + (f"-{release}" if release else ""),
        architecture=header.text(_ARCH),
        epoch=header.number(_EPOCH),
        source=header.text(_SOURCE),
        licence=header.text(_LICENCE),
    )


class _Header:
    """One header: values by their tags."""

    def __init__(self, blob: bytes) -> None:
        if len(blob) < _COUNTS.size:
            raise ValueError("an rpm header that is cut short")
        entries, length = _COUNTS.unpack_from(blob)
        start = _COUNTS.size + entries * _ENTRY.size
        if entries > _MAX_ENTRIES or len(blob) != start + length:
            raise ValueError(f"an rpm header of {len(blob)} bytes that says it has other sizes")
        self._data = blob[start:]
        self._index = {
            tag: (kind, offset)
            for tag, kind, offset, _ in _ENTRY.iter_unpack(blob[_COUNTS.size : start])
        }

    def text(self, tag: int) -> str:
        """Give a string, or the first of several; empty where there is none."""
        kind, offset = self._index.get(tag, (None, 0))
        if kind not in {_STRING, _STRING_LIST, _TRANSLATED}:
            return ""
        end = self._data.find(b"\0", offset)
        if end < 0:
            raise ValueError(f"an rpm header whose tag {tag} has no end")
        return self._data[offset:end].decode("utf-8", "replace")

    def number(self, tag: int) -> str:
        """Give an integer as text; empty where there is none."""
        kind, offset = self._index.get(tag, (None, 0))
        if kind != _INT32:
            return ""
        if offset + 4 > len(self._data):
            raise ValueError(f"an rpm header whose tag {tag} lies outside")
        return str(int.from_bytes(self._data[offset : offset + 4], "big"))
