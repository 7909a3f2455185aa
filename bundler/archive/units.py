"""An archive as a row of ranges without a gap, each with what was signed of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bundler.archive.reader import WINDOW_BYTES
from bundler.digest import Digest
from bundler.manifest import SLICE_BYTES, Bundle, Checkpoint
from bundler.parts import spans


@dataclass(frozen=True, slots=True)
class Unit:
    """A range of an archive that has a digest of its own, or is a piece of its frame.

    Attributes:
        offset, length: Where it lies in the archive.
        digest: Its signed sha256; None for bytes between files, which have one digest together.
        path: The file that it is of; None for a slice of a bundle, and between files.
        part: Number of the part of that file, or of the slice, from 1; 0 between files.
    """

    offset: int
    length: int
    digest: Digest | None
    path: str | None = None
    part: int = 0

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.length


def units(archive: Checkpoint | Bundle) -> Iterator[Unit]:
    """Give every byte of an archive once, in order; nothing between files is over 64 MiB."""
    return _of_checkpoint(archive) if isinstance(archive, Checkpoint) else _of_bundle(archive)


def _of_bundle(bundle: Bundle) -> Iterator[Unit]:
    for span, digest in zip(spans(bundle.size, SLICE_BYTES), bundle.slices, strict=True):
        yield Unit(span.offset, span.length, digest, None, span.number)


def _of_checkpoint(checkpoint: Checkpoint) -> Iterator[Unit]:
    end = 0
    for file in sorted(checkpoint.files, key=lambda file: file.offset):
        yield from _between(end, file.offset)
        for span, digest in zip(file.spans(), file.parts, strict=True):
            yield Unit(file.offset + span.offset, span.length, digest, file.path, span.number)
        end = file.offset + file.size
    yield from _between(end, checkpoint.size)


def _between(begin: int, end: int) -> Iterator[Unit]:
    for offset in range(begin, end, WINDOW_BYTES):
        yield Unit(offset, min(WINDOW_BYTES, end - offset), None)
