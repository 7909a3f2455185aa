"""Cutting an archive into compressed volumes: a frame for each signed range, on all cores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bundler.archive.cutting import require_count, require_frame, require_unit, volume_file
from bundler.archive.files import atomic_write
from bundler.archive.hashing import in_threads
from bundler.archive.reader import Reader
from bundler.archive.units import Unit, units
from bundler.archive.volume_names import MAX_VOLUMES
from bundler.archive.zstd_frames import most_packed, pack
from bundler.archive.zstd_reader import ZstdReader
from bundler.archive.zstd_volume import (
    FRAME_BYTES,
    HEADER_BYTES,
    encode_header,
    encode_index,
    index_bytes,
)
from bundler.errors import ContentError, MalformedError
from bundler.events import Advanced, Emit
from bundler.manifest import Bundle, Checkpoint

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

# A frame that is packed waits in memory until it is written; media are slower than four cores.
_AHEAD, _MOST_THREADS = 1, 4


@dataclass(frozen=True, slots=True)
class _Packed:
    """A range as a frame; ``plain`` where it has no digest of its own."""

    unit: Unit
    frame: list[bytes]
    plain: bytes

    @property
    def length(self) -> int:
        return sum(map(len, self.frame))


def cut_compressed(
    source: Reader, archive: Checkpoint | Bundle, work: Path, *, volume_bytes: int, emit: Emit
) -> list[Path]:
    """Cut an archive into compressed volumes of at most ``volume_bytes``.

    What an earlier run left in ``work`` is read, and kept if all of it is as signed. Arguments and
    errors are those of ``cut``; ``require_fit_compressed`` allowed the size.
    """
    return _Cutting(source, archive, work, volume_bytes, emit).run()


def require_fit_compressed(archive: Checkpoint | Bundle, volume_bytes: int) -> None:
    """Refuse an archive that might not fit, should none of it get smaller, before it is packed.

    Raises:
        MalformedError: A volume may be too small for a frame, or there may be too many volumes.
    """
    lengths = [unit.length for unit in units(archive) if unit.length]
    if max(lengths) > FRAME_BYTES:
        raise MalformedError(
            f"{archive.archive}: a file in it has parts of more than {FRAME_BYTES} bytes, "
            "which no frame holds",
            hint="leave out --compress",
        )
    least = HEADER_BYTES + index_bytes(1) + most_packed(max(lengths))
    if volume_bytes < least:
        raise MalformedError(
            f"{archive.archive}: expected volumes of at least {least} bytes, which hold its "
            f"largest part whatever is in it, got {volume_bytes}",
            hint="cut larger ones, or leave out --compress",
        )
    require_count(archive, _most_volumes(lengths, volume_bytes))


def _most_volumes(lengths: Iterable[int], volume_bytes: int) -> int:
    empty = HEADER_BYTES + index_bytes(0)
    count, filled = 1, empty
    for length in lengths:
        need = most_packed(length) + index_bytes(1) - index_bytes(0)
        if filled + need > volume_bytes:
            count, filled = count + 1, empty
        filled += need
    return count


class _Cutting:
    def __init__(
        self,
        source: Reader,
        archive: Checkpoint | Bundle,
        work: Path,
        volume_bytes: int,
        emit: Emit,
    ) -> None:
        self._source = source
        self._archive = archive
        self._work = work
        self._volume_bytes = volume_bytes
        self._emit = emit
        self._frame = hashlib.sha256()
        self._units = [unit for unit in units(archive) if unit.length]

    def run(self) -> list[Path]:
        paths, first = self._keep()
        packed: Iterable[_Packed] = in_threads(
            self._pack, self._units[first:], ahead=_AHEAD, most=_MOST_THREADS
        )
        packed = iter(packed)
        while (head := next(packed, None)) is not None:
            require_count(self._archive, len(paths) + 1)
            path = self._work / volume_file(len(paths) + 1)
            with atomic_write(path) as out:
                rest = self._write(out, len(paths) + 1, chain([head], packed))
            packed = packed if rest is None else chain([rest], packed)
            paths.append(path)
        if isinstance(self._archive, Checkpoint):
            require_frame(self._archive, self._frame)
        return paths

    def _pack(self, unit: Unit) -> _Packed:
        whole = hashlib.sha256()
        plain: list[bytes] = []

        def hashed() -> Iterator[memoryview]:
            for piece in self._source.pieces(unit.offset, unit.length):
                whole.update(piece)
                if unit.digest is None:
                    plain.append(bytes(piece))
                yield piece

        frame = pack(hashed(), unit.length)
        require_unit(self._archive, unit, whole)
        return _Packed(unit, frame, b"".join(plain))

    def _write(self, out: BinaryIO, number: int, packed: Iterator[_Packed]) -> _Packed | None:
        """Fill a volume; gives the frame that did not fit, None at the end."""
        frames: list[tuple[int, int]] = []
        length = HEADER_BYTES
        for item in packed:
            after = length + item.length + index_bytes(len(frames) + 1)
            if frames and after > self._volume_bytes:
                break
            if not frames:
                out.write(encode_header(number, item.unit.offset, self._archive.digest))
            for chunk in item.frame:
                out.write(chunk)
            self._frame.update(item.plain)
            frames.append((item.length, item.unit.length))
            length += item.length
            self._emit(Advanced(self._archive.archive, item.unit.length))
        else:
            item = None
        out.write(encode_index(frames))
        return item

    def _keep(self) -> tuple[list[Path], int]:
        """Give the volumes of an earlier run that are right, and the first range behind them."""
        paths: list[Path] = []
        done = 0
        for number in range(1, MAX_VOLUMES + 1):
            path = self._work / volume_file(number)
            count = self._units_in(path, number, done) if path.is_file() else 0
            if not count:
                break
            paths.append(path)
            done += count
        return paths, done

    def _units_in(self, path: Path, number: int, done: int) -> int:
        """Say how many ranges a volume holds; 0 where it is not right."""
        if path.stat().st_size > self._volume_bytes or done == len(self._units):
            return 0
        begin = self._units[done].offset
        frame = self._frame.copy()
        try:
            with ZstdReader(path) as reader:
                if not reader.is_volume(number, begin, self._archive.digest):
                    return 0
                end = begin + reader.size
                held = list(takewhile(lambda unit: unit.end <= end, self._units[done:]))
                for unit in held:
                    self._prove(reader, unit, begin, frame)
        except ContentError:
            return 0
        if not held or held[-1].end != end:
            return 0
        self._frame = frame
        return len(held)

    def _prove(self, reader: Reader, unit: Unit, begin: int, frame: Hash) -> None:
        whole = hashlib.sha256()
        for piece in reader.pieces(unit.offset - begin, unit.length):
            (whole if unit.digest else frame).update(piece)
        require_unit(self._archive, unit, whole)
        self._emit(Advanced(self._archive.archive, unit.length))
