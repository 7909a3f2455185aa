"""The images of a release, and what is attached to them, as MANIFEST.json has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bundler.digest import Digest
from bundler.manifest_rules import not_negative, require_sorted
from bundler.oci_manifest import MAX_OCI_MANIFEST_BYTES
from bundler.reference import ImageTag, plain_text
from bundler.source import platform_text

# By the end of the tag. Source: cosign, specs/SIGNATURE_SPEC.md, "Tag-based discovery".
_KINDS = {"sig": "signature", "att": "attestation", "sbom": "SBOM"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One blob of an image: a manifest, a config or a layer."""

    digest: Digest
    size: int

    def __post_init__(self) -> None:
        not_negative(str(self.digest), self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of the bundle.

    Attributes:
        tag: Name and tag, as the archive's file name has them.
        digest: Of the image's OCI manifest or index in the archive: what a cluster pulls.
        source: Where it came from, as the spec names it.
        source_digest: Its digest there; differs from ``digest`` when it was converted to OCI.
        platforms: Such as ``linux/amd64``, sorted; none for what is attached to an image.
        blobs: Every blob of the archive, sorted by digest.
        subject: Digest of the manifest that this is about, which another archive of the same
            ``tag.name`` holds: this is a signature, an attestation, an SBOM and the like. None for
            an image that runs.
    """

    tag: ImageTag
    digest: Digest
    source: str
    source_digest: Digest
    platforms: tuple[str, ...]
    blobs: tuple[Blob, ...]
    subject: Digest | None = None

    def __post_init__(self) -> None:
        plain_text(self.source)
        require_sorted(f"image {self.tag}: platforms", list(map(platform_text, self.platforms)))
        digests = [blob.digest for blob in self.blobs]
        require_sorted(f"image {self.tag}: blobs", digests)
        if self.digest not in digests:
            raise ValueError(f"image {self.tag}: its manifest {self.digest} is not among its blobs")
        if bool(self.platforms) == (self.subject is not None):
            got = "both" if self.platforms else "neither"
            raise ValueError(f"image {self.tag}: expected platforms or a subject, got {got}")

    @property
    def kind(self) -> str:
        """What it is, for people; of what is attached to an image, as the tag tells."""
        if self.subject is None:
            return "image"
        return _KINDS.get(self.tag.tag.rpartition(".")[2], "OCI referrers (SBOMs and the like)")

    def holds(self, digest: Digest) -> bool:
        """Tell whether a digest is of one of the blobs."""
        return any(blob.digest == digest for blob in self.blobs)


def running(images: Iterable[Image]) -> tuple[Image, ...]:
    """Give the images that run: all but what is attached to them."""
    return tuple(image for image in images if image.subject is None)


def require_subjects(images: Iterable[Image]) -> None:
    """Follow all that is attached to images that run, and refuse what is left over.

    Raises:
        ValueError: Some is about nothing here, about itself, or about what no manifest can be.
    """
    images = tuple(images)
    left: dict[tuple[str, Digest], list[Image]] = {}
    for image in images:
        if image.subject is not None:
            left.setdefault((image.tag.name, image.subject), []).append(image)
    reached = list(running(images))
    while reached:
        holder = reached.pop()
        for blob in holder.blobs:
            if blob.size <= MAX_OCI_MANIFEST_BYTES:
                reached += left.pop((holder.tag.name, blob.digest), ())
    for (name, subject), [image, *_] in left.items():
        raise ValueError(
            f"image {image.tag}: its subject {subject} is no manifest of an image of {name} that "
            "runs, nor of what is attached to one"
        )
