"""How a file is cut into parts, and what S3 makes of their digests."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bundler.digest import Digest

MIB = 1 << 20
SMALLEST_PART = 64 * MIB
# Source: Amazon S3 user guide, "Amazon S3 multipart upload limits".
MAX_PARTS = 10_000
MAX_FILE_BYTES = 48 * (1 << 40)


@dataclass(frozen=True, slots=True)
class Span:
    """Part ``number`` (from 1) of a file: ``length`` bytes from ``offset``, both in bytes."""

    number: int
    offset: int
    length: int


def part_size(size: int) -> int:
    """Give the bytes of each part but the last of a file of ``size`` bytes.

    64 MiB, or the smallest multiple of 1 MiB that keeps the file within 10,000 parts.

    Raises:
        ValueError: The file is beyond what S3 stores.
    """
    if not 0 <= size <= MAX_FILE_BYTES:
        raise ValueError(f"file of {size} bytes: expected 0 to {MAX_FILE_BYTES}")
    needed = -(-size // MAX_PARTS)
    return max(SMALLEST_PART, -(-needed // MIB) * MIB)


def spans(size: int, part_bytes: int) -> Iterator[Span]:
    """Cut ``size`` bytes into parts; an empty file has one part, which is empty."""
    count = max(1, -(-size // part_bytes))
    for index in range(count):
        offset = index * part_bytes
        yield Span(index + 1, offset, min(part_bytes, size - offset))


def s3_checksum(parts: Sequence[Digest]) -> str:
    """Give the SHA-256 checksum that S3 keeps for an object uploaded in these parts.

    Returns:
        Base64 of the digest itself for one part (a plain PUT); for several, base64 of the sha256
        over the raw part digests, a hyphen, and how many there are.

    Source:
        Amazon S3 user guide, "Checking object integrity", composite checksums.
    """
    if len(parts) == 1:
        return parts[0].base64
    whole = hashlib.sha256(b"".join(part.raw for part in parts)).digest()
    return f"{base64.b64encode(whole).decode()}-{len(parts)}"
