"""Header blocks of the tar dialect that we write, and PAX records, written."""

from __future__ import annotations

import struct

from bundler.tar_header import CHECKSUM, DIRECTORY, FILE, PAX, POSIX_MAGIC, Header, checksum

OCTAL_LIMIT = 8**11
MAX_PAX_BYTES = 4096

# Source: POSIX.1-2017, pax, "ustar Interchange Format": name, mode, uid, gid, size, mtime,
# checksum, type, link name, magic and version, user, group, device numbers, prefix.
_LAYOUT = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
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


def write_block(
    name: tuple[bytes, bytes], *, mode: int, size: int, mtime: int, kind: bytes
) -> bytes:
    """Give one header block with owner 0; ``name`` is ustar's prefix and name."""
    prefix, last = name
    zero = b"%07o\0" % 0
    fields = (last, b"%07o\0" % mode, zero, zero, b"%011o\0" % size, b"%011o\0" % mtime)
    block = _LAYOUT.pack(*fields, b"", kind, b"", POSIX_MAGIC, b"", b"", zero, zero, prefix)
    return block[: CHECKSUM.start] + b"%06o\0 " % checksum(block) + block[CHECKSUM.stop :]


def read_block(block: bytes) -> Header:
    """Read one header block.

    Raises:
        ValueError: It is not a ustar header of a file, a directory or a PAX header.
    """
    header = Header(block)
    if header.kind not in {FILE, DIRECTORY, PAX}:
        what = _REFUSED.get(header.kind, f"a member of type {header.kind!r}")
        raise ValueError(f"expected a file or a directory, got {what}: {_shown(header)}")
    if header.magic != POSIX_MAGIC:
        raise ValueError(f"expected a ustar header, got magic {header.magic!r}: {_shown(header)}")
    return header


def _shown(header: Header) -> str:
    return repr(header.path.decode("utf-8", "replace"))


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


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest
