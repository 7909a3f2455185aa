"""Where the files of a release lie: in a directory, or below a prefix of a bucket."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import read_limited
from bundler.archive.kinds import DIRECTORY, kind_of
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import archive_name, parse_volume_name
from bundler.archive.volumes import Place, locate
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, NotFoundError, printable
from bundler.manifest import Manifest
from bundler.remote_object import RemoteFolder


def shown(path: Path) -> str:
    """Give a path for an error; whoever filled the medium may have chosen its name."""
    return printable(str(path))


class ReleaseFiles(ABC):
    """The files of one release, found by their names. Nothing here is trusted."""

    @abstractmethod
    def shown(self, name: str = "") -> str:
        """Say where a file lies, or all of them, for people."""

    @abstractmethod
    def names(self) -> list[str]:
        """Name what lies here, sorted."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Say whether something of this name lies here."""

    @abstractmethod
    def read(self, name: str, *, limit: int) -> bytes:
        """Read a small file whole.

        Raises:
            NotFoundError: There is none.
            MalformedError: It is no plain file, or has more than ``limit`` bytes.
            WorldError: It cannot be read.
        """

    @abstractmethod
    def place(self, archive: str, size: int, digest: Digest) -> Place | None:
        """Say where the archive of a file name, signed size and digest lies; None for nowhere."""

    def below(self, name: str) -> list[str]:
        """Name the places one level down that have such a file, for people."""
        return []

    @abstractmethod
    def inside(self, name: str) -> ReleaseFiles | None:
        """Give what lies one level down, in a folder of this name; None where there is none.

        Raises:
            MalformedError: Something else has that name, a link to a folder too.
            WorldError: It cannot be looked at.
        """

    @property
    @abstractmethod
    def searched(self) -> str:
        """Say where ``place`` looks, for people."""

    @property
    def absent_hint(self) -> str:
        """Say what to do about an archive that is not here."""
        return f"copy it to {self.shown()}"

    def path(self) -> Path:
        """Give the directory, for what works on this machine's files only.

        Raises:
            MalformedError: The release lies in a bucket.
        """
        raise MalformedError(
            f"{self.shown()}: expected a directory, got a place in a bucket",
            hint="copy the release to a disk; verify, inspect, extract, plan and publish also read "
            "it where it is",
        )


@dataclass(frozen=True, slots=True)
class ReleaseDirectory(ReleaseFiles):
    """A release on this machine.

    Attributes:
        directory: Where its small files lie.
        elsewhere: Where else archives, or volumes of them, may lie.
    """

    directory: Path
    elsewhere: tuple[Path, ...] = ()

    def shown(self, name: str = "") -> str:
        """Give the path."""
        return shown(self.directory / name)

    def names(self) -> list[str]:
        """List the directory."""
        with blaming(self.directory):
            return sorted(path.name for path in self.directory.iterdir())

    def has(self, name: str) -> bool:
        """Look it up, also where it is a broken link."""
        return os.path.lexists(self.directory / name)

    def read(self, name: str, *, limit: int) -> bytes:
        """Read a regular file, not through a link."""
        return read_limited(self.directory / name, limit=limit)

    def place(self, archive: str, size: int, digest: Digest) -> Place | None:
        """Say where an archive lies: whole, or in volumes over several directories."""
        return locate(archive, size, digest, [self.directory, *self.elsewhere])

    def below(self, name: str) -> list[str]:
        """Look into every directory here."""
        return sorted(shown(path.parent) for path in self.directory.glob(f"*/{name}"))

    def inside(self, name: str) -> ReleaseFiles | None:
        """Give a directory, not through a link."""
        path = self.directory / name
        with blaming(path):
            if not os.path.lexists(path):
                return None
            kind = kind_of(path.lstat().st_mode)
        if kind != DIRECTORY:
            raise MalformedError(f"{shown(path)}: expected a directory, got {kind}")
        return ReleaseDirectory(path)

    @property
    def searched(self) -> str:
        """Name the directories."""
        return ", ".join(map(shown, (self.directory, *self.elsewhere)))

    @property
    def absent_hint(self) -> str:
        """Name the option."""
        return "--volumes DIR says where else to look"

    def path(self) -> Path:
        """Give the directory."""
        return self.directory


@dataclass(frozen=True, slots=True)
class ReleaseInBucket(ReleaseFiles):
    """A release in a bucket, as it was when it was listed.

    Archives are read there, whole ones only: volumes are for media, and are told of.
    """

    folder: RemoteFolder

    def shown(self, name: str = "") -> str:
        """Give the address."""
        return printable(f"{self.folder.url}/{name}")

    def names(self) -> list[str]:
        """Name the objects directly below the prefix, and what has something below it."""
        return sorted({*self.folder.objects, *self.folder.folders})

    def has(self, name: str) -> bool:
        """Look it up among the objects."""
        return name in self.folder.objects

    def read(self, name: str, *, limit: int) -> bytes:
        """Download an object."""
        found = self.folder.objects.get(name)
        if found is None:
            raise NotFoundError(f"{self.shown(name)}: no such object")
        if found.size > limit:
            raise MalformedError(
                f"{self.shown(name)}: expected at most {limit} bytes, got {found.size}"
            )
        return b"".join(found.read(0, found.size))

    def place(self, archive: str, size: int, digest: Digest) -> Place | None:
        """Find the object; volumes of it are refused, since they are read from disks only."""
        found = self.folder.objects.get(archive)
        if found is None and (volumes := list(self._volumes(archive))):
            raise MalformedError(
                f"{self.shown(archive)}: expected one object, got {len(volumes)} volumes",
                hint="volumes are read from directories; upload the archive itself, as `cat` joins "
                "plain volumes",
            )
        return found

    def inside(self, name: str) -> ReleaseFiles | None:
        """List what lies below the prefix under that name."""
        return ReleaseInBucket(self.folder.enter(name)) if name in self.folder.folders else None

    @property
    def searched(self) -> str:
        """Name the prefix."""
        return self.shown()

    def _volumes(self, archive: str) -> Sequence[str]:
        found = ((name, parse_volume_name(name)) for name in self.folder.objects)
        return [name for name, volume in found if volume is not None and volume.archive == archive]


def files_at(where: Path | ReleaseFiles, elsewhere: Sequence[Path] = ()) -> ReleaseFiles:
    """Give the files of a directory; what is given as files already stays as it is."""
    if isinstance(where, ReleaseFiles):
        return where
    return ReleaseDirectory(where, tuple(elsewhere))


def require_archive(path: Path, manifest: Manifest) -> str:
    """Give the file name of the archive that a file is, or is a volume of.

    Raises:
        ContentError: The release has no such archive.
    """
    name = archive_name(path.name)
    if name not in manifest.archives:
        raise ContentError(
            f"{shown(path)}: expected an archive of this release "
            f"({', '.join(manifest.archives)}), got {printable(path.name)}",
            hint="archives are known by their file names; rename it back if it was renamed",
        )
    return name
