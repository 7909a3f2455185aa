"""What is attached to an image at its registry: found, pinned, and fetched into archives.

Two ways to attach are known: tags of cosign's, ``sha256-<hex>.sig`` and the like, and manifests
that name a ``subject`` (OCI referrers). All referrers of one manifest travel in one archive, as an
index.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.oci import read_layout, write_oci_archive
from bundler.archive.trouble import blaming
from bundler.build.artifact_tree import (
    artifact_type,
    collect,
    media_type,
    read_manifest,
    referrers_index,
)
from bundler.build.limits import require_within_limits
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, NotFoundError
from bundler.events import Emit, Noted
from bundler.jsontext import write_json
from bundler.lock_images import LockedAttached
from bundler.manifest import Blob, Image
from bundler.oci_manifest import INDEX_FILE, LAYOUT_VERSION, VERSION_FILE, Tree
from bundler.reference import ImageTag
from bundler.stores.artifacts import Artifacts
from bundler.stores.base import StoredManifest

# Source: cosign, specs/SIGNATURE_SPEC.md, "Tag-based discovery", and its other kinds.
_COSIGN = (".sig", ".att", ".sbom")
# A signature of an SBOM of an image is two deep.
_MAX_DEPTH = 3
_LOCK_HINT = "run `bundle lock` to pin what is there now"
_LEAVE_OUT_HINT = "`attached: false` leaves out what is attached to the image"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedAttached:
    """What is attached, with all its manifests read, and no blob yet.

    Attributes:
        locked: What a lock says of it.
        tree: The manifest or index that its archive is of, with all below it.
        kinds: What it is, for people.
    """

    locked: LockedAttached
    tree: Tree
    kinds: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(self.tree.sizes.values())


@contextlib.contextmanager
def about(tag: ImageTag) -> Iterator[None]:
    """Tell errors over what is attached to an image as such, with a way out."""
    try:
        yield
    except (MalformedError, ContentError, NotFoundError) as error:
        hint = error.hint or _LEAVE_OUT_HINT
        raise type(error)(f"image {tag}: what is attached: {error}", hint=hint) from error


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


def pin_attached(artifacts: Artifacts, locked: LockedAttached) -> PinnedAttached:
    """Read the manifests of what a lock says is attached.

    Raises:
        NotFoundError: The registry has it no more.
        ContentError: They make another index than the locked one.
        WorldError: The registry refuses us, or fails.
    """
    digests = locked.manifests or (locked.digest,)
    stored = [_locked_manifest(artifacts, digest, locked) for digest in digests]
    if not locked.manifests:
        return _pin(artifacts, locked.tag, locked.subject, stored[0])
    pinned = _pin_referrers(artifacts, locked.subject, stored)
    if pinned.locked != locked:
        raise ContentError(
            f"{_place(artifacts, locked.tag)}: expected {locked.digest} as locked, "
            f"got {pinned.locked.digest}",
            hint=_LOCK_HINT,
        )
    return pinned


def fetch_attached(
    artifacts: Artifacts,
    pinned: PinnedAttached,
    *,
    name: str,
    scratch: Path,
    mtime: int,
) -> tuple[Image, Path]:
    """Fetch its blobs and write it as an OCI archive of ours.

    Args:
        artifacts: Where it is.
        pinned: What it is.
        name: Of the image in the bundle.
        scratch: A directory for the archive, and for its blobs meanwhile.
        mtime: Seconds since 1970 that every member gets.

    Returns:
        What the manifest says of it, and where its archive is.

    Raises:
        ContentError: A blob is not what its digest says.
        MalformedError: It is nothing that an OCI archive can hold, or that a registry takes.
        WorldError: The registry fails, or the disk is full.
    """
    tag = ImageTag(name, pinned.locked.tag)
    sizes = pinned.tree.sizes.items()
    require_within_limits(tag, (Blob(digest=digest, size=size) for digest, size in sizes))
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
        source=f"docker://{artifacts.name}:{tag.tag}",
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
    return PinnedAttached(
        locked=LockedAttached(tag=tag, subject=subject, digest=stored.digest),
        tree=collect(artifacts, stored.content, {}, _place(artifacts, tag)),
        kinds=(tag.rpartition(".")[2],),
    )


def _pin_referrers(
    artifacts: Artifacts, subject: Digest, stored: Sequence[StoredManifest]
) -> PinnedAttached:
    tag = f"sha256-{subject.hex}"
    place = _place(artifacts, tag)
    tables = [read_manifest(item.content, place) for item in stored]
    for table in tables:
        table.table("subject").choice("digest", (str(subject),))
    index = referrers_index(zip(stored, tables, strict=True))
    known = {item.digest: item.content for item in stored}
    return PinnedAttached(
        locked=LockedAttached(
            tag=tag,
            subject=subject,
            digest=Digest.of(index),
            manifests=tuple(sorted(known)),
        ),
        tree=collect(artifacts, index, known, place),
        kinds=tuple(map(artifact_type, tables)),
    )


def _locked_manifest(
    artifacts: Artifacts, digest: Digest, locked: LockedAttached
) -> StoredManifest:
    stored = artifacts.manifest(str(digest))
    if stored is None:
        raise NotFoundError(
            f"{_place(artifacts, locked.tag)}: expected {digest} as locked, found nothing",
            hint=_LOCK_HINT,
        )
    return stored


def _place(artifacts: Artifacts, tag: str) -> str:
    return f"{artifacts.name}:{tag}"


def _write_layout(artifacts: Artifacts, pinned: PinnedAttached, directory: Path) -> None:
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, content in pinned.tree.manifests.items():
        (blobs / digest.hex).write_bytes(content)
    for digest, size in pinned.tree.blobs.items():
        artifacts.fetch(digest, size, blobs / digest.hex)
    digest = pinned.locked.digest
    top = pinned.tree.manifests[digest]
    descriptor = {
        "mediaType": media_type(read_manifest(top, _place(artifacts, pinned.locked.tag))),
        "digest": str(digest),
        "size": len(top),
    }
    (directory / VERSION_FILE).write_bytes(write_json({"imageLayoutVersion": LAYOUT_VERSION}))
    (directory / INDEX_FILE).write_bytes(
        write_json({"schemaVersion": 2, "manifests": [descriptor]})
    )
