"""Manifests and indexes of images: their words, their limits, and all that one leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bundler.digest import Digest
from bundler.document import Table
from bundler.jsontext import MAX_INTEGER

# Source: OCI image specification v1.1, media-types.md; Docker image manifest v2, schema 2.
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_TYPES = "application/vnd.docker."
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_INDEXES, _MANIFESTS = (OCI_INDEX, DOCKER_INDEX), (OCI_MANIFEST, DOCKER_MANIFEST)
# Source: OCI image specification v1.1, annotations.md and image-layout.md.
REF_NAME = "org.opencontainers.image.ref.name"
VERSION_FILE, INDEX_FILE, LAYOUT_VERSION = "oci-layout", "index.json", "1.0.0"
# The operating system of what is no image but stands in an index, such as an attestation.
UNKNOWN = "unknown"
# What a registry is told that we read.
ACCEPTED = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
# Source: OCI distribution specification v1.1, "Pushing Manifests": registries take 4 MiB at least.
MAX_OCI_MANIFEST_BYTES = 4 << 20
# As in an archive of ours, see FORMAT.md.
MAX_DEPTH, MAX_BLOBS, MAX_TREE_BYTES = 3, 10_000, 64 << 20


@dataclass(frozen=True, slots=True)
class Tree:
    """What is reached from a manifest or index.

    Attributes:
        manifests: The bytes of itself, first, and of all manifests below it, by digest.
        blobs: Size of every config and layer, by digest.
    """

    manifests: Mapping[Digest, bytes]
    blobs: Mapping[Digest, int]

    @property
    def sizes(self) -> dict[Digest, int]:
        """Size of every blob, manifests included, by digest."""
        return {**self.blobs, **{digest: len(one) for digest, one in self.manifests.items()}}


def read_tree(top: bytes, read: Callable[[Digest], bytes], parse: Callable[[bytes], Table]) -> Tree:
    """List what is reached from a manifest or index whose bytes are given; each is read once.

    Args:
        top: The manifest or index.
        read: Gives the one of a digest.
        parse: Reads the bytes of one, and refuses what is none.

    Raises:
        MalformedError: It is too deep or too large, or says that it is both index and manifest.
    """
    manifests: dict[Digest, bytes] = {}
    blobs: dict[Digest, int] = {}
    level, total = {Digest.of(top): None}, 0
    for depth in range(1, MAX_DEPTH + 1):
        below: dict[Digest, None] = {}
        for digest in [one for one in level if one not in manifests]:
            manifests[digest] = content = read(digest) if manifests else top
            table, total = parse(content), total + len(content)
            _require_one_kind(table)
            children = [item.parse("digest", Digest.parse) for item in table.tables("manifests")]
            if children and depth == MAX_DEPTH:
                table.refuse("manifests", f"indexes are nested more than {MAX_DEPTH} deep")
            blobs |= _parts(table)
            below |= dict.fromkeys(children)
            if len(manifests) + len(blobs) + len(below) > MAX_BLOBS:
                table.refuse("layers", f"more than {MAX_BLOBS} blobs")
            if total > MAX_TREE_BYTES:
                table.refuse("manifests", f"more than {MAX_TREE_BYTES} bytes of manifests")
        level = below
    return Tree(manifests, {digest: blobs[digest] for digest in blobs.keys() - manifests.keys()})


def _require_one_kind(table: Table) -> None:
    """Refuse what one reader takes for an index and another for a manifest."""
    index = "manifests" in table
    if index and ("layers" in table or "config" in table):
        table.refuse("layers", "an index has none")
    declared = table.text("mediaType", "")
    if declared in (_MANIFESTS if index else _INDEXES):
        kind = "an index" if index else "an image manifest"
        table.refuse("mediaType", f"expected that of {kind}, as its fields are, got {declared!r}")


def _parts(table: Table) -> dict[Digest, int]:
    parts = table.tables("layers") + ([table.table("config")] if "config" in table else [])
    return {
        part.parse("digest", Digest.parse): part.integer("size", 0, MAX_INTEGER) for part in parts
    }
