"""How each checkpoint's archive gets into a release: written, or one that is there taken over.

One that is there is cloned where the file system can. Else it is linked, if nobody may write to it,
or if a build of ours left it there: no command of ours writes into an archive. Else it is copied,
and hashed on the way, unless the copy that an earlier build made of it can be linked; the original
is only read in any case.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.archive.checkpoint import write_checkpoint
from bundler.archive.checkpoint_stream import not_locked
from bundler.archive.sharing import share
from bundler.archive.trouble import blaming
from bundler.build.cache import BuildCache, Made, Record, State
from bundler.build.checkpoint import CheckpointSource
from bundler.errors import ContentError, WorldError
from bundler.events import Emit, Finished, Noted, Started
from bundler.lockfile import LockedCheckpoint
from bundler.manifest import Checkpoint

_ANYBODY = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedArchive:
    """An archive that is to be in a release.

    Attributes:
        source: What goes into it.
        path: Where it goes.
        mtime: Seconds since 1970 that each member has.
        state: What the sources were before any of it was read.
        shared: Whether it is there already, as a clone or a link.
        known: What the cache says of it, if that holds.
    """

    source: CheckpointSource
    path: Path
    mtime: int
    state: State
    shared: bool = False
    known: Checkpoint | None = None

    @property
    def bytes_to_write(self) -> int:
        """About how much disk it will take, beyond what it takes already."""
        return 0 if self.shared else self.source.archive_bytes


def prepare_archive(
    source: CheckpointSource, directory: Path, mtime: int, cache: BuildCache | None, emit: Emit
) -> PreparedArchive:
    """Take an archive over where that costs nothing; read no file yet.

    Args:
        source: What goes into it.
        directory: Where it goes.
        mtime: Seconds since 1970 that each member gets.
        cache: What earlier builds found out; None to find it out anew.
        emit: Told where an archive comes from.

    Raises:
        WorldError: A source is not there, or the disk refuses.
    """
    own = PreparedArchive(
        source=source,
        path=directory / f"{source.spec.name}.tar",
        mtime=source.mtime(mtime),
        state=State.of(source.files),
    )
    record = cache.find(own.state) if cache else None
    made = record.made if record and record.made and _fits(record.made, own) else None
    if source.archive is not None:
        return _take_over(own, source.archive.path, made, emit)
    return _made_before(own, made, emit) if made else own


def make_archive(
    prepared: PreparedArchive, locked: LockedCheckpoint | None, emit: Emit
) -> Checkpoint:
    """Bring an archive, and every digest of it.

    Raises:
        ContentError: A file changed while it was read, or is not what the lock says.
        WorldError: A file cannot be read, or the archive cannot be written.
    """
    known, name = prepared.known, prepared.source.spec.name
    if known is not None and (locked is None or _is_locked(known, locked)):
        emit(Started("take over", known.archive))
        emit(Finished(known.archive, skipped=True))
        return known
    try:
        return _write(prepared, locked, emit)
    except ContentError as error:
        raise ContentError(f"checkpoint {name}: {error}", hint=error.hint) from error


def remember_archive(
    prepared: PreparedArchive, checkpoint: Checkpoint, directory: Path, cache: BuildCache
) -> None:
    """Keep what was found out, once the release has its name, which is ``directory``."""
    before = prepared.state
    # Linking an archive changes the time of status change of it, and nothing else.
    linked = prepared.shared and prepared.source.archive is not None
    with suppress(WorldError):  # what is gone already needs no record
        now = State.of(prepared.source.files)
        same = now.content == before.content if linked else now.key == before.key
        if same and before.settled:
            made = Made.at(directory / checkpoint.archive, prepared.mtime, checkpoint)
            cache.keep(now, Record.of(made))


def _take_over(
    own: PreparedArchive, original: Path, made: Made | None, emit: Emit
) -> PreparedArchive:
    with blaming(original):
        link = not original.stat().st_mode & _ANYBODY
    how = share(original, own.path, link=link)
    if how is None:
        before = _made_before(own, made, emit) if made else own
        if before.known is not None:
            return before
        emit(Noted(f"{own.path.name}: copied from {original}; what nobody may write to is linked"))
        return own
    emit(Noted(f"{own.path.name}: {how} to {original}"))
    still = State.of(own.source.files).content == own.state.content
    return replace(own, shared=True, known=made.checkpoint if made and still else None)


def _made_before(own: PreparedArchive, made: Made, emit: Emit) -> PreparedArchive:
    how = share(made.path, own.path, link=True) if made.still_there() else None
    if how is None:
        return own
    if not made.still_there(but_linked=True):
        own.path.unlink()
        return own
    emit(Noted(f"{own.path.name}: {how} to {made.path}, made of the same files"))
    return replace(own, shared=True, known=made.checkpoint)


def _fits(made: Made, own: PreparedArchive) -> bool:
    spec, checkpoint = own.source.spec, made.checkpoint
    expected = (spec.name, spec.root, own.mtime)
    return (checkpoint.name, checkpoint.root, made.mtime) == expected


def _is_locked(known: Checkpoint, locked: LockedCheckpoint) -> bool:
    found = {file.path: (file.size, file.digest) for file in known.files}
    return found == locked.expected and locked.archive in {None, known.digest}


def _write(prepared: PreparedArchive, locked: LockedCheckpoint | None, emit: Emit) -> Checkpoint:
    spec, files = prepared.source.spec, prepared.source.files
    taken = prepared.shared and prepared.source.archive is not None
    if taken:
        files = tuple(replace(file, real=prepared.path) for file in files)
    elif prepared.shared:
        prepared.path.unlink()  # an archive of these files, which are not the locked ones
    made = write_checkpoint(
        None if taken else prepared.path,
        name=spec.name,
        root=spec.root,
        sources=files,
        mtime=prepared.mtime,
        expected=locked.expected if locked else None,
        emit=emit,
    )
    if locked is not None and locked.archive not in {None, made.digest}:
        raise not_locked(made.archive, str(locked.archive), str(made.digest))
    return made
