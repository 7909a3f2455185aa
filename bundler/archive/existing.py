"""An archive that is there already, read as the source of the same archive in another place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.checkpoint_stream import SourceFile
from bundler.archive.files import RandomReader
from bundler.archive.tar import BLOCK, Member, walk, with_directories
from bundler.archive.trouble import blaming
from bundler.archive.ustar import read_block
from bundler.errors import MalformedError, printable
from bundler.manifest import MAX_MANIFEST_BYTES
from bundler.reference import file_name

# A manifest takes no less for a file: two digests in hex, and their names.
_MANIFEST_BYTES_PER_FILE = 256
MAX_FILES = MAX_MANIFEST_BYTES // _MANIFEST_BYTES_PER_FILE
_HINT = "unpack it, and name the directory as `source`: then a new archive is written"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingArchive:
    """A checkpoint archive in our dialect, that nothing was hashed of yet.

    Attributes:
        path: Where it lies; no link.
        size: Its bytes.
        mtime: Seconds since 1970 that each member has.
        files: Its files, as ranges of it; written with its root and time they give it again, byte
            for byte.
    """

    path: Path
    size: int
    mtime: int
    files: tuple[SourceFile, ...]


def read_existing(path: Path, *, root: str) -> ExistingArchive:
    """Read the headers of a checkpoint archive, and demand that we could have written them.

    Args:
        path: The archive; a link is followed.
        root: The top-level directory that it must have.

    Raises:
        NotFoundError: It is not there.
        MalformedError: It is not in our dialect: a link, a device, a name that climbs, another
            order, a mode or an owner of its own, files beside ``root``; the message says which.
        WorldError: It cannot be read.
    """
    with blaming(path):
        real = path.resolve(strict=True)
    name = printable(str(path))
    with RandomReader(real) as reader:
        try:
            members = list(_bounded(walk(reader.read_at, reader.size, name=name), name))
            mtime = read_block(reader.read_at(0, BLOCK)).mtime if members else 0
        except MalformedError as error:
            raise MalformedError(str(error), hint=error.hint or _HINT) from error
        size = reader.size
    _require_root(members, root, name)
    try:
        files = tuple(_files(members, root, real))
    except ValueError as error:
        raise MalformedError(f"{name}: {printable(str(error))}", hint=_HINT) from error
    return ExistingArchive(path=real, size=size, mtime=mtime, files=files)


def _bounded(members: Iterator[Member], name: str) -> Iterator[Member]:
    """Give members up to the number of files that a manifest has room for; of directories, too."""
    counts = {False: 0, True: 0}
    for member in members:
        counts[member.directory] += 1
        if counts[member.directory] > MAX_FILES:
            kind = "directories" if member.directory else "files"
            raise MalformedError(
                f"{printable(name)}: expected at most {MAX_FILES} {kind}, got more",
                hint="a manifest has no room for more: make several checkpoints of it",
            )
        yield member


def _require_root(members: list[Member], root: str, name: str) -> None:
    tops = sorted({member.path.partition("/")[0] for member in members})
    if tops == [root]:
        return
    hint = _HINT
    if len(tops) == 1:
        with suppress(ValueError):  # no name that a spec may have
            line = f"root: {file_name(*tops)}"
            hint = f"if this archive is meant, one line at its checkpoint in the spec: {line}"
    got = printable(", ".join(tops[:5])) or "nothing"
    raise MalformedError(f"{name}: expected {root!r} alone at its top, got {got}", hint=hint)


def _files(members: list[Member], root: str, real: Path) -> Iterator[SourceFile]:
    files = [member for member in members if not member.directory]
    known = dict(with_directories(member.path for member in files))
    for member in members:
        if member.executable:
            raise ValueError(f"{member.path!r}: expected mode 0644, got 0755")
        if member.path not in known:
            raise ValueError(f"{member.path!r}: expected no empty directory")
    for member in files:
        path = member.path.removeprefix(f"{root}/")
        if path == member.path:
            raise ValueError(f"{path!r}: expected a directory, got a file")
        yield SourceFile(path, real, offset=member.offset, size=member.size)
