"""Where in a checkpoint archive the bytes between its files differ: every place, not the first.

One digest is signed of all these bytes together, and they follow from the manifest but for the one
time that every header has. So a time that some header shows is tried: if the bytes that it leads
to have the signed digest, they are what was signed, wherever else the archive is damaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from bundler.archive.reader import Reader
from bundler.archive.tar import BLOCK, END, header, padding, with_directories
from bundler.archive.ustar import read_block
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, MediumError
from bundler.faults import Fault
from bundler.manifest import Checkpoint, CheckpointFile

# As many headers are asked for the time as damage may have hit, and one more.
_MOST_TIMES = 64


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was signed of the bytes before a file, or of those behind the last one (None)."""

    file: CheckpointFile | None
    offset: int
    content: bytes


def frame_faults(reader: Reader, checkpoint: Checkpoint) -> list[Fault]:
    """Compare everything between the files that can be read.

    Returns:
        A fault for each stretch that differs, in the order of the archive; none where it cannot be
        told what was signed.

    Raises:
        WorldError: The disk fails in another way than by a bad spot.
    """
    mtime = _signed_time(reader, checkpoint)
    if mtime is None:
        return []
    faults = (_compare(reader, checkpoint, one) for one in _stretches(checkpoint, mtime))
    return [fault for fault in faults if fault is not None]


def _stretches(checkpoint: Checkpoint, mtime: int) -> Iterator[Stretch]:
    """Give what an archive of these files has around them, as this format writes it."""
    files = {f"{checkpoint.root}/{file.path}": file for file in checkpoint.files}
    begin, before = 0, b""
    for path, directory in with_directories(files):
        if directory:
            before += header(path, mtime=mtime, directory=True)
            continue
        file = files[path]
        before += header(path, size=file.size, mtime=mtime)
        yield Stretch(file, begin, before)
        begin, before = begin + len(before) + file.size, padding(file.size)
    yield Stretch(None, begin, before + END)


def _signed_time(reader: Reader, checkpoint: Checkpoint) -> int | None:
    """Find the time in the headers; None where no header that can be read has the right one."""
    tried: set[int] = set()
    for file in checkpoint.files:
        time = _time_before(reader, file)
        if time is None or time in tried:
            continue
        tried.add(time)
        if _is_signed(checkpoint, time):
            return time
        if len(tried) == _MOST_TIMES:
            break
    return None


def _time_before(reader: Reader, file: CheckpointFile) -> int | None:
    offset = file.offset - BLOCK
    try:
        return read_block(reader.read_at(offset, BLOCK)).mtime if offset >= 0 else None
    except (ContentError, MediumError, ValueError):
        return None


def _is_signed(checkpoint: Checkpoint, mtime: int) -> bool:
    whole = hashlib.sha256()
    try:
        for stretch in _stretches(checkpoint, mtime):
            if stretch.file is not None:
                end = stretch.offset + len(stretch.content)
                if end != stretch.file.offset:
                    return False
            whole.update(stretch.content)
    except ValueError:
        return False
    return whole.hexdigest() == checkpoint.frame_digest.hex


def _compare(reader: Reader, checkpoint: Checkpoint, stretch: Stretch) -> Fault | None:
    if not reader.has(stretch.offset, len(stretch.content)):
        return None  # that an archive is cut short, or a volume missing, is told as such
    try:
        found = reader.read_at(stretch.offset, len(stretch.content))
    except (ContentError, MalformedError, MediumError) as error:
        return _fault(reader, checkpoint, stretch, stretch.offset, f"damage ({error})")
    if found == stretch.content:
        return None
    pairs = enumerate(zip(stretch.content, found, strict=True))
    first = next(at for at, (wanted, got) in pairs if wanted != got)
    return _fault(reader, checkpoint, stretch, stretch.offset + first, str(Digest.of(found)))


def _fault(
    reader: Reader, checkpoint: Checkpoint, stretch: Stretch, offset: int, got: str
) -> Fault:
    what = "the archive's end" if stretch.file is None else "the header before it"
    return Fault(
        archive=checkpoint.archive,
        path=None if stretch.file is None else stretch.file.path,
        offset=offset,
        expected=f"{what} to be {Digest.of(stretch.content)}",
        got=got,
        volume=reader.carriers(stretch.offset, len(stretch.content)),
    )
