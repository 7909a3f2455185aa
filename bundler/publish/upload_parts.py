"""One part of a checkpoint on its way: from its place in the archive to the store."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bundler.archive.checkpoint import check_parts
from bundler.archive.reader import Reader
from bundler.archive.volumes import Place
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.events import Advanced, Emit, Started, ignore
from bundler.manifest import Checkpoint, CheckpointFile
from bundler.parts import Span
from bundler.publish.rate_limit import RateLimit
from bundler.publish.together import StoppedError
from bundler.publish.upload_climb import Pace
from bundler.remote_object import RemoteObject
from bundler.stores.base import Incoming

COPY_HINT = "no object was completed; copy the archive again from its source"
_REFUSED_HINT = f"the S3 server refused these bytes; {COPY_HINT}"


class _FoundHereError(ContentError):
    """Bytes were found to be wrong while they were read, before the store could tell."""


@dataclass(frozen=True, slots=True)
class FileUpload:
    """One file of a checkpoint, and the key it gets."""

    checkpoint: Checkpoint
    file: CheckpointFile
    key: str

    @property
    def name(self) -> str:
        """What to call it in events."""
        return f"{self.checkpoint.name}/{self.file.path}"


@dataclass(slots=True)
class Transfer:
    """A file that is being sent.

    Attributes:
        item: Which.
        place, reader: Its archive: where that lies, and open.
        incoming: The object that it becomes.
        told: Whether it was told that it began.
    """

    item: FileUpload
    place: Place
    reader: Reader
    incoming: Incoming
    told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSender:
    """Sends parts, in any thread.

    Attributes:
        hashes: Hash each part while it is sent, and send nothing whole that is not as signed.
        limit: Bytes per second that all threads together keep to; None for no limit.
        pace: Told of what goes.
        stop: Set when other work failed: nothing more is read.
        emit: Told of progress.
        copied: Called after each part that the store copied by itself.
    """

    hashes: bool
    limit: RateLimit | None
    pace: Pace
    stop: threading.Event
    emit: Emit
    copied: Callable[[], None] = lambda: None

    def send(self, transfer: Transfer, span: Span) -> None:
        """Send one part.

        Raises:
            ContentError: It is not what was signed; says whether the archive is to blame.
            StoppedError: Other work failed.
        """
        self._tell_begin(transfer)
        with self.explained(transfer):
            if self._copy(transfer, span):
                return
            if transfer.incoming.holds(span, lambda: self._pieces(transfer, span)):
                self.emit(Advanced(transfer.item.name, span.length))
                return
            transfer.incoming.send(
                span,
                lambda: self._paced(transfer, span),
                lambda step: self._advance(transfer.item, step),
            )

    def _copy(self, transfer: Transfer, span: Span) -> bool:
        """Have the store take the part from the archive, if that lies in a bucket too."""
        source = transfer.place
        if self.hashes or not isinstance(source, RemoteObject):
            return False
        copied = transfer.incoming.copy(
            span,
            source,
            transfer.item.file.offset + span.offset,
            lambda step: self._advance(transfer.item, step),
        )
        if copied:
            self.copied()
        return copied

    def _tell_begin(self, transfer: Transfer) -> None:
        if not transfer.told:  # told twice at worst, by two threads at once
            transfer.told = True
            total = sum(span.length for span in transfer.incoming.missing)
            self.emit(Started("upload", transfer.item.name, total))

    def _advance(self, item: FileUpload, step: int) -> None:
        self.pace.add(step)
        self.emit(Advanced(item.name, step))

    def _pieces(self, transfer: Transfer, span: Span) -> Iterator[memoryview]:
        file = transfer.item.file
        pieces = transfer.reader.pieces(file.offset + span.offset, span.length)
        if self.hashes:
            pieces = as_signed(pieces, span, file.parts[span.number - 1])
        try:
            for piece in pieces:
                if self.stop.is_set():
                    raise StoppedError(f"{file.path}: not sent, since other work failed")
                yield piece
        except ContentError as error:
            raise _FoundHereError(str(error), hint=error.hint) from error

    def _paced(self, transfer: Transfer, span: Span) -> Iterator[memoryview]:
        for piece in self._pieces(transfer, span):
            yield from self.limit.paced(piece) if self.limit else (piece,)

    @contextmanager
    def explained(self, transfer: Transfer) -> Iterator[None]:
        """Where content is refused, say whether the archive is wrong, and where."""
        item = transfer.item
        try:
            yield
        except ContentError as error:
            hint = COPY_HINT if isinstance(error, _FoundHereError) else _REFUSED_HINT
            faults = check_parts(
                transfer.place, item.checkpoint, emit=ignore, files={item.file.path}
            )
            if faults:
                raise ContentError("; ".join(map(str, faults)), hint=hint) from error
            raise ContentError(
                f"{error}; {item.checkpoint.archive} itself is as signed",
                hint="the bytes changed on their way to the store; run again",
            ) from error


def as_signed(pieces: Iterator[memoryview], span: Span, expected: Digest) -> Iterator[memoryview]:
    """Pass the pieces of a part on, but the last one only where all of them are as signed.

    Raises:
        ContentError: They are not.
    """
    whole, left = hashlib.sha256(), span.length
    for piece in pieces:
        whole.update(piece)
        left -= len(piece)
        got = None if left else Digest(whole.hexdigest())
        if got not in {None, expected}:
            raise ContentError(f"part {span.number}: expected {expected}, got {got}")
        yield piece
