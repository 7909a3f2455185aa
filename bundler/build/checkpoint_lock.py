"""What a lock says of a checkpoint: hashed on all cores, or known from before."""

from __future__ import annotations

from bundler.archive.checkpoint import SourceFile, write_checkpoint
from bundler.archive.files import RandomReader
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.steady import require_unchanged, settle
from bundler.build.cache import BuildCache, Made, Record, State
from bundler.build.checkpoint import CheckpointSource
from bundler.digest import Digest
from bundler.events import Advanced, Emit, Finished, Started
from bundler.lockfile import LockedCheckpoint, LockedFile


def lock_checkpoint(
    source: CheckpointSource, cache: BuildCache | None, emit: Emit
) -> LockedCheckpoint:
    """Pin every file of a checkpoint, and the archive if one is to be taken over.

    Args:
        source: What goes into it.
        cache: What earlier builds and locks found out; None to find it out anew.
        emit: Told of what is read.

    Raises:
        WorldError: A file cannot be read.
        ContentError: One changed while it was read.
    """
    state = State.of(source.files)
    record = cache.find(state) if cache else None
    if record is not None and (source.archive is None or record.made is not None):
        emit(Started("hash", source.spec.name))
        emit(Finished(source.spec.name, skipped=True))
    else:
        record = _hash(source, emit)
        if cache is not None and State.of(source.files) == state:
            cache.keep(state, record)
    taken = record.made.checkpoint.digest if source.archive and record.made else None
    return LockedCheckpoint(name=source.spec.name, files=record.files, archive=taken)


def _hash(source: CheckpointSource, emit: Emit) -> Record:
    spec, archive = source.spec, source.archive
    if archive is None:
        return Record(files=_hash_files(source, emit))
    checkpoint = write_checkpoint(
        None, name=spec.name, root=spec.root, sources=source.files, mtime=archive.mtime, emit=emit
    )
    return Record.of(Made.at(archive.path, archive.mtime, checkpoint))


def _hash_files(source: CheckpointSource, emit: Emit) -> tuple[LockedFile, ...]:
    name = source.spec.name
    emit(Started("hash", name, source.content_bytes))
    found = []
    for file, (size, digest) in zip(
        source.files, in_threads(_hash_file, source.files), strict=True
    ):
        found.append(LockedFile(path=file.path, size=size, digest=digest))
        emit(Advanced(name, size))
    emit(Finished(name))
    return tuple(found)


def _hash_file(file: SourceFile) -> tuple[int, Digest]:
    with RandomReader(file.real.resolve()) as reader:
        before = settle(reader.fileno(), file.real)
        digest = digest_of(reader, 0, before.st_size)
        require_unchanged(file.path, file.real, before, reader.fileno())
    return before.st_size, digest
