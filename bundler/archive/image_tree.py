"""One image in its archive: all that it names, held to what was signed, before a byte is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from bundler.archive.layout_files import ArchiveFiles
from bundler.archive.oci_walk import (
    Followed,
    blob_path,
    follow,
    read_top,
)
from bundler.archive.oci_walk import TreeManifest as TreeManifest
from bundler.archive.tar import Member, ReadAt, walk, with_directories
from bundler.digest import Digest
from bundler.errors import MalformedError, printable
from bundler.manifest import Blob, Image
from bundler.oci_manifest import INDEX_FILE, REF_NAME, VERSION_FILE


@dataclass(frozen=True, slots=True)
class ImageTree:
    """The manifests of an image, and where its blobs lie.

    Attributes:
        manifests: Every manifest and index, children before parents; the last is the image's own.
        offsets: Where the bytes of each blob start in the image's archive.
    """

    manifests: tuple[TreeManifest, ...]
    offsets: Mapping[Digest, int] = field(default_factory=dict)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every config and layer, once each, the largest first."""
        named = {blob for manifest in self.manifests for blob in manifest.blobs}
        return tuple(sorted(named, key=lambda blob: (-blob.size, blob.digest)))


def read_image_tree(read_at: ReadAt, size: int, image: Image) -> ImageTree:
    """Hold all of an OCI archive but the bytes of its layers to what was signed of the image.

    Its members are the signed blobs with their sizes; its one image is the signed one, under its
    tag, for its platforms; every manifest, index and config that can be reached has its digest;
    and each blob is named by one of them.

    Args:
        read_at: Gives exactly as many bytes as asked for, from an offset of the archive.
        size: Bytes of the archive.
        image: What it must hold, and nothing else.

    Raises:
        MalformedError: It holds something else, breaks the OCI image specification, or is no
            archive of ours.
        ContentError: A blob has another size or digest than its descriptor says.
    """
    members = _signed_members(read_at, size, image)
    files = ArchiveFiles(image.tag.archive_path, read_at, members)
    top = read_top(files)
    top.choice("digest", (str(image.digest),))
    top.table("annotations").choice(REF_NAME, (image.tag.tag,))
    found = follow(files, top)
    _require_signed(found, image)
    offsets = {digest: members[blob_path(digest)].offset for digest in found.named}
    return ImageTree(found.manifests, offsets)


def require_manifests(trees: Sequence[tuple[Image, ImageTree]]) -> None:
    """Refuse what is attached to a config or a layer of one of these images.

    Raises:
        MalformedError: There is some.
    """
    manifests = {(image.tag.name, item.digest) for image, tree in trees for item in tree.manifests}
    others = {(image.tag.name, blob.digest) for image, tree in trees for blob in tree.blobs}
    for image, _ in trees:
        if image.subject and (image.tag.name, image.subject) in others - manifests:
            raise MalformedError(
                f"{image.tag.archive_path}: expected its subject {image.subject} to be a manifest, "
                "got a config or layer"
            )


def _signed_members(read_at: ReadAt, size: int, image: Image) -> dict[str, Member]:
    archive, members = image.tag.archive_path, {}
    blobs = {blob_path(blob.digest): blob.size for blob in image.blobs}
    expected = with_directories([INDEX_FILE, VERSION_FILE, *blobs])
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


def _require_signed(found: Followed, image: Image) -> None:
    archive = image.tag.archive_path
    for blob in image.blobs:
        if blob.digest not in found.named:
            raise MalformedError(f"{archive}: {blob_path(blob.digest)} is named by nothing")
    if image.subject is None and found.platforms != image.platforms:
        expected, got = (", ".join(some) or "none" for some in (image.platforms, found.platforms))
        raise MalformedError(f"{archive}: expected platforms {expected}, got {printable(got)}")
