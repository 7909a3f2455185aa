"""Members of tar archives, with any byte in any field."""

from __future__ import annotations

import struct

BLOCK = 512
END = bytes(2 * BLOCK)
MTIME = 1_793_491_200
# Source: POSIX.1-2017, pax, "ustar Interchange Format".
_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
FILE, HARD_LINK, LINK, CHARACTER, DEVICE, DIRECTORY, PIPE = b"0", b"1", b"2", b"3", b"4", b"5", b"6"


def member(
    name: bytes,
    kind: bytes = FILE,
    data: bytes = b"",
    *,
    link: bytes = b"",
    mode: int = 0o644,
    size: bytes | None = None,
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
) -> bytes:
    """Give one member; ``size`` is what its header says in the place of the data's own."""
    zero = b"%07o\0" % 0
    fields = (
        name,
        b"%07o\0" % mode,
        zero,
        zero,
        b"%011o\0" % len(data) if size is None else size,
        b"%011o\0" % MTIME,
        b" " * 8,
        kind,
        link,
        magic,
        b"",
        b"",
        zero,
        zero,
        prefix,
    )
    block = _FIELDS.pack(*fields)
    block = block[:148] + b"%06o\0 " % sum(block) + block[156:]
    return block + data + bytes(-len(data) % BLOCK)


def patched(block: bytes, offset: int, value: bytes) -> bytes:
    """Change a header block, and mend its checksum."""
    changed = bytearray(block)
    changed[offset : offset + len(value)] = value
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """Give the header with extended records that stands before a member."""
    body = b"".join(_record(key, value) for key, value in records)
    return member(b"././@PaxHeader", kind, body)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)
