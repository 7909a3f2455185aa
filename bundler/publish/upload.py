"""Sending checkpoints: from slices of their archives to the bucket, no byte on disk between."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from bundler.archive.checkpoint import check_parts
from bundler.archive.files import FileSlice
from bundler.digest import Digest
from bundler.errors import ContentError, WorldError
from bundler.events import Advanced, Emit, Finished, Started, ignore
from bundler.manifest import Checkpoint, CheckpointFile
from bundler.parts import Span, s3_checksum
from bundler.publish.objects import first_wrong_part
from bundler.publish.plan import Kind, Plan
from bundler.reference import S3Prefix
from bundler.stores.base import ObjectStore

_READ_BYTES = 1 << 20


class StoppedError(WorldError):
    """Other work failed meanwhile, so this was left for the next run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Sends what a plan says is to do of some checkpoints.

    Attributes:
        store: Where it goes.
        directory: Where the archives lie.
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

    def send(self, plan: Plan, checkpoint: Checkpoint, place: S3Prefix) -> None:
        """Send the pending files of one checkpoint.

        Raises:
            ContentError: Bytes differ from what was signed; no object is completed with them.
            ConflictError: Somebody else put another object there meanwhile.
        """
        for file in checkpoint.files:
            key = place.key(file.path)
            pending = plan.is_pending(Kind.CHECKPOINT_FILE, key)
            if pending:
                self._send_file(checkpoint, file, key)
            if not self.checks_content:
                self._read_back(file, key, ours=pending)

    def _send_file(self, checkpoint: Checkpoint, file: CheckpointFile, key: str) -> None:
        item = f"{checkpoint.name}/{file.path}"
        archive = self.directory / checkpoint.archive
        self.emit(Started("upload", item, file.size))
        try:
            self.store.upload(
                key,
                size=file.size,
                parts=file.parts,
                open_part=lambda span: self._open_part(archive, file, span),
                advance=lambda step: self.emit(Advanced(item, step)),
            )
        except ContentError as error:
            raise _located(error, archive, checkpoint, file) from error
        self._require_stored(file, key)
        self.emit(Finished(item))

    def _open_part(self, archive: Path, file: CheckpointFile, span: Span) -> BinaryIO:
        if self.stop.is_set():
            raise StoppedError(f"{file.path}: not sent, since other work failed")
        slice_ = FileSlice(archive, file.offset + span.offset, span.length)
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

    def _require_stored(self, file: CheckpointFile, key: str) -> None:
        found = self.store.head(key)
        expected = s3_checksum(file.parts)
        if found is None or found.size != file.size:
            got = "nothing" if found is None else f"{found.size} bytes"
            raise ContentError(f"{key}: sent {file.size} bytes, but the store has {got}")
        if found.checksum not in {expected, file.digest.base64, None}:
            raise ContentError(
                f"{key}: expected SHA-256 checksum {expected} in the store, got {found.checksum}"
            )
        if found.checksum is None and self.checks_content:
            self._read_back(file, key, ours=True)

    def _read_back(self, file: CheckpointFile, key: str, *, ours: bool) -> None:
        wrong = first_wrong_part(self.store, key, file)
        if not wrong:
            return
        if ours:
            self.store.delete(key)
        raise ContentError(
            f"{key}: the store holds other bytes than were sent: {wrong}",
            hint="the object was deleted again" if ours else "delete the object and run again",
        )


def _located(
    error: ContentError, archive: Path, checkpoint: Checkpoint, file: CheckpointFile
) -> ContentError:
    """Say whether it is the archive that is wrong, and where; reads the one file again."""
    faults = check_parts(archive, checkpoint, emit=ignore, files={file.path})
    if faults:
        return ContentError(
            "; ".join(map(str, faults)),
            hint="no object was completed with these bytes; copy the archive again",
        )
    return ContentError(
        f"{error}; {archive.name} itself is as signed",
        hint="the bytes changed on their way to the store; run again",
    )
