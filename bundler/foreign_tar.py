"""Tar archives that other programs wrote: listed as all readers would, or refused.

docker, skopeo, podman and helm write them. ``bundler.archive.tar`` is for the dialect of our own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bundler.tar_header import (
    BLOCK,
    DIRECTORY,
    EXTENDED,
    GLOBAL,
    MAX_EXTENDED_BYTES,
    OLD_FILE,
    POSIX_MAGIC,
    SPARSE_RECORDS,
    WITHOUT_DATA,
    Extended,
    Header,
    read_records,
)

_MAGICS = {POSIX_MAGIC, b"ustar  \x00", bytes(8)}
_FILES = {b"0", OLD_FILE, b"7"}
# What would make readers that know less of it see another archive.
_DECISIVE = {b"path", b"linkpath", b"size"}


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
        extended = Extended()
        while any(block := self._take(BLOCK)):
            header = self._header(block)
            if header.kind in EXTENDED:
                self._add(extended, header)
                continue
            member = self._member(header, extended)
            extended = Extended()
            self._offset += member.size + -member.size % BLOCK
            if self._offset > self._size:
                raise ValueError(f"{member.path!r} runs past the archive's end: it is cut short")
            yield member
        if extended:
            raise ValueError("ends behind an extended header")
        self._require_end()

    def _header(self, block: bytes) -> Header:
        try:
            header = Header(block)
        except ValueError as error:
            where = f"at offset {self._offset - BLOCK}"
            raise ValueError(f"no header of a tar {where}: {error}") from error
        if header.magic not in _MAGICS:
            raise ValueError(f"a header with magic {header.magic!r}, which is no tar's")
        return header

    def _add(self, extended: Extended, header: Header) -> None:
        size = header.size
        if size > MAX_EXTENDED_BYTES:
            raise ValueError(f"extended header of {size} bytes, expected {MAX_EXTENDED_BYTES}")
        body = self._take(size + -size % BLOCK)[:size]
        extended.add(header.kind, body)
        if header.kind == GLOBAL and read_records(body).keys() & _DECISIVE:
            raise ValueError("a global header that names or sizes members")
        if any(key.startswith(SPARSE_RECORDS) for key in extended.records):
            raise ValueError("a sparse file")

    def _member(self, header: Header, extended: Extended) -> ForeignMember:
        header.require_numbers()
        if header.front and header.magic != POSIX_MAGIC:
            raise ValueError(f"{header.path[:80]!r}: a name with a front that its format has not")
        kind, size = header.kind, extended.size_of(header)
        path = extended.records.get(b"path", header.path)
        if not path:
            raise ValueError("a member whose path is empty")
        # The oldest archives tell a directory by the slash alone; of others, some readers do.
        directory = kind == DIRECTORY or (kind == OLD_FILE and path.endswith(b"/"))
        if kind in _FILES and not directory and path.endswith(b"/"):
            raise ValueError(f"{path[:80]!r}: a file whose name ends with a slash")
        if kind not in _FILES | WITHOUT_DATA or (size and (directory or kind in WITHOUT_DATA)):
            raise ValueError(f"{path[:80]!r}: type {kind!r} with {size} bytes of data")
        return ForeignMember(
            path=path.decode("utf-8"),
            file=kind in _FILES and not directory,
            directory=directory,
            offset=self._offset,
            size=size,
        )

    def _require_end(self) -> None:
        """Demand a second block of zeros, and nothing else behind it; writers fill a record."""
        self._take(BLOCK)
        self._archive.seek(self._offset - BLOCK)
        while piece := self._archive.read(MAX_EXTENDED_BYTES):
            if any(piece):
                raise ValueError("something stands behind the archive's end")

    def _take(self, length: int) -> bytes:
        self._archive.seek(self._offset)
        taken = self._archive.read(length)
        if len(taken) < length:
            raise ValueError(f"ends at {self._size}, without its zero blocks: it is cut short")
        self._offset += length
        return taken
