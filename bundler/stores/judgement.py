"""Whether an object is the one that was signed: by what the store says of it, or by its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from bundler.digest import Digest
from bundler.parts import part_size, s3_checksum, spans
from bundler.stores.base import StoredObject


class Sameness(Enum):
    """What is known of an object; one that is UNKNOWN has to be read."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a comparison; ``detail`` is for people, and empty where all is right."""

    sameness: Sameness
    detail: str = ""


def judge(
    found: StoredObject, size: int, parts: Sequence[Digest], whole: Digest | None = None
) -> Judgement:
    """Compare what a store says of an object with what was signed.

    A checksum of parts that differs proves nothing: the same bytes cut elsewhere have another,
    even where their parts are as many.

    Args:
        found: The store's words.
        size: Bytes that were signed.
        parts: Their digests, as ``bundler.parts.spans`` cuts them.
        whole: The digest of all bytes; None where nobody knows it.
    """
    if found.size != size:
        return Judgement(Sameness.OTHER, f"has {found.size} bytes, expected {size}")
    got, expected = found.checksum, s3_checksum(parts)
    if len(parts) == 1:
        whole = parts[0]
    # Some servers give the digest of the whole object whatever the parts were.
    if got == expected or (whole is not None and got == whole.base64):
        return Judgement(Sameness.SAME)
    if got is None:
        return Judgement(Sameness.UNKNOWN, "the store keeps no checksum; the size is right")
    if whole is not None and "-" not in got:
        return Judgement(Sameness.OTHER, f"has SHA-256 checksum {got}, expected {expected}")
    return Judgement(
        Sameness.UNKNOWN, f"the store keeps {got}, perhaps of other parts; the size is right"
    )


def read_back(
    read: Callable[[int, int], Iterator[bytes]], size: int, parts: Sequence[Digest]
) -> str:
    """Read an object and compare it with the signed parts.

    Args:
        read: Streams so many bytes from an offset, as ``ObjectStore.read``.
        size: Bytes that were signed.
        parts: Their digests.

    Returns:
        What differs first, in words; empty where all is right.
    """
    for span, expected in zip(spans(size, part_size(size)), parts, strict=True):
        whole = hashlib.sha256()
        for chunk in read(span.offset, span.length):
            whole.update(chunk)
        got = Digest(whole.hexdigest())
        if got != expected:
            return f"part {span.number} of {len(parts)}: expected {expected}, got {got}"
    return ""
