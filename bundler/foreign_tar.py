"""Tar archives that other programs wrote: listed as all readers would, or refused.

docker, skopeo, podman and helm write them. ``bundler.archive.tar`` is for the dialect of our own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = 512
# Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
_LAYOUT = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_CHECKSUM = slice(148, 156)
_POSIX, _GNU, _OLD = b"ustar\x0000", b"ustar  \x00", bytes(8)
_FILES, _DIRECTORY, _NO_DATA = {b"0", b"\0", b"7"}, b"5", {b"1", b"2", b"3", b"4", b"5", b"6"}
_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_MAX_HEADER_BYTES = 1 << 20
_BASE_256 = 0x80
# What would make readers that know less of it see another archive.
_DECISIVE = (b"path", b"linkpath", b"size")
_SPARSE = b"GNU.sparse."


@dataclass(frozen=True, slots=True)
class ForeignMember:
    """One member of an archive.

    Attributes:
        path: As it stands there; it may climb, and be there twice.
        file, directory: What it is; neither for a link or a device.
        offset, size: Where its data lies.
    """

    path: str
    file: bool
    directory: bool
    offset: int
    size: int


def list_members(archive: BinaryIO) -> Iterator[ForeignMember]:
    """Read the headers of an archive that can be sought in, in order.

    Raises:
        ValueError: It is cut short, has something behind its end, a sparse file, a member of a
            type or size that readers take in two ways, or more than 1 MiB of extended header.
        OSError: It cannot be read.
    """
    return _Listing(archive).members()


class _Listing:
    def __init__(self, archive: BinaryIO) -> None:
        self._archive = archive
        self._size = archive.seek(0, os.SEEK_END)
        self._offset = 0

    def members(self) -> Iterator[ForeignMember]:
        extended: dict[bytes, bytes] = {}
        before: set[bytes] = set()
        while any(block := self._take(_BLOCK)):
            kind, path, size = _read_block(block, self._offset - _BLOCK)
            if kind in {_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK}:
                more = self._extension(kind, size)
                # Readers forget the one before, or the one behind, or put both together.
                if kind in before or (kind == _GLOBAL and before) or extended.keys() & more.keys():
                    raise ValueError("several extended headers before one member")
                extended |= more
                before |= {kind} - {_GLOBAL}
                continue
            member = self._member(kind, path, size, extended)
            extended, before = {}, set()
            self._offset += member.size + -member.size % _BLOCK
            if self._offset > self._size:
                raise ValueError(f"{member.path!r} runs past the archive's end: it is cut short")
            yield member
        if before:
            raise ValueError("ends behind an extended header")
        self._require_end()

    def _member(
        self, kind: bytes, path: bytes, size: int, extended: dict[bytes, bytes]
    ) -> ForeignMember:
        path = extended.get(b"path", path)
        if b"\0" in path or not path:
            raise ValueError(f"path {path[:80]!r} is empty or has a NUL")
        if b"size" in extended:
            size = _decimal(extended[b"size"])
        # The oldest archives tell a directory by the slash alone.
        directory = kind == _DIRECTORY or (kind in _FILES and path.endswith(b"/"))
        if kind not in _FILES | _NO_DATA or (size and (directory or kind in _NO_DATA)):
            raise ValueError(f"{path[:80]!r}: type {kind!r} with {size} bytes of data")
        return ForeignMember(
            path=path.decode("utf-8"),
            file=kind in _FILES and not directory,
            directory=directory,
            offset=self._offset,
            size=size,
        )

    def _extension(self, kind: bytes, size: int) -> dict[bytes, bytes]:
        if size > _MAX_HEADER_BYTES:
            raise ValueError(f"extended header of {size} bytes, expected {_MAX_HEADER_BYTES}")
        body = self._take(size + -size % _BLOCK)[:size]
        if kind in {_LONG_NAME, _LONG_LINK}:
            return {b"path" if kind == _LONG_NAME else b"linkpath": body.rstrip(b"\0")}
        records = dict(_records(body))
        if kind == _GLOBAL:
            if records.keys() & set(_DECISIVE):
                raise ValueError("a global header that names or sizes members")
            return {}
        return records

    def _require_end(self) -> None:
        """Demand a second block of zeros, and nothing else behind it; writers fill a record."""
        self._take(_BLOCK)
        self._archive.seek(self._offset - _BLOCK)
        while piece := self._archive.read(_MAX_HEADER_BYTES):
            if any(piece):
                raise ValueError("something stands behind the archive's end")

    def _take(self, length: int) -> bytes:
        self._archive.seek(self._offset)
        taken = self._archive.read(length)
        if len(taken) < length:
            raise ValueError(f"ends at {self._size}, without its zero blocks: it is cut short")
        self._offset += length
        return taken


def _read_block(block: bytes, offset: int) -> tuple[bytes, bytes, int]:
    name, _, _, _, size, _, check, kind, _, magic, *_, prefix = _LAYOUT.unpack(block)
    blank = sum(block[: _CHECKSUM.start]) + 8 * ord(" ") + sum(block[_CHECKSUM.stop :])
    if _octal(check) != blank:
        raise ValueError(f"no header of a tar at offset {offset}: its checksum is wrong")
    if magic not in {_POSIX, _GNU, _OLD}:
        raise ValueError(f"no header of a tar at offset {offset}: magic {magic!r}")
    # GNU tar keeps other things where ustar has the front of a long name.
    front = prefix.partition(b"\0")[0] if magic == _POSIX else b""
    path = name.partition(b"\0")[0]
    return kind, front + b"/" + path if front else path, _number(size)


def _records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Read PAX records, ``<length> <key>=<value>`` and a newline each."""
    begin, seen = 0, set[bytes]()
    while begin < len(body):
        digits = body[begin : begin + 8].partition(b" ")[0]
        end = begin + _decimal(digits)
        record = body[begin + len(digits) + 1 : end]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        whole = end <= len(body) and not digits.startswith(b"0") and record.endswith(b"\n")
        if not whole or not equals or key in seen or key.startswith(_SPARSE):
            shown = body[begin : begin + 40]
            raise ValueError(f"extended header {shown!r} is a sparse file's, or none")
        yield key, value
        seen.add(key)
        begin = end


def _number(field: bytes) -> int:
    if field[0] == _BASE_256:
        return int.from_bytes(field[1:], "big")
    return _octal(field)


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise ValueError(f"expected octal digits, got {field!r}")
    return int(digits or b"0", 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise ValueError(f"expected a number, got {text[:20]!r}")
    return int(text)
