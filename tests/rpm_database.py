"""Databases of rpm, made byte by byte: an SQLite table with a header of rpm's in each row.

A header is two counts, the index and the data, all big-endian. Each entry of the index has a tag,
a type (4 for 32-bit integers, 6 for a string), the offset of its value, and how many values it has.
rpm's manual describes it in ``format_header.md``; ``tests/integration/test_inventory.py`` has one
that rpm itself made.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

NAME, VERSION, RELEASE, EPOCH, LICENCE, ARCH, SOURCE = 1000, 1001, 1002, 1003, 1014, 1022, 1044


def rpm_header(values: Mapping[int, str | int]) -> bytes:
    """Give the header of one package, by its tags."""
    index, data = b"", b""
    for tag, value in sorted(values.items()):
        if isinstance(value, int):
            data += bytes(-len(data) % 4)
            index += struct.pack(">IIII", tag, 4, len(data), 1)
            data += struct.pack(">I", value)
        else:
            index += struct.pack(">IIII", tag, 6, len(data), 1)
            data += value.encode() + b"\0"
    return struct.pack(">II", len(index) // 16, len(data)) + index + data


def rpm_database(path: Path, headers: Iterable[bytes]) -> bytes:
    """Write a database in the mode that rpm leaves it in, with a log beside it; give its bytes."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", ((h,) for h in headers))
        database.commit()
    return path.read_bytes()
