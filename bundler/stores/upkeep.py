"""What looking after a bucket asks of an object store: ages, unfinished uploads, removal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, order=True)
class HeldObject:
    """What a listing says of an object.

    Attributes:
        key: Its name below the bucket.
        size: Bytes.
        modified: When it was stored, in seconds since 1970 by the server's clock.
    """

    key: str
    size: int
    modified: int


@dataclass(frozen=True, slots=True, order=True)
class UnfinishedUpload:
    """A multipart upload that was neither completed nor ended.

    Attributes:
        key: What the object would be called.
        upload_id: The server's name for it.
        begun: When it was begun, in seconds since 1970 by the server's clock.
        touched: When its newest part came; ``begun`` where it has none.
        parts: How many parts the server holds.
        size: Their bytes, which are paid for like any others.
    """

    key: str
    upload_id: str
    begun: int
    touched: int
    parts: int
    size: int


class Upkeep(Protocol):
    """One bucket as whoever looks after it sees it. tests/contract holds implementations to this.

    All methods may be called from any thread. They raise DeniedError where the store refuses us
    and WorldError where it cannot be reached or fails.
    """

    def objects(self, prefix: str) -> Iterator[HeldObject]:
        """Give every object whose key starts with ``prefix``, by key."""

    def uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """Give every unfinished upload whose key starts with ``prefix``, by key."""

    def end(self, upload: UnfinishedUpload) -> bool:
        """End an upload, so that its parts go; success also where it is gone already.

        Returns:
            Whether it is gone: parts that were on their way may outlive its end.
        """

    def remove(self, key: str) -> bool:
        """Remove one object; nothing happens where there is none.

        Returns:
            Whether its bytes are still there: a bucket with versions only hides an object behind
            a delete marker, and frees nothing.
        """
