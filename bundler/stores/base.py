"""What operations ask of an object store and of a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bundler.blob_content import BlobContent
from bundler.digest import Digest
from bundler.parts import Span
from bundler.remote_object import RemoteObject

Advance = Callable[[int], None]
# Gives the bytes of one part from its start, about 1 MiB at a time; each piece is good until the
# next one is asked for. May be called again, for another attempt, and from any thread.
Pieces = Callable[[], Iterator[bytes | memoryview]]
Note = Callable[[str], None]


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


def unnoted(text: str) -> None:
    """Let what a store has to tell go by."""


class Incoming(Protocol):
    """One object on its way into a store, in parts whose digests are known.

    Nobody sees an object of several parts before it is completed; one of a single part appears
    with it. What has arrived of an object that is never completed stays, so that whoever brings
    the same object later, from wherever, goes on with it. Its methods may be called from any
    thread, ``complete`` when all parts are there.

    Raises:
        ConflictError: Somebody else put another object there meanwhile.
        ContentError: The store refused a part because its bytes have another digest.
        DeniedError, WorldError: As for ``ObjectStore``.
    """

    @property
    def missing(self) -> Sequence[Span]:
        """What is still to be sent, in order; empty where the object is there."""

    def send(self, span: Span, pieces: Pieces, advance: Advance) -> None:
        """Bring one part under its digest, with which the store compares it.

        Args:
            span: One of ``missing``.
            pieces: Its bytes.
            advance: Told of bytes that arrived, negative when they must be sent again.
        """

    def copy(self, span: Span, source: RemoteObject, offset: int, advance: Advance) -> bool:
        """Have the store take one part from an object that it holds, without its bytes coming here.

        Args:
            span: One of ``missing``.
            source: The object; it must still be what it was when it was listed.
            offset: Where the part begins in it.
            advance: Told of the bytes.

        Returns:
            Whether the part is there, and proven by the checksum that the store computed; False
            where it has to be sent.
        """

    def holds(self, span: Span, pieces: Pieces) -> bool:
        """Compare a part with what is there of it, where the store proves that by other means.

        Args:
            span: One of ``missing``.
            pieces: Its bytes; read only where there may be such a part.

        Returns:
            Whether it need not be sent.
        """

    def complete(self) -> None:
        """Make the object appear; success also where the same content is there already."""


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

    def begin(
        self, key: str, *, size: int, parts: Sequence[Digest], note: Note = unnoted
    ) -> Incoming:
        """Look whether an object is there, and else begin to bring it.

        What anybody left of the same object unfinished is gone on with where the store proves it.

        Args:
            key: Where it goes.
            size: Bytes in all.
            parts: sha256 of each part, in order, as ``bundler.parts.spans`` cuts them.
            note: Told, in words, of what people should know: that it goes on with an older upload,
                or that somebody else brings the same object right now. Any thread.

        Raises:
            ConflictError: ``key`` holds other content.
        """

    def checks_content(self, prefix: str) -> bool:
        """Say whether this store refuses bytes that differ from their checksum.

        Finds out with one tiny, deliberately wrong upload below ``prefix``; what a careless store
        kept of it is deleted again.
        """

    def delete(self, key: str) -> None:
        """Remove one object; nothing happens where there is none."""


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest or index that a registry served; ``digest`` is that of ``content``."""

    digest: Digest
    content: bytes


class Registry(Protocol):
    """Where images go: one host and path below it. tests/contract holds implementations to this.

    ``name`` is a repository below that path. All methods may be called from any thread. They
    raise DeniedError where the registry refuses us and WorldError where it cannot be reached or
    fails for longer than the budget of retries.
    """

    def manifest(self, name: str, reference: str) -> StoredManifest | None:
        """Read what a tag or digest names; None where there is no such thing, or repository.

        Raises:
            ContentError: The registry announces or was asked for another digest than it serves.
        """

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Ask how many bytes a blob has there; None where it is not."""

    def mount(self, name: str, digest: Digest, *, source: str) -> bool:
        """Make a blob of the repository ``source`` one of ``name`` too; False where refused."""

    def upload(self, name: str, blob: BlobContent, *, advance: Advance) -> None:
        """Send a blob, and go on where the registry's own offset can be trusted.

        Success also where somebody else brought it meanwhile. That it is there is the registry's
        word; ``blob_size`` and ``read_blob`` ask for more. Memory is bounded by one piece.

        Args:
            name: The repository.
            blob: What to send.
            advance: Told of bytes sent, negative when some are sent again; the calling thread.

        Raises:
            ContentError: The registry refused the bytes as not of that digest: twice.
        """

    def put_manifest(self, name: str, reference: str, media_type: str, content: bytes) -> None:
        """Store a manifest or index under its digest or a tag.

        Raises:
            ConflictError: The tag is immutable and names something else.
            ContentError: The registry says that it has another digest now.
        """

    def read_blob(self, name: str, digest: Digest, size: int) -> Iterator[bytes]:
        """Stream a blob as the registry serves it; ends early only by raising.

        Raises:
            NotFoundError: It is not there.
            ContentError: It is served with another size than ``size``.
        """


@dataclass(frozen=True, slots=True)
class MissingRepository:
    """A repository that is not there, or that was made and not finished.

    Attributes:
        name: As it was asked for.
        on_push: The registry will make it when an image comes; nothing is to do.
        detail: What is known of it, for people; may be empty.
        command: What somebody has to run who may, as we are told not to make it; else empty.
    """

    name: str
    on_push: bool = False
    detail: str = ""
    command: str = ""


class Repositories(Protocol):
    """The repositories of a registry that wants them made before an image comes (Amazon ECR).

    ``names`` are as for ``Registry``: below the path of the registry that we were given.
    """

    def missing(self, names: Sequence[str]) -> tuple[MissingRepository, ...]:
        """Say which of some repositories are not there.

        Raises:
            DeniedError, WorldError: As for ``Registry``.
        """

    def create(self, name: str) -> bool:
        """Make a repository as the target describes it, or finish one that we began to make.

        Returns:
            Whether we did any of it: False where somebody else was faster.

        Raises:
            DeniedError: We may not; the hint has the permission and the command for who may.
            WorldError: The service fails, or a limit of the account is reached.
        """

    def mount_refusal(self) -> str:
        """Say why no blob is mounted from one repository to another; empty where it may be."""

    def never_mounts(self) -> bool:
        """Say whether it is known that none is: asking for a mount leaves an upload unfinished."""
