"""An object store in memory: the plainest statement of what a store does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from bundler.digest import Digest
from bundler.errors import ConflictError, ContentError, MalformedError, NotFoundError, WorldError
from bundler.parts import Span, part_size, s3_checksum, spans
from bundler.remote_object import RemoteObject
from bundler.stores.base import Advance, Incoming, Note, Pieces, StoredObject, unnoted


class MemoryStore:
    """Holds objects in a dict; an ``ObjectStore``."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, str]] = {}
        self.parts: dict[tuple[str, Digest], bytes] = {}
        self._lock = threading.Lock()

    def head(self, key: str) -> StoredObject | None:
        """Look one object up; None where there is none."""
        if key not in self._objects:
            return None
        content, checksum = self._objects[key]
        return StoredObject(key, len(content), checksum)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object whose key starts with ``prefix``, by key, without checksums."""
        for key in sorted(self._objects, key=str.encode):
            if key.startswith(prefix):
                yield StoredObject(key, len(self._objects[key][0]))

    def get(self, key: str, *, limit: int) -> bytes:
        """Read a small object whole."""
        content = self._content(key)
        if len(content) > limit:
            raise MalformedError(f"memory:{key}: expected at most {limit} bytes, has more")
        return content

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """Stream ``length`` bytes from ``offset``."""
        content = self._content(key)
        if offset + length > len(content):
            raise WorldError(f"memory:{key}: ended before byte {offset + length}")
        yield content[offset : offset + length]

    def put(self, key: str, content: bytes) -> bool:
        """Store a small object under its own SHA-256, never over another."""
        return self._store(key, content, Digest.of(content).base64)

    def replace(self, key: str, content: bytes) -> None:
        """Store a small object whatever is there."""
        self._objects[key] = (content, Digest.of(content).base64)

    def begin(
        self, key: str, *, size: int, parts: Sequence[Digest], note: Note = unnoted
    ) -> Incoming:
        """Begin to bring an object, or go on with what is there of it."""
        there = self._holds(key, s3_checksum(parts))
        return _MemoryIncoming(self, key, () if there else _cut(size, parts))

    def store_parts(self, key: str, digests: Sequence[Digest]) -> None:
        """Make an object of parts that came before."""
        content = b"".join(self.parts[key, digest] for digest in digests)
        self._store(key, content, s3_checksum(digests))

    def checks_content(self, prefix: str) -> bool:
        """Say that other bytes than announced are refused."""
        return True

    def delete(self, key: str) -> None:
        """Remove one object; nothing happens where there is none."""
        self._objects.pop(key, None)

    def _content(self, key: str) -> bytes:
        if key not in self._objects:
            raise NotFoundError(f"memory:{key}: no such object")
        return self._objects[key][0]

    def _holds(self, key: str, checksum: str) -> bool:
        if key not in self._objects:
            return False
        if self._objects[key][1] != checksum:
            raise ConflictError(
                f"memory:{key}: expected checksum {checksum}, holds {self._objects[key][1]}"
            )
        return True

    def _store(self, key: str, content: bytes, checksum: str) -> bool:
        with self._lock:
            if self._holds(key, checksum):
                return False
            self._objects[key] = (content, checksum)
            return True


def _cut(size: int, parts: Sequence[Digest]) -> tuple[tuple[Span, Digest], ...]:
    return tuple(zip(spans(size, part_size(size)), parts, strict=True))


class _MemoryIncoming:
    """An object on its way; an ``Incoming``."""

    def __init__(
        self, store: MemoryStore, key: str, parts: tuple[tuple[Span, Digest], ...]
    ) -> None:
        self._store = store
        self._key = key
        self._parts = parts

    @property
    def missing(self) -> Sequence[Span]:
        """Give the parts that never came."""
        there = self._store.parts
        return tuple(span for span, digest in self._parts if (self._key, digest) not in there)

    def send(self, span: Span, pieces: Pieces, advance: Advance) -> None:
        """Read and compare a part; the only one makes the object appear."""
        digest = self._parts[span.number - 1][1]
        part = b"".join(pieces())
        if Digest.of(part) != digest:
            count = len(self._parts)
            raise ContentError(
                f"memory:{self._key}: part {span.number} of {count}, expected {digest}"
            )
        self._store.parts[self._key, digest] = part
        advance(len(part))
        if len(self._parts) == 1:
            self.complete()

    def copy(self, span: Span, source: RemoteObject, offset: int, advance: Advance) -> bool:
        """Say that this store holds no such object."""
        return False

    def holds(self, span: Span, pieces: Pieces) -> bool:
        """Say no: what came is not missing."""
        return False

    def complete(self) -> None:
        """Make the object appear."""
        if self._parts:
            self._store.store_parts(self._key, [digest for _, digest in self._parts])
