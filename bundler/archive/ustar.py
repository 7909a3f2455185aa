"""Header blocks of a tar archive, and PAX records: 512 bytes in, fields out, and back."""

from __future__ import annotations

import struct
from dataclasses import dataclass

BLOCK = 512
OCTAL_LIMIT = 8**11
FILE, DIRECTORY, PAX = b"0", b"5", b"x"
MAX_PAX_BYTES = 4096

# Source: POSIX.1-2017, pax, "ustar Interchange Format": name, mode, uid, gid, size, mtime,
# checksum, type, link name, magic and version, user, group, device numbers, prefix.
_LAYOUT = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_CHECKSUM = slice(148, 156)
_MAGIC = b"ustar\x0000"
_NAME_BYTES, _PREFIX_BYTES = 100, 155
_REFUSED = {
    b"\0": "a file of the old tar format",
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"7": "a contiguous file",
    b"K": "a GNU long link name",
    b"L": "a GNU long name",
    b"S": "a GNU sparse file",
    b"g": "a global PAX header",
}


@dataclass(frozen=True, slots=True)
class Fields:
    """What one header block says; a path ends with a slash as it stands there."""

    kind: bytes
    path: str
    size: int
    mtime: int
    mode: int


def write_block(
    name: tuple[bytes, bytes], *, mode: int, size: int, mtime: int, kind: bytes
) -> bytes:
    """Give one header block with owner 0; ``name`` is ustar's prefix and name."""
    prefix, last = name
    zero = b"%07o\0" % 0
    fields = (last, b"%07o\0" % mode, zero, zero, b"%011o\0" % size, b"%011o\0" % mtime)
    block = _LAYOUT.pack(*fields, b"", kind, b"", _MAGIC, b"", b"", zero, zero, prefix)
    return block[: _CHECKSUM.start] + _checksum(block) + block[_CHECKSUM.stop :]


def read_block(block: bytes) -> Fields:
    """Read one header block.

    Raises:
        ValueError: It is not a ustar header of a file, a directory or a PAX header.
    """
    name, mode, _, _, size, mtime, check, kind, _, magic, *_, prefix = _LAYOUT.unpack(block)
    if check != _checksum(block):
        raise ValueError("header checksum is wrong")
    whole = b"/".join(part for part in (_text(prefix), _text(name)) if part)
    path = whole.decode("utf-8", "replace")
    if kind not in {FILE, DIRECTORY, PAX}:
        what = _REFUSED.get(kind, f"a member of type {kind!r}")
        raise ValueError(f"expected a file or a directory, got {what}: {path!r}")
    if magic != _MAGIC:
        raise ValueError(f"expected a ustar header, got magic {magic!r}: {path!r}")
    return Fields(kind, path, _octal(size), _octal(mtime), _octal(mode))


def split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Cut a name into ustar's prefix and name, the prefix as short as can be.

    Returns:
        None where ustar cannot hold the name: it is too long, or not ASCII.
    """
    if not name.isascii():
        return None
    if len(name) <= _NAME_BYTES:
        return b"", name
    cut = name.find(b"/", len(name) - _NAME_BYTES - 1)
    if 0 < cut <= _PREFIX_BYTES and cut + 1 < len(name):
        return name[:cut], name[cut + 1 :]
    return None


def shortened_name(name: bytes) -> tuple[bytes, bytes]:
    """Give what stands in the header of a member whose PAX header has the name."""
    return b"", bytes(byte if byte < 0x80 else ord("_") for byte in name[:_NAME_BYTES])


def write_records(records: dict[str, str]) -> bytes:
    """Give PAX records, each ``<length> <key>=<value>`` and a newline, sorted by key."""
    return b"".join(_record(key, records[key]) for key in sorted(records))


def read_records(body: bytes) -> dict[str, str]:
    """Read PAX records, of which we know ``path`` and ``size``.

    Raises:
        ValueError: One has another key, or is not a record.
    """
    records: dict[str, str] = {}
    while body:
        digits = body[:5].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = body[len(digits) + 1 : length]
        key, _, value = record.removesuffix(b"\n").partition(b"=")
        if key not in {b"path", b"size"} or (key == b"size" and not value.isdigit()):
            raise ValueError(f"expected a PAX path or size, got {body[:80]!r}")
        records[key.decode()] = value.decode("utf-8", "replace")
        body = body[length:]
    return records


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _checksum(block: bytes) -> bytes:
    blank = sum(block[: _CHECKSUM.start]) + 8 * ord(" ") + sum(block[_CHECKSUM.stop :])
    return b"%06o\0 " % blank


def _octal(field: bytes) -> int:
    digits = field[:-1]
    if field[-1:] != b"\0" or digits.strip(b"01234567"):
        raise ValueError(f"expected octal digits and a NUL, got {field!r}")
    return int(digits, 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
