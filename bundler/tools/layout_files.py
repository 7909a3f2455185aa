"""The files of an OCI layout of other people: in a directory, or in a tar; nothing is unpacked."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, NotFoundError, printable
from bundler.foreign_tar import ForeignMember, list_members
from bundler.oci_manifest import INDEX_FILE, MAX_OCI_MANIFEST_BYTES

# What `docker save` writes in place of it; since Docker 25 it writes both.
_DOCKER_INDEX = "manifest.json"
_MAX_MEMBERS = 100_000
# One more than is taken, so that more is noticed.
_MAX_READ, _PIECE_BYTES = MAX_OCI_MANIFEST_BYTES + 1, 1 << 20


class LayoutFiles(Protocol):
    """Where they lie."""

    def open(self, path: str) -> IO[bytes] | None:
        """Open a file of the layout; None where there is none."""

    def lend(self, blobs: Mapping[Digest, int], directory: Path) -> None:
        """Make blobs readable below another directory, as ``blobs/sha256/<hex>``."""


class Folder:
    """A layout in a directory; ``name`` is what an error calls it."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = printable(name)

    def open(self, path: str) -> IO[bytes] | None:
        """Open a plain file, also through a link: whoever made the layout may share blobs so."""
        try:
            descriptor = os.open(self._directory / path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        file = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise MalformedError(f"{self._name}: {printable(path)}: expected a file")
        return file

    def lend(self, blobs: Mapping[Digest, int], directory: Path) -> None:
        """Link to the directory's blobs, which are files of these sizes."""
        for digest, size in blobs.items():
            path = blob_path(digest)
            with present(self.open(path), f"{self._name}: {path}") as blob:
                _require_size(f"{self._name}: {path}", size, os.fstat(blob.fileno()).st_size)
        (directory / "blobs").symlink_to(self._directory.absolute() / "blobs")


class Archive:
    """A layout in a tar that is open; ``name`` is what an error calls it.

    Raises:
        MalformedError: It is no tar, or is not whole, or is compressed.
    """

    def __init__(self, archive: BinaryIO, name: str) -> None:
        self._archive = archive
        self._name = printable(name)
        self._members = self._list()

    def require_layout(self) -> None:
        """Tell what `docker save` wrote from a layout that is not whole.

        Raises:
            MalformedError: It is a docker-archive, and nothing else too.
        """
        if INDEX_FILE not in self._members and _DOCKER_INDEX in self._members:
            raise MalformedError(
                f"{self._name}: this is a docker-archive: it has {_DOCKER_INDEX}, no {INDEX_FILE}",
                hint="write docker-archive:PATH[:NAME:TAG] as its source",
            )

    def open(self, path: str) -> IO[bytes] | None:
        """Read a file of up to 4 MiB, and of a larger one a byte more."""
        member = self._members.get(path)
        return io.BytesIO(b"".join(self._pieces(member, _MAX_READ))) if member else None

    def lend(self, blobs: Mapping[Digest, int], directory: Path) -> None:
        """Copy blobs."""
        (directory / "blobs" / "sha256").mkdir(parents=True)
        for digest, size in blobs.items():
            path = blob_path(digest)
            member = self._members.get(path)
            if member is None:
                raise _absent(f"{self._name}: {path}")
            _require_size(f"{self._name}: {path}", size, member.size)
            with (directory / path).open("wb") as out:
                out.writelines(self._pieces(member, member.size))

    def _pieces(self, member: ForeignMember, limit: int) -> Iterator[bytes]:
        self._archive.seek(member.offset)
        left = min(member.size, limit)
        while left and (piece := self._archive.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece

    def _list(self) -> dict[str, ForeignMember]:
        members: dict[str, ForeignMember] = {}
        try:
            for number, member in enumerate(list_members(self._archive)):
                path = member.path.removeprefix("./")
                if member.file and members.setdefault(path, member) is not member:
                    raise ValueError(f"{path} is there twice")
                if number >= _MAX_MEMBERS:
                    raise ValueError(f"more than {_MAX_MEMBERS} members")
        except (OSError, ValueError) as error:
            raise MalformedError(
                f"{self._name}: expected a tar, whole and not compressed: {printable(str(error))}",
                hint="uncompress it first, or copy it again",
            ) from error
        return members


def _require_size(name: str, expected: int, got: int) -> None:
    if expected != got:
        raise ContentError(f"{name}: expected {expected} bytes, got {got}")


def blob_path(digest: Digest) -> str:
    """Say where a blob lies in a layout."""
    return f"blobs/sha256/{digest.hex}"


def present(file: IO[bytes] | None, name: str) -> IO[bytes]:
    """Demand a file of a layout; raises NotFoundError where there is none."""
    if file is None:
        raise _absent(name)
    return file


def _absent(name: str) -> NotFoundError:
    return NotFoundError(
        f"{printable(name)}: expected that file in the layout, found none",
        hint="the layout is not whole; copy it again",
    )
