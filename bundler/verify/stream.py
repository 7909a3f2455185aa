"""An archive that comes through a pipe, against what was signed: in order, once, kept nowhere."""

from __future__ import annotations

import fcntl
import hashlib
import io
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.archive.trouble import blaming
from bundler.archive.units import Unit, units
from bundler.errors import MalformedError
from bundler.events import Advanced, Emit, Finished, Started, ignore
from bundler.faults import Fault
from bundler.manifest import Bundle, Checkpoint
from bundler.release import find_release, open_release
from bundler.trust import Trust
from bundler.verify.path import BUNDLE, CHECKPOINT, judge_expiry
from bundler.verify.report import Findings, Report
from bundler.verify.scope import archive_of, read_scope

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_READ_BYTES, _BUFFERS = 1 << 20, 4


def verify_stream(
    stream: io.FileIO,
    trust: Trust,
    *,
    now: str,
    release_dir: Path,
    only: str,
    allow_expired: bool = False,
    emit: Emit = ignore,
) -> Report:
    """Compare every byte of an archive that is read from a pipe with what was signed.

    Parts and frame, or slices, pin every byte; the structure is what was signed if they are.

    Args:
        stream: The archive, plain, from its first byte to its end.
        trust: Whom to trust.
        now: UTC seconds, to judge the release's expiry by.
        release_dir: Where SHA256SUMS, its signatures and MANIFEST.json lie.
        only: Which archive it is, by its name.
        allow_expired: Go on with an expired release, and say so in the report.
        emit: Told of progress.

    Raises:
        UntrustedError: No key was given, or none of them signed this release.
        StaleError: The release is expired.
        ContentError, MalformedError: The small files are not what was signed, or broken; ``only``
            names no archive.
        WorldError: The stream cannot be read.
    """
    release = open_release(find_release(release_dir, release_dir), trust)
    expired = judge_expiry(release.manifest, now, allow_expired=allow_expired)
    scope = read_scope(only, release.manifest)
    if scope.archive is None or scope.path is not None:
        raise MalformedError(f"--only {only}: a pipe carries one archive, whole")
    archive = archive_of(release.manifest, scope.archive)
    _widen(stream)
    with ThreadPoolExecutor(1) as hashing:
        run = _Run(stream, archive, emit, hashing)
        faults = run.faults()
    findings = Findings(faults=faults)
    findings.add_checked(scope.archive, run.position)
    return findings.report(
        "-",
        CHECKPOINT if isinstance(archive, Checkpoint) else BUNDLE,
        release.manifest.release.directory,
        signatures=release.signatures,
        expired=expired,
        news=release.trust.news,
    )


def _widen(stream: io.FileIO) -> None:
    """Let a pipe carry as much at once as is read from it; another stream stays as it is."""
    with suppress(OSError):
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _READ_BYTES)


def _nothing() -> None:
    """Do nothing."""


class _Run:
    """Reads in this thread, and hashes in another, which does what it is given in order."""

    def __init__(
        self,
        stream: io.FileIO,
        archive: Checkpoint | Bundle,
        emit: Emit,
        hashing: ThreadPoolExecutor,
    ) -> None:
        self.position = 0
        self._stream = stream
        self._archive = archive
        self._emit = emit
        self._hashing = hashing
        self._buffers = deque(memoryview(bytearray(_READ_BYTES)) for _ in range(_BUFFERS))
        self._work: deque[Future[None]] = deque(hashing.submit(_nothing) for _ in range(_BUFFERS))

    def faults(self) -> list[Fault]:
        archive = self._archive
        frame = hashlib.sha256()
        judged: list[tuple[Unit, Future[str]]] = []
        self._emit(Started("verify", archive.archive, archive.size))
        for unit in units(archive):
            whole = frame if unit.digest is None else hashlib.sha256()
            self._feed(whole, unit.length)
            if self.position < unit.end:
                size = self._size_fault(f"{self.position} bytes")
                return [*self._unit_faults(judged), size]
            if unit.digest is not None:
                judged.append((unit, self._hashing.submit(whole.hexdigest)))
        found = self._unit_faults(judged)
        for work in self._work:
            work.result()
        if isinstance(archive, Checkpoint) and frame.hexdigest() != archive.frame_digest.hex:
            expected = f"headers and padding of {archive.frame_digest}"
            got = f"sha256:{frame.hexdigest()}"
            found.append(Fault(archive=archive.archive, expected=expected, got=got))
        if self._read(self._buffers[0][:1]):
            found.append(self._size_fault("more"))
        self._emit(Finished(archive.archive))
        return found

    def _feed(self, whole: Hash, length: int) -> None:
        """Hash so many bytes, fewer at the end of the stream."""
        end = self.position + length
        while self.position < end:
            self._work[0].result()
            view = self._buffers[0][: end - self.position]
            count = self._read(view)
            if not count:
                return
            self._work[0] = self._hashing.submit(whole.update, view[:count])
            self._work.rotate(-1)
            self._buffers.rotate(-1)

    def _read(self, view: memoryview) -> int:
        with blaming("standard input"):
            count = self._stream.readinto(view) or 0
        self.position += count
        self._emit(Advanced(self._archive.archive, count))
        return count

    def _unit_faults(self, judged: Sequence[tuple[Unit, Future[str]]]) -> list[Fault]:
        digests = ((unit, future.result()) for unit, future in judged)
        return [
            self._unit_fault(unit, got)
            for unit, got in digests
            if unit.digest is not None and got != unit.digest.hex
        ]

    def _size_fault(self, got: str) -> Fault:
        expected = f"{self._archive.size} bytes"
        return Fault(archive=self._archive.archive, expected=expected, got=got)

    def _unit_fault(self, unit: Unit, got: str) -> Fault:
        return Fault(
            archive=self._archive.archive,
            path=unit.path,
            part=unit.part,
            offset=unit.offset,
            expected=str(unit.digest),
            got=f"sha256:{got}",
        )
