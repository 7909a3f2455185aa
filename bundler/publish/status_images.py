"""How an image stands at a registry, compared with what was signed. Downloads no layer."""

from __future__ import annotations

from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import ContentError, MalformedError, WorldError
from bundler.jsontext import read_json
from bundler.manifest import Image
from bundler.oci_manifest import MAX_OCI_MANIFEST_BYTES, read_tree
from bundler.publish.status import Finding, Standing, Subject
from bundler.stores.base import Registry


def look_at_image(registry: Registry, image: Image) -> Finding:
    """Say whether a registry has an image under its tag and digest, and all that it leads to.

    Manifests are read; configs and layers are asked for their size.
    """

    def finding(standing: Standing, detail: str = "") -> Finding:
        return Finding(subject=Subject.IMAGE, name=str(image.tag), standing=standing, detail=detail)

    try:
        named = registry.manifest(image.tag.name, image.tag.tag)
        if named is None:
            there = registry.manifest(image.tag.name, str(image.digest))
            return finding(Standing.MISSING, "the tag is not there; the digest is" if there else "")
        if named.digest != image.digest:
            if image.subject is not None:
                return finding(Standing.PRESENT, "others are there under this tag")
            return finding(
                Standing.DIFFERENT, f"the tag names {named.digest}, expected {image.digest}"
            )
        lacking = _lacking(registry, image, named.content)
    except (ContentError, MalformedError) as error:
        return finding(Standing.DIFFERENT, str(error))
    return finding(Standing.MISSING, f"lacks {lacking}") if lacking else finding(Standing.PRESENT)


class _LackingError(WorldError):
    """A manifest is not there."""


def _lacking(registry: Registry, image: Image, top: bytes) -> str:
    """Name the first thing that an image leads to and the registry has not; empty for none."""
    name = image.tag.name

    def read(digest: Digest) -> bytes:
        found = registry.manifest(name, str(digest))
        if found is None:
            raise _LackingError(f"the manifest {digest}")
        return found.content

    def parse(content: bytes) -> Table:
        return read_json(content, name=str(image.tag), limit=MAX_OCI_MANIFEST_BYTES).table()

    try:
        tree = read_tree(top, read, parse)
    except _LackingError as error:
        return str(error)
    for digest, size in tree.blobs.items():
        got = registry.blob_size(name, digest)
        if got != size:
            return f"blob {digest} of {size} bytes" + (f", has {got}" if got is not None else "")
    return ""
