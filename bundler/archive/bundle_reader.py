"""Reading files out of a bundle where they lie, and holding all of it against what was signed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bundler.archive.bundle_base import BundleFiles
from bundler.archive.hashing import digest_of, digest_or_damage, in_threads
from bundler.archive.members import COPY_HINT, compare_members
from bundler.archive.reader import WINDOW_BYTES, Reader
from bundler.archive.stored_gzip import StoredGzipReader
from bundler.archive.tar import ReadAt, walk
from bundler.archive.volumes import Place, open_place
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, printable
from bundler.events import Advanced, Emit, Finished, Started, ignore
from bundler.faults import Fault
from bundler.manifest import SLICE_BYTES, Bundle, BundleFile
from bundler.parts import Span, spans


class BundleReader(BundleFiles):
    """A bundle in its archive, read without unpacking.

    Args:
        place: The archive.
        bundle: What was signed of it.

    Raises:
        ContentError: The archive is not what was signed.
        MalformedError: It is what was signed, and breaks the format.
    """

    def __init__(self, place: Place, bundle: Bundle) -> None:
        super().__init__(bundle, bundle.archive)
        self._reader = open_place(place)
        try:
            self._require_size()
            with self._signed(0, bundle.size):
                self._gzip = StoredGzipReader(
                    self._reader.readv,
                    bundle.size,
                    block_bytes=bundle.block_bytes,
                    name=bundle.archive,
                )
                self._require_within()
        except BaseException:
            self.close()
            raise

    def pieces(self, file: BundleFile, offset: int, length: int) -> Iterator[memoryview]:
        """Read a range of a file; raises as ``BundleFiles`` says."""
        self._require_range(file, offset, length)
        start = file.offset + offset
        with self._signed(*self._gzip.archive_range(start, length)):
            for done in range(0, length, WINDOW_BYTES):
                count = min(WINDOW_BYTES, length - done)
                begin, end = self._gzip.archive_range(start + done, count)
                with self._reader.drop_behind(begin, end - begin):
                    yield from self._gzip.pieces(start + done, count)

    def check_structure(self) -> tuple[str, ...]:
        """Compare the tar's headers and CONTENTS.sha256 with the manifest.

        Raises:
            ContentError: They say something else.
            MalformedError: They are what was signed, and break the format.
        """
        bundle = self._bundle
        with self._signed(0, bundle.size):
            files = {f"{bundle.root}/{file.path}": file for file in bundle.files}
            members = walk(self._gzip.read, self._gzip.plain_size, name=bundle.archive)
            compare_members(members, files, archive=bundle.archive)
        self._check_contents_file()
        return ()

    def check_slices(self, emit: Emit = ignore) -> list[Fault]:
        """Hash every slice of the archive on all cores.

        Returns:
            Every slice that differs, and every file that differs in one of them, in their order.

        Raises:
            WorldError: The disk fails.
        """
        bad = list(bad_slices(self._reader, self._bundle, emit))
        return [fault for _, fault in bad] + self._file_faults([span for span, _ in bad])

    def check_file(self, file: BundleFile) -> list[Fault]:
        """Hash one file; raises as ``check_slices`` does."""
        start = self._gzip.archive_offset(file.offset)
        end = self._gzip.archive_offset(file.offset + file.size)
        got = self._digest_or_damage(file)
        if got == str(file.digest):
            return []
        return [
            Fault(
                archive=self._bundle.archive,
                path=file.path,
                offset=start,
                expected=str(file.digest),
                got=got,
                volume=self._reader.carriers(start, end - start),
            )
        ]

    def close(self) -> None:
        """Give the descriptor back."""
        self._reader.close()

    @contextmanager
    def _reading(self, file: BundleFile) -> Iterator[ReadAt]:
        with self._signed(*self._gzip.archive_range(file.offset, file.size)):
            yield partial(self._read_within, file)

    def _read_within(self, file: BundleFile, offset: int, length: int) -> bytes:
        return self._gzip.read(file.offset + offset, length)

    def _hash_slice(self, span: Span) -> tuple[Span, Digest]:
        return span, digest_of(self._reader, span.offset, span.length)

    def _file_faults(self, bad: list[Span]) -> list[Fault]:
        """Say which files the bad slices damage; none where only what is between them is hit."""
        faults = []
        for file in self._bundle.files if bad else ():
            start = self._gzip.archive_offset(file.offset)
            end = self._gzip.archive_offset(file.offset + file.size)
            if any(span.offset < end and start < span.offset + span.length for span in bad):
                faults += self.check_file(file)
        return faults

    def _digest_or_damage(self, file: BundleFile) -> str:
        whole = hashlib.sha256()
        try:
            for piece in self._gzip.pieces(file.offset, file.size):
                whole.update(piece)
        except (ContentError, MalformedError) as error:
            return f"damage ({error})"
        return f"sha256:{whole.hexdigest()}"

    @contextmanager
    def _signed(self, begin: int, end: int) -> Iterator[None]:
        """Tell a breach of the format as what it is: other bytes than were signed, if they are.

        ``begin`` and ``end`` say where in the archive the block reads.
        """
        try:
            yield
        except MalformedError as error:
            for span in spans(self._bundle.size, SLICE_BYTES):
                if span.offset < end and begin < span.offset + span.length:
                    _, got = self._hash_slice(span)
                    if got != self._bundle.slices[span.number - 1]:
                        raise ContentError(str(error), hint=COPY_HINT) from error
            raise

    def _require_size(self) -> None:
        if self._reader.size != self._bundle.size:
            raise ContentError(
                f"{self._bundle.archive}: expected {self._bundle.size} bytes, "
                f"got {self._reader.size}",
                hint=COPY_HINT,
            )

    def _require_within(self) -> None:
        for file in self._bundle.files:
            if file.offset + file.size > self._gzip.plain_size:
                raise MalformedError(
                    f"{self._bundle.archive}: {printable(file.path)} lies beyond the content"
                )


def bad_slices(reader: Reader, bundle: Bundle, emit: Emit) -> Iterator[tuple[Span, Fault]]:
    """Hash every slice of a bundle's archive that can be read, on all cores.

    Yields:
        Those that differ, in their order.

    Raises:
        WorldError: The disk fails.
    """

    def check(span: Span) -> tuple[Span, Fault | None]:
        expected = str(bundle.slices[span.number - 1])
        got = digest_or_damage(reader, span.offset, span.length)
        if got == expected:
            return span, None
        return span, Fault(
            archive=bundle.archive,
            part=span.number,
            offset=span.offset,
            expected=expected,
            got=got,
            volume=reader.carriers(span.offset, span.length),
        )

    emit(Started("verify", bundle.archive, bundle.size))
    there = (
        span for span in spans(bundle.size, SLICE_BYTES) if reader.has(span.offset, span.length)
    )
    wrong = False
    for span, fault in in_threads(check, there):
        emit(Advanced(bundle.archive, span.length))
        if fault is not None:
            wrong = True
            yield span, fault
    emit(Finished(bundle.archive, wrong=wrong))
