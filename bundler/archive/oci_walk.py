"""What one image layout names, followed from index.json down; layers are not read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from bundler.archive.layout_files import LayoutFiles
from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import ContentError, MalformedError, printable
from bundler.jsontext import MAX_INTEGER, read_json
from bundler.manifest import Blob
from bundler.oci_manifest import (
    DOCKER_TYPES,
    INDEX_FILE,
    LAYOUT_VERSION,
    MAX_BLOBS,
    MAX_DEPTH,
    MAX_OCI_MANIFEST_BYTES,
    MAX_TREE_BYTES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    UNKNOWN,
    VERSION_FILE,
)
from bundler.source import platform_text


@dataclass(frozen=True, slots=True)
class TreeManifest:
    """One manifest or index of an image, as its bytes are.

    Attributes:
        digest, media_type: As the descriptor says that names it; ``digest`` is proven.
        content: Its bytes.
        blobs: The config and the layers that it names, once each; none for an index.
    """

    digest: Digest
    media_type: str
    content: bytes
    blobs: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class Followed:
    """All that can be reached from the one entry of an index.json.

    Attributes:
        manifests: Every manifest and index, children before parents; the last is the entry's own.
        platforms: Such as ``linux/amd64``, sorted; none for a signature, an SBOM and the like.
        named: Every blob, manifests too: each is there with its size.
        proven: Those of them that were read, and have their digest.
    """

    manifests: tuple[TreeManifest, ...]
    platforms: tuple[str, ...]
    named: Mapping[Digest, Blob]
    proven: frozenset[Digest]


def read_top(files: LayoutFiles) -> Table:
    """Read the version and index.json of a layout, and give the descriptor of its one image.

    Raises:
        MalformedError: A file is missing or broken, or there is not exactly one image.
    """
    version = _read_whole(files, VERSION_FILE)
    version.choice("imageLayoutVersion", (LAYOUT_VERSION,))
    index = _read_whole(files, INDEX_FILE)
    found = index.tables("manifests")
    if len(found) != 1:
        index.refuse("manifests", f"expected exactly one image, got {len(found)}")
    return found[0]


def follow(files: LayoutFiles, top: Table) -> Followed:
    """Follow a descriptor to all that it leads to; JSON is proven before it is parsed.

    What an artifact is about, its ``subject``, is not followed and need not be there.

    Raises:
        MalformedError: Something breaks the OCI image specification, is missing, is Docker-typed,
            or is more than an image of use needs: 10,000 blobs, indexes 3 deep, 4 MiB a manifest
            or config, 64 MiB of them all.
        ContentError: A blob has another size or digest than its descriptor says.
    """
    walk = _Walk(files)
    walk.start(top)
    return Followed(
        manifests=tuple(walk.manifests),
        platforms=tuple(sorted(walk.platforms)),
        named=walk.named,
        proven=frozenset(walk.proven),
    )


def blob_path(digest: Digest) -> str:
    """Say where a blob lies in a layout."""
    return f"blobs/sha256/{digest.hex}"


def blob_differs(name: str, digest: Digest, expected: object, got: object) -> ContentError:
    """Say that a blob of a layout is not what its descriptor says."""
    return ContentError(f"{name}: {blob_path(digest)}: expected {expected}, got {got}")


class _Walk:
    def __init__(self, files: LayoutFiles) -> None:
        self.manifests: list[TreeManifest] = []
        self.platforms: set[str] = set()
        self.named: dict[Digest, Blob] = {}
        self.proven: set[Digest] = set()
        self._files = files
        self._seen: dict[Digest, str] = {}
        self._read_bytes = 0

    def start(self, top: Table) -> None:
        self._image(*self._descriptor(top), top, 1)

    def _image(self, media_type: str, blob: Blob, at: Table, depth: int) -> None:
        if media_type not in {OCI_INDEX, OCI_MANIFEST}:
            at.refuse("mediaType", f"expected an OCI image manifest or index, got {media_type!r}")
        if depth > MAX_DEPTH:
            at.refuse("mediaType", f"indexes are nested more than {MAX_DEPTH} deep")
        seen = self._seen.get(blob.digest)
        if seen is not None:
            if seen != media_type:
                at.refuse("mediaType", f"{media_type}, and {seen} elsewhere")
            return
        self._seen[blob.digest] = media_type
        content = self._read(blob)
        table = _parse(self._files, blob_path(blob.digest), content)
        if table.text("mediaType", media_type) != media_type:
            table.refuse("mediaType", f"expected {media_type}, as its descriptor says")
        table.integer("schemaVersion", 2, 2)
        table.text("artifactType", "")
        if "subject" in table:
            _parse_descriptor(table.table("subject"))
        blobs: tuple[Blob, ...] = ()
        if media_type == OCI_MANIFEST:
            blobs = self._manifest(table)
        else:
            self._index(table, depth)
        self.manifests.append(TreeManifest(blob.digest, media_type, content, blobs))

    def _index(self, table: Table, depth: int) -> None:
        if "layers" in table or "config" in table:
            table.refuse("layers", "an index has none")
        for entry in table.tables("manifests"):
            self._image(*self._descriptor(entry), entry, depth + 1)

    def _manifest(self, table: Table) -> tuple[Blob, ...]:
        if "manifests" in table:
            table.refuse("manifests", "an image manifest has none")
        media_type, config = self._descriptor(table.table("config"))
        layers = [self._descriptor(layer)[1] for layer in table.tables("layers")]
        if media_type == OCI_CONFIG:
            content = self._read(config)
            self._config(_parse(self._files, blob_path(config.digest), content), len(layers))
        return tuple(dict.fromkeys([config, *layers]))

    def _config(self, config: Table, layers: int) -> None:
        found = {config.text("os", ""), config.text("architecture", "")}
        if found == {""} or UNKNOWN in found:
            return  # a signature or attestation, which some builders put beside the image
        system, machine = config.text("os"), config.text("architecture")
        diffs = config.table("rootfs").parse_all("diff_ids", Digest.parse)
        if len(diffs) != layers:
            config.refuse("rootfs", f"expected {layers} diff_ids, as many as layers")
        variant = config.text("variant", "")
        platform = "/".join(part for part in (system, machine, variant) if part)
        self.platforms.add(config.explain(lambda: platform_text(platform)))

    def _descriptor(self, table: Table) -> tuple[str, Blob]:
        media_type, blob = _parse_descriptor(table)
        if media_type.startswith(DOCKER_TYPES):
            table.refuse(
                "mediaType",
                f"Docker-typed: expected an OCI media type, got {media_type!r}",
                hint="convert the image to OCI once: skopeo copy --format oci",
            )
        if "data" in table and table.parse("data", _decoded) != blob.digest:
            table.refuse("data", f"embedded content is not {blob.digest}")
        known = self.named.get(blob.digest)
        if known is None:
            self._require(blob, table)
            self.named[blob.digest] = blob
        elif known != blob:
            table.refuse("size", f"{blob.size}, and {known.size} elsewhere")
        if len(self.named) > MAX_BLOBS:
            table.refuse("digest", f"more than {MAX_BLOBS} blobs")
        return media_type, blob

    def _require(self, blob: Blob, table: Table) -> None:
        size = self._files.size(blob_path(blob.digest))
        if size is None and "urls" in table:
            table.refuse(
                "urls",
                f"{blob.digest} lies elsewhere; expected its content in the image",
                hint="no address is reached across the gap: build the image with that layer in it",
            )
        if size is None:
            raise _missing(self._files, blob_path(blob.digest))
        if size != blob.size:
            raise blob_differs(self._files.name, blob.digest, f"{blob.size} bytes", f"{size} bytes")

    def _read(self, blob: Blob) -> bytes:
        path = blob_path(blob.digest)
        _require_limit(self._files, path, blob.size)
        self._read_bytes += blob.size
        if self._read_bytes > MAX_TREE_BYTES:
            raise MalformedError(
                f"{self._files.name}: {path}: expected at most {MAX_TREE_BYTES} bytes of "
                f"manifests and configs, got {self._read_bytes}"
            )
        content = self._files.read(path, blob.size)
        got = Digest.of(content)
        if got != blob.digest:
            raise blob_differs(self._files.name, blob.digest, blob.digest, got)
        self.proven.add(blob.digest)
        return content


def _parse_descriptor(table: Table) -> tuple[str, Blob]:
    media_type = table.text("mediaType")
    size = table.integer("size", 0, MAX_INTEGER)
    return media_type, Blob(digest=table.parse("digest", Digest.parse), size=size)


def _read_whole(files: LayoutFiles, path: str) -> Table:
    size = files.size(path)
    if size is None:
        raise _missing(files, path)
    _require_limit(files, path, size)
    return _parse(files, path, files.read(path, size))


def _require_limit(files: LayoutFiles, path: str, size: int) -> None:
    if size > MAX_OCI_MANIFEST_BYTES:
        raise MalformedError(
            f"{files.name}: {path}: expected at most {MAX_OCI_MANIFEST_BYTES} bytes, got {size}"
        )


def _parse(files: LayoutFiles, path: str, content: bytes) -> Table:
    return read_json(content, name=f"{files.name}: {path}", limit=MAX_OCI_MANIFEST_BYTES).table()


def _missing(files: LayoutFiles, path: str) -> MalformedError:
    return MalformedError(f"{files.name}: {path} is missing")


def _decoded(text: str) -> Digest:
    try:
        return Digest.of(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise ValueError(f"not base64: {printable(text[:40])!r}") from error
