"""Whether what a store says of an object proves that it is the one that was signed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from bundler.digest import Digest
from bundler.parts import s3_checksum
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
