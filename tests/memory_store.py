"""An object store in memory: the plainest statement of what a store does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from bundler.digest import Digest
from bundler.errors import ConflictError, ContentError, MalformedError, NotFoundError, WorldError
from bundler.parts import part_size, s3_checksum, spans
from bundler.stores.base import Advance, OpenPart, Staged, StoredObject


class MemoryStore:
    """Holds objects in a dict; an ``ObjectStore``."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, str]] = {}
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

    def stage(
        self,
        key: str,
        *,
        size: int,
        parts: Sequence[Digest],
        open_part: OpenPart,
        advance: Advance,
    ) -> Staged:
        """Read and compare an object; it appears when it is completed."""
        checksum = s3_checksum(parts)
        if self._holds(key, checksum):
            return Staged()
        content = bytearray()
        for span, digest in zip(spans(size, part_size(size)), parts, strict=True):
            with open_part(span) as stream:
                part = stream.read(span.length)
            if Digest.of(part) != digest:
                raise ContentError(
                    f"memory:{key}: part {span.number} of {len(parts)}, expected {digest}"
                )
            content += part
            advance(len(part))

        def complete() -> None:
            self._store(key, bytes(content), checksum)

        return Staged(complete)

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
