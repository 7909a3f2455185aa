"""The members of a layer, read in one pass: any tar that image builders write.

Unlike our own dialect (``bundler.archive.tar``) this is read as runtimes read it: ustar, PAX, GNU
and the format before them. What neither they nor we can follow is an error, never a silent end.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bundler.inventory.effort import HEADERS, NAMES, RECORDS, Effort
from bundler.tar_header import (
    BLOCK,
    DIRECTORY,
    EXTENDED,
    FILE,
    HARD_LINK,
    MAX_EXTENDED_BYTES,
    OLD_FILE,
    SPARSE_RECORDS,
    SYMBOLIC_LINK,
    WITHOUT_DATA,
    Extended,
    Header,
)

# GNU's sparse files; Solaris's extended headers, which some take for PAX's and others for members.
_SPARSE, _SOLARIS = b"S", b"X"
# Whether blocks with more of the map of a sparse file follow.
_MORE_MAP, _STILL_MORE_MAP = 482, 504
_SPARSE_NAME = b"GNU.sparse.name"
_SPARSE_VERSIONS = {(b"0", b"0"), (b"0", b"1"), (b"1", b"0")}
# Source: Linux, limits.h, PATH_MAX.
_MAX_PATH_BYTES = 4096


@dataclass(frozen=True, slots=True)
class LayerMember:
    """One member of a layer.

    Attributes:
        path: From the root of the image, cleaned; empty for the root itself.
        kind: Its type: ``FILE``, ``DIRECTORY``, a link, or something else.
        size: Bytes of data.
        link: Where a hard link leads, from the root; what a symbolic link says; empty for all else.
        sparse: Whether the data is not the file's, but what is left of it between holes.
    """

    path: str
    kind: bytes
    size: int
    link: str = ""
    sparse: bool = False


class LayerTar:
    """The members of one layer.

    Args:
        pieces: Its plain bytes; each piece need only be good until the next is asked for.
        effort: What may be spent on it.
    """

    def __init__(self, pieces: Iterable[bytes | memoryview], effort: Effort | None = None) -> None:
        self._pieces = iter(pieces)
        self._effort = effort or Effort()
        self._piece = memoryview(b"")
        # Data of the member that was given last, and then its padding.
        self._left = self._padding = 0

    def members(self) -> Iterator[LayerMember]:
        """Give every member; the data of the last one can be read until the next is asked for.

        Raises:
            ValueError: The tar breaks its format, or is more than a layer of use can be.
        """
        while (member := self._next()) is not None:
            self._left, self._padding = member.size, -member.size % BLOCK
            yield member
            self._skip(self._left + self._padding)

    def read(self, limit: int) -> bytes:
        """Read the data of the current member, at most ``limit`` bytes of it."""
        content = self._take(min(limit, self._left))
        self._left -= len(content)
        return content

    def _next(self) -> LayerMember | None:
        """Read the headers of a member: those that say more about it come first."""
        extended = Extended()
        while (header := self._header()) is not None:
            if header.kind not in EXTENDED:
                return self._member(header, extended)
            size = header.size
            if size > MAX_EXTENDED_BYTES:
                raise ValueError(f"a header of {size} bytes, expected at most {MAX_EXTENDED_BYTES}")
            body = self._take(size)
            self._skip(-size % BLOCK)
            self._effort.spend(RECORDS, body.count(b"\n"))
            extended.add(header.kind, body)
        if extended:
            raise ValueError("ends behind a header that is about another one")
        return None

    def _header(self) -> Header | None:
        """Give the next header; None at the end."""
        block = self._take(BLOCK, whole=False)
        if not block:
            return None
        if len(block) < BLOCK:
            raise ValueError("ends within a header")
        if not any(block):
            if any(self._take(BLOCK, whole=False)):
                raise ValueError("one zero block, and more behind it")
            return None
        self._effort.spend(HEADERS)
        return Header(block)

    def _member(self, header: Header, extended: Extended) -> LayerMember:
        type_, records = header.kind, extended.records
        name = _name(header, records)
        self._effort.spend(NAMES, len(name))
        kind = FILE if type_ in {OLD_FILE, _SPARSE} else type_
        slash = kind == FILE and name.endswith("/")
        if type_ == _SOLARIS or (slash and type_ != OLD_FILE):
            raise ValueError(f"a member that readers take in different ways: {name[:80]!r}")
        kind = DIRECTORY if slash else kind
        size = extended.size_of(header)
        if type_ == _SPARSE:
            self._skip_map(header.block)
        return LayerMember(
            path=_cleaned(name),
            kind=kind,
            size=0 if kind in WITHOUT_DATA else size,
            link=_followed(kind, records.get(b"linkpath") or header.link),
            sparse=type_ == _SPARSE or any(map(_is_sparse, records)),
        )

    def _skip_map(self, block: bytes) -> None:
        more = block[_MORE_MAP]
        while more:
            more = self._take(BLOCK)[_STILL_MORE_MAP]

    def _take(self, count: int, *, whole: bool = True) -> bytes:
        taken, left = io.BytesIO(), count
        while left and self._fill():
            part = self._piece[:left]
            if len(part) == count:
                self._piece = self._piece[count:]
                return bytes(part)
            left -= taken.write(part)
            self._piece = self._piece[len(part) :]
        if whole and left:
            raise ValueError("ends within a member")
        return taken.getvalue()

    def _skip(self, count: int) -> None:
        while count:
            if not self._fill():
                raise ValueError("ends within a member")
            part = min(count, len(self._piece))
            self._piece = self._piece[part:]
            count -= part

    def _fill(self) -> bool:
        """Have a piece with bytes in it; False at the end."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._piece = memoryview(piece)
        return True


def _name(header: Header, records: Mapping[bytes, bytes]) -> str:
    """Give its name; that of a sparse file, whose path is made up, where all know its version."""
    name = records.get(_SPARSE_NAME)
    if name:
        version = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
        if version not in _SPARSE_VERSIONS and (any(version) or b"GNU.sparse.map" not in records):
            raise ValueError(f"a sparse file of a version that readers do not know: {name[:80]!r}")
    return _decoded(name or records.get(b"path") or header.path)


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _is_sparse(key: bytes) -> bool:
    return key.startswith(SPARSE_RECORDS)


def _followed(kind: bytes, link: bytes) -> str:
    if kind == HARD_LINK:
        return _cleaned(_decoded(link))
    return _short(_decoded(link)) if kind == SYMBOLIC_LINK else ""


def _cleaned(name: str) -> str:
    """Give a path from the root as runtimes do: nothing climbs above it."""
    return posixpath.normpath(f"/{_short(name)}").lstrip("/")


def _short(path: str) -> str:
    if len(path) > _MAX_PATH_BYTES:
        raise ValueError(f"a path of more than {_MAX_PATH_BYTES} bytes")
    return path
