"""Sending checkpoints: from slices of their archives to the bucket, no byte on disk between."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from bundler.archive.checkpoint import check_parts
from bundler.archive.reader import Reader, ReaderSlice
from bundler.archive.volumes import Place, locate, open_place
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.events import Advanced, Emit, Finished, Started, ignore
from bundler.manifest import Checkpoint, CheckpointFile
from bundler.parts import Span, s3_checksum
from bundler.publish.objects import first_wrong_part
from bundler.publish.plan import Kind, Plan
from bundler.publish.together import StoppedError
from bundler.reference import S3Prefix
from bundler.stores.base import ObjectStore, Staged

_READ_BYTES = 1 << 20
_COPY_HINT = "no object was completed; copy the archive again from its source"
_REFUSED_HINT = f"the S3 server refused these bytes; {_COPY_HINT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Sends what a plan says is to do of some checkpoints.

    Attributes:
        store: Where it goes.
        directory: Where the archives lie.
        elsewhere: Where else they, or volumes of them, may lie.
        checks_content: Whether the store refuses bytes that differ from their checksum. Where it
            does not, each part is hashed before it is sent and every object read back.
        stop: Set when other work failed: the next part is not begun.
        emit: Told of what is sent, from any thread.
    """

    store: ObjectStore
    directory: Path
    checks_content: bool
    stop: threading.Event
    emit: Emit
    elsewhere: Sequence[Path] = ()

    def send(self, plan: Plan, work: Sequence[tuple[Checkpoint, S3Prefix]]) -> None:
        """Send the pending files of some checkpoints, each with its place.

        Nothing appears before the bytes of all of them are in the store: one wrong byte, and no
        object is completed. Files of one part go last, in one request each; they are compared
        with their signed digests here before anything is sent.

        Raises:
            ContentError: Bytes differ from what was signed; no object has them.
            ConflictError: Somebody else put another object there meanwhile.
        """
        files = [
            _File(checkpoint, file, place.key(file.path))
            for checkpoint, place in work
            for file in checkpoint.files
        ]
        pending = [item for item in files if plan.is_pending(Kind.CHECKPOINT_FILE, item.key)]
        with ExitStack() as opened:
            archives: dict[str, tuple[Place, Reader]] = {}
            for item in pending:
                if item.checkpoint.name not in archives:
                    place = self._place(item.checkpoint)
                    archives[item.checkpoint.name] = place, opened.enter_context(open_place(place))
            _check_small(pending, {name: place for name, (place, _) in archives.items()})
            self._send_all(pending, archives)
        if not self.checks_content:
            self._read_back(files, ours={item.key for item in pending})

    @property
    def _hint(self) -> str:
        return _REFUSED_HINT if self.checks_content else _COPY_HINT

    def _place(self, checkpoint: Checkpoint) -> Place:
        where = [self.directory, *self.elsewhere]
        found = locate(checkpoint.archive, checkpoint.size, checkpoint.digest, where)
        return self.directory / checkpoint.archive if found is None else found

    def _send_all(
        self, files: Sequence[_File], archives: Mapping[str, tuple[Place, Reader]]
    ) -> None:
        with ExitStack() as unfinished:
            staged = []
            for item in files:
                place, reader = archives[item.checkpoint.name]
                staged.append((item, place, self._stage(item, place, reader)))
                unfinished.callback(staged[-1][2].discard)
            for item, place, stage in staged:
                self._complete(item, place, stage)
            unfinished.pop_all()

    def _stage(self, item: _File, place: Place, reader: Reader) -> Staged:
        self.emit(Started("upload", item.name, item.file.size))
        with _explained(item, place, self._hint):
            return self.store.stage(
                item.key,
                size=item.file.size,
                parts=item.file.parts,
                open_part=lambda span: self._open_part(reader, item.file, span),
                advance=lambda step: self.emit(Advanced(item.name, step)),
            )

    def _complete(self, item: _File, place: Place, stage: Staged) -> None:
        with _explained(item, place, self._hint):
            stage.complete()
        self._require_stored(item)
        self.emit(Finished(item.name))

    def _open_part(self, reader: Reader, file: CheckpointFile, span: Span) -> BinaryIO:
        if self.stop.is_set():
            raise StoppedError(f"{file.path}: not sent, since other work failed")
        slice_ = ReaderSlice(reader, file.offset + span.offset, span.length)
        if not self.checks_content:
            expected = file.parts[span.number - 1]
            whole = hashlib.sha256()
            while chunk := slice_.read(_READ_BYTES):
                whole.update(chunk)
            if Digest(whole.hexdigest()) != expected:
                slice_.close()
                raise ContentError(f"part {span.number}: expected {expected}, got other bytes")
            slice_.seek(0)
        return cast("BinaryIO", slice_)

    def _require_stored(self, item: _File) -> None:
        file, key = item.file, item.key
        found = self.store.head(key)
        expected = s3_checksum(file.parts)
        if found is None or found.size != file.size:
            got = "nothing" if found is None else f"{found.size} bytes"
            raise ContentError(f"{key}: sent {file.size} bytes, but the store has {got}")
        if found.checksum not in {expected, file.digest.base64, None}:
            self.store.delete(key)
            raise ContentError(
                f"{key}: expected SHA-256 checksum {expected} in the store, got {found.checksum}",
                hint="the object was deleted again; run again",
            )
        if found.checksum is None and self.checks_content:
            self._read_back([item], ours={item.key})

    def _read_back(self, files: Sequence[_File], *, ours: Set[str]) -> None:
        """Compare whole objects with what was signed; what we sent and is wrong is deleted."""
        wrong = []
        for item in files:
            difference = first_wrong_part(self.store, item.key, item.file)
            if difference and item.key in ours:
                self.store.delete(item.key)
                difference += " (deleted again)"
            if difference:
                wrong.append(f"{item.key}: holds other bytes than were sent: {difference}")
        if wrong:
            raise ContentError("; ".join(wrong), hint="delete what is left of these, and run again")


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a checkpoint, and the key it gets."""

    checkpoint: Checkpoint
    file: CheckpointFile
    key: str

    @property
    def name(self) -> str:
        return f"{self.checkpoint.name}/{self.file.path}"


def _check_small(files: Iterable[_File], archives: Mapping[str, Place]) -> None:
    """Read and compare the files of one part."""
    paths: dict[str, tuple[Checkpoint, set[str]]] = {}
    for item in files:
        if len(item.file.parts) == 1:
            name = item.checkpoint.name
            paths.setdefault(name, (item.checkpoint, set()))[1].add(item.file.path)
    faults = [
        fault
        for name, (checkpoint, names) in paths.items()
        for fault in check_parts(archives[name], checkpoint, emit=ignore, files=names)
    ]
    if faults:
        raise ContentError("; ".join(map(str, faults)), hint=_COPY_HINT)


@contextmanager
def _explained(item: _File, place: Place, hint: str) -> Iterator[None]:
    """Where the store refuses content, say whether the archive is wrong, and where."""
    try:
        yield
    except ContentError as error:
        faults = check_parts(place, item.checkpoint, emit=ignore, files={item.file.path})
        if faults:
            raise ContentError("; ".join(map(str, faults)), hint=hint) from error
        raise ContentError(
            f"{error}; {item.checkpoint.archive} itself is as signed",
            hint="the bytes changed on their way to the store; run again",
        ) from error
