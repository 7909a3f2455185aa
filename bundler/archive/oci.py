"""OCI image layouts: read strictly, written as an archive, and the archive held to the manifest."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from bundler.archive.files import READ_BYTES, RandomReader, atomic_write
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.layout_files import DirectoryFiles
from bundler.archive.tar import END, Member, ReadAt, header, padding, walk, with_directories
from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import ContentError, MalformedError, printable
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.manifest import Blob, Image
from bundler.reference import ImageTag

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_DOCKER = "application/vnd.docker."
# Source: OCI image specification v1.1, annotations.md and image-layout.md.
_REF_NAME = "org.opencontainers.image.ref.name"
_VERSION = "1.0.0"
_VERSION_FILE, _INDEX_FILE = "oci-layout", "index.json"

_MAX_JSON_BYTES = 4 << 20
_MAX_BLOBS = 10_000
_MAX_DEPTH = 3
_UNKNOWN = "unknown"


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


def read_layout(directory: Path) -> Layout:
    """Read an image layout; blobs that nothing names are left out.

    Raises:
        MalformedError: It breaks the OCI image specification, lacks a blob, is Docker-typed, or
            holds not exactly one image.
        ContentError: A blob has another size or digest than its descriptor says.
    """
    return _Walk(DirectoryFiles(directory)).layout()


def check_image_archive(read_at: ReadAt, size: int, image: Image) -> None:
    """Compare the headers and the index of an OCI archive with what the manifest says of it.

    Args:
        read_at: Gives exactly as many bytes as asked for, from an offset of the archive.
        size: Bytes of the archive.
        image: What it must hold: this image under its tag, its blobs, and nothing else.

    Raises:
        MalformedError: It says something else, or is no archive of ours.
    """
    members = _image_members(read_at, size, image)

    def read(path: str) -> Table:
        member, name = members[path], f"{image.tag.archive_path}: {path}"
        content = read_at(member.offset, min(member.size, _MAX_JSON_BYTES + 1))
        return read_json(content, name=name, limit=_MAX_JSON_BYTES).table()

    read(_VERSION_FILE).choice("imageLayoutVersion", (_VERSION,))
    top = _only_image(read(_INDEX_FILE))
    top.choice("digest", (str(image.digest),))
    top.table("annotations").choice(_REF_NAME, (image.tag.tag,))


def _image_members(read_at: ReadAt, size: int, image: Image) -> dict[str, Member]:
    archive, members = image.tag.archive_path, {}
    blobs = {_blob_path(blob.digest): blob.size for blob in image.blobs}
    expected = with_directories([_INDEX_FILE, _VERSION_FILE, *blobs])
    for entry, member in zip_longest(expected, walk(read_at, size, name=archive)):
        if member is None or entry != (member.path, member.directory):
            wanted = "the end" if entry is None else entry[0]
            got = "the end" if member is None else printable(member.path)
            raise MalformedError(f"{archive}: expected {wanted}, got {got}")
        wanted_size = blobs.get(member.path, member.size)
        if member.size != wanted_size:
            raise MalformedError(
                f"{archive}: {member.path}: expected {wanted_size} bytes, got {member.size}"
            )
        members[member.path] = member
    return members


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
                _copy(layout_dir / path, content, file)
            else:
                file.write(content)
            file.write(padding(size))
        file.write(END)


def _only_image(index: Table) -> Table:
    found = index.tables("manifests")
    if len(found) != 1:
        index.refuse("manifests", f"expected exactly one image, got {len(found)}")
    return found[0]


def _contents(layout: Layout, index: bytes) -> dict[str, bytes | Blob]:
    contents: dict[str, bytes | Blob] = {_blob_path(blob.digest): blob for blob in layout.blobs}
    return contents | {
        _INDEX_FILE: index,
        _VERSION_FILE: write_json({"imageLayoutVersion": _VERSION}),
    }


def _index(layout: Layout, tag: ImageTag) -> bytes:
    size = next(blob.size for blob in layout.blobs if blob.digest == layout.digest)
    descriptor = {
        "mediaType": layout.media_type,
        "digest": str(layout.digest),
        "size": size,
        "annotations": {_REF_NAME: tag.tag},
    }
    return write_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]})


def _copy(source: Path, blob: Blob, out: BinaryIO) -> None:
    with RandomReader(source) as reader:
        if reader.size != blob.size:
            raise _differs(str(source), f"{blob.size} bytes", f"{reader.size} bytes")
        whole = hashlib.sha256()
        buffer = memoryview(bytearray(min(READ_BYTES, blob.size)))
        for offset in range(0, blob.size, READ_BYTES):
            view = buffer[: blob.size - offset]
            reader.read_into(offset, view)
            whole.update(view)
            out.write(view)
    if whole.hexdigest() != blob.digest.hex:
        raise _differs(str(source), str(blob.digest), f"sha256:{whole.hexdigest()}")


class _Walk:
    """Follows descriptors from index.json down; a blob is proven before it is parsed."""

    def __init__(self, source: DirectoryFiles) -> None:
        self._source = source
        self._proven: dict[Digest, Blob] = {}
        self._named: dict[Digest, Blob] = {}
        self._visited: set[Digest] = set()
        self._platforms: set[str] = set()

    def layout(self) -> Layout:
        version = self._parse(_VERSION_FILE, self._read(_VERSION_FILE))
        version.choice("imageLayoutVersion", (_VERSION,))
        found = _only_image(self._parse(_INDEX_FILE, self._read(_INDEX_FILE)))
        media_type, top = self._descriptor(found)
        self._image(media_type, top, found, 1)
        unproven = [blob for blob in self._named.values() if blob.digest not in self._proven]
        for _ in in_threads(self._prove, unproven):
            pass
        if not self._platforms:
            found.refuse("digest", "expected an image for at least one platform, got none")
        blobs = tuple(sorted(self._named.values(), key=lambda blob: blob.digest))
        return Layout(top.digest, media_type, tuple(sorted(self._platforms)), blobs)

    def _image(self, media_type: str, blob: Blob, at: Table, depth: int) -> None:
        if media_type not in {OCI_INDEX, OCI_MANIFEST}:
            at.refuse("mediaType", f"expected an OCI image manifest or index, got {media_type!r}")
        if depth > _MAX_DEPTH:
            at.refuse("mediaType", f"indexes are nested more than {_MAX_DEPTH} deep")
        if blob.digest in self._visited:
            return
        self._visited.add(blob.digest)
        table = self._json(blob)
        if table.text("mediaType", media_type) != media_type:
            table.refuse("mediaType", f"expected {media_type}, as its descriptor says")
        table.integer("schemaVersion", 2, 2)
        if media_type == OCI_MANIFEST:
            self._manifest(table)
        elif "layers" in table or "config" in table:
            table.refuse("layers", "an index has none")
        else:
            for entry in table.tables("manifests"):
                self._image(*self._descriptor(entry), entry, depth + 1)

    def _manifest(self, table: Table) -> None:
        if "manifests" in table:
            table.refuse("manifests", "an image manifest has none")
        media_type, config = self._descriptor(table.table("config"))
        layers = [self._descriptor(layer) for layer in table.tables("layers")]
        if media_type == OCI_CONFIG:
            self._config(self._json(config), len(layers))

    def _config(self, config: Table, layers: int) -> None:
        system, machine = config.text("os"), config.text("architecture")
        if _UNKNOWN in {system, machine}:
            return  # an attestation, which some builders put beside the image
        diffs = config.table("rootfs").parse_all("diff_ids", Digest.parse)
        if len(diffs) != layers:
            config.refuse("rootfs", f"expected {layers} diff_ids, as many as layers")
        variant = config.text("variant", "")
        self._platforms.add("/".join(part for part in (system, machine, variant) if part))

    def _descriptor(self, table: Table) -> tuple[str, Blob]:
        media_type = table.text("mediaType")
        if media_type.startswith(_DOCKER):
            table.refuse(
                "mediaType",
                f"Docker-typed: expected an OCI media type, got {media_type!r}",
                hint="convert the image to OCI once: skopeo copy --format oci",
            )
        size = table.integer("size", 0, MAX_INTEGER)
        blob = Blob(digest=table.parse("digest", Digest.parse), size=size)
        if "data" in table and table.parse("data", _decoded) != blob.digest:
            table.refuse("data", f"embedded content is not {blob.digest}")
        if self._named.setdefault(blob.digest, blob) != blob:
            table.refuse("size", f"{size}, and {self._named[blob.digest].size} elsewhere")
        if len(self._named) > _MAX_BLOBS:
            table.refuse("digest", f"more than {_MAX_BLOBS} blobs")
        return media_type, blob

    def _json(self, blob: Blob) -> Table:
        path = _blob_path(blob.digest)
        content = self._read(path)
        if Digest.of(content) != blob.digest or len(content) != blob.size:
            got = f"{Digest.of(content)} ({len(content)} bytes)"
            raise _differs(
                f"{self._source.name}: {path}", f"{blob.digest} ({blob.size} bytes)", got
            )
        self._proven[blob.digest] = blob
        return self._parse(path, content)

    def _read(self, path: str) -> bytes:
        with self._source.open(path) as place:
            if place.size > _MAX_JSON_BYTES:
                raise MalformedError(
                    f"{self._source.name}: {path}: expected at most {_MAX_JSON_BYTES} bytes, "
                    f"got {place.size}"
                )
            return place.reader.read_at(place.offset, place.size)

    def _parse(self, path: str, content: bytes) -> Table:
        name = f"{self._source.name}: {path}"
        return read_json(content, name=name, limit=_MAX_JSON_BYTES).table()

    def _prove(self, blob: Blob) -> None:
        path = _blob_path(blob.digest)
        where = f"{self._source.name}: {path}"
        with self._source.open(path) as place:
            if place.size != blob.size:
                raise _differs(where, f"{blob.size} bytes", f"{place.size} bytes")
            got = digest_of(place.reader, place.offset, place.size)
        if got != blob.digest:
            raise _differs(where, str(blob.digest), str(got))


def _blob_path(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _decoded(text: str) -> Digest:
    try:
        return Digest.of(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise ValueError(f"not base64: {text[:40]!r}") from error


def _differs(where: str, expected: str, got: str) -> ContentError:
    return ContentError(f"{printable(where)}: expected {expected}, got {got}")
