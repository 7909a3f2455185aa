"""Unpacks an archive of a release to a directory: verified, resumed, and nothing half under a name.

For where no object store is: a disk, a PVC, NFS. The top directory of the archive is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundler.archive.bundle_reader import BundleReader
from bundler.archive.checkpoint import check_parts
from bundler.archive.extracted_tree import bundle_tree, checkpoint_tree
from bundler.archive.files import RandomReader, sync_directory
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.reader import Reader
from bundler.archive.room import require_room
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import parse_volume_name
from bundler.archive.volumes import Place, find_volumes, open_place
from bundler.errors import ContentError, MalformedError, NotFoundError, printable
from bundler.events import Emit, Finished, Noted, Started, ignore
from bundler.fetch.download import bring
from bundler.fetch.locks import alone
from bundler.fetch.room import check_room
from bundler.fetch.survey import survey
from bundler.fetch.wanted import File, Gap, check_names, missing_bytes
from bundler.manifest import Bundle, BundleFile, Checkpoint, Manifest
from bundler.release import TrustedRelease, find_release, open_release, shown
from bundler.signing.keys import PublicKey
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
    path: Path,
    destination: Path,
    keys: Sequence[PublicKey],
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
        path: A release directory, an archive, or a volume of one.
        destination: Made if need be; no name below it may be a link.
        keys: Whom to trust.
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
    release = open_release(find_release(path, release_dir), keys, elsewhere=elsewhere)
    expired = judge_expiry(release.manifest, now, allow_expired=allow_expired)
    archive = archive_of(release.manifest, _name(path, only, release.manifest))
    place = _place(path, archive, release)
    with blaming(destination):
        destination.mkdir(parents=True, exist_ok=True)
    with alone(destination, "extract"):
        if isinstance(archive, Checkpoint):
            written = _extract_checkpoint(place, archive, destination, emit)
        else:
            written = _extract_bundle(place, archive, destination, emit)
    return Extracted(
        archive=archive.archive,
        release=release.manifest.release.directory,
        signatures=release.signatures,
        files=len(archive.files),
        size=sum(file.size for file in archive.files),
        written=written,
        expired=expired,
    )


def _name(path: Path, only: str | None, manifest: Manifest) -> str:
    if path.is_dir():
        scope = read_scope(only, manifest)
        if scope.archive is None or scope.path is not None:
            raise MalformedError(
                f"{shown(path)}: expected the name of one archive of this release with it",
                hint=f"--only NAME, one of {', '.join(manifest.archives)}",
            )
        return scope.archive
    volume = parse_volume_name(path.name)
    name = path.name if volume is None else volume.archive
    if name not in manifest.archives:
        raise ContentError(
            f"{shown(path)}: expected an archive of this release "
            f"({', '.join(manifest.archives)}), got {printable(path.name)}",
            hint="archives are known by their file names; rename it back if it was renamed",
        )
    return name


def _place(path: Path, archive: Checkpoint | Bundle, release: TrustedRelease) -> Place:
    if not path.is_dir() and path.name == archive.archive:
        return path
    if not path.is_dir() or path != release.directory:
        directory = path if path.is_dir() else path.parent
        where = [directory, *release.elsewhere]
        if path.is_dir() and os.path.lexists(path / archive.archive):
            return path / archive.archive
        found = find_volumes(archive.archive, archive.size, archive.digest, where)
        if found is not None:
            return found
    return release.require_place(archive.archive)


@dataclass(frozen=True, slots=True)
class _Source:
    """An archive as a source of parts; a key is a file's path."""

    reader: Reader
    offsets: Mapping[str, int]

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        for piece in self.reader.pieces(self.offsets[key] + offset, length):
            yield bytes(piece)


def _extract_checkpoint(place: Place, checkpoint: Checkpoint, destination: Path, emit: Emit) -> int:
    files = [File(file.path, file.path, file.size, file.parts) for file in checkpoint.files]
    check_names(files)
    with open_place(place) as reader:
        _require_size(reader, checkpoint)
        gaps = survey(files, destination, keep=False)
        check_room([(destination, gaps)], hint=_ROOM_HINT)
        for gap in gaps:
            emit(Started("extract", gap.file.path, gap.missing))
        source = _Source(reader, {file.path: file.offset for file in checkpoint.files})
        try:
            bring(source, gaps, destination, keep=False, emit=emit, hint=_DAMAGE_HINT)
        except ContentError as error:
            raise _explained(error, place, checkpoint, gaps) from error
    _name_others(checkpoint_tree(destination, checkpoint).compare().extra, destination, emit)
    return missing_bytes(gaps)


def _explained(
    error: ContentError, place: Place, checkpoint: Checkpoint, gaps: Sequence[Gap]
) -> ContentError:
    """Say where in the archive the damage is, and in which volume."""
    faults = check_parts(place, checkpoint, files={gap.file.path for gap in gaps})
    return ContentError("\n".join(map(str, faults)), hint=_DAMAGE_HINT) if faults else error


def _extract_bundle(place: Place, bundle: Bundle, destination: Path, emit: Emit) -> int:
    with BundleReader(place, bundle) as reader:
        reader.check_structure()
        for file in bundle.files:
            _make_parents(file.path, destination)
        there = in_threads(lambda file: _is_there(file, destination), bundle.files)
        todo = [file for file, right in zip(bundle.files, there, strict=True) if not right]
        require_room(destination, sum(file.size for file in todo), hint=_ROOM_HINT)

        def unpack(file: BundleFile) -> BundleFile:
            emit(Started("extract", file.path, file.size))
            reader.extract(file, destination / file.path)
            return file

        for done in in_threads(unpack, todo):
            emit(Finished(done.path))
    found = bundle_tree(destination, bundle).compare()
    _name_others(found.extra, destination, emit)
    sync_directory(destination)
    return sum(file.size for file in todo)


def _make_parents(path: str, destination: Path) -> None:
    for parent in reversed(PurePosixPath(path).parents[:-1]):
        directory = destination / parent
        if directory.is_symlink():
            raise MalformedError(f"{shown(directory)}: expected a directory, got a symbolic link")
        with blaming(directory):
            directory.mkdir(exist_ok=True)


def _is_there(file: BundleFile, destination: Path) -> bool:
    """Say whether a file of an earlier run is right; raises MalformedError where it is a link."""
    try:
        with RandomReader(Path(file.path), root=destination) as reader:
            if reader.size != file.size or digest_of(reader, 0, file.size) != file.digest:
                return False
    except NotFoundError:
        return False
    mode = (destination / file.path).lstat().st_mode
    return bool(mode & 0o100) == file.executable


def _require_size(reader: Reader, checkpoint: Checkpoint) -> None:
    if reader.size != checkpoint.size:
        raise ContentError(
            f"{checkpoint.archive}: expected {checkpoint.size} bytes, got {reader.size}",
            hint="copy the archive again from its source; nothing was written",
        )


def _name_others(extra: Sequence[tuple[str, str]], destination: Path, emit: Emit) -> None:
    for path, _ in extra[:_SHOWN]:
        emit(Noted(f"{destination}: {printable(path)} is not of the archive; left alone"))
    if len(extra) > _SHOWN:
        emit(Noted(f"{destination}: and {len(extra) - _SHOWN} others; left alone"))
