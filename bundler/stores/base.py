"""What operations ask of an object store and of a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from bundler.digest import Digest
from bundler.parts import Span
from bundler.reference import ImageTag

Advance = Callable[[int], None]
OpenPart = Callable[[Span], BinaryIO]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store says of an object.

    Attributes:
        key: Its name below the bucket.
        size: Bytes.
        checksum: SHA-256 as S3 writes it: base64, with ``-N`` behind it when it is the composite
            of N parts; None where the store did not say.
    """

    key: str
    size: int
    checksum: str | None = None


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Staged:
    """An object that is on its way, and that nobody sees yet.

    Attributes:
        complete: Makes it appear; success also where the same content is there already. Raises
            ConflictError where somebody else put another object there meanwhile, ContentError
            where the store refuses its bytes.
        discard: Gives up what was not completed, unless the next run can go on with it.
    """

    complete: Callable[[], None] = nothing
    discard: Callable[[], None] = nothing


class ObjectStore(Protocol):
    """One bucket. tests/contract holds every implementation to this.

    All methods raise DeniedError where the store refuses us and WorldError where it cannot be
    reached or fails; retries are the client library's.
    """

    def head(self, key: str) -> StoredObject | None:
        """Look one object up; None where there is none."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object whose key starts with ``prefix``, by key, without checksums."""

    def get(self, key: str, *, limit: int) -> bytes:
        """Read a small object whole.

        Raises:
            NotFoundError: There is no such object.
            MalformedError: It has more than ``limit`` bytes.
        """

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """Stream ``length`` bytes from ``offset``; ends early only by raising.

        Raises:
            NotFoundError: There is no such object.
            WorldError: The object ended, or the connection did, before ``length`` bytes.
        """

    def put(self, key: str, content: bytes) -> bool:
        """Store a small object under its own SHA-256, never over another.

        Returns:
            Whether anything was sent: False where the same bytes are there already.

        Raises:
            ConflictError: ``key`` holds other content.
        """

    def replace(self, key: str, content: bytes) -> None:
        """Store a small object whatever is there: only for pointers such as ``current``."""

    def stage(
        self,
        key: str,
        *,
        size: int,
        parts: Sequence[Digest],
        open_part: OpenPart,
        advance: Advance,
    ) -> Staged:
        """Bring an object of known part digests so far that completing it makes it appear.

        Several parts go as a multipart upload, each under its digest, and are in the store when
        this returns; one part goes as a plain PUT under its digest when it is completed. The
        store compares each with its digest, so nothing wrong is ever completed. At most a few
        parts are on their way at once, none of them whole in memory. What a killed run left of
        the same object is gone on with where the store proves it.

        Args:
            key: Where it goes.
            size: Bytes in all.
            parts: sha256 of each part, in order, as ``bundler.parts.spans`` cuts them.
            open_part: Opens one part for reading from its start; may be called again for a retry
                and from other threads.
            advance: Told of bytes sent, negative when a part starts again; any thread.

        Raises:
            ConflictError: ``key`` holds other content.
            ContentError: The store refused a part because its bytes have another digest.
        """

    def checks_content(self, prefix: str) -> bool:
        """Say whether this store refuses bytes that differ from their checksum.

        Finds out with one tiny, deliberately wrong upload below ``prefix``; what a careless store
        kept of it is deleted again.
        """

    def delete(self, key: str) -> None:
        """Remove one object; nothing happens where there is none."""


class Registry(Protocol):
    """Where images go: one host and path."""

    def digest(self, image: ImageTag) -> Digest | None:
        """Give the digest of what a tag names now; None where there is no such tag.

        Raises:
            DeniedError: The registry knows us not, or does not let us.
            WorldError: It cannot be reached or fails.
        """

    def push(self, archive: Path, image: ImageTag) -> Digest:
        """Copy an OCI archive to a tag, byte for byte, and give the digest at the registry."""
