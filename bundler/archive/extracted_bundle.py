"""A bundle that was extracted with tar, used as the archive itself would be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.archive.bundle_base import BundleFiles
from bundler.archive.extracted_tree import bundle_tree
from bundler.archive.files import RandomReader
from bundler.archive.hashing import digest_of
from bundler.archive.kinds import NOTHING
from bundler.archive.tar import ReadAt
from bundler.errors import ContentError, MalformedError, NotFoundError, printable
from bundler.faults import Fault
from bundler.manifest import Bundle, BundleFile

_HINT = "extract the archive again, into a directory of its own"


class ExtractedBundle(BundleFiles):
    """The directory that ``tar -xzf`` made of a bundle.

    No name below it is followed as a link. Files are opened when they are read.

    Args:
        root: The directory.
        bundle: What was signed of it.
    """

    def __init__(self, root: Path, bundle: Bundle) -> None:
        super().__init__(bundle, printable(str(root)))
        self._root = root

    def pieces(self, file: BundleFile, offset: int, length: int) -> Iterator[memoryview]:
        """Read a range of a file; raises as ``BundleFiles`` says."""
        self._require_range(file, offset, length)
        with self._open(file) as reader:
            yield from reader.pieces(offset, length)

    def check_structure(self) -> tuple[str, ...]:
        """Compare names, kinds and sizes with the manifest; raises as ``BundleFiles`` says."""
        tree = bundle_tree(self._root, self._bundle)
        found = tree.compare()
        faults = [
            Fault(archive=tree.name, path=path, expected=NOTHING, got=kind)
            for path, kind in found.extra
            if tree.closed(path)
        ]
        faults += found.faults
        if faults:
            raise ContentError("; ".join(map(str, faults)), hint=_HINT)
        self._check_contents_file()
        return tuple(printable(path) for path, _ in found.extra)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    @contextmanager
    def _reading(self, file: BundleFile) -> Iterator[ReadAt]:
        with self._open(file) as reader:
            try:
                yield reader.read_at
            except MalformedError as error:
                if digest_of(reader, 0, reader.size) != file.digest:
                    raise ContentError(str(error), hint=_HINT) from error
                raise

    @contextmanager
    def _open(self, file: BundleFile) -> Iterator[RandomReader]:
        try:
            reader = RandomReader(Path(file.path), root=self._root)
        except (MalformedError, NotFoundError) as error:
            raise ContentError(str(error), hint=_HINT) from error
        with reader:
            if reader.size != file.size:
                raise ContentError(
                    f"{printable(str(reader.path))}: expected {file.size} bytes, got {reader.size}",
                    hint=_HINT,
                )
            yield reader
