"""Images in a lock: each pinned to its digests, with what its registry has about it."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.digest import Digest
from bundler.document import Table
from bundler.manifest import require_unique
from bundler.reference import ImageTag, image_tag
from bundler.spec import ImageSpec

LOCK_HINT = "run `bundle lock` to pin what the spec says now"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedAttached:
    """What is attached to an image: a signature, an attestation, or all that refers to it.

    Attributes:
        tag: What its registry calls it, or would: ``sha256-<hex>``, with ``.sig`` and the like.
        subject: Digest of the manifest that it is about.
        digest: Of its own manifest; of the index that the build makes of ``manifests``.
        manifests: Digests of the manifests that refer to the subject, sorted; none for a tag.
    """

    tag: str
    subject: Digest
    digest: Digest
    manifests: tuple[Digest, ...] = ()

    def __post_init__(self) -> None:
        image_tag(self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedImage:
    """One image.

    Attributes:
        tag: Name and tag in the bundle.
        source: Where it comes from, as the spec writes it.
        platform: What is taken of it: ``linux/amd64`` and the like, or ``all``.
        source_digest: What its source names; an index has another than the one image taken of it.
        digest: Its digest in the bundle.
        converted_from: What its digest was before it was converted from Docker's types to OCI's;
            None where it was not, and in locks of earlier versions.
        attached: What its registry has about it; None where the spec leaves that out.
    """

    tag: ImageTag
    source: str
    platform: str
    source_digest: Digest
    digest: Digest
    attached: tuple[LockedAttached, ...] | None = ()
    converted_from: Digest | None = None

    def __post_init__(self) -> None:
        require_unique("attached", (item.tag for item in self.attached or ()))

    @property
    def described(self) -> str:
        """What of it the spec says too, in one line."""
        return _described(self.source, self.platform, self.attached is not None)


def describe_image(image: ImageSpec) -> str:
    """Give what a spec says of an image as ``described`` gives what a lock says of it."""
    fetch = image.fetch
    return _described(str(image.source), fetch.platform_text, fetch.attached)


def _described(source: str, platform: str, attached: bool) -> str:
    return f"{source} for {platform}" + ("" if attached else " without what is attached")


def from_locked_image(image: LockedImage) -> dict[str, object]:
    """Give what stands in a lock."""
    attached, before = image.attached, image.converted_from
    written: dict[str, object] = {
        "name": image.tag.name,
        "tag": image.tag.tag,
        "source": image.source,
        "platform": image.platform,
        "sourceDigest": str(image.source_digest),
        "digest": str(image.digest),
        "attached": None if attached is None else [_from_attached(item) for item in attached],
    }
    return written | ({"convertedFrom": str(before)} if before else {})


def _from_attached(attached: LockedAttached) -> dict[str, object]:
    return {
        "tag": attached.tag,
        "subject": str(attached.subject),
        "digest": str(attached.digest),
        "manifests": [str(digest) for digest in attached.manifests],
    }


def to_locked_image(table: Table) -> LockedImage:
    """Read what stands in a lock.

    Raises:
        MalformedError: It breaks its grammar.
    """
    if "platform" not in table:
        table.refuse("platform", "missing: written by an earlier version", LOCK_HINT)
    attached = tuple(map(_to_attached, table.tables("attached"))) if "attached" in table else None
    image = table.explain(
        lambda: LockedImage(
            tag=ImageTag(table.text("name"), table.text("tag")),
            source=table.text("source"),
            platform=table.text("platform"),
            source_digest=table.parse("sourceDigest", Digest.parse),
            digest=table.parse("digest", Digest.parse),
            attached=attached,
            converted_from=table.parse_optional("convertedFrom", Digest.parse),
        )
    )
    table.close()
    return image


def _to_attached(table: Table) -> LockedAttached:
    attached = table.explain(
        lambda: LockedAttached(
            tag=table.text("tag"),
            subject=table.parse("subject", Digest.parse),
            digest=table.parse("digest", Digest.parse),
            manifests=table.parse_all("manifests", Digest.parse),
        )
    )
    table.close()
    return attached
