"""From a source to files: in parallel by part, verified while written, named only when right."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Protocol

from bundler.archive.held_directory import HeldDirectory
from bundler.archive.page_cache import PastCache
from bundler.archive.trouble import blaming
from bundler.digest import Digest
from bundler.errors import ContentError, printable
from bundler.events import Advanced, Emit, Finished
from bundler.fetch.memory import Keeping
from bundler.fetch.room import reserve
from bundler.fetch.wanted import File, Gap, Part
from bundler.parts import Span

_SHOWN = 20
# A part waits for the network most of the time; one connection to S3 gives about 90 MB/s.
_LEAST_THREADS, _MOST_THREADS = 8, 32
# A disk that is read from in many places at once spends its time on the way between them.
_MOST_FROM_DISK = 8
_HINT = "these files were removed; publish the checkpoint again, to a fresh prefix"


class Source(Protocol):
    """Where parts come from: an object store, or a directory."""

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes | memoryview]:
        """Stream ``length`` bytes from ``offset``; ends early only by raising.

        A piece is good until the next one is asked for.
        """


def threads() -> int:
    """Give how many parts are brought at once from a network: two a core, within limits."""
    return min(_MOST_THREADS, max(_LEAST_THREADS, 2 * len(os.sched_getaffinity(0))))


def threads_from_disk() -> int:
    """Give how many parts are brought at once from a disk: one a core, within limits."""
    return min(_MOST_FROM_DISK, len(os.sched_getaffinity(0)))


def bring(
    source: Source,
    gaps: Sequence[Gap],
    directory: HeldDirectory,
    *,
    keep: bool,
    emit: Emit,
    hint: str = _HINT,
    parallel: int | None = None,
) -> None:
    """Fill gaps; a file takes its name when all of it is right and on the disk.

    Memory is bounded by a mebibyte or two a thread. Each part is on its way to the disk when it
    ends, so that little is lost by whatever happens next and little is left to flush in the end.

    Args:
        source: Gives the bytes.
        gaps: What is missing, from ``survey`` of the same directory.
        directory: Where.
        keep: Whether what is written stays in memory, if that is not dear.
        emit: Told of bytes as they come and of files that are done, from several threads.
        hint: What to do about bytes that are wrong.
        parallel: How many parts are brought at once; None for as many as suit a network.

    Raises:
        ContentError: Parts are wrong; the message names each. Their files are removed, all others
            are there.
        WorldError: The source or the disk failed. What is right stays for the next run, under a
            name that is not final.
    """
    reserve(gaps, directory)
    faults = _Bringing(source, directory, keep, emit).run(gaps, parallel or threads())
    directory.sync_parents(gap.file.path for gap in gaps)
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ContentError("; ".join(faults[:_SHOWN]) + more, hint=hint)


class _Bringing:
    def __init__(self, source: Source, directory: HeldDirectory, keep: bool, emit: Emit) -> None:
        self._source = source
        self._directory = directory
        self._keeping = Keeping(wanted=keep)
        self._past_cache = PastCache()
        self._emit = emit
        self._stopped = threading.Event()
        # The kernel lets one thread at a time write to a file, and the others spin until then.
        self._writing: dict[str, threading.Lock] = {}

    def run(self, gaps: Sequence[Gap], parallel: int) -> list[str]:
        """Bring all parts; gives what is wrong, by file and part."""
        left = {gap.file.path: len(gap.parts) for gap in gaps}
        self._writing = {path: threading.Lock() for path in left}
        faults: dict[str, dict[int, str]] = {gap.file.path: {} for gap in gaps}
        for gap in gaps:
            if not gap.parts:
                self._name(gap.file)
        with ThreadPoolExecutor(parallel) as pool:
            jobs = {
                pool.submit(self._part, gap.file, part): (gap.file, part)
                for gap in gaps
                for part in gap.parts
            }
            try:
                for job in as_completed(jobs):
                    file, (span, _) = jobs.pop(job)
                    left[file.path] -= 1
                    if fault := _fault(job):
                        faults[file.path][span.number] = fault
                    if not left[file.path]:
                        self._end(file, wrong=bool(faults[file.path]))
            finally:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
        return [fault for wrong in faults.values() for _, fault in sorted(wrong.items())]

    def _end(self, file: File, *, wrong: bool) -> None:
        if wrong:
            self._directory.remove(file.partial)
        else:
            self._name(file)

    def _name(self, file: File) -> None:
        partial = self._directory.path / file.partial
        with self._directory.writing(file.partial) as descriptor, blaming(partial):
            with suppress(PermissionError):  # a file system that keeps no modes
                os.fchmod(descriptor, file.mode)
            os.fsync(descriptor)
        self._directory.rename(file.partial, PurePosixPath(file.path).name)
        self._emit(Finished(file.path))

    def _part(self, file: File, part: Part) -> None:
        span, digest = part
        partial = self._directory.path / file.partial
        whole, offset = hashlib.sha256(), span.offset
        with self._directory.writing(file.partial) as descriptor:
            for chunk in self._source.read(file.key, span.offset, span.length):
                if self._stopped.is_set():
                    return
                with self._writing[file.path], blaming(f"{partial} at offset {offset}"):
                    self._write(descriptor, chunk, offset)
                whole.update(chunk)
                offset += len(chunk)
                self._emit(Advanced(file.path, len(chunk)))
            with blaming(f"{partial} at offset {span.offset}"):
                self._flush(descriptor, span)
        got = Digest(whole.hexdigest())
        if digest not in {None, got}:
            raise ContentError(
                f"{printable(file.path)}: part {span.number} of {len(file.parts)} at offset "
                f"{span.offset}: expected {digest}, got {got}"
            )

    def _write(self, descriptor: int, chunk: bytes | memoryview, offset: int) -> None:
        view = memoryview(chunk)
        while view:
            if self._keeping.wanted:
                begun = time.thread_time()
                count = os.pwrite(descriptor, view, offset)
                self._keeping.wrote(count, time.thread_time() - begun)
            else:
                count = self._past_cache.write(descriptor, view, offset)
            view, offset = view[count:], offset + count

    def _flush(self, descriptor: int, span: Span) -> None:
        """Let a part get to the disk; what is written past the cache is on its way already."""
        if self._past_cache.works and not self._keeping.wanted:
            return
        os.fsync(descriptor)
        if not self._keeping.wanted:
            os.posix_fadvise(descriptor, span.offset, span.length, os.POSIX_FADV_DONTNEED)


def _fault(job: Future[None]) -> str:
    """Give what is wrong with the bytes of a part; raises what else went wrong."""
    try:
        job.result()
    except ContentError as fault:
        return str(fault)
    return ""
