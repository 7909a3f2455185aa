"""What the manifests and indexes of an image say: which one is taken, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import ContentError, MalformedError, printable
from bundler.jsontext import read_json
from bundler.oci_manifest import (
    DOCKER_INDEX,
    DOCKER_TYPES,
    MAX_OCI_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_INDEX,
    UNKNOWN,
    Tree,
    read_tree,
)
from bundler.source import Platform, Resolved

# Signed manifests of this kind have a digest that is not the one of their bytes.
_DOCKER_V1 = b"application/vnd.docker.distribution.manifest.v1"
_CONFIGS = (OCI_CONFIG, "application/vnd.docker.container.image.v1+json")
_INDEXES = (OCI_INDEX, DOCKER_INDEX)
_ALL_HINT = "`platform: all` takes the whole index"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReader:
    """How the small blobs of one image are read.

    Attributes:
        name: What to call the image in an error.
        top: Gives the manifest or index that the source names.
        manifest: Gives the one of a digest.
        config: Gives the config blob of the manifest of a digest.
    """

    name: str
    top: Callable[[], bytes]
    manifest: Callable[[Digest], bytes]
    config: Callable[[Digest], bytes]


def resolve(image: ImageReader, platform: Platform | None) -> Resolved:
    """Say what a source names, and what of it is taken for one platform, or for all (None).

    Raises:
        MalformedError: It is nothing that we read, or has not exactly one image for the platform.
        ContentError: A manifest is not the one that its digest names.
    """
    content = image.top()
    digest = taken = Digest.of(content)
    table = _read(content, image.name)
    if platform is not None:
        if "manifests" in table:
            taken = choose(table, platform)
            content = _checked(image, taken)
        _require_platform(image, content, platform)
    tree = tree_of(image, content)
    return Resolved(
        digest=digest,
        taken=taken,
        manifests=tuple(tree.manifests),
        size=sum(tree.sizes.values()),
        docker_typed=is_docker_typed(content),
    )


def is_docker_typed(content: bytes) -> bool:
    """Tell whether a manifest or index has media types of Docker's."""
    return DOCKER_TYPES.encode() in content


def choose(index: Table, platform: Platform) -> Digest:
    """Find the one manifest of an index that is for a platform.

    Raises:
        MalformedError: There is none, or more than one, or an index within the index.
    """
    there: dict[Digest, Platform] = {}
    for entry in index.tables("manifests"):
        if entry.text("mediaType", "") in _INDEXES:
            entry.refuse("mediaType", f"an index in an index: cannot take {platform}", _ALL_HINT)
        digest, known = entry.parse("digest", Digest.parse), _platform_of(entry)
        if known is not None:
            there[digest] = known
    found = [digest for digest, known in there.items() if platform.takes(known)]
    if not found:
        shown = ", ".join(sorted(map(str, there.values()))) or "none that says its platform"
        index.refuse("manifests", f"expected an image for {platform}, got: {shown}", _ALL_HINT)
    if len(found) > 1:
        shown = ", ".join(f"{there[digest]} ({digest})" for digest in found)
        index.refuse(
            "manifests",
            f"expected one image for {platform}, got {len(found)}: {shown}",
            f"name one by its digest, or its variant with `platform`; {_ALL_HINT}",
        )
    return found[0]


def tree_of(image: ImageReader, content: bytes) -> Tree:
    """List what is reached from a manifest or index whose bytes are given.

    Raises:
        MalformedError: It is nothing that we read, or too deep or too large.
        ContentError: A manifest is not the one that its digest names.
    """
    return read_tree(
        content,
        lambda digest: _checked(image, digest),
        lambda found: _read(found, image.name),
    )


def _checked(image: ImageReader, digest: Digest) -> bytes:
    content = image.manifest(digest)
    if Digest.of(content) != digest:
        raise ContentError(
            f"{printable(image.name)}: expected the manifest {digest}, got {Digest.of(content)}"
        )
    return content


def _read(content: bytes, name: str) -> Table:
    if _DOCKER_V1 in content:
        raise MalformedError(
            f"{printable(name)}: a Docker schema 1 image, expected OCI or Docker schema 2",
            hint="push it again with a tool of this decade",
        )
    return read_json(content, name=name, limit=MAX_OCI_MANIFEST_BYTES).table()


def _require_platform(image: ImageReader, content: bytes, platform: Platform) -> None:
    """Hold the image's own config to a platform: the index does not decide what runs."""
    table = _read(content, image.name)
    if "manifests" in table:
        table.refuse("manifests", f"an index in an index: cannot take {platform}", _ALL_HINT)
    table.table("config").choice("mediaType", _CONFIGS)
    config = read_json(
        image.config(Digest.of(content)), name=f"{image.name}: config", limit=MAX_OCI_MANIFEST_BYTES
    ).table()
    own = _platform_in(config)
    if not platform.takes(own):
        raise MalformedError(
            f"{printable(image.name)}: expected an image for {platform}, "
            f"its config says {printable(str(own))}",
            hint=f"write `platform: {printable(str(own))}` if that is the one you want",
        )


def _platform_of(entry: Table) -> Platform | None:
    if "platform" not in entry:
        return None
    known = _platform_in(entry.table("platform"))
    # Some builders put attestations beside the images, and say that they run nowhere.
    return None if UNKNOWN in {known.system, known.machine} else known


def _platform_in(table: Table) -> Platform:
    return Platform(
        table.text("os", ""), table.text("architecture", ""), table.text("variant", "") or None
    )
