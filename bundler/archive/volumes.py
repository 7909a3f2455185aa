"""Archives that were cut into volumes: found in several places, opened as one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bundler.archive.files import RandomReader
from bundler.archive.reader import Reader
from bundler.archive.remote_reader import RemoteReader
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import VolumeName, parse_volume_name
from bundler.archive.volume_reader import Segment, VolumeReader
from bundler.archive.volume_sets import Volume, judge, volume_fault
from bundler.archive.zstd_reader import ZstdReader
from bundler.digest import Digest
from bundler.errors import ContentError, printable
from bundler.faults import Fault
from bundler.remote_object import RemoteObject

VOLUMES_HINT = "bring the volumes that are named; --volumes DIR says where else to look"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSet:
    """The volumes of one archive, wherever they lie.

    Attributes:
        archive, size: File name and bytes of the archive.
        compressed: Whether they hold zstd frames rather than the bytes themselves.
        volumes: Those that can be used, in order.
        faults: What is missing, of another size, doubled, or of another split.
    """

    archive: str
    size: int
    compressed: bool
    volumes: tuple[Volume, ...]
    faults: tuple[Fault, ...]

    @property
    def name(self) -> str:
        """The file name of the archive."""
        return self.archive


Place = Path | VolumeSet | RemoteObject


def open_place(place: Place, *, partly: bool = False) -> Reader:
    """Open an archive, whether it is one file, volumes, or an object in a bucket.

    Args:
        place: Where it lies.
        partly: Whether volumes may be missing; reading there raises ContentError.

    Raises:
        ContentError: Volumes are missing or wrong; the message names all of them.
        NotFoundError, MalformedError, WorldError: A file is not there, no plain file, or cannot be
            opened.
    """
    if isinstance(place, Path):
        return RandomReader(place)
    if isinstance(place, RemoteObject):
        return RemoteReader(place)
    if place.faults and not partly:
        raise ContentError("\n".join(map(str, place.faults)), hint=VOLUMES_HINT)
    with ExitStack() as opened:
        segments = []
        for volume in place.volumes:
            reader = opened.enter_context(_open_volume(volume, compressed=place.compressed))
            segments.append(Segment(printable(volume.path.name), volume.offset, reader))
        opened.pop_all()
    return VolumeReader(place.archive, segments, place.size)


def locate(archive: str, size: int, digest: Digest, directories: Sequence[Path]) -> Place | None:
    """Find an archive: whole in one of some directories, or else in volumes over all of them.

    Args:
        archive: Its file name.
        size: Its signed size, in bytes.
        digest: Its signed sha256.
        directories: Where to look, in this order; links and mount points will do.

    Raises:
        WorldError: A directory cannot be read.
    """
    for directory in directories:
        if os.path.lexists(directory / archive):
            return directory / archive
    return find_volumes(archive, size, digest, directories)


def find_volumes(
    archive: str, size: int, digest: Digest, directories: Sequence[Path]
) -> VolumeSet | None:
    """Find the volumes of an archive, and judge them as a set; None where there is not one.

    Raises:
        WorldError: A directory or a volume cannot be read.
    """
    found: dict[VolumeName, list[Path]] = {}
    for path in _entries(directories):
        name = parse_volume_name(path.name)
        if name is not None and name.archive == archive:
            found.setdefault(name, []).append(path)
    if not found:
        return None
    splits = [list(names) for _, names in groupby(sorted(found), VolumeName.split)]
    chosen = max(splits, key=len)
    split = chosen[0].split()
    volumes, faults = judge(split, size, digest, {name.number: found[name] for name in chosen})
    others = [
        volume_fault(name, expected=f"a volume of {split.count}, as most", got="another split")
        for names in splits
        if names is not chosen
        for name in names
    ]
    return VolumeSet(
        archive=archive,
        size=size,
        compressed=split.compressed,
        volumes=tuple(volumes),
        faults=(*faults, *others),
    )


def _open_volume(volume: Volume, *, compressed: bool) -> Reader:
    reader: Reader = ZstdReader(volume.path) if compressed else RandomReader(volume.path)
    if reader.size != volume.length:
        reader.close()
        raise ContentError(
            f"{printable(str(volume.path))}: expected {volume.length} bytes, got {reader.size}",
            hint="the volume changed while it was read",
        )
    return reader


def _entries(directories: Sequence[Path]) -> Iterator[Path]:
    """Give what lies in some directories; one that is named twice is looked at once."""
    seen = set()
    for directory in directories:
        with blaming(directory):
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            yield from sorted(directory.iterdir())
