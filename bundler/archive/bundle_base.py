"""What can be done with the files of a bundle, wherever they lie."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Self

from bundler.archive.files import atomic_write
from bundler.archive.image_tree import ImageTree, read_image_tree, require_manifests
from bundler.archive.members import COPY_HINT
from bundler.archive.tar import EXECUTABLE_MODE, PLAIN_MODE, ReadAt
from bundler.blob_content import BlobContent
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError
from bundler.manifest import Blob, Bundle, BundleFile, Image
from bundler.reference import ImageTag
from bundler.sums import write_sums

CONTENTS_NAME = "CONTENTS.sha256"


class BundleFiles(ABC):
    """A bundle that is open for reading; close it, or use it as a context manager.

    Any thread may use it. What is read is held to what was signed, except where it says so.

    Args:
        bundle: What was signed of it.
        name: What an error calls it, printable.
    """

    def __init__(self, bundle: Bundle, name: str) -> None:
        self._bundle = bundle
        self._name = name
        self._trees: dict[ImageTag, tuple[Image, ImageTree]] = {}

    def read(self, file: BundleFile, *, limit: int) -> bytes:
        """Read a small file whole and compare it with its signed digest.

        Raises:
            MalformedError: It has more than ``limit`` bytes.
            ContentError: It is not what was signed.
        """
        if file.size > limit:
            raise MalformedError(
                f"{self._name}: {file.path}: expected at most {limit} bytes, got {file.size}"
            )
        content = b"".join(map(bytes, self.pieces(file, 0, file.size)))
        self._require_digest(file, Digest.of(content))
        return content

    def extract(self, file: BundleFile, destination: Path) -> None:
        """Copy a file out; it appears only when it is what was signed.

        Raises:
            ContentError: It is not what was signed.
            WorldError: It cannot be written.
        """
        whole = hashlib.sha256()
        mode = EXECUTABLE_MODE if file.executable else PLAIN_MODE
        with atomic_write(destination, mode=mode) as out:
            for piece in self.pieces(file, 0, file.size):
                whole.update(piece)
                out.write(piece)
            self._require_digest(file, Digest(whole.hexdigest()))

    def check_images(self, images: Iterable[Image]) -> None:
        """Hold the archives of images to the manifest, all but the bytes of layers.

        Raises:
            ContentError: They are not what was signed.
            MalformedError: They are what was signed, and say something else.
        """
        require_manifests([(image, self.image_tree(image)) for image in images])

    def image_tree(self, image: Image) -> ImageTree:
        """Read what an image's archive holds, once; raises as ``check_images`` does."""
        known = self._trees.get(image.tag)
        if known is not None and known[0] == image:
            return known[1]
        file = self._bundle.file(image.tag.archive_path)
        with self._reading(file) as read_at:
            tree = read_image_tree(read_at, file.size, image)
        self._trees[image.tag] = image, tree
        return tree

    def archive_of(self, image: Image) -> BundleFile:
        """Give the file that is an image's archive."""
        return self._bundle.file(image.tag.archive_path)

    def blob(self, image: Image, digest: Digest, *, rehash: bool = False) -> BlobContent:
        """Find a blob of an image; KeyError where it has none of that digest.

        Args:
            image: One of this bundle.
            digest: Of the blob.
            rehash: Whether its bytes are hashed as they are read, also those before the offset, and
                the last piece is given only if they have that digest. Else nobody but the receiver
                compares them.

        Raises:
            ContentError, MalformedError: As ``check_images`` does.
        """
        file = self._bundle.file(image.tag.archive_path)
        start = self.image_tree(image).offsets[digest]
        blob = next(blob for blob in image.blobs if blob.digest == digest)
        return BlobContent(digest, blob.size, partial(self._blob_pieces, file, start, blob, rehash))

    @abstractmethod
    def pieces(self, file: BundleFile, offset: int, length: int) -> Iterator[memoryview]:
        """Read a range of a file, about 1 MiB at a time; it is not compared with any digest.

        Yields:
            The bytes in order, all in one buffer: each piece is good until the next is asked for.

        Raises:
            ContentError: The bundle is damaged there.
            MalformedError: It is as it was signed, and breaks the format there.
            ValueError: The range leaves the file.
        """

    @abstractmethod
    def check_structure(self) -> tuple[str, ...]:
        """Compare what there is with what was signed; content is not read.

        Returns:
            What is there, is not signed, and may be there: to be told, never read.

        Raises:
            ContentError: Something is missing, extra or another.
            MalformedError: It is as it was signed, and breaks the format.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what is open."""

    @abstractmethod
    def _reading(self, file: BundleFile) -> AbstractContextManager[ReadAt]:
        """Read a file by position in this block, and tell damage that it meets as ContentError."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _blob_pieces(
        self, file: BundleFile, start: int, blob: Blob, rehash: bool, offset: int
    ) -> Iterator[memoryview]:
        if not 0 <= offset <= blob.size:
            raise ValueError(f"offset {offset}: {blob.digest} has {blob.size} bytes")
        if rehash:
            return self._pieces_hashed(file, start, blob, offset)
        return self.pieces(file, start + offset, blob.size - offset)

    def _pieces_hashed(
        self, file: BundleFile, start: int, blob: Blob, offset: int
    ) -> Iterator[memoryview]:
        whole, done = hashlib.sha256(), 0
        for piece in self.pieces(file, start, blob.size):
            whole.update(piece)
            done += len(piece)
            if done == blob.size:
                self._require_blob(file, blob, Digest(whole.hexdigest()))
            if done > offset:
                yield piece[max(0, len(piece) - (done - offset)) :]
        if not blob.size:
            self._require_blob(file, blob, Digest(whole.hexdigest()))

    def _require_blob(self, file: BundleFile, blob: Blob, got: Digest) -> None:
        if got != blob.digest:
            raise ContentError(
                f"{self._name}: {file.path}: blob: expected {blob.digest}, got {got}",
                hint=COPY_HINT,
            )

    def _require_range(self, file: BundleFile, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > file.size:
            raise ValueError(f"{length} bytes from {offset}: {file.path} has {file.size}")

    def _check_contents_file(self) -> None:
        bundle = self._bundle
        contents = next((file for file in bundle.files if file.path == CONTENTS_NAME), None)
        others = {file.path: file.digest for file in bundle.files if file is not contents}
        if contents is None or contents.digest != Digest.of(write_sums(others)):
            raise MalformedError(
                f"{self._name}: {CONTENTS_NAME} does not name the files that the manifest names"
            )

    def _require_digest(self, file: BundleFile, got: Digest) -> None:
        if got != file.digest:
            raise ContentError(
                f"{self._name}: {file.path}: expected {file.digest}, got {got}",
                hint=COPY_HINT,
            )
