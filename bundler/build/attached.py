"""What is attached to an image at its registry: found, pinned, and fetched into archives.

Two ways to attach are known: tags of cosign's, ``sha256-<hex>.sig`` and the like, and manifests
that name a ``subject`` (OCI referrers). All referrers of one manifest travel in one archive, as an
index.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.oci import read_layout, write_oci_archive
from bundler.archive.trouble import blaming
from bundler.build.artifact_tree import (
    MAX_MANIFEST_BYTES,
    artifact_type,
    collect,
    media_type,
    read_manifest,
    referrers_index,
)
from bundler.digest import Digest
from bundler.errors import ContentError, NotFoundError
from bundler.events import Emit, Noted
from bundler.jsontext import read_json, write_json
from bundler.lockfile import LockedAttached
from bundler.manifest import Image
from bundler.reference import ImageTag
from bundler.stores.artifacts import Artifacts
from bundler.stores.base import StoredManifest

# Source: cosign, specs/SIGNATURE_SPEC.md, "Tag-based discovery", and its other kinds.
_COSIGN = (".sig", ".att", ".sbom")
# A signature of an SBOM of an image is two deep.
_MAX_DEPTH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedAttached:
    """What is attached, with all its manifests read, and no blob yet.

    Attributes:
        locked: What a lock says of it.
        top: The manifest or index that its archive is of.
        manifests: Every manifest of the archive by its digest, ``top`` too.
        blobs: Size of every other blob, by its digest.
        kinds: What it is, for people.
    """

    locked: LockedAttached
    top: bytes
    manifests: Mapping[Digest, bytes]
    blobs: Mapping[Digest, int]
    kinds: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(self.blobs.values()) + sum(map(len, self.manifests.values()))


def find_attached(
    artifacts: Artifacts, subjects: Sequence[Digest], *, name: str, emit: Emit
) -> tuple[PinnedAttached, ...]:
    """Look for everything about some manifests, and about that, and about that.

    Args:
        artifacts: The repository of the image.
        subjects: Its manifest; of an index, and all below it.
        name: What to call the image.
        emit: Told of what is not there although it should be, and of what lies too deep.

    Raises:
        MalformedError: Something there is nothing that we read.
        WorldError: The registry refuses us, or fails.
    """
    found: list[PinnedAttached] = []
    seen: set[Digest] = set()
    level = list(subjects)
    for _ in range(_MAX_DEPTH):
        new = _about_all(artifacts, level, seen, name, emit)
        found += new
        level = [digest for item in new for digest in item.locked.manifests or [item.locked.digest]]
    if deeper := _about_all(artifacts, level, seen, name, emit):
        emit(Noted(f"{name}: attached more than {_MAX_DEPTH} deep, left out: {kinds_of(deeper)}"))
    return tuple(found)


def pin_attached(artifacts: Artifacts, locked: LockedAttached, *, name: str) -> PinnedAttached:
    """Read the manifests of what a lock says is attached.

    Raises:
        NotFoundError: The registry has it no more.
        ContentError: They make another index than the locked one.
        WorldError: The registry refuses us, or fails.
    """
    digests = locked.manifests or (locked.digest,)
    stored = [_locked_manifest(artifacts, digest, locked, name) for digest in digests]
    if not locked.manifests:
        return _pin(artifacts, locked.tag, locked.subject, stored[0])
    pinned = _pin_referrers(artifacts, locked.subject, stored)
    if pinned.locked != locked:
        raise ContentError(
            f"{name}: {locked.tag}: expected {locked.digest} as locked, got {pinned.locked.digest}",
            hint="run `bundle lock` to pin what is there now",
        )
    return pinned


def fetch_attached(
    artifacts: Artifacts,
    pinned: PinnedAttached,
    *,
    repository: str,
    name: str,
    scratch: Path,
    mtime: int,
) -> tuple[Image, Path]:
    """Fetch its blobs and write it as an OCI archive of ours.

    Args:
        artifacts: Where it is.
        pinned: What it is.
        repository: What that is called in a source.
        name: Of the image in the bundle.
        scratch: A directory for the archive, and for its blobs meanwhile.
        mtime: Seconds since 1970 that every member gets.

    Returns:
        What the manifest says of it, and where its archive is.

    Raises:
        ContentError: A blob is not what its digest says.
        MalformedError: It is nothing that an OCI archive can hold.
        WorldError: The registry fails, or the disk is full.
    """
    tag = ImageTag(name, pinned.locked.tag)
    layout_dir = scratch / f"attached-{name}"
    archive = scratch / Path(tag.archive_path).name
    with blaming(layout_dir):
        _write_layout(artifacts, pinned, layout_dir)
    layout = read_layout(layout_dir, artifact=True)
    write_oci_archive(layout_dir, layout, tag, archive, mtime=mtime)
    with blaming(layout_dir):
        shutil.rmtree(layout_dir)
    image = Image(
        tag=tag,
        digest=layout.digest,
        source=f"docker://{repository}:{tag.tag}",
        source_digest=layout.digest,
        platforms=(),
        blobs=layout.blobs,
        subject=pinned.locked.subject,
    )
    return image, archive


def kinds_of(attached: Iterable[PinnedAttached]) -> str:
    """Name what some are, each kind once."""
    return ", ".join(sorted({kind for item in attached for kind in item.kinds}))


def _about_all(
    artifacts: Artifacts, subjects: Iterable[Digest], seen: set[Digest], name: str, emit: Emit
) -> list[PinnedAttached]:
    found: list[PinnedAttached] = []
    for subject in subjects:
        if subject not in seen:
            seen.add(subject)
            found += _about(artifacts, subject, name, emit)
    return found


def _about(
    artifacts: Artifacts, subject: Digest, name: str, emit: Emit
) -> Iterator[PinnedAttached]:
    for suffix in _COSIGN:
        tag = f"sha256-{subject.hex}{suffix}"
        if stored := artifacts.manifest(tag):
            yield _pin(artifacts, tag, subject, stored)
    stored_all = []
    for digest in artifacts.referrers(subject):
        if stored := artifacts.manifest(str(digest)):
            stored_all.append(stored)
        else:
            emit(Noted(f"{name}: the registry names {digest} as about {subject} and has it not"))
    if stored_all:
        yield _pin_referrers(artifacts, subject, stored_all)


def _pin(artifacts: Artifacts, tag: str, subject: Digest, stored: StoredManifest) -> PinnedAttached:
    manifests, blobs = collect(artifacts, [stored], tag)
    return PinnedAttached(
        locked=LockedAttached(tag=tag, subject=subject, digest=stored.digest),
        top=stored.content,
        manifests=manifests,
        blobs=blobs,
        kinds=(tag.rpartition(".")[2],),
    )


def _pin_referrers(
    artifacts: Artifacts, subject: Digest, stored: Sequence[StoredManifest]
) -> PinnedAttached:
    tag = f"sha256-{subject.hex}"
    tables = [read_manifest(item, tag) for item in stored]
    for table in tables:
        table.table("subject").choice("digest", (str(subject),))
    manifests, blobs = collect(artifacts, stored, tag)
    index = referrers_index(zip(stored, tables, strict=True))
    digest = Digest.of(index)
    return PinnedAttached(
        locked=LockedAttached(
            tag=tag,
            subject=subject,
            digest=digest,
            manifests=tuple(sorted(item.digest for item in stored)),
        ),
        top=index,
        manifests=manifests | {digest: index},
        blobs=blobs,
        kinds=tuple(map(artifact_type, tables)),
    )


def _locked_manifest(
    artifacts: Artifacts, digest: Digest, locked: LockedAttached, name: str
) -> StoredManifest:
    stored = artifacts.manifest(str(digest))
    if stored is None:
        raise NotFoundError(
            f"{name}: {locked.tag}: expected {digest} as locked, found nothing",
            hint="run `bundle lock` to pin what is there now",
        )
    return stored


def _write_layout(artifacts: Artifacts, pinned: PinnedAttached, directory: Path) -> None:
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, content in pinned.manifests.items():
        (blobs / digest.hex).write_bytes(content)
    for digest, size in pinned.blobs.items():
        if digest not in pinned.manifests:
            artifacts.fetch(digest, size, blobs / digest.hex)
    top = read_json(pinned.top, name=pinned.locked.tag, limit=MAX_MANIFEST_BYTES).table()
    descriptor = {
        "mediaType": media_type(top),
        "digest": str(pinned.locked.digest),
        "size": len(pinned.top),
    }
    (directory / "oci-layout").write_bytes(write_json({"imageLayoutVersion": "1.0.0"}))
    (directory / "index.json").write_bytes(
        write_json({"schemaVersion": 2, "manifests": [descriptor]})
    )
