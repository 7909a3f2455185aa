"""Cuts the archives of a release into volumes that fit their media, before or after signing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.cutting import cut, require_fit
from bundler.archive.files import (
    atomic_write_bytes,
    make_directories,
    open_regular,
    read_limited,
    sync_directory,
)
from bundler.archive.reader import Reader
from bundler.archive.room import require_room, work_text
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import Split
from bundler.archive.volumes import VolumeSet, find_volumes, open_place
from bundler.archive.zstd_cutting import cut_compressed, require_fit_compressed
from bundler.errors import ConflictError, ContentError, NotFoundError, printable
from bundler.events import Emit, Finished, Noted, Planned, Started, ignore
from bundler.jsontext import write_json
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Bundle, Checkpoint, Manifest
from bundler.release import open_release, read_agreed, read_sums_file
from bundler.split_place import name_volumes, remove_remains, work_directory, working
from bundler.trust import NOBODY, Trust
from bundler.verify.archives import check_volumes
from bundler.verify.report import Findings
from bundler.verify.scope import archive_of

VOLUMES_NAME = "VOLUMES.json"
MIB = 1 << 20
# What one file may have, with room for the file system where the medium holds nothing else.
# Source: FAT32 takes files under 4 GiB; a DVD of one layer has 4,700,372,992 bytes (DVD+R), a BD-R
# of two layers 48,440,016,896 if it keeps spare sectors, which is how it is formatted by default.
MEDIA = {"fat32": 4032 * MIB, "dvd": 4464 * MIB, "bd50": 46_080 * MIB}
# Weights in BF16 shrink by a quarter; more than this nobody should count on.
_SHARE_COMPRESSED = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How one archive lies now.

    Attributes:
        archive: Its file name.
        volumes: File names of its volumes, in order; none where it fits the medium as it is.
        size: Bytes of the archive.
        stored: Bytes of the volumes together.
        skipped: Whether the volumes were there already.
    """

    archive: str
    volumes: tuple[str, ...]
    size: int
    stored: int
    skipped: bool = False


def split_release(
    directory: Path,
    *,
    volume_bytes: int,
    out: Path | None = None,
    compress: bool = False,
    remove_original: bool = False,
    trust: Trust = NOBODY,
    emit: Emit = ignore,
) -> list[Cut]:
    """Cut every archive of a release that is larger than a medium.

    All archives are judged before the first byte is written. They are compared with the manifest
    while they are cut; volumes get their names when all of an archive's are on the disk. A run that
    was stopped goes on where it ended.

    Args:
        directory: The release, signed or not yet.
        volume_bytes: What one volume may have at most.
        out: Where the volumes go, made if need be; where not given, beside the archives.
        compress: Whether volumes hold zstd frames.
        remove_original: Whether an archive is removed once its volumes were read again and are
            right.
        trust: Whom to trust; where it is nobody, the manifest is believed as it is.
        emit: Told of progress.

    Raises:
        ContentError: An archive, or the manifest, is not what was signed.
        MalformedError: There would be too many volumes, or none that holds what must stay together.
        ConflictError: Volumes of another split are there.
        UntrustedError: Keys were given, and none of them signed the release.
        WorldError: The disk is too small, or fails.
    """
    manifest = _read_manifest(directory, trust)
    large = [name for name, (size, _) in manifest.archives.items() if size > volume_bytes]
    out = out or directory
    run = _Run(directory, out, manifest, volume_bytes, compress, emit)
    todo = [name for name in large if run.is_to_do(name)]
    for name in todo:
        run.require_fit(name)
    make_directories(out)
    run.check_room(todo)
    run.remove_remains(manifest.archives.keys() - set(large))
    emit(Planned(sum(manifest.archives[name][0] for name in todo)))
    for name in todo:
        run.cut(name)
    run.write_hint()
    if remove_original:
        vouched = "as signed" if trust else f"as {MANIFEST_NAME} says"
        for name in large:
            run.remove_original(name, vouched)
    return [run.result(name, cut_now=name in todo) for name in manifest.archives]


def _read_manifest(directory: Path, trust: Trust) -> Manifest:
    if trust:
        return open_release(directory, trust).manifest
    sums = read_sums_file(directory)
    content = read_limited(directory / MANIFEST_NAME, limit=MAX_MANIFEST_BYTES)
    return read_agreed(directory, sums, content)[1]


class _Run:
    def __init__(
        self,
        directory: Path,
        out: Path,
        manifest: Manifest,
        volume_bytes: int,
        compress: bool,
        emit: Emit,
    ) -> None:
        self._directory = directory
        self._out = out
        self._manifest = manifest
        self._volume_bytes = volume_bytes
        self._compress = compress
        self._emit = emit

    def is_to_do(self, name: str) -> bool:
        """Say whether an archive is still to be cut; raises where that cannot be."""
        found = self._found(name)
        if found is not None and not work_directory(self._out, name).is_dir():
            self._require_same(found)
            return False
        if not os.path.lexists(self._directory / name):
            raise NotFoundError(
                f"{printable(str(self._directory / name))}: no such file, and no volumes of it in "
                f"{printable(str(self._out))}",
            )
        return True

    def require_fit(self, name: str) -> None:
        """Refuse to begin what cannot come to its end, as far as sizes tell."""
        archive = archive_of(self._manifest, name)
        (require_fit_compressed if self._compress else require_fit)(archive, self._volume_bytes)
        with open_place(self._directory / name) as source:
            _require_size(source, archive)

    def check_room(self, names: Sequence[str]) -> None:
        """Refuse to begin what the disk will not hold, and tell what is ahead."""
        need = 0
        for name in names:
            size, _ = self._manifest.archives[name]
            need += int(size * (_SHARE_COMPRESSED if self._compress else 1))
            work = work_directory(self._out, name)
            need -= sum(path.stat().st_size for path in work.glob("*") if path.is_file())
        hint = "free space there, or name another place: -o DIR"
        free = require_room(self._out, need, hint=hint)
        if names:
            hashed = sum(self._manifest.archives[name][0] for name in names)
            self._emit(Noted(work_text(self._out, max(0, need), free, hashed=hashed)))

    def cut(self, name: str) -> None:
        """Cut one archive; its volumes appear when all are there."""
        archive = archive_of(self._manifest, name)
        with working(self._out, name) as work, open_place(self._directory / name) as source:
            _require_size(source, archive)
            self._emit(Started("split", name, archive.size))
            how = cut_compressed if self._compress else cut
            paths = how(source, archive, work, volume_bytes=self._volume_bytes, emit=self._emit)
            name_volumes(self._out, Split(name, len(paths), self._compress), paths)
        sync_directory(self._out)
        self._emit(Finished(name))

    def remove_remains(self, names: Iterable[str]) -> None:
        """Remove what a run with smaller volumes, which was stopped, left of some archives."""
        for name in names:
            if self._found(name) is None:
                remove_remains(self._out, name)

    def remove_original(self, name: str, vouched: str) -> None:
        """Read all volumes of an archive again, from the disk, and then remove the archive."""
        original = self._directory / name
        found = self._found(name)
        if found is None or not os.path.lexists(original):
            return
        for volume in found.volumes:
            with open_regular(volume.path) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        findings = Findings(images=self._manifest.images, emit=self._emit)
        check_volumes(found, self._manifest, findings)
        if findings.faults:
            raise ContentError(
                "\n".join(map(str, findings.faults)),
                hint=f"{name} was kept; remove these volumes, and split it again",
            )
        with blaming(original):
            original.unlink()
        sync_directory(self._directory)
        self._emit(Noted(f"{name}: removed; its volumes were read again and are {vouched}"))

    def write_hint(self) -> None:
        """Write which volume holds which bytes, for people and other programs; never trusted."""
        found = {name: self._found(name) for name in self._manifest.archives}
        listed = [
            {
                "archive": name,
                "volumes": [
                    {"name": item.path.name, "offset": item.offset, "bytes": item.length}
                    for item in volumes.volumes
                ],
            }
            for name, volumes in found.items()
            if volumes is not None
        ]
        for path in self._out.glob(f".{VOLUMES_NAME}.*.partial"):  # of a run that was killed
            with suppress(OSError):
                path.unlink()
        if listed:
            content = write_json({"formatVersion": 1, "archives": listed})
            atomic_write_bytes(self._out / VOLUMES_NAME, content)

    def result(self, name: str, *, cut_now: bool) -> Cut:
        """Say how an archive lies now."""
        size, _ = self._manifest.archives[name]
        found = self._found(name)
        paths = [] if found is None else [volume.path for volume in found.volumes]
        return Cut(
            archive=name,
            volumes=tuple(path.name for path in paths),
            size=size,
            stored=sum(path.stat().st_size for path in paths),
            skipped=bool(paths) and not cut_now,
        )

    def _found(self, name: str) -> VolumeSet | None:
        size, digest = self._manifest.archives[name]
        return find_volumes(name, size, digest, [self._out] if self._out.is_dir() else [])

    def _require_same(self, found: VolumeSet) -> None:
        largest = max((volume.path.stat().st_size for volume in found.volumes), default=0)
        fits = largest <= self._volume_bytes if self._compress else largest == self._volume_bytes
        if found.faults or found.compressed != self._compress or not fits:
            raise ConflictError(
                f"{printable(str(self._out))}: volumes of {found.archive} from another split, or "
                "not all of one, are there already",
                hint=f"remove {found.archive}.*-of-*, or choose another place: -o DIR",
            )


def _require_size(source: Reader, archive: Checkpoint | Bundle) -> None:
    if source.size != archive.size:
        raise ContentError(
            f"{archive.archive}: expected {archive.size} bytes, got {source.size}",
            hint="copy the archive again from its source",
        )
