"""What of a directory is right already: every byte that is kept was read and hashed again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.held_directory import HeldDirectory
from bundler.digest import Digest
from bundler.errors import NotFoundError
from bundler.events import Advanced, Emit, ignore, telling
from bundler.fetch.wanted import File, Gap, Part
from bundler.parts import Span, s3_checksum


@dataclass(frozen=True, slots=True)
class _Found:
    """What lies where a file, or its partial file, belongs."""

    file: File
    directory: HeldDirectory
    name: str
    status: os.stat_result

    @property
    def is_named(self) -> bool:
        return self.name == self.file.path

    @property
    def is_right(self) -> bool:
        """Whether all but its bytes is as it should be."""
        executable = self.status.st_mode & stat.S_IXUSR != 0
        sized = self.status.st_size == self.file.size
        return self.is_named and sized and self.file.executable in {None, executable}


def survey(
    files: Sequence[File], directory: HeldDirectory, *, keep: bool, emit: Emit = ignore
) -> list[Gap]:
    """Say what is to be brought; parts are hashed on all cores, of many files and within one.

    What has a file's name and is not right loses it: it becomes the partial file, whose right
    parts need not come again. Where it has other names too (hard links) it is let go instead:
    repairing it would write into what those names stand for.

    Args:
        files: What the directory is to hold; directories are made for them.
        directory: Where.
        keep: Whether what is read stays in memory.
        emit: Told of what is read.

    Returns:
        The files that are not right, in the order of ``files``.

    Raises:
        MalformedError: A link or a directory is in the place of a file.
        WorldError: The disk failed.
    """
    there = {file.path: found for file in files if (found := _find(file, directory))}
    judged, item = _judged(files, there), f"what is in {directory.path}"
    size = sum(file.size for file in judged)

    def digest(job: tuple[_Found, Span]) -> Digest | None:
        found, span = job
        got = _digest(found, span, keep=keep)
        emit(Advanced(item, span.length))
        return got

    with telling(emit, "compare", item, size) if judged else nullcontext():
        jobs = ((there[file.path], span) for file in judged for span, _ in file.cut)
        digests = in_threads(digest, jobs)
        wrong = {file.path: _wrong(file, digests) for file in judged}
    gaps = (_gap(file, there.get(file.path), wrong.get(file.path, file.cut)) for file in files)
    return [gap for gap in gaps if gap is not None]


def _judged(files: Sequence[File], there: dict[str, _Found]) -> list[File]:
    """Give the files that are there and that can be told from others."""
    return [file for file in files if file.path in there and file.provable]


def _find(file: File, directory: HeldDirectory) -> _Found | None:
    directory.make_parents(file.path)
    for name in (file.path, file.partial):
        with suppress(NotFoundError), directory.reader(name) as reader:
            return _Found(file, directory, name, reader.status)
    return None


def _digest(found: _Found, span: Span, *, keep: bool) -> Digest | None:
    """Hash a part; None where the file ends before it, or where nothing was written yet."""
    if span.offset + span.length > found.status.st_size:
        return None
    with found.directory.reader(found.name) as reader:
        if span.length and not found.is_named and reader.is_hole(span.offset, span.length):
            return None
        return digest_of(reader, span.offset, span.length, keep=keep)


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
    if found.is_right and not wrong:
        return None
    if found.status.st_nlink > 1:
        found.directory.remove(found.name)
        return Gap(file, file.cut)
    found.directory.rename(found.name, PurePosixPath(file.partial).name)
    return Gap(file, wrong)
