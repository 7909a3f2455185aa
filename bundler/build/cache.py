"""What earlier builds and locks found out about checkpoints, so that it is not hashed again.

A record is named by the state of a checkpoint's sources: of each file its place in the checkpoint,
device, inode, size, time of change and time of status change. If all are as they were, and nobody
has one of them open for writing, the bytes are taken to be as they were: that is what the cache
trusts. Nothing that judges a release ever looks here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.checkpoint import SourceFile
from bundler.archive.files import open_source
from bundler.archive.steady import has_writer, settle
from bundler.archive.trouble import blaming
from bundler.build.records import MAX_RECORD_BYTES, Records
from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import MalformedError
from bundler.events import Emit, ignore
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.lockfile import LockedFile, from_locked_file, to_locked_file
from bundler.manifest import Checkpoint
from bundler.manifest_codec import from_checkpoint, to_checkpoint

CACHE_FORMAT = 1
# A file that is written twice within one tick of its file system's clock shows one time. FAT's
# clock is the slowest.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the sources of a checkpoint were at one time.

    Attributes:
        content: A line for each file: place in the checkpoint, and what a write to it changes.
        changed: The time of status change of each, in nanoseconds.
        settled: Whether any write from then on shows in these: nobody is known to have one of them
            open for writing, or mapped so, and the last change is some time ago.
    """

    content: tuple[str, ...]
    changed: tuple[int, ...]
    settled: bool

    @classmethod
    def of(cls, sources: Sequence[SourceFile]) -> State:
        """Look at files without reading them.

        Raises:
            WorldError: One is not there, or cannot be opened.
        """
        now = time.time_ns()
        looks = {real: _look(real) for real in dict.fromkeys(source.real for source in sources)}
        statuses = [looks[source.real][0] for source in sources]
        pairs = list(zip(sources, statuses, strict=True))
        return cls(
            content=tuple(f"{_identity(s)} {f.offset} {f.size} {f.path}" for f, s in pairs),
            changed=tuple(status.st_ctime_ns for status in statuses),
            settled=all(
                now - status.st_mtime_ns > _SETTLED_NS and not written
                for status, written in looks.values()
            ),
        )

    @property
    def key(self) -> str:
        """Name this state: hex."""
        return Digest.of("\n".join([*self.content, *map(str, self.changed)]).encode()).hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An archive of these sources.

    Attributes:
        path: Where it was left.
        proof: What it was then.
        mtime: Seconds since 1970 that each member has.
        checkpoint: What a manifest says of it.
    """

    path: Path
    proof: str
    mtime: int
    checkpoint: Checkpoint

    @classmethod
    def at(cls, path: Path, mtime: int, checkpoint: Checkpoint) -> Made:
        """Tell of an archive as it lies there now.

        Raises:
            WorldError: It is not there.
        """
        with blaming(path):
            status = path.lstat()
        return cls(path=path, proof=_proof(status), mtime=mtime, checkpoint=checkpoint)

    def still_there(self, *, but_linked: bool = False) -> bool:
        """Say whether it lies there as it was left, or as it was but for links to it."""
        try:
            now = _proof(self.path.lstat())
        except OSError:
            return False
        if but_linked:
            return now.rpartition(":")[0] == self.proof.rpartition(":")[0]
        return now == self.proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of sources in one state: each file's digest, and an archive if one was made."""

    files: tuple[LockedFile, ...]
    made: Made | None = None

    @classmethod
    def of(cls, made: Made) -> Record:
        """Tell what is known where an archive was made."""
        return cls(files=locked_files(made.checkpoint), made=made)


def _look(real: Path) -> tuple[os.stat_result, bool]:
    with open_source(real) as file:
        return settle(file.fileno(), real), bool(has_writer(file.fileno()))


def _proof(status: os.stat_result) -> str:
    """Write down what changes whenever a file's content does.

    The time of status change counts too: no tool sets it back, as many do with the other one.
    """
    return f"{_identity(status)}:{status.st_ctime_ns}"


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


class BuildCache:
    """Records on disk. No trouble with them ends a build: it is noted, and the work done again.

    Attributes:
        directory: Where those of checkpoints lie: ``checkpoints`` below the one that was given.
        inventories: What images hold; beside them.

    Args:
        directory: Made when the first record is kept.
        emit: Told of trouble.
    """

    def __init__(self, directory: Path, *, emit: Emit = ignore) -> None:
        self.directory = directory / "checkpoints"
        self.inventories = Records(directory / "inventories", emit)
        self._checkpoints = Records(self.directory, emit)

    def find(self, state: State) -> Record | None:
        """Give what is known of sources that are in this state; of restless ones nothing is."""
        return self._checkpoints.find(state.key, _decode) if state.settled else None

    def keep(self, state: State, record: Record) -> None:
        """Write a record down; nothing is kept of sources that are restless."""
        if state.settled:
            self._checkpoints.keep(state.key, _encode(record))


def _encode(record: Record) -> bytes:
    made = record.made
    return write_json(
        {
            "formatVersion": CACHE_FORMAT,
            "files": [from_locked_file(file) for file in record.files],
            "made": None
            if made is None
            else {
                "path": str(made.path),
                "proof": made.proof,
                "mtime": made.mtime,
                "checkpoint": from_checkpoint(made.checkpoint),
            },
        }
    )


def _decode(content: bytes, name: str) -> Record:
    table = read_json(content, name=name, limit=MAX_RECORD_BYTES).table()
    if table.integer("formatVersion", 1, MAX_INTEGER) != CACHE_FORMAT:
        table.refuse("formatVersion", f"this version reads {CACHE_FORMAT} only")
    record = Record(
        files=tuple(map(to_locked_file, table.tables("files"))),
        made=_to_made(table.table("made")) if "made" in table else None,
    )
    table.close()
    made = record.made
    if made is not None and record.files != locked_files(made.checkpoint):
        raise MalformedError(f"{name}: files and archive do not agree")
    return record


def _to_made(table: Table) -> Made:
    made = Made(
        path=Path(table.text("path")),
        proof=table.text("proof"),
        mtime=table.integer("mtime", 0, MAX_INTEGER),
        checkpoint=to_checkpoint(table.table("checkpoint")),
    )
    table.close()
    return made


def locked_files(checkpoint: Checkpoint) -> tuple[LockedFile, ...]:
    """Give what a lock says of a checkpoint's files."""
    return tuple(
        LockedFile(path=file.path, size=file.size, digest=file.digest) for file in checkpoint.files
    )
