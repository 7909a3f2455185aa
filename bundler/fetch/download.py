"""Objects to files: in parallel by part, verified while written, named only when they are right."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundler.archive.files import RandomReader
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.trouble import blaming
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, WorldError, printable
from bundler.events import Advanced, Emit, Finished, Noted, Started, ignore
from bundler.parts import Span, part_size, spans
from bundler.sizes import size_text
from bundler.stores.base import ObjectStore

_THREADS = 8
_SHOWN = 20
_Part = tuple[Span, Digest | None]


@dataclass(frozen=True, slots=True)
class File:
    """One file to be.

    Attributes:
        path: Below the destination.
        key: The object that it comes from.
        size: Bytes.
        parts: The digest of each part; None where nothing is known to verify it by.
    """

    path: str
    key: str
    size: int
    parts: Sequence[Digest | None]

    @property
    def partial(self) -> str:
        """Where it lies until all of it is right."""
        path = PurePosixPath(self.path)
        return str(path.with_name(f".{path.name}.partial"))

    @property
    def cut(self) -> list[_Part]:
        """Where its parts lie, and their digests."""
        return list(zip(spans(self.size, part_size(self.size)), self.parts, strict=True))


def download(
    store: ObjectStore, files: Sequence[File], destination: Path, *, emit: Emit = ignore
) -> None:
    """Make a directory hold these files; what is right already is kept.

    A part lies in memory by the mebibyte only, in each of eight threads.

    Raises:
        ContentError: Parts are wrong; the message names each, and their files are removed.
        MalformedError: A name is taken by a link or directory, or two files are in each other's
            way.
        WorldError: The store or the disk failed, the disk is too small, or somebody else is at
            work there. What was fetched stays for the next run, under another name.
    """
    _check_names(files)
    with blaming(destination):
        destination.mkdir(parents=True, exist_ok=True)
    with _alone(destination):
        _Download(store, destination, emit).run(files)
    _name_others(files, destination, emit)


def _check_names(files: Sequence[File]) -> None:
    taken = {file.path for file in files}
    for file in files:
        above = {str(parent) for parent in PurePosixPath(file.path).parents}
        for name in (above | {file.partial}) & taken:
            raise MalformedError(
                f"{printable(file.path)}: {printable(name)} cannot be a file as well"
            )


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Hold the directory: two runs at once would write into each other's files."""
    with blaming(destination):
        descriptor = os.open(destination, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorldError(
                f"{destination}: another bundle fetch is at work there", hint="wait until it ends"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _name_others(files: Sequence[File], destination: Path, emit: Emit) -> None:
    wanted = {file.path for file in files}
    found = (path for path in destination.rglob("*") if path.is_symlink() or not path.is_dir())
    others = sorted({str(path.relative_to(destination)) for path in found} - wanted)
    for name in others[:_SHOWN]:
        emit(Noted(f"{destination}: {printable(name)} is not among the files; left alone"))
    if len(others) > _SHOWN:
        emit(Noted(f"{destination}: and {len(others) - _SHOWN} other files; left alone"))


class _Download:
    def __init__(self, store: ObjectStore, destination: Path, emit: Emit) -> None:
        self._store = store
        self._destination = destination
        self._emit = emit

    def run(self, files: Sequence[File]) -> None:
        missing = [(file, parts) for file in files if (parts := self._missing(file)) is not None]
        self._check_space(sum(span.length for _, parts in missing for span, _ in parts))
        for file, _ in missing:
            self._make_partial(file)
        with ThreadPoolExecutor(_THREADS) as threads:
            jobs = [
                (file, [threads.submit(self._bring, file, *part) for part in parts])
                for file, parts in missing
            ]
            try:
                faults = [fault for file, started in jobs for fault in self._end(file, started)]
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
        if faults:
            more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise ContentError(
                "; ".join(map(str, faults[:_SHOWN])) + more,
                hint="these files were removed; publish the checkpoint again, to a fresh prefix",
            )

    def _missing(self, file: File) -> list[_Part] | None:
        """Give the parts to bring; None where the file is there."""
        self._emit(Started("fetch", file.path, file.size))
        final, partial = self._destination / file.path, self._destination / file.partial
        self._make_parents(file)
        missing = file.cut
        with blaming(final):
            if os.path.lexists(final):
                size, missing = self._wrong(final, file)
                if size == file.size and not missing:
                    self._emit(Advanced(file.path, file.size))
                    self._emit(Finished(file.path, skipped=True))
                    return None
                final.replace(partial)  # what is not right does not keep the name
            elif os.path.lexists(partial) and None not in file.parts:
                _, missing = self._wrong(partial, file)
        self._emit(Advanced(file.path, file.size - sum(span.length for span, _ in missing)))
        return missing

    def _make_parents(self, file: File) -> None:
        for parent in reversed(PurePosixPath(file.path).parents[:-1]):
            path = self._destination / parent
            if path.is_symlink():
                raise MalformedError(f"{path}: expected a directory, got a symbolic link")
            with blaming(path):
                path.mkdir(exist_ok=True)

    @staticmethod
    def _wrong(path: Path, file: File) -> tuple[int, list[_Part]]:
        """Give a file's size and the parts of it that are not right."""
        with RandomReader(path) as reader:

            def right(part: _Part) -> bool:
                span, digest = part
                if digest is None or span.offset + span.length > reader.size:
                    return reader.size == file.size
                return digest_of(reader, span.offset, span.length) == digest

            judged = zip(file.cut, in_threads(right, file.cut), strict=True)
            return reader.size, [part for part, is_right in judged if not is_right]

    def _make_partial(self, file: File) -> None:
        partial = self._destination / file.partial
        descriptor = _open_partial(partial, os.O_CREAT)
        try:
            with blaming(partial):
                os.ftruncate(descriptor, file.size)
        finally:
            os.close(descriptor)

    def _check_space(self, need: int) -> None:
        with blaming(self._destination):
            disk = os.statvfs(self._destination)
        have = disk.f_bavail * disk.f_frsize
        if need > have:
            raise WorldError(
                f"{self._destination}: {size_text(need)} still to come, {size_text(have)} free",
                hint="make the volume larger, or free space on the node's disk",
            )

    def _bring(self, file: File, span: Span, digest: Digest | None) -> None:
        partial = self._destination / file.partial
        whole = hashlib.sha256()
        descriptor = _open_partial(partial)
        try:
            offset = span.offset
            for chunk in self._store.read(file.key, span.offset, span.length):
                with blaming(f"{partial} at offset {offset}"):
                    _write(descriptor, chunk, offset)
                whole.update(chunk)
                offset += len(chunk)
                self._emit(Advanced(file.path, len(chunk)))
        finally:
            os.close(descriptor)
        got = Digest(whole.hexdigest())
        if digest not in {None, got}:
            raise ContentError(
                f"{printable(file.path)}: part {span.number} of {len(file.parts)} at offset "
                f"{span.offset}: expected {digest}, got {got}"
            )

    def _end(self, file: File, jobs: Sequence[Future[None]]) -> list[ContentError]:
        """Give a file its name, or remove it where parts are wrong."""
        faults = []
        for job in jobs:
            try:
                job.result()
            except ContentError as fault:
                faults.append(fault)
        final, partial = self._destination / file.path, self._destination / file.partial
        with blaming(final):
            if faults:
                partial.unlink()
            else:
                partial.replace(final)
                self._emit(Finished(file.path))
        return faults


def _open_partial(partial: Path, flags: int = 0) -> int:
    """Open a regular file to write to; never wait for the other end of what is none."""
    flags |= os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with blaming(partial):
        descriptor = os.open(partial, flags, 0o644)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise MalformedError(f"{printable(str(partial))}: expected a regular file")
    return descriptor


def _write(descriptor: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
