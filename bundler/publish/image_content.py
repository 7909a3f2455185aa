"""Hashing the archives of images and, as their bytes pass, each blob: damage, or built wrong?

An archive that is as it was signed may still hold a blob that is not what its name says. To copy
it again is of no use then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bundler.archive.bundle_files import BundleFiles
from bundler.digest import Digest
from bundler.manifest import Image

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

REBUILD_HINT = "to copy it again is of no use: the vendor must build this release again"


@dataclass(frozen=True, slots=True)
class ArchiveContent:
    """What the archive of an image holds in truth.

    Attributes:
        digest: Of the whole archive.
        misnamed: The blobs that are not what their names say: each name, with the digest of what
            is there.
    """

    digest: Digest
    misnamed: Mapping[Digest, Digest]


def hash_archive(
    files: BundleFiles, image: Image, advance: Callable[[int], None] = lambda _: None
) -> ArchiveContent:
    """Read the archive of an image once, and hash it and each of its blobs.

    Args:
        files: The bundle that has it.
        image: The image.
        advance: Told of the bytes that were read.

    Raises:
        ContentError: The bundle is damaged there, such that it cannot be read to its end.
    """
    archive, offsets = files.archive_of(image), files.image_tree(image).offsets
    whole, at = hashlib.sha256(), 0
    blobs = [_Span(offsets[b.digest], offsets[b.digest] + b.size, b.digest) for b in image.blobs]
    for piece in files.pieces(archive, 0, archive.size):
        whole.update(piece)
        for blob in blobs:
            blob.pass_by(piece, at)
        at += len(piece)
        advance(len(piece))
    return ArchiveContent(Digest(whole.hexdigest()), dict(_wrong(blobs)))


def misnamed_text(path: str, name: Digest, got: Digest) -> str:
    """Say that a blob of an archive is not what its name says."""
    return f"{path} is as signed, and its blob {name} is not what its name says: got {got}"


@dataclass(frozen=True, slots=True)
class _Span:
    """A blob of an archive: where it lies, and the hash of what has passed of it."""

    start: int
    end: int
    name: Digest
    hash: Hash = field(default_factory=hashlib.sha256)

    def pass_by(self, piece: memoryview, at: int) -> None:
        if at < self.end and self.start < at + len(piece):
            self.hash.update(piece[max(0, self.start - at) : self.end - at])


def _wrong(blobs: Sequence[_Span]) -> Iterator[tuple[Digest, Digest]]:
    for blob in blobs:
        got = Digest(blob.hash.hexdigest())
        if got != blob.name:
            yield blob.name, got
