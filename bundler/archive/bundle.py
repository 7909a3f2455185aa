"""The deployment bundle: a tar in stored gzip, written in one go and read in place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.archive.bundle_base import CONTENTS_NAME
from bundler.archive.bundle_reader import BundleReader as BundleReader
from bundler.archive.files import READ_BYTES, atomic_write, open_source
from bundler.archive.hashing import in_threads
from bundler.archive.pipeline import HashingWriter
from bundler.archive.stored_gzip import BLOCK_BYTES, StoredGzipWriter
from bundler.archive.tar import END, header, padding, with_directories
from bundler.archive.trouble import blaming
from bundler.archive.volumes import Place
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, printable
from bundler.events import Advanced, Emit, Finished, Started, ignore
from bundler.manifest import SLICE_BYTES, Bundle, BundleFile
from bundler.reference import file_name, relative_path
from bundler.sums import write_sums

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that goes into a bundle.

    Attributes:
        path: Where it will lie, below the bundle's root.
        content: Its bytes, or where they are now.
        executable: Whether it gets mode 0755 rather than 0644.
    """

    path: str
    content: bytes | Path
    executable: bool = False


def write_bundle(
    out_path: Path,
    *,
    root: str,
    entries: Sequence[Entry],
    mtime: int,
    emit: Emit = ignore,
) -> Bundle:
    """Write a bundle: the entries, the directories above them, and CONTENTS.sha256.

    The sums stand before most of what they sum up, so the entries are hashed first, on all cores,
    and again on their way into the archive, which proves that they stayed the same.

    Args:
        out_path: The archive, which appears whole or not at all.
        root: Its one top-level directory.
        entries: Its files, in any order.
        mtime: Seconds since 1970 that each member gets.
        emit: Told of the bytes that were read.

    Raises:
        MalformedError: Paths break the rules for them.
        ContentError: A file changed meanwhile.
        WorldError: A file cannot be read, or the archive cannot be written.
    """
    order = _order(root, [*entries, Entry(CONTENTS_NAME, b"")])
    item = out_path.name
    known = _measure(entries, item, emit)
    sums = write_sums({path: digest for path, (_, digest) in known.items()})
    contents = Entry(CONTENTS_NAME, sums)
    known[CONTENTS_NAME] = (len(sums), Digest.of(sums))
    with atomic_write(out_path) as out, HashingWriter(out) as writer:
        emit(Started("write", item, sum(size for size, _ in known.values())))
        stream = _Stream(writer, root, mtime)
        for path, entry in order:
            if entry is None:
                stream.add_directory(path)
                continue
            chosen = contents if entry.path == CONTENTS_NAME else entry
            for count in stream.add(chosen, *known[entry.path]):
                emit(Advanced(item, count))
        bundle = stream.finish(item)
    emit(Finished(item))
    return bundle


def open_bundle(place: Place, bundle: Bundle) -> BundleReader:
    """Open a bundle for reading in place; raises as ``BundleReader`` does."""
    return BundleReader(place, bundle)


class _Stream:
    """The bundle's bytes on their way: tar, then gzip, then disk and hashes."""

    def __init__(self, writer: HashingWriter, root: str, mtime: int) -> None:
        self._writer = writer
        self._root = root
        self._mtime = mtime
        self._slices: list[Hash] = []
        self._files: list[BundleFile] = []
        self._plain_size = 0
        self._gzip = StoredGzipWriter(self._store)

    def add_directory(self, path: str) -> None:
        self._put(header(path, mtime=self._mtime, directory=True))

    def add(self, entry: Entry, size: int, digest: Digest) -> Iterator[int]:
        path = f"{self._root}/{entry.path}"
        self._put(header(path, size=size, mtime=self._mtime, executable=entry.executable))
        self._files.append(
            BundleFile(
                path=entry.path,
                offset=self._plain_size,
                size=size,
                digest=digest,
                executable=entry.executable,
            )
        )
        whole, read = hashlib.sha256(), 0
        for piece in _pieces(entry):
            read += len(piece)
            if read > size:
                break
            whole.update(piece)
            self._put(piece)
            yield len(piece)
        if read != size or whole.hexdigest() != digest.hex:
            raise ContentError(
                f"{printable(entry.path)}: expected {size} bytes of {digest} as read at first, "
                f"got {read} bytes of sha256:{whole.hexdigest()}",
                hint="let nothing write there while a release is built, and run again",
            )
        self._put(padding(size))

    def finish(self, archive: str) -> Bundle:
        self._put(END)
        self._gzip.close()
        digest = self._writer.finish()
        return Bundle(
            archive=archive,
            root=self._root,
            digest=digest,
            size=self._writer.offset,
            block_bytes=BLOCK_BYTES,
            slices=tuple(Digest(one.hexdigest()) for one in self._slices),
            files=tuple(self._files),
        )

    def _put(self, plain: bytes | memoryview) -> None:
        self._plain_size += len(plain)
        self._gzip.write(plain)

    def _store(self, archived: bytes) -> None:
        left = memoryview(archived)
        while left:
            room = SLICE_BYTES - self._writer.offset % SLICE_BYTES
            if room == SLICE_BYTES:
                self._slices.append(hashlib.sha256())
            self._writer.write(left[:room], self._slices[-1])
            left = left[room:]


def _order(root: str, entries: Sequence[Entry]) -> list[tuple[str, Entry | None]]:
    """Give path in the archive, and the entry or None for a directory, in the archive's order."""
    files = {f"{root}/{entry.path}": entry for entry in entries}
    try:
        file_name(root)
        for entry in entries:
            relative_path(entry.path)
        order = with_directories(f"{root}/{entry.path}" for entry in entries)
    except ValueError as error:
        raise MalformedError(f"bundle {printable(root)}: {printable(str(error))}") from error
    return [(path, files.get(path)) for path, _ in order]


def _measure(entries: Sequence[Entry], item: str, emit: Emit) -> dict[str, tuple[int, Digest]]:
    known = {}
    emit(Started("hash", item))
    for entry, (size, digest) in zip(entries, in_threads(_size_and_digest, entries), strict=True):
        known[entry.path] = (size, digest)
        emit(Advanced(item, size))
    emit(Finished(item))
    return known


def _size_and_digest(entry: Entry) -> tuple[int, Digest]:
    whole, size = hashlib.sha256(), 0
    for piece in _pieces(entry):
        whole.update(piece)
        size += len(piece)
    return size, Digest(whole.hexdigest())


def _pieces(entry: Entry) -> Iterator[bytes | memoryview]:
    """Give the content in pieces of at most 1 MiB, each good until the next is asked for."""
    if isinstance(entry.content, bytes):
        for done in range(0, len(entry.content), READ_BYTES):
            yield entry.content[done : done + READ_BYTES]
        return
    with open_source(entry.content) as file, blaming(entry.content):
        size = os.fstat(file.fileno()).st_size
        buffer = memoryview(bytearray(max(1, min(size, READ_BYTES))))
        while count := file.readinto(buffer):
            yield buffer[:count]
