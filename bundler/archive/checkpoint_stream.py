"""The bytes of a checkpoint archive on their way to the disk, and every digest of them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.archive.files import open_source
from bundler.archive.page_cache import dropping
from bundler.archive.pipeline import HashingWriter
from bundler.archive.steady import changed, require_unchanged, settle
from bundler.archive.tar import END, header, padding
from bundler.archive.trouble import blaming
from bundler.digest import Digest
from bundler.errors import ContentError, printable
from bundler.manifest import Checkpoint, CheckpointFile
from bundler.parts import part_size, spans

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

# How much may be written before finished files are compared with what the lock says of them.
_SETTLE_BYTES = 1 << 30
_SETTLE_FILES = 1000
_LOCK_HINT = "restore the file, or run `bundle lock` if the change is meant"

Expected = Mapping[str, tuple[int, Digest]]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that goes into an archive.

    Attributes:
        path: Where it will lie, below the archive's top directory.
        real: Where it is now; a link is followed.
        offset: Where its bytes begin there: not with the first, in another archive.
        size: How many they are; None for all that are there.
    """

    path: str
    real: Path
    offset: int = 0
    size: int | None = None


@dataclass(slots=True)
class _Running:
    """A file whose bytes are on their way through the hashes."""

    path: str
    offset: int
    size: int
    parts: list[Hash]
    whole: Hash

    def settled(self) -> CheckpointFile:
        return CheckpointFile(
            path=self.path,
            offset=self.offset,
            size=self.size,
            digest=Digest(self.whole.hexdigest()),
            parts=tuple(Digest(part.hexdigest()) for part in self.parts),
        )


class CheckpointStream:
    """Adds members in the order of the archive, and says in the end what was written.

    Every method raises ContentError where a file is not what ``expected`` says or changed while
    it was read, and WorldError where a file cannot be read or the archive cannot be written.

    Args:
        writer: Takes the archive's bytes.
        root: The archive's one top-level directory.
        mtime: Seconds since 1970 that each member gets.
        expected: Size and digest of each file by path, or None.
    """

    def __init__(
        self, writer: HashingWriter, root: str, mtime: int, expected: Expected | None
    ) -> None:
        self._writer = writer
        self._root = root
        self._mtime = mtime
        self._expected = expected
        self._frame = hashlib.sha256()
        self._running: list[_Running] = []
        self._files: list[CheckpointFile] = []
        self._settled_at = 0
        self._read: tuple[Path, os.stat_result] | None = None

    def add_directory(self, path: str) -> None:
        """Add a directory by its path in the archive."""
        self._put(header(path, mtime=self._mtime, directory=True))

    def add(self, source: SourceFile) -> Iterator[int]:
        """Add a file; gives the length of each part when it was read."""
        with open_source(source.real) as file:
            before = self._before(source, file)
            size = before.st_size if source.size is None else source.size
            self._require_size(source.path, size)
            self._put(header(f"{self._root}/{source.path}", size=size, mtime=self._mtime))
            yield from self._add_parts(source, file, size)
            require_unchanged(source.path, source.real, before, file.fileno())
        self._put(padding(size))
        self._settle_sometimes()

    def finish(self, name: str) -> Checkpoint:
        """Write the archive's end."""
        self._put(END)
        digest = self._writer.finish()
        self._settle()
        return Checkpoint(
            name=name,
            root=self._root,
            size=self._writer.offset,
            digest=digest,
            frame_digest=Digest(self._frame.hexdigest()),
            files=tuple(self._files),
        )

    def _before(self, source: SourceFile, file: io.FileIO) -> os.stat_result:
        """Say what a file was before any of it was read; files of one archive share it."""
        if self._read is None or self._read[0] != source.real:
            self._read = source.real, settle(file.fileno(), source.real)
        return self._read[1]

    def _put(self, frame: bytes) -> None:
        self._frame.update(frame)
        self._writer.write(frame)

    def _add_parts(self, source: SourceFile, file: io.FileIO, size: int) -> Iterator[int]:
        whole = hashlib.sha256()
        running = _Running(source.path, self._writer.offset, size, [], whole)
        pieces = list(spans(size, part_size(size)))
        file.seek(source.offset)
        for piece in pieces:
            # The digest of a file that has one part is the part's: hash it once.
            hashes = (whole,) if len(pieces) == 1 else (hashlib.sha256(), whole)
            running.parts.append(hashes[0])
            with dropping(file.fileno(), source.offset + piece.offset, piece.length) as passed:
                self._copy(source, file, piece.length, hashes, passed)
            yield piece.length
        self._running.append(running)

    def _copy(
        self,
        source: SourceFile,
        file: io.FileIO,
        length: int,
        hashes: tuple[Hash, ...],
        passed: Callable[[int], None],
    ) -> None:
        left = length
        while left:
            room = self._writer.room(left)
            with blaming(source.real):
                count = file.readinto(room) or 0
            if not count:
                raise changed(source.path, source.real, f"it ends {left} bytes early")
            self._writer.filled(count, *hashes)
            left -= count
            passed(length - left)

    def _require_size(self, path: str, size: int) -> None:
        if self._expected is not None and self._expected[path][0] != size:
            raise not_locked(path, f"{self._expected[path][0]} bytes", f"{size} bytes")

    def _settle_sometimes(self) -> None:
        written = self._writer.offset - self._settled_at
        if written >= _SETTLE_BYTES or len(self._running) >= _SETTLE_FILES:
            self._writer.drain()
            self._settle()

    def _settle(self) -> None:
        for file in (running.settled() for running in self._running):
            if self._expected is not None and self._expected[file.path][1] != file.digest:
                raise not_locked(file.path, str(self._expected[file.path][1]), str(file.digest))
            self._files.append(file)
        self._running.clear()
        self._settled_at = self._writer.offset


def not_locked(path: str, expected: str, got: str) -> ContentError:
    """Say that a source is not what the lock was made from."""
    return ContentError(
        f"{printable(path)}: expected {expected} as locked, got {got}", hint=_LOCK_HINT
    )
