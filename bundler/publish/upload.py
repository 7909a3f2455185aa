"""Sending checkpoints: from slices of their archives to the bucket, no byte on disk between."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from bundler.archive.checkpoint import check_parts
from bundler.archive.reader import Reader
from bundler.archive.volumes import Place, open_place
from bundler.errors import ContentError, WorldError
from bundler.events import Emit, Finished, Noted, Planned, ignore
from bundler.manifest import Checkpoint
from bundler.publish.objects import first_wrong_part
from bundler.publish.plan import Kind, Plan
from bundler.publish.rate_limit import RateLimit
from bundler.publish.together import for_each
from bundler.publish.upload_climb import Pace
from bundler.publish.upload_parts import COPY_HINT, FileUpload, PartSender, Transfer
from bundler.reference import S3Prefix
from bundler.sizes import count_text
from bundler.stores.base import Incoming, ObjectStore
from bundler.stores.judgement import Sameness, judge

T = TypeVar("T")

# Requests that carry few bytes wait for their answers most of the time.
_SMALL_AT_ONCE = 16
# Whole objects come one stream each, and are hashed as they come.
_READS_AT_ONCE = 4
_DELETE_HINT = "delete what is left of these, and run again"
_RUN_AGAIN = "run again"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """How checkpoints are sent.

    Attributes:
        parallel: Parts at once, over all files; None to find the best number while they go.
        limit: Bytes per second; None for as many as go.
        rehash: Hash each part while it is sent, although the store does.
    """

    parallel: int | None = None
    limit: RateLimit | None = None
    rehash: bool = False


HOW_TO_UPLOAD = UploadOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Sends what a plan says is to do of some checkpoints.

    Attributes:
        store: Where it goes.
        place: Says where the archive of a file name lies; raises where it is absent.
        checks_content: Whether the store refuses bytes that differ from their checksum. Where it
            does not, each part is hashed while it is sent and every object read back.
        stop: Set when other work failed: nothing more is sent.
        emit: Told of what is sent, from any thread.
        options: How it is sent.
    """

    store: ObjectStore
    place: Callable[[str], Place]
    checks_content: bool
    stop: threading.Event
    emit: Emit
    options: UploadOptions = HOW_TO_UPLOAD

    def send(self, plan: Plan, work: Sequence[tuple[Checkpoint, S3Prefix]]) -> None:
        """Send the pending files of some checkpoints, each with its place.

        No file of several parts appears before all such parts are in the store, and those of one
        part, which go in one request each, were compared with their signed digests here before
        anything was sent: one wrong byte, and no object is completed. What arrived of an object
        that is not completed stays for the next run.

        Raises:
            ContentError: Bytes differ from what was signed; no object has them.
            ConflictError: Somebody else put another object there meanwhile.
        """
        files = [
            FileUpload(checkpoint, file, place.key(file.path))
            for checkpoint, place in work
            for file in sorted(checkpoint.files, key=lambda file: file.offset)
        ]
        pending = [item for item in files if plan.is_pending(Kind.CHECKPOINT_FILE, item.key)]
        with ExitStack() as opened:
            archives: dict[str, tuple[Place, Reader]] = {}
            for item in pending:
                if item.checkpoint.name not in archives:
                    place = self.place(item.checkpoint.archive)
                    archives[item.checkpoint.name] = place, opened.enter_context(open_place(place))
            _check_small(pending, {name: place for name, (place, _) in archives.items()})
            with _resumable():
                self._send_all(pending, archives)
        if not self.checks_content:
            self._read_back(files, ours={item.key for item in pending})
        self._tell_proven(work, pending)

    def _send_all(
        self, files: Sequence[FileUpload], archives: Mapping[str, tuple[Place, Reader]]
    ) -> None:
        """Send parts of all files from one pool, in the order in which archives have them."""
        pace, news = Pace(), deque[str]()
        sender = PartSender(
            hashes=self.options.rehash or not self.checks_content,
            limit=self.options.limit,
            pace=pace,
            stop=self.stop,
            emit=self.emit,
            copied=lambda: self._tell_first(news),
        )
        transfers: dict[str, Transfer] = {}

        def begin(item: FileUpload) -> None:
            transfers[item.key] = Transfer(item, *archives[item.checkpoint.name], self._begin(item))

        def finish(item: FileUpload) -> None:
            self._finish(sender, transfers[item.key])

        large = [item for item in files if len(item.file.parts) > 1]
        self._each(begin, files, _SMALL_AT_ONCE)
        missing = [span for it in transfers.values() for span in it.incoming.missing]
        self.emit(Planned(sum(span.length for span in missing)))
        parts = [(it.key, span) for it in large for span in transfers[it.key].incoming.missing]
        news.append(f"S3 itself copies {count_text(len(parts), 'part')}: no byte comes here")
        self._each(lambda part: sender.send(transfers[part[0]], part[1]), parts, pace.lanes)
        self._each(finish, files, _SMALL_AT_ONCE)

    def _tell_first(self, news: deque[str]) -> None:
        with suppress(IndexError):
            self.emit(Noted(news.pop()))

    def _begin(self, item: FileUpload) -> Incoming:
        return self.store.begin(
            item.key,
            size=item.file.size,
            parts=item.file.parts,
            note=lambda text: self.emit(Noted(text)),
        )

    def _finish(self, sender: PartSender, transfer: Transfer) -> None:
        item = transfer.item
        if len(item.file.parts) == 1:
            for span in transfer.incoming.missing:
                sender.send(transfer, span)
        with sender.explained(transfer):
            transfer.incoming.complete()
        self._require_stored(item)
        self.emit(Finished(item.name))

    def _each(
        self, work: Callable[[T], object], items: Sequence[T], lanes: int | Callable[[int], int]
    ) -> None:
        for_each(work, items, threads=self.options.parallel or lanes, stop=self.stop)

    def _tell_proven(
        self, work: Sequence[tuple[Checkpoint, S3Prefix]], sent: Sequence[FileUpload]
    ) -> None:
        names = {item.checkpoint.name for item in sent}
        for checkpoint, place in work:
            if checkpoint.name in names:
                self.emit(
                    Noted(
                        f"{checkpoint.name}: every file is at {place} and compared with what was "
                        f"signed; {checkpoint.archive} is not needed here any more"
                    )
                )

    def _require_stored(self, item: FileUpload) -> None:
        file, key = item.file, item.key
        found = self.store.head(key)
        if found is None or found.size != file.size:
            got = "nothing" if found is None else f"{found.size} bytes"
            raise ContentError(f"{key}: sent {file.size} bytes, but the store has {got}")
        judged = judge(found, file.size, file.parts, file.digest)
        if judged.sameness is Sameness.OTHER:
            self.store.delete(key)
            raise ContentError(
                f"{key}: sent, but the object in the store {judged.detail}",
                hint="the object was deleted again; run again",
            )
        if judged.sameness is Sameness.UNKNOWN and self.checks_content:
            wrong = self._difference(item, ours=True)
            if wrong:
                raise ContentError(wrong, hint=_DELETE_HINT)

    def _read_back(self, files: Sequence[FileUpload], *, ours: Set[str]) -> None:
        """Compare whole objects with what was signed; what we sent and is wrong is deleted."""
        wrong: dict[str, str] = {}

        def compare(item: FileUpload) -> None:
            wrong[item.key] = self._difference(item, ours=item.key in ours)

        self._each(compare, files, _READS_AT_ONCE)
        told = "; ".join(wrong[item.key] for item in files if wrong[item.key])
        if told:
            raise ContentError(told, hint=_DELETE_HINT)

    def _difference(self, item: FileUpload, *, ours: bool) -> str:
        """Say what an object has other than was signed, and delete it if it was sent by us."""
        difference = first_wrong_part(self.store, item.key, item.file)
        if not difference:
            return ""
        if ours:
            self.store.delete(item.key)
            difference += " (deleted again)"
        return f"{item.key}: holds other bytes than were sent: {difference}"


@contextmanager
def _resumable() -> Iterator[None]:
    """Say, of what the world does to an upload, that what came of it so far is not lost."""
    try:
        yield
    except WorldError as error:
        hint = error.hint or _RUN_AGAIN
        if "arrive" not in hint:
            other = "" if hint == _RUN_AGAIN else f"{hint}; "
            error.hint = f"{other}{_RUN_AGAIN}: what has arrived counts"
        raise


def _check_small(files: Iterable[FileUpload], archives: Mapping[str, Place]) -> None:
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
        raise ContentError("; ".join(map(str, faults)), hint=COPY_HINT)
