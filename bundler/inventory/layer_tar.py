"""The members of a layer, read in one pass: any tar that image builders write.

Unlike our own dialect (``bundler.archive.tar``) this is read as runtimes read it: ustar, PAX, GNU
and the format before them. What neither they nor we can follow is an error, never a silent end.
"""

from __future__ import annotations

import io
import posixpath
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
BLOCK = 512
FILE, HARD_LINK, SYMBOLIC_LINK, DIRECTORY = b"0", b"1", b"2", b"5"
_OLD_FILE, _GLOBAL, _PAX, _LONG_NAME, _LONG_LINK, _SPARSE = b"\0", b"g", b"x", b"L", b"K", b"S"
_EXTRA = frozenset({_GLOBAL, _PAX, _LONG_NAME, _LONG_LINK})
# Links, devices, directories and pipes have no data, whatever their size says.
_WITHOUT_DATA = frozenset({HARD_LINK, SYMBOLIC_LINK, b"3", b"4", DIRECTORY, b"6"})
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)
_KIND, _LINK, _MAGIC, _PREFIX = slice(156, 157), slice(157, 257), slice(257, 265), slice(345, 500)
_USTAR = b"ustar\x0000"
# Of GNU's sparse files: whether blocks with more of the map follow.
_MORE_MAP, _STILL_MORE_MAP = 482, 504
_SPARSE_NAME, _SPARSE_RECORDS = "GNU.sparse.name", "GNU.sparse."

# Source: Go, archive/tar: what it takes of a PAX header or long name; Linux, limits.h, PATH_MAX.
_MAX_EXTRA_BYTES, _MAX_PATH_BYTES = 1 << 20, 4096
# Of one layer: some times what images of whole systems have. One takes some ten microseconds.
MAX_HEADERS, MAX_RECORDS, MAX_NAME_CHARS = 500_000, 2_000_000, 64 << 20


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
    """

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        # Data of the member that was given last, and then its padding.
        self._left = self._padding = 0
        self._headers = self._records = self._names = 0

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
        """Read the headers of a member: those that say more about it come first.

        Of two of a kind one reader takes the first and another the last; behind a global one some
        have forgotten those before it.
        """
        records: dict[str, str] = {}
        long_names: dict[bytes, str] = {}
        seen = set[bytes]()
        while (block := self._header()) is not None:
            kind, size = block[_KIND], _number(block[_SIZE])
            if kind not in _EXTRA:
                return self._member(block, records, long_names)
            if kind in seen or (kind == _GLOBAL and seen):
                raise ValueError("headers about one member that readers take in different ways")
            if size > _MAX_EXTRA_BYTES:
                raise ValueError(f"a header of {size} bytes, expected at most {_MAX_EXTRA_BYTES}")
            body = self._take(size)
            self._skip(-size % BLOCK)
            if kind == _GLOBAL:
                continue
            seen.add(kind)
            if kind == _PAX:
                records = dict(self._counted(_records(body)))
            else:
                long_names[kind] = _text(body)
        if seen:
            raise ValueError("ends behind a header that is about another one")
        return None

    def _counted(self, records: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for record in records:
            self._records += 1
            if self._records > MAX_RECORDS:
                raise ValueError(f"more than {MAX_RECORDS} PAX records")
            yield record

    def _header(self) -> bytes | None:
        """Give the next block that is a header; None at the end."""
        block = self._take(BLOCK, whole=False)
        if not block:
            return None
        if len(block) < BLOCK:
            raise ValueError("ends within a header")
        if not any(block):
            if any(self._take(BLOCK, whole=False)):
                raise ValueError("one zero block, and more behind it")
            return None
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise ValueError(f"more than {MAX_HEADERS} headers")
        if not _is_header(block):
            raise ValueError("the checksum of a header is wrong")
        return block

    def _member(
        self, block: bytes, records: dict[str, str], long_names: dict[bytes, str]
    ) -> LayerMember:
        kind = FILE if block[_KIND] == _OLD_FILE else block[_KIND]
        record = records.get(_SPARSE_NAME) or records.get("path")
        name = _one(long_names.get(_LONG_NAME), record) or _own_name(block)
        link = _one(long_names.get(_LONG_LINK), records.get("linkpath")) or _text(block[_LINK])
        self._names += len(name)
        if self._names > MAX_NAME_CHARS:
            raise ValueError(f"names of more than {MAX_NAME_CHARS} characters")
        size = int(records["size"]) if "size" in records else _number(block[_SIZE])
        if kind == FILE and name.endswith("/"):
            kind = DIRECTORY
        if kind == _SPARSE:
            self._skip_map(block)
        return LayerMember(
            path=_cleaned(name),
            kind=FILE if kind == _SPARSE else kind,
            size=0 if kind in _WITHOUT_DATA else size,
            link=_followed(kind, link),
            sparse=kind == _SPARSE or any(key.startswith(_SPARSE_RECORDS) for key in records),
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


def _own_name(block: bytes) -> str:
    name, prefix = _text(block[_NAME]), _text(block[_PREFIX])
    return f"{prefix}/{name}" if block[_MAGIC] == _USTAR and prefix else name


def _is_header(block: bytes) -> bool:
    """Compare the checksum: over bytes as POSIX says, or signed, as some old programs took them."""
    expected = _number(block[_CHECKSUM])
    counted = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    total = _sum(counted[:256]) + _sum(counted[256:])
    return expected == total or expected == total - 256 * sum(byte > 0x7F for byte in counted)


def _sum(half: bytes) -> int:
    """Add up bytes, at C's pace.

    Source:
        RFC 1950, section 8.2: the lower half of Adler-32 is 1 and the sum, modulo 65521; 256 bytes
        add up to less.
    """
    return (zlib.adler32(half) & 0xFFFF) - 1


def _number(field: bytes) -> int:
    """Read a number: octal digits, or GNU's way, where the first bit is set and all else binary."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        if field[0] & 0x40:
            raise ValueError("a number below 0")
        return number
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise ValueError(f"expected octal digits, got {field!r}")
    return int(digits or b"0", 8)


def _records(body: bytes) -> Iterator[tuple[str, str]]:
    """Read PAX records: ``<length> <key>=<value>`` and a newline each."""
    at = 0
    while at < len(body):
        digits, space, _ = body[at : at + 9].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = body[at + len(digits) + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        whole = record.endswith(b"\n") and at + length <= len(body)
        if not equals or not whole or b"\0" in key:
            raise ValueError(f"expected a PAX record, got {body[at : at + 40]!r}")
        if key == b"size" and not (value.isdigit() and len(value) < 20):
            raise ValueError(f"expected a size, got {value[:40]!r}")
        yield _text(key), _text(value)
        at += length


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _one(long_name: str | None, record: str | None) -> str | None:
    """Give the name that GNU's header or a PAX record says, if any; never one of two."""
    if long_name and record and long_name != record:
        raise ValueError("two names of one member")
    return long_name or record


def _followed(kind: bytes, link: str) -> str:
    if kind == HARD_LINK:
        return _cleaned(link)
    return _short(link) if kind == SYMBOLIC_LINK else ""


def _cleaned(name: str) -> str:
    """Give a path from the root as runtimes do: nothing climbs above it."""
    return posixpath.normpath(f"/{_short(name)}").lstrip("/")


def _short(path: str) -> str:
    if len(path) > _MAX_PATH_BYTES:
        raise ValueError(f"a path of more than {_MAX_PATH_BYTES} bytes")
    return path
