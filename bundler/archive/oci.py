"""OCI image layouts: read strictly, every blob proven, and written as an archive."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bundler.archive.files import RandomReader, atomic_write
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.layout_files import DirectoryFiles
from bundler.archive.oci_walk import blob_differs, blob_path, follow, read_top
from bundler.archive.tar import END, header, padding, with_directories
from bundler.digest import Digest
from bundler.errors import printable
from bundler.jsontext import write_json
from bundler.manifest import Blob
from bundler.oci_manifest import INDEX_FILE, LAYOUT_VERSION, OCI_INDEX, REF_NAME, VERSION_FILE
from bundler.reference import ImageTag


@dataclass(frozen=True, slots=True)
class Layout:
    """One image, all its platforms, every blob proven.

    Attributes:
        digest: Of the manifest or index that the tag names.
        media_type: Of the same.
        platforms: Such as ``linux/amd64``, sorted.
        blobs: Every blob that can be reached, sorted by digest.
    """

    digest: Digest
    media_type: str
    platforms: tuple[str, ...]
    blobs: tuple[Blob, ...]


def read_layout(directory: Path, *, artifact: bool = False) -> Layout:
    """Read an image layout; blobs that nothing names are left out.

    Args:
        directory: The layout.
        artifact: Whether it may have no platform: a signature, an SBOM, an index of such.

    Raises:
        MalformedError: It breaks the OCI image specification, lacks a blob, is Docker-typed, or
            holds not exactly one image.
        ContentError: A blob has another size or digest than its descriptor says.
    """
    files = DirectoryFiles(directory)
    top = read_top(files)
    found = follow(files, top)
    unproven = [blob for blob in found.named.values() if blob.digest not in found.proven]
    for _ in in_threads(lambda blob: _prove(directory, blob), unproven):
        pass
    if not found.platforms and not artifact:
        top.refuse("digest", "expected an image for at least one platform, got none")
    own = found.manifests[-1]
    blobs = tuple(sorted(found.named.values(), key=lambda blob: blob.digest))
    return Layout(own.digest, own.media_type, found.platforms, blobs)


def write_oci_archive(
    layout_dir: Path, layout: Layout, tag: ImageTag, out: Path, *, mtime: int
) -> None:
    """Write the image of a layout as an OCI archive: the same bytes at any time.

    Args:
        layout_dir: Where the blobs are.
        layout: What ``read_layout`` said of it.
        tag: What the archive calls the image: its tag goes into index.json.
        out: The archive, which appears whole or not at all.
        mtime: Seconds since 1970 that each member gets.

    Raises:
        ContentError: A blob is not what the layout says any more.
        WorldError: A file cannot be read or written.
    """
    contents = _contents(layout, _index(layout, tag))
    with atomic_write(out) as file:
        for path, directory in with_directories(contents):
            content = contents.get(path, b"")
            size = content.size if isinstance(content, Blob) else len(content)
            file.write(header(path, size=size, mtime=mtime, directory=directory))
            if isinstance(content, Blob):
                _copy(layout_dir, content, file)
            else:
                file.write(content)
            file.write(padding(size))
        file.write(END)


def _contents(layout: Layout, index: bytes) -> dict[str, bytes | Blob]:
    contents: dict[str, bytes | Blob] = {blob_path(blob.digest): blob for blob in layout.blobs}
    return contents | {
        INDEX_FILE: index,
        VERSION_FILE: write_json({"imageLayoutVersion": LAYOUT_VERSION}),
    }


def _index(layout: Layout, tag: ImageTag) -> bytes:
    size = next(blob.size for blob in layout.blobs if blob.digest == layout.digest)
    descriptor = {
        "mediaType": layout.media_type,
        "digest": str(layout.digest),
        "size": size,
        "annotations": {REF_NAME: tag.tag},
    }
    return write_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]})


def _copy(directory: Path, blob: Blob, out: BinaryIO) -> None:
    with RandomReader(directory / blob_path(blob.digest)) as reader:
        whole = hashlib.sha256()
        _require_size(directory, blob, reader)
        for piece in reader.pieces(0, blob.size):
            whole.update(piece)
            out.write(piece)
    _require_digest(directory, blob, Digest(whole.hexdigest()))


def _prove(directory: Path, blob: Blob) -> None:
    with RandomReader(directory / blob_path(blob.digest)) as reader:
        _require_size(directory, blob, reader)
        _require_digest(directory, blob, digest_of(reader, 0, blob.size))


def _require_size(directory: Path, blob: Blob, reader: RandomReader) -> None:
    if reader.size != blob.size:
        name = printable(str(directory))
        raise blob_differs(name, blob.digest, f"{blob.size} bytes", f"{reader.size} bytes")


def _require_digest(directory: Path, blob: Blob, got: Digest) -> None:
    if got != blob.digest:
        raise blob_differs(printable(str(directory)), blob.digest, blob.digest, got)
