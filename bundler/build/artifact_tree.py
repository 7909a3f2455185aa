"""Manifests of signatures, SBOMs and the like: read with all below them, and listed in an index."""

from __future__ import annotations

from collections.abc import Iterable

from bundler.archive.oci import OCI_INDEX, OCI_MANIFEST
from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import NotFoundError
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.stores.artifacts import Artifacts
from bundler.stores.base import StoredManifest

MAX_MANIFEST_BYTES = 4 << 20
_MAX_NESTED, _MAX_MANIFESTS = 3, 1000
_HINT = "`attached: false` leaves out what is attached to the image"


def read_manifest(stored: StoredManifest, name: str) -> Table:
    """Read a manifest or index of OCI's.

    Raises:
        MalformedError: It is something else.
    """
    table = read_json(
        stored.content, name=f"{name}: {stored.digest}", limit=MAX_MANIFEST_BYTES
    ).table()
    got = media_type(table)
    if got not in {OCI_INDEX, OCI_MANIFEST}:
        table.refuse("mediaType", f"expected an OCI manifest or index, got {got!r}", _HINT)
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


def collect(
    artifacts: Artifacts, stored: Iterable[StoredManifest], name: str
) -> tuple[dict[Digest, bytes], dict[Digest, int]]:
    """Read all manifests below some, and list the other blobs that they name.

    Returns:
        The bytes of each manifest, and the size of each other blob, by digest.

    Raises:
        NotFoundError: One is not there.
        MalformedError: One is not OCI's, or there are too many.
    """
    manifests: dict[Digest, bytes] = {}
    blobs: dict[Digest, int] = {}
    level = list(stored)
    for depth in range(_MAX_NESTED + 1):
        below: list[StoredManifest] = []
        for item in level:
            table = read_manifest(item, name)
            manifests[item.digest] = item.content
            blobs |= _blobs(table)
            children = table.tables("manifests")
            if (children and depth == _MAX_NESTED) or len(manifests) > _MAX_MANIFESTS:
                table.refuse("manifests", "indexes are nested too deep or too large", _HINT)
            below += [_child(artifacts, child, name) for child in children]
        level = below
    return manifests, blobs


def _blobs(table: Table) -> dict[Digest, int]:
    entries = table.tables("layers") + ([table.table("config")] if "config" in table else [])
    return {
        entry.parse("digest", Digest.parse): entry.integer("size", 0, MAX_INTEGER)
        for entry in entries
    }


def _child(artifacts: Artifacts, entry: Table, name: str) -> StoredManifest:
    digest = entry.parse("digest", Digest.parse)
    stored = artifacts.manifest(str(digest))
    if stored is None:
        raise NotFoundError(f"{name}: expected the manifest {digest}, found none", hint=_HINT)
    return stored
