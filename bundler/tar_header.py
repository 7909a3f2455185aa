"""Headers of tar archives: a block or a record in, what it says out; nothing else is judged here.

Which of it may stand in an archive is each reader's own rule: ``archive/tar.py`` for archives of
ours, ``foreign_tar.py`` for those of others, ``inventory/layer_tar.py`` for layers of images.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

BLOCK = 512
# Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
OLD_FILE, FILE, HARD_LINK, SYMBOLIC_LINK, DIRECTORY = b"\0", b"0", b"1", b"2", b"5"
PAX, GLOBAL, LONG_NAME, LONG_LINK = b"x", b"g", b"L", b"K"
EXTENDED = frozenset({PAX, GLOBAL, LONG_NAME, LONG_LINK})
# Links, devices, directories and pipes have no data, whatever their size says.
WITHOUT_DATA = frozenset({HARD_LINK, SYMBOLIC_LINK, b"3", b"4", DIRECTORY, b"6"})
POSIX_MAGIC = b"ustar\x0000"
_USTAR, SPARSE_RECORDS = POSIX_MAGIC[:6], b"GNU.sparse."
# Source: Go, archive/tar: what it takes of a PAX header or long name.
MAX_EXTENDED_BYTES = 1 << 20

CHECKSUM = slice(148, 156)
_NAME, _MODE, _SIZE, _MTIME = slice(0, 100), slice(100, 108), slice(124, 136), slice(136, 148)
_KIND, _LINK, _MAGIC, _PREFIX = slice(156, 157), slice(157, 257), slice(257, 265), slice(345, 500)
_OCTAL = b"01234567"
# Where mode, owner, group, size and time stand.
_NUMBERS = (*(slice(at, at + 8) for at in (100, 108, 116)), _SIZE, _MTIME)
# star ends its headers so, and has a shorter front; GNU tar has two times in the front's place.
_STAR, _STAR_FRONT_BYTES = b"tar\0", 131
_GNU_MAGIC, _GNU_TIMES = b"ustar  \0", (slice(345, 357), slice(357, 369))
_LONG = {LONG_NAME: b"path", LONG_LINK: b"linkpath"}
_NAMES = frozenset(_LONG.values())


@dataclass(frozen=True, slots=True)
class Header:
    """One header block whose checksum is right, over bytes or, as old programs did it, signed ones.

    Raises:
        ValueError: It is not; so do attributes whose field holds no number.
    """

    block: bytes

    def __post_init__(self) -> None:
        """Compare the checksum."""
        total = checksum(self.block)
        signed = total - 256 * sum(byte > 0x7F for byte in self.block)
        field = self.block[CHECKSUM]
        if not _is_octal(field) or _octal(field) not in {total, signed}:
            raise ValueError("header checksum is wrong")

    @property
    def kind(self) -> bytes:
        """Its type, a byte."""
        return self.block[_KIND]

    @property
    def magic(self) -> bytes:
        """Which format it says that it has, with the version."""
        return self.block[_MAGIC]

    @property
    def path(self) -> bytes:
        """As it stands there, a slash at its end too; the front of a long one with it.

        Raises:
            ValueError: Readers find its front in different ways.
        """
        name, front = _text(self.block[_NAME]), self.front
        if self.block.startswith(_USTAR, _MAGIC.start):  # no reader looks at the version
            if self.block.endswith(_STAR) and len(front) > _STAR_FRONT_BYTES:
                raise ValueError("a name whose front is longer than star's, in a header of star")
            return front + b"/" + name if front else name
        if front and self.magic == _GNU_MAGIC:
            # Source: Go, archive/tar, reader.go: what is no time is the front of the name.
            for field in _GNU_TIMES:
                _number(self.block[field])
        return name

    @property
    def front(self) -> bytes:
        """What stands where ustar has the front of a long name."""
        return _text(self.block[_PREFIX])

    def require_numbers(self) -> None:
        """Demand a number in each field that holds one."""
        for field in _NUMBERS:
            _number(self.block[field])

    @property
    def link(self) -> bytes:
        """Where a link leads."""
        return _text(self.block[_LINK])

    @property
    def size(self) -> int:
        """Bytes of data behind it."""
        return _number(self.block[_SIZE])

    @property
    def mtime(self) -> int:
        """Seconds since 1970."""
        return _number(self.block[_MTIME])

    @property
    def mode(self) -> int:
        """Who may do what with it."""
        return _number(self.block[_MODE])


class Extended:
    """What extended headers say of the member behind them.

    Attributes:
        records: By key, among them GNU's long names as ``path`` and ``linkpath``.
    """

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self._kinds = set[bytes]()

    def __bool__(self) -> bool:
        """Say whether there was one that is about the next member alone."""
        return bool(self._kinds)

    def add(self, kind: bytes, body: bytes) -> None:
        """Take in one more; a global one, which is about no single member, for its place alone.

        Of two of a kind one reader takes the first and another the last; behind a global one some
        have forgotten those before it.

        Raises:
            ValueError: Readers take them in different ways, or it breaks its format.
        """
        if kind in self._kinds or (kind == GLOBAL and self._kinds):
            raise ValueError("several extended headers, which readers take in different ways")
        if kind == GLOBAL:
            return
        self._kinds.add(kind)
        more = read_records(body) if kind == PAX else {_LONG[kind]: _text(body)}
        if any(self.records.get(key, value) != value for key, value in more.items()):
            raise ValueError("two names of one member")
        self.records |= more

    def size_of(self, header: Header) -> int:
        """Give the size of the member that this header is of."""
        size = self.records.get(b"size")
        if size is None:
            return header.size
        if not size.isdigit() or len(size) > 18:
            raise ValueError(f"expected a size, got {size[:40]!r}")
        return int(size)


def checksum(block: bytes) -> int:
    """Add up the bytes of a header, with spaces in the place of its checksum; at C's pace.

    Source:
        RFC 1950, section 8.2: the lower half of Adler-32 is 1 and the sum, modulo 65521; 256 bytes
        add up to less.
    """
    first = block[: CHECKSUM.start] + b" " * 8 + block[CHECKSUM.stop : 256]
    return (zlib.adler32(first) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2


def read_records(body: bytes) -> dict[bytes, bytes]:
    """Read PAX records: ``<length> <key>=<value>`` and a newline each.

    Raises:
        ValueError: One is none, has a NUL where names have none, or a key is there twice (but for
            those of sparse files, of which the last one counts).
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(body):
        digits = body[at : at + 9].partition(b" ")[0]
        length = int(digits) if digits.isdigit() and digits[0] != ord("0") else 0
        record = body[at + len(digits) + 1 : at + length]
        key, _, value = record[:-1].partition(b"=")
        if not _is_record(record, key, value) or at + length > len(body):
            raise ValueError(f"extended header: expected a PAX record, got {body[at : at + 40]!r}")
        if key in records and not key.startswith(SPARSE_RECORDS):
            raise ValueError(f"two PAX records {key[:40]!r} of one member")
        records[key] = value
        at += length
    return records


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _is_record(record: bytes, key: bytes, value: bytes) -> bool:
    whole = record.endswith(b"\n") and b"=" in record
    return whole and key != b"" and b"\0" not in key and not (key in _NAMES and b"\0" in value)


def _number(field: bytes) -> int:
    """Read a number: octal digits, or GNU's way, where the first bit is set and all else binary."""
    if not field[0] & 0x80:
        return _octal(field)
    if field[0] & 0x40:
        raise ValueError(f"expected octal digits or a number of 0 or more, got {field!r}")
    return int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))


def _octal(field: bytes) -> int:
    if not _is_octal(field):
        raise ValueError(f"expected octal digits, got {field!r}")
    return int(_text(field).strip(b" ") or b"0", 8)


def _is_octal(field: bytes) -> bool:
    """Say whether there are digits up to a NUL at most, where all readers end."""
    digits, _, rest = field.partition(b"\0")
    return not digits.strip(b" ").strip(_OCTAL) and not rest.strip(b" \0")
