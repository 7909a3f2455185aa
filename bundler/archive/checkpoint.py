"""Checkpoint archives: one tar a checkpoint, written in one pass and checked part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path

from bundler.archive.checkpoint_stream import CheckpointStream, Expected, not_locked
from bundler.archive.checkpoint_stream import SourceFile as SourceFile
from bundler.archive.files import atomic_write
from bundler.archive.hashing import digest_or_damage, feed, in_threads
from bundler.archive.members import COPY_HINT, compare_members
from bundler.archive.pipeline import HashingWriter
from bundler.archive.reader import Reader
from bundler.archive.tar import walk, with_directories
from bundler.archive.trouble import blaming
from bundler.archive.volumes import Place, open_place
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, printable
from bundler.events import Advanced, Emit, Finished, Started, ignore
from bundler.faults import Fault
from bundler.manifest import Checkpoint, CheckpointFile
from bundler.parts import Span
from bundler.reference import file_name, relative_path


def write_checkpoint(
    out_path: Path | None,
    *,
    name: str,
    root: str,
    sources: Sequence[SourceFile],
    mtime: int,
    expected: Expected | None = None,
    emit: Emit = ignore,
) -> Checkpoint:
    """Write a checkpoint's archive and take every digest of it in one pass over the files.

    Args:
        out_path: The archive, which appears whole or not at all; None where these very bytes lie
            somewhere already, to take their digests only.
        name: The checkpoint's name.
        root: The archive's one top-level directory.
        sources: Its files, in any order.
        mtime: Seconds since 1970 that each member gets.
        expected: Size and digest of each file by path, as a lock has them; None to take what
            is there.
        emit: Told of the bytes that were read.

    Raises:
        MalformedError: There is no file, or paths break the rules for them.
        ContentError: A file changed while it was read, or is not what ``expected`` says.
        WorldError: A file cannot be read, or the archive cannot be written.
    """
    order = _order(name, root, sources)
    _require_locked(sources, expected)
    item = f"{name}.tar"
    emit(Started("write" if out_path else "hash", item, content_bytes(sources)))
    with (
        atomic_write(out_path) if out_path else nullcontext() as out,
        HashingWriter(out) as writer,
    ):
        stream = CheckpointStream(writer, root, mtime, expected)
        for path, source in order:
            if source is None:
                stream.add_directory(path)
                continue
            for count in stream.add(source):
                emit(Advanced(item, count))
        checkpoint = stream.finish(name)
    emit(Finished(item))
    return checkpoint


def content_bytes(sources: Sequence[SourceFile]) -> int:
    """Give the sum of the sizes of files.

    Raises:
        WorldError: One is not there, or cannot be looked at.
    """
    return sum(_size(source) for source in sources)


def check_structure(place: Place, checkpoint: Checkpoint) -> None:
    """Compare everything in an archive but the files' bytes with the manifest, quickly.

    Raises:
        ContentError: Its size, a header or padding is not what was signed; names the offset of
            the first difference where it can be told.
        MalformedError: It is what was signed, and breaks the format.
    """
    with open_place(place) as reader:
        if reader.size != checkpoint.size:
            raise ContentError(
                f"{checkpoint.archive}: expected {checkpoint.size} bytes, got {reader.size}",
                hint=COPY_HINT,
            )
        frame = _frame_digest(reader, checkpoint)
        files = {f"{checkpoint.root}/{file.path}": file for file in checkpoint.files}
        members = walk(reader.read_at, reader.size, name=checkpoint.archive)
        try:
            compare_members(members, files, archive=checkpoint.archive)
        except MalformedError as error:
            if frame == checkpoint.frame_digest:
                raise
            raise ContentError(str(error), hint=COPY_HINT) from error
        if frame != checkpoint.frame_digest:
            raise ContentError(
                f"{checkpoint.archive}: expected headers and padding of "
                f"{checkpoint.frame_digest}, got {frame}",
                hint=COPY_HINT,
            )


def check_parts(
    place: Place,
    checkpoint: Checkpoint,
    *,
    emit: Emit = ignore,
    files: Collection[str] | None = None,
) -> list[Fault]:
    """Hash every part of an archive on all cores, also within one file.

    Args:
        place: The archive; parts in volumes that are missing or of a wrong size are left out, since
            the set says so itself.
        checkpoint: What was signed.
        emit: Told of the bytes that were hashed.
        files: Only the files with these paths; None for all.

    Returns:
        Every part that differs or is missing, in the order of the archive.

    Raises:
        WorldError: The disk fails.
    """
    chosen = [file for file in checkpoint.files if files is None or file.path in files]
    item, faults = checkpoint.archive, []
    emit(Started("verify", item, sum(file.size for file in chosen)))
    with open_place(place, partly=True) as reader:

        def check(job: tuple[CheckpointFile, Span]) -> tuple[int, Fault | None]:
            return job[1].length, _check_part(reader, checkpoint.archive, *job)

        jobs = ((file, span) for file in chosen for span in file.spans())
        for count, fault in in_threads(check, jobs):
            emit(Advanced(item, count))
            if fault is not None:
                faults.append(fault)
    emit(Finished(item, wrong=bool(faults)))
    return faults


def _order(
    name: str, root: str, sources: Sequence[SourceFile]
) -> list[tuple[str, SourceFile | None]]:
    """Give path in the archive, and the file or None for a directory, in the archive's order."""
    files = {f"{root}/{source.path}": source for source in sources}
    try:
        file_name(name)
        file_name(root)
        for source in sources:
            relative_path(source.path)
        entries = with_directories(f"{root}/{source.path}" for source in sources)
    except ValueError as error:
        raise MalformedError(f"checkpoint {printable(name)}: {printable(str(error))}") from error
    if not entries:
        raise MalformedError(f"checkpoint {printable(name)}: expected a file, got none")
    return [(path, files.get(path)) for path, _ in entries]


def _require_locked(sources: Sequence[SourceFile], expected: Expected | None) -> None:
    if expected is None:
        return
    found = {source.path for source in sources}
    for path in sorted(expected.keys() ^ found):
        wanted = "a file" if path in expected else "no such file"
        raise not_locked(path, wanted, "none" if path in expected else "one")


def _size(source: SourceFile) -> int:
    if source.size is not None:
        return source.size
    with blaming(source.real):
        return source.real.stat().st_size


def _frame_digest(reader: Reader, checkpoint: Checkpoint) -> Digest:
    frame = hashlib.sha256()
    end = 0
    for file in sorted(checkpoint.files, key=lambda file: file.offset):
        feed(frame, reader, end, file.offset - end)
        end = file.offset + file.size
    feed(frame, reader, end, checkpoint.size - end)
    return Digest(frame.hexdigest())


def _check_part(reader: Reader, archive: str, file: CheckpointFile, span: Span) -> Fault | None:
    offset = file.offset + span.offset
    expected = file.parts[span.number - 1]
    carriers = reader.carriers(offset, span.length)
    if reader.has(offset, span.length):
        got = digest_or_damage(reader, offset, span.length)
    elif offset + span.length <= reader.size:
        return None
    else:
        got = f"an archive that ends at {reader.size}"
    if got == str(expected):
        return None
    return Fault(
        archive=archive,
        path=file.path,
        part=span.number,
        offset=offset,
        expected=str(expected),
        got=got,
        volume=carriers,
    )
