"""Unpacks an archive of a release to a directory: verified, resumed, and nothing half under a name.

For where no object store is: a disk, a PVC, NFS. The top directory of the archive is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle_reader import BundleReader
from bundler.archive.checkpoint import check_parts
from bundler.archive.extracted_tree import ExtractedTree, bundle_tree, checkpoint_tree
from bundler.archive.files import make_directories
from bundler.archive.held_directory import HeldDirectory
from bundler.archive.reader import Reader
from bundler.archive.room import work_text
from bundler.archive.volumes import Place, find_volumes, locate, open_place
from bundler.errors import BundleError, ContentError, MalformedError, printable
from bundler.events import Emit, Noted, Planned, ignore
from bundler.extract_events import tell_started
from bundler.faults import Fault
from bundler.fetch.download import Source, bring, threads_from_disk
from bundler.fetch.locks import alone
from bundler.fetch.room import check_room
from bundler.fetch.survey import survey
from bundler.fetch.wanted import File, check_names, missing_bytes
from bundler.manifest import Bundle, Checkpoint, Manifest
from bundler.release import TrustedRelease, find_release, open_release
from bundler.release_files import ReleaseFiles, require_archive, shown
from bundler.trust import Trust
from bundler.verify.path import judge_expiry
from bundler.verify.scope import archive_of, read_scope

_SHOWN = 20
_ROOM_HINT = "free space there, or choose another place; nothing was written"
_DAMAGE_HINT = (
    "files with a wrong part are not there, all others are; copy the archive again, and run again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What a run did.

    Attributes:
        archive: File name of the archive.
        release: Name and version of the release.
        signatures: The ``key8`` of each key that vouches for it.
        files, size: What is there now, and its bytes.
        written: Bytes that were written; the rest was there already, and was read and compared.
        expired: Why the release is stale, where that was allowed.
    """

    archive: str
    release: str
    signatures: tuple[str, ...]
    files: int
    size: int
    written: int
    expired: str | None


def extract(
    path: Path | ReleaseFiles,
    destination: Path,
    trust: Trust,
    *,
    now: str,
    only: str | None = None,
    release_dir: Path | None = None,
    elsewhere: Sequence[Path] = (),
    allow_expired: bool = False,
    emit: Emit = ignore,
) -> Extracted:
    """Unpack a checkpoint or the bundle; go on where an earlier run ended.

    What lies at the destination is hashed again, and kept where it is right; a file takes its name
    when all of it is right and on the disk. Other files there are left alone, and named.

    Args:
        path: A release directory, an archive, or a volume of one; or a release's files wherever
            they lie.
        destination: Made if need be; no name below it may be a link.
        trust: Whom to trust.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``, to judge the release's expiry by.
        only: Which archive, where ``path`` is a release.
        release_dir: Where the small files lie, if not in or beside ``path``.
        elsewhere: Where else archives, or volumes of them, may lie.
        allow_expired: Go on with an expired release, and say so.
        emit: Told of progress, from several threads.

    Raises:
        UntrustedError, StaleError: As for ``verify_path``.
        ContentError: Bytes are not what was signed; the message names every part and volume.
        MalformedError: Something else is in the place of a file or directory.
        WorldError: The disk is too small (nothing was written then), or fails.
    """
    where = path if isinstance(path, ReleaseFiles) else find_release(path, release_dir)
    release = open_release(where, trust, elsewhere=elsewhere)
    expired = judge_expiry(release.manifest, now, allow_expired=allow_expired)
    archive = archive_of(release.manifest, _name(path, only, release.manifest))
    place = _place(path, archive, release, elsewhere)
    make_directories(destination)
    with alone(destination, "extract") as held:
        if isinstance(archive, Checkpoint):
            written = _extract_checkpoint(place, archive, held, emit)
        else:
            written = _extract_bundle(place, archive, held, emit)
    return Extracted(
        archive=archive.archive,
        release=release.manifest.release.directory,
        signatures=release.signatures,
        files=len(archive.files),
        size=sum(file.size for file in archive.files),
        written=written,
        expired=expired,
    )


def _name(path: Path | ReleaseFiles, only: str | None, manifest: Manifest) -> str:
    if isinstance(path, ReleaseFiles) or path.is_dir():
        scope = read_scope(only, manifest)
        if scope.archive is None or scope.path is not None:
            where = path.shown() if isinstance(path, ReleaseFiles) else shown(path)
            raise MalformedError(
                f"{where}: expected the name of one archive of this release with it",
                hint=f"--only NAME, one of {', '.join(manifest.archives)}",
            )
        return scope.archive
    return require_archive(path, manifest)


def _place(
    path: Path | ReleaseFiles,
    archive: Checkpoint | Bundle,
    release: TrustedRelease,
    elsewhere: Sequence[Path],
) -> Place:
    if isinstance(path, ReleaseFiles):
        return release.require_place(archive.archive)
    if not path.is_dir() and path.name == archive.archive:
        return path
    find = locate if path.is_dir() else find_volumes
    directory = path if path.is_dir() else path.parent
    found = find(archive.archive, archive.size, archive.digest, [directory, *elsewhere])
    return release.require_place(archive.archive) if found is None else found


@dataclass(frozen=True, slots=True)
class _FromCheckpoint:
    """A checkpoint's archive as a source of parts; a key is a file's path."""

    reader: Reader
    offsets: Mapping[str, int]

    def read(self, key: str, offset: int, length: int) -> Iterator[memoryview]:
        return self.reader.pieces(self.offsets[key] + offset, length)


@dataclass(frozen=True, slots=True)
class _FromBundle:
    """A bundle as a source of parts; a key is a file's path."""

    reader: BundleReader
    bundle: Bundle

    def read(self, key: str, offset: int, length: int) -> Iterator[memoryview]:
        return self.reader.pieces(self.bundle.file(key), offset, length)


def _extract_checkpoint(
    place: Place, checkpoint: Checkpoint, destination: HeldDirectory, emit: Emit
) -> int:
    files = [File(file.path, file.path, file.size, file.parts) for file in checkpoint.files]
    with open_place(place) as reader:
        _require_size(reader, checkpoint)
        source = _FromCheckpoint(reader, {file.path: file.offset for file in checkpoint.files})
        try:
            written = _unpack(source, files, destination, emit)
        except ContentError as error:
            faults = check_parts(place, checkpoint, files=_lacking(files, destination))
            raise _explained(error, faults) from error
    _name_others(checkpoint_tree(destination.path, checkpoint), emit)
    return written


def _extract_bundle(place: Place, bundle: Bundle, destination: HeldDirectory, emit: Emit) -> int:
    files = [
        File(file.path, file.path, file.size, (file.digest,), executable=file.executable)
        for file in bundle.files
    ]
    with BundleReader(place, bundle) as reader:
        reader.check_structure()
        try:
            written = _unpack(_FromBundle(reader, bundle), files, destination, emit)
        except ContentError as error:
            lacking = map(bundle.file, sorted(_lacking(files, destination)))
            faults = [fault for file in lacking for fault in reader.check_file(file)]
            raise _explained(error, faults) from error
    _name_others(bundle_tree(destination.path, bundle), emit)
    return written


def _unpack(source: Source, files: Sequence[File], destination: HeldDirectory, emit: Emit) -> int:
    """Bring what is not there as it should be; gives its bytes."""
    check_names(files)
    gaps = survey(files, destination, keep=False, emit=emit)
    check_room([(destination, gaps)], hint=_ROOM_HINT)
    emit(Noted(_estimate(missing_bytes(gaps), destination)))
    emit(Planned(missing_bytes(gaps)))
    bring(
        source,
        gaps,
        destination,
        keep=False,
        emit=tell_started(gaps, emit),
        hint=_DAMAGE_HINT,
        parallel=threads_from_disk(),
    )
    return missing_bytes(gaps)


def _estimate(size: int, destination: HeldDirectory) -> str:
    disk = destination.room()
    return work_text(destination.path, size, disk.f_bavail * disk.f_frsize, hashed=size)


def _lacking(files: Sequence[File], destination: HeldDirectory) -> set[str]:
    """Name the files that are not there after all."""
    return {file.path for file in files if destination.status(file.path) is None}


def _explained(error: ContentError, faults: Sequence[Fault]) -> ContentError:
    """Say where in the archive the damage is, and in which volume."""
    return ContentError("\n".join(map(str, faults)), hint=_DAMAGE_HINT) if faults else error


def _require_size(reader: Reader, checkpoint: Checkpoint) -> None:
    if reader.size != checkpoint.size:
        raise ContentError(
            f"{checkpoint.archive}: expected {checkpoint.size} bytes, got {reader.size}",
            hint="copy the archive again from its source; nothing was written",
        )


def _name_others(tree: ExtractedTree, emit: Emit) -> None:
    """Name what else lies there, as far as we may look: what is ours is there, and proven."""
    try:
        extra = tree.compare().extra
    except BundleError as error:
        emit(Noted(f"not searched for what else lies there: {error}"))
        return
    for path, _ in extra[:_SHOWN]:
        emit(Noted(f"{tree.root}: {printable(path)} is not of the archive; left alone"))
    if len(extra) > _SHOWN:
        emit(Noted(f"{tree.root}: and {len(extra) - _SHOWN} others; left alone"))
