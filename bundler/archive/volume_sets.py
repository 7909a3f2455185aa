"""Whether some volumes make an archive, as far as their names, sizes and indexes tell.

None of these is signed: they say where bytes are to be looked for, and the signed digests of the
archive judge what is found there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.kinds import FILE, NOTHING, kind_of
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import Split, VolumeName
from bundler.archive.zstd_volume import open_volume
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError
from bundler.faults import Fault

Judged = tuple[list["Volume"], list[Fault]]


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume that can be used.

    Attributes:
        path: Where it lies.
        offset, length: Which bytes of the archive it carries.
    """

    path: Path
    offset: int
    length: int


def judge(split: Split, size: int, digest: Digest, paths: Mapping[int, Sequence[Path]]) -> Judged:
    """Judge the volumes of one split.

    Args:
        split: What their names say.
        size: Of the archive, as signed.
        digest: Of the archive, as signed.
        paths: Where each number was found.

    Returns:
        What can be used, in order; and everything that is missing, doubled or wrong.
    """
    doubled = [
        volume_fault(
            split.volume(number),
            expected="one file of this name",
            got=f"{len(places)}: {', '.join(map(str, places))}",
        )
        for number, places in sorted(paths.items())
        if len(places) > 1
    ]
    files, odd = {}, []
    for number, places in sorted(paths.items()):
        with blaming(places[0]):
            status = places[0].lstat()
        if (kind := kind_of(status.st_mode)) == FILE:
            files[number] = (places[0], status.st_size)
        else:
            odd.append(volume_fault(split.volume(number), expected=FILE, got=kind))
    judge_files = _judge_compressed if split.compressed else _judge_plain
    volumes, faults = judge_files(split, size, digest, files)
    named = {fault.volume for fault in odd}
    return volumes, [*doubled, *odd, *(fault for fault in faults if fault.volume not in named)]


def volume_fault(name: VolumeName, *, expected: str, got: str, offset: int | None = None) -> Fault:
    """Say what is wrong with a volume as a whole."""
    return Fault(archive=name.archive, volume=str(name), offset=offset, expected=expected, got=got)


def _judge_plain(
    split: Split, size: int, _: Digest, files: Mapping[int, tuple[Path, int]]
) -> Judged:
    stride = _stride(size, split.count, {number: found for number, (_, found) in files.items()})
    volumes, faults = [], []
    for number in range(1, split.count + 1):
        offset = min(size, (number - 1) * stride)
        length = min(stride, size - offset)
        path, found = files.get(number, (None, None))
        if path is not None and found == length:
            volumes.append(Volume(path, offset, length))
        else:
            got = NOTHING if found is None else f"{found} bytes"
            faults.append(
                volume_fault(
                    split.volume(number), offset=offset, expected=f"{length} bytes", got=got
                )
            )
    return volumes, faults


def _stride(size: int, count: int, found: Mapping[int, int]) -> int:
    """Say how long each volume but the last must be, judged by those that are there.

    Of lengths that can be, the one that most volumes have; of two such, the rounder one, since
    media have round sizes and accidents do not.
    """
    possible = [found[number] for number in found if number < count]
    if count in found and count > 1 and (size - found[count]) % (count - 1) == 0:
        possible.append((size - found[count]) // (count - 1))
    even = -(-size // count)
    fitting = [n for n in possible if n > 0 and (count - 1) * n < size <= count * n]

    def agreement(stride: int) -> tuple[int, int]:
        last = size - (count - 1) * stride
        agree = sum(found[n] == (last if n == count else stride) for n in found)
        return agree, stride & -stride

    return max(fitting, key=agreement, default=even)


def _judge_compressed(
    split: Split, size: int, digest: Digest, files: Mapping[int, tuple[Path, int]]
) -> Judged:
    volumes: list[Volume] = []
    faults: list[Fault] = []
    moved: dict[int, int] = {}
    before, end = 0, 0  # the last volume that can be used, and where it ends
    for number in range(1, split.count + 1):
        name = split.volume(number)
        if number not in files:
            faults.append(volume_fault(name, expected="a volume", got=NOTHING))
            continue
        try:
            held, volume = _read(files[number][0], digest)
        except (ContentError, MalformedError) as error:
            faults.append(volume_fault(name, expected="a volume as it was cut", got=str(error)))
            continue
        if held != number:
            moved[number] = held
            continue
        if volume.offset < end or (number == before + 1 and volume.offset != end):
            problem = f"from {volume.offset}"
            faults.append(volume_fault(name, expected=f"bytes from offset {end} on", got=problem))
            continue
        volumes.append(volume)
        before, end = number, volume.offset + volume.length
        if end > size or (number == split.count and end != size):
            problem = f"up to {end}"
            faults.append(volume_fault(name, expected=f"bytes up to {size}", got=problem))
            volumes.pop()
    return volumes, sorted([*faults, *_mixed_up(split, moved)], key=lambda fault: str(fault.volume))


def _mixed_up(split: Split, moved: Mapping[int, int]) -> Iterator[Fault]:
    """Tell which volumes stand in the places of others, by number."""
    for number, held in moved.items():
        swapped = ": the two are swapped" if moved.get(held) == number else ""
        yield volume_fault(
            split.volume(number), expected="a volume as it was cut", got=f"volume {held}{swapped}"
        )


def _read(path: Path, digest: Digest) -> tuple[int, Volume]:
    """Read the number and the bytes that a compressed volume says it has of an archive."""
    with open_volume(path) as (_, index):
        if index.digest != digest:
            raise ContentError("a volume of another archive")
        return index.number, Volume(path, index.offset, index.size)
