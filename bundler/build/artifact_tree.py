"""Manifests of signatures, SBOMs and the like: read with all below them, and listed in an index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import NotFoundError
from bundler.jsontext import read_json, write_json
from bundler.oci_manifest import (
    MAX_OCI_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Tree,
    read_tree,
)
from bundler.stores.artifacts import Artifacts
from bundler.stores.base import StoredManifest


def read_manifest(content: bytes, name: str) -> Table:
    """Read a manifest or index of OCI's.

    Raises:
        MalformedError: It is something else.
    """
    named = f"{name}: {Digest.of(content)}"
    table = read_json(content, name=named, limit=MAX_OCI_MANIFEST_BYTES).table()
    got = media_type(table)
    if got not in {OCI_INDEX, OCI_MANIFEST}:
        table.refuse("mediaType", f"expected an OCI manifest or index, got {got!r}")
    return table


def media_type(table: Table) -> str:
    """Give the media type of a manifest or index, which may be left out."""
    return table.text("mediaType", OCI_INDEX if "manifests" in table else OCI_MANIFEST)


def artifact_type(table: Table) -> str:
    """Say what an artifact is, as the referrers API does."""
    own = table.text("artifactType", "")
    return own or table.table("config").text("mediaType", "something")


def referrers_index(referrers: Iterable[tuple[StoredManifest, Table]]) -> bytes:
    """Make the index of the referrers' tag schema: the same bytes in any order.

    ``artifactType`` of a descriptor is left out: skopeo up to Debian 12's forgets it, and then
    refuses to push an index that it would change. Each manifest has it.

    Source:
        OCI distribution specification v1.1, "Referrers Tag Schema".
    """
    descriptors = [
        {
            "mediaType": media_type(table),
            "digest": str(stored.digest),
            "size": len(stored.content),
        }
        | ({"annotations": table.plain("annotations")} if "annotations" in table else {})
        for stored, table in sorted(referrers, key=lambda pair: pair[0].digest)
    ]
    return write_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors})


def collect(artifacts: Artifacts, top: bytes, known: Mapping[Digest, bytes], name: str) -> Tree:
    """Read all manifests below one, and list the blobs that they name.

    Args:
        artifacts: Where they are.
        top: The one.
        known: Manifests that are read already.
        name: What to call it in an error.

    Raises:
        NotFoundError: One is not there.
        MalformedError: One is not OCI's, or there are too many.
    """

    def read(digest: Digest) -> bytes:
        if digest in known:
            return known[digest]
        stored = artifacts.manifest(str(digest))
        if stored is None:
            raise NotFoundError(f"{name}: expected the manifest {digest}, found none")
        return stored.content

    return read_tree(top, read, lambda content: read_manifest(content, name))
