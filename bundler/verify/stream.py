"""An archive that comes through a pipe, against what was signed: in order, once, kept nowhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from bundler.archive.trouble import blaming
from bundler.archive.units import Unit, units
from bundler.errors import MalformedError
from bundler.events import Advanced, Emit, Finished, Started, ignore
from bundler.faults import Fault
from bundler.manifest import Bundle, Checkpoint
from bundler.release import find_release, open_release
from bundler.signing.keys import PublicKey
from bundler.verify.path import BUNDLE, CHECKPOINT, judge_expiry
from bundler.verify.report import Checked, Report
from bundler.verify.scope import archive_of, read_scope

_READ_BYTES = 1 << 20


def verify_stream(
    stream: BinaryIO,
    keys: Sequence[PublicKey],
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
        keys: Whom to trust.
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
    release = open_release(find_release(release_dir, release_dir), keys)
    expired = judge_expiry(release.manifest, now, allow_expired=allow_expired)
    scope = read_scope(only, release.manifest)
    if scope.archive is None or scope.path is not None:
        raise MalformedError(f"--only {only}: a pipe carries one archive, whole")
    archive = archive_of(release.manifest, scope.archive)
    run = _Run(stream, archive, emit)
    faults = run.faults()
    return Report(
        path="-",
        kind=CHECKPOINT if isinstance(archive, Checkpoint) else BUNDLE,
        release=release.manifest.release.directory,
        signatures=release.signatures,
        checked=(Checked(scope.archive, run.position),),
        absent=(),
        extra=(),
        expired=expired,
        faults=tuple(faults),
    )


class _Run:
    def __init__(self, stream: BinaryIO, archive: Checkpoint | Bundle, emit: Emit) -> None:
        self.position = 0
        self._stream = stream
        self._archive = archive
        self._emit = emit

    def faults(self) -> list[Fault]:
        archive = self._archive
        found: list[Fault] = []
        frame = hashlib.sha256()
        self._emit(Started("verify", archive.archive, archive.size))
        for unit in units(archive):
            whole = frame if unit.digest is None else hashlib.sha256()
            for piece in self._pieces(unit.length):
                whole.update(piece)
            if self.position < unit.end:
                found.append(self._size_fault(f"{self.position} bytes"))
                return found
            if unit.digest is not None and whole.hexdigest() != unit.digest.hex:
                found.append(self._unit_fault(unit, whole.hexdigest()))
        if isinstance(archive, Checkpoint) and frame.hexdigest() != archive.frame_digest.hex:
            expected = f"headers and padding of {archive.frame_digest}"
            got = f"sha256:{frame.hexdigest()}"
            found.append(Fault(archive=archive.archive, expected=expected, got=got))
        if any(True for _ in self._pieces(1)):
            found.append(self._size_fault("more"))
        self._emit(Finished(archive.archive, wrong=bool(found)))
        return found

    def _pieces(self, length: int) -> Iterator[memoryview]:
        """Read so many bytes, fewer at the end of the stream."""
        while length:
            with blaming("standard input"):
                got = self._stream.read(min(length, _READ_BYTES))
            if not got:
                return
            yield memoryview(got)
            self.position += len(got)
            length -= len(got)
            self._emit(Advanced(self._archive.archive, len(got)))

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
