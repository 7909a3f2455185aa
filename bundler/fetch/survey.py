"""What of a directory is right already: every byte that is kept was read and hashed again."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundler.archive.files import READ_BYTES, RandomReader
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.trouble import blaming
from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.fetch.wanted import File, Gap, Part
from bundler.parts import Span, s3_checksum


@dataclass(frozen=True, slots=True)
class _Found:
    """What lies where a file, or its partial file, belongs."""

    file: File
    path: Path
    size: int

    @property
    def is_named(self) -> bool:
        return self.path.name == PurePosixPath(self.file.path).name


def survey(files: Sequence[File], directory: Path, *, keep: bool) -> list[Gap]:
    """Say what is to be brought; parts are hashed on all cores, of many files and within one.

    What has a file's name and is not right loses it: it becomes the partial file, whose right
    parts need not come again. Where it has other names too (hard links) it is let go instead:
    repairing it would write into what those names stand for.

    Args:
        files: What the directory is to hold; directories are made for them.
        directory: Where.
        keep: Whether what is read stays in memory.

    Returns:
        The files that are not right, in the order of ``files``.

    Raises:
        MalformedError: A link or a directory is in the place of a file.
        WorldError: The disk failed.
    """
    there = {file.path: found for file in files if (found := _find(file, directory))}
    jobs = ((there[file.path], span) for file in _judged(files, there) for span, _ in file.cut)
    digests = in_threads(lambda job: _digest(*job, keep=keep), jobs)
    wrong = {file.path: _wrong(file, digests) for file in _judged(files, there)}
    gaps = (_gap(file, there.get(file.path), wrong.get(file.path, file.cut)) for file in files)
    return [gap for gap in gaps if gap is not None]


def _judged(files: Sequence[File], there: dict[str, _Found]) -> list[File]:
    """Give the files that are there and that can be told from others."""
    return [file for file in files if file.path in there and file.provable]


def _find(file: File, directory: Path) -> _Found | None:
    _make_parents(file, directory)
    for name in (file.path, file.partial):
        path = directory / name
        if os.path.lexists(path):
            with RandomReader(path) as reader:
                return _Found(file, path, reader.size)
    return None


def _make_parents(file: File, directory: Path) -> None:
    for parent in reversed(PurePosixPath(file.path).parents[:-1]):
        path = directory / parent
        if path.is_symlink():
            raise MalformedError(f"{path}: expected a directory, got a symbolic link")
        with blaming(path):
            path.mkdir(exist_ok=True)


def _digest(found: _Found, span: Span, *, keep: bool) -> Digest | None:
    """Hash a part; None where the file ends before it, or where nothing was written yet."""
    if span.offset + span.length > found.size:
        return None
    if span.length and not found.is_named and _is_hole(found.path, span):
        return None
    with RandomReader(found.path) as reader:
        if not keep:
            return digest_of(reader, span.offset, span.length)
        whole = hashlib.sha256()
        buffer = memoryview(bytearray(min(span.length, READ_BYTES)))
        for done in range(0, span.length, READ_BYTES):
            view = buffer[: span.length - done]
            reader.readv(span.offset + done, [view])
            whole.update(view)
        return Digest(whole.hexdigest())


def _is_hole(path: Path, span: Span) -> bool:
    """Say whether nothing was written to a part of a file whose place is only reserved."""
    with blaming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.lseek(descriptor, span.offset, os.SEEK_DATA) >= span.offset + span.length
        except OSError as error:
            if error.errno in {errno.ENXIO, errno.EINVAL}:
                return error.errno == errno.ENXIO  # no data behind; or this file system cannot say
            raise
        finally:
            os.close(descriptor)


def _wrong(file: File, digests: Iterator[Digest | None]) -> tuple[Part, ...]:
    """Give the parts of a file that are not right."""
    got = [next(digests) for _ in file.cut]
    if None not in file.parts:
        return tuple(part for part, digest in zip(file.cut, got, strict=True) if part[1] != digest)
    whole = [digest for digest in got if digest is not None]
    proven = len(whole) == len(got) and s3_checksum(whole) == file.checksum
    return () if proven else file.cut


def _gap(file: File, found: _Found | None, wrong: tuple[Part, ...]) -> Gap | None:
    if found is None:
        return Gap(file, file.cut)
    if not found.is_named:
        return Gap(file, wrong)
    if found.size == file.size and not wrong:
        return None
    with blaming(found.path):
        if found.path.lstat().st_nlink > 1:
            found.path.unlink()
            return Gap(file, file.cut)
        found.path.replace(found.path.with_name(PurePosixPath(file.partial).name))
    return Gap(file, wrong)
