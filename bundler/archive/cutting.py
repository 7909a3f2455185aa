"""Cutting an archive into volumes, every byte proven against what was signed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.archive.files import RandomReader, atomic_write
from bundler.archive.reader import Reader
from bundler.archive.units import Unit, units
from bundler.archive.volume_names import MAX_VOLUMES
from bundler.errors import ContentError, MalformedError, printable
from bundler.events import Advanced, Emit
from bundler.manifest import Bundle, Checkpoint

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


def cut(
    source: Reader, archive: Checkpoint | Bundle, work: Path, *, volume_bytes: int, emit: Emit
) -> list[Path]:
    """Cut an archive into files of ``volume_bytes``, the last one shorter.

    What an earlier run left in ``work`` is compared with the source, and kept if it is equal.

    Args:
        source: The archive, of its signed size.
        archive: What was signed.
        work: Directory for the files, which are called by their numbers.
        volume_bytes: How long each one is; ``require_fit`` allowed it.
        emit: Told of the bytes that were read.

    Raises:
        ContentError: The archive is not what was signed.
        WorldError: The disk fails, or is full; what is done stays for the next run.
    """
    proof = Proof(archive, tuple(unit for unit in units(archive) if unit.length))
    paths = []
    for number, begin in enumerate(range(0, archive.size, volume_bytes), 1):
        length = min(volume_bytes, archive.size - begin)
        path = work / volume_file(number)
        kept = _kept(source, begin, length, path, proof)
        if kept is None:
            with atomic_write(path) as out:
                for piece in proof.pieces(source, begin, length):
                    out.write(piece)
                    emit(Advanced(archive.archive, len(piece)))
        else:
            proof = kept
            emit(Advanced(archive.archive, length))
        paths.append(path)
    proof.finish()
    return paths


def require_fit(archive: Checkpoint | Bundle, volume_bytes: int) -> None:
    """Refuse an archive that cannot be cut so, before any of it is; raises MalformedError."""
    require_count(archive, -(-archive.size // volume_bytes))


def volume_file(number: int) -> str:
    """Name a volume until all of them are there."""
    return f"{number:03d}"


def require_count(archive: Checkpoint | Bundle, count: int) -> None:
    """Refuse more volumes than can be numbered; raises MalformedError."""
    if count > MAX_VOLUMES:
        raise MalformedError(
            f"{archive.archive}: expected at most {MAX_VOLUMES} volumes, got {count}",
            hint="cut larger ones",
        )


def _kept(source: Reader, begin: int, length: int, path: Path, proof: Proof) -> Proof | None:
    """Compare an earlier run's volume with the source; give the proof behind it if it is equal."""
    if not path.is_file() or path.stat().st_size != length:
        return None
    ahead = proof.copy()
    with RandomReader(path) as reader:
        others = reader.pieces(0, length)
        for piece in ahead.pieces(source, begin, length):
            if piece != next(others):
                return None
    return ahead


@dataclass(slots=True)
class Proof:
    """Compares an archive's bytes with what was signed of them, as they come by in order.

    Attributes:
        archive: What was signed.
        ranges: All of it, in order.
        number: Which of them is under way.
        range_hash, frame_hash: Of that range so far, and of everything between files.
    """

    archive: Checkpoint | Bundle
    ranges: tuple[Unit, ...]
    number: int = 0
    range_hash: Hash = field(default_factory=hashlib.sha256)
    frame_hash: Hash = field(default_factory=hashlib.sha256)

    def copy(self) -> Proof:
        """Give one that goes on from here apart from this one."""
        return replace(self, range_hash=self.range_hash.copy(), frame_hash=self.frame_hash.copy())

    def pieces(self, source: Reader, offset: int, length: int) -> Iterator[memoryview]:
        """Read the next bytes, about 1 MiB at a time.

        Raises:
            ContentError: A range that ends here is not what was signed of it.
        """
        for piece in source.pieces(offset, length):
            self._take(offset, piece)
            yield piece
            offset += len(piece)

    def finish(self) -> None:
        """Compare what can be told at the end only; raises as ``pieces`` does."""
        if isinstance(self.archive, Checkpoint):
            require_frame(self.archive, self.frame_hash)

    def _take(self, offset: int, piece: memoryview) -> None:
        while piece:
            unit = self.ranges[self.number]
            now = piece[: unit.end - offset]
            (self.range_hash if unit.digest else self.frame_hash).update(now)
            piece, offset = piece[len(now) :], offset + len(now)
            if offset == unit.end:
                require_unit(self.archive, unit, self.range_hash)
                self.range_hash = hashlib.sha256()
                self.number += 1


def require_unit(archive: Checkpoint | Bundle, unit: Unit, got: Hash) -> None:
    """Compare a range with its signed digest; raises ContentError."""
    if unit.digest is not None and got.hexdigest() != unit.digest.hex:
        where = f"slice {unit.part}" if unit.path is None else f"{unit.path}, part {unit.part}"
        raise ContentError(
            f"{archive.archive}: {printable(where)}, at offset {unit.offset}: expected "
            f"{unit.digest}, got sha256:{got.hexdigest()}",
            hint="the archive is damaged: `bundle verify` tells all that is wrong with it",
        )


def require_frame(checkpoint: Checkpoint, got: Hash) -> None:
    """Compare what is between the files with its signed digest; raises ContentError."""
    if got.hexdigest() != checkpoint.frame_digest.hex:
        raise ContentError(
            f"{checkpoint.archive}: expected headers and padding of {checkpoint.frame_digest}, "
            f"got sha256:{got.hexdigest()}",
            hint="the archive is damaged: `bundle verify` tells all that is wrong with it",
        )
