"""Reading files out of a bundle where they lie, and holding all of it against what was signed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from bundler.archive.files import READ_BYTES, RandomReader, atomic_write
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.members import COPY_HINT, compare_members
from bundler.archive.oci import check_image_archive
from bundler.archive.stored_gzip import StoredGzipReader
from bundler.archive.tar import walk
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, printable
from bundler.events import Advanced, Emit, Finished, Started, ignore
from bundler.faults import Fault
from bundler.manifest import SLICE_BYTES, Bundle, BundleFile, Image
from bundler.parts import Span, spans
from bundler.sums import write_sums

CONTENTS_NAME = "CONTENTS.sha256"
_PLAIN_MODE, _EXECUTABLE_MODE = 0o644, 0o755


class BundleReader:
    """A bundle that is open for reading; close it, or use it as a context manager.

    Args:
        path: The archive.
        bundle: What was signed of it.

    Raises:
        ContentError: The archive is not what was signed.
        MalformedError: It is what was signed, and breaks the format.
    """

    def __init__(self, path: Path, bundle: Bundle) -> None:
        self._bundle = bundle
        self._reader = RandomReader(path)
        try:
            self._require_size()
            with self._signed():
                self._gzip = StoredGzipReader(
                    self._reader.read_at,
                    bundle.size,
                    block_bytes=bundle.block_bytes,
                    name=bundle.archive,
                )
                self._require_within()
        except BaseException:
            self.close()
            raise

    def read(self, file: BundleFile, *, limit: int) -> bytes:
        """Read a small file whole and compare it with its signed digest.

        Raises:
            MalformedError: It has more than ``limit`` bytes.
            ContentError: It is not what was signed.
        """
        if file.size > limit:
            raise MalformedError(
                f"{self._bundle.archive}: {file.path}: expected at most {limit} bytes, "
                f"got {file.size}"
            )
        with self._signed():
            content = self._gzip.read(file.offset, file.size)
        self._require_digest(file, Digest.of(content))
        return content

    def extract(self, file: BundleFile, destination: Path) -> None:
        """Copy a file out; it appears only when it is what was signed.

        Raises:
            ContentError: It is not what was signed.
            WorldError: It cannot be written.
        """
        whole = hashlib.sha256()
        mode = _EXECUTABLE_MODE if file.executable else _PLAIN_MODE
        with atomic_write(destination, mode=mode) as out, self._signed():
            for piece in self._pieces(file):
                whole.update(piece)
                out.write(piece)
            self._require_digest(file, Digest(whole.hexdigest()))

    def check_structure(self) -> None:
        """Compare the tar's headers and CONTENTS.sha256 with the manifest.

        Raises:
            ContentError: They say something else.
            MalformedError: They are what was signed, and break the format.
        """
        bundle = self._bundle
        with self._signed():
            files = {f"{bundle.root}/{file.path}": file for file in bundle.files}
            members = walk(self._gzip.read, self._gzip.plain_size, name=bundle.archive)
            compare_members(members, files, archive=bundle.archive)
        contents = next((file for file in bundle.files if file.path == CONTENTS_NAME), None)
        others = {file.path: file.digest for file in bundle.files if file is not contents}
        if contents is None or contents.digest != Digest.of(write_sums(others)):
            raise MalformedError(
                f"{bundle.archive}: {CONTENTS_NAME} does not name the files that the manifest names"
            )

    def check_images(self, images: Iterable[Image]) -> None:
        """Compare the headers and index of each image's archive with the manifest.

        Raises:
            ContentError: They are not what was signed.
            MalformedError: They are what was signed, and say something else.
        """
        with self._signed():
            for image in images:
                file = self._bundle.file(image.tag.archive_path)
                check_image_archive(partial(self._read_within, file), file.size, image)

    def check_slices(self, emit: Emit = ignore) -> list[Fault]:
        """Hash every slice of the archive on all cores.

        Returns:
            Every slice that differs, and every file that differs in one of them, in their order.

        Raises:
            WorldError: The disk fails.
        """
        item, bad = self._bundle.archive, []
        faults: list[Fault] = []
        emit(Started("verify", item, self._bundle.size))
        for span, got in in_threads(self._hash_slice, spans(self._bundle.size, SLICE_BYTES)):
            emit(Advanced(item, span.length))
            if got != self._bundle.slices[span.number - 1]:
                bad.append(span)
                faults.append(self._slice_fault(span, got))
        emit(Finished(item))
        return faults + self._file_faults(bad)

    def close(self) -> None:
        """Give the descriptor back."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_within(self, file: BundleFile, offset: int, length: int) -> bytes:
        return self._gzip.read(file.offset + offset, length)

    def _pieces(self, file: BundleFile) -> Iterator[bytes]:
        for done in range(0, file.size, READ_BYTES):
            yield self._gzip.read(file.offset + done, min(READ_BYTES, file.size - done))

    def _hash_slice(self, span: Span) -> tuple[Span, Digest]:
        return span, digest_of(self._reader, span.offset, span.length)

    def _slice_fault(self, span: Span, got: Digest) -> Fault:
        return Fault(
            archive=self._bundle.archive,
            part=span.number,
            offset=span.offset,
            expected=str(self._bundle.slices[span.number - 1]),
            got=str(got),
        )

    def _file_faults(self, bad: list[Span]) -> list[Fault]:
        """Say which files the bad slices damage; none where only what is between them is hit."""
        faults = []
        for file in self._bundle.files if bad else ():
            start = self._gzip.archive_offset(file.offset)
            end = self._gzip.archive_offset(file.offset + file.size)
            if any(span.offset < end and start < span.offset + span.length for span in bad):
                got = self._digest_or_damage(file)
                if got != str(file.digest):
                    faults.append(
                        Fault(
                            archive=self._bundle.archive,
                            path=file.path,
                            offset=start,
                            expected=str(file.digest),
                            got=got,
                        )
                    )
        return faults

    def _digest_or_damage(self, file: BundleFile) -> str:
        whole = hashlib.sha256()
        try:
            for piece in self._pieces(file):
                whole.update(piece)
        except MalformedError as error:
            return f"damage ({error})"
        return f"sha256:{whole.hexdigest()}"

    @contextmanager
    def _signed(self) -> Iterator[None]:
        """Tell a breach of the format as what it is: other bytes than were signed, if they are."""
        try:
            yield
        except MalformedError as error:
            for span in spans(self._bundle.size, SLICE_BYTES):
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

    def _require_digest(self, file: BundleFile, got: Digest) -> None:
        if got != file.digest:
            raise ContentError(
                f"{self._bundle.archive}: {printable(file.path)}: expected {file.digest}, "
                f"got {got}",
                hint=COPY_HINT,
            )
