"""What a set of volumes shows beyond its archive's faults: whose bytes a wrong volume holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bundler.archive.files import RandomReader
from bundler.archive.hashing import digest_of
from bundler.archive.units import Unit, units
from bundler.archive.volume_sets import Volume
from bundler.archive.volumes import VolumeSet
from bundler.faults import Fault
from bundler.manifest import Bundle, Checkpoint

# How many ranges are read again at most to find out whose bytes the wrong volumes hold.
_MOST_PROBES = 64


def explain(found: VolumeSet, archive: Checkpoint | Bundle, faults: Sequence[Fault]) -> list[Fault]:
    """Name each volume that holds another's bytes, or of whose parts not one is as signed.

    Of a volume with a single part in it nothing more is known than that this part is wrong. Volumes
    that are compressed say themselves which one they are.

    Args:
        found: The volumes.
        archive: What was signed.
        faults: What was found in the archive.
    """
    bad = {fault.offset for fault in faults if fault.part is not None}
    if found.compressed or not bad:
        return []
    own = {volume: list(_within(volume, archive)) for volume in found.volumes}
    wrong = [
        volume
        for volume in found.volumes
        if own[volume] and all(unit.offset in bad for unit in own[volume])
    ]
    # What was mixed up with one another is tried first.
    order = sorted(found.volumes, key=lambda volume: volume not in wrong)
    marks = {volume: own[volume][0] for volume in order if own[volume]}
    budget = iter(range(_MOST_PROBES))
    holds = {volume: _holds(volume, marks, budget) for volume in wrong}
    return [
        _fault(
            found,
            volume,
            other,
            len(own[volume]),
            swapped=other is not None and holds.get(other) == volume,
        )
        for volume, other in holds.items()
        if other is not None or len(own[volume]) > 1
    ]


def _within(volume: Volume, archive: Checkpoint | Bundle) -> Iterator[Unit]:
    for unit in units(archive):
        if unit.offset >= volume.offset + volume.length:
            return
        inside = unit.offset >= volume.offset and unit.end <= volume.offset + volume.length
        if inside and unit.length and unit.digest:
            yield unit


def _holds(volume: Volume, marks: Mapping[Volume, Unit], budget: Iterator[int]) -> Volume | None:
    """Say which other volume's bytes one holds."""
    with RandomReader(volume.path) as reader:
        for other, unit in marks.items():
            offset = unit.offset - other.offset
            if other == volume or offset + unit.length > reader.size:
                continue
            if next(budget, None) is None:
                break
            if digest_of(reader, offset, unit.length) == unit.digest:
                return other
    return None


def _fault(
    found: VolumeSet, volume: Volume, other: Volume | None, parts: int, *, swapped: bool
) -> Fault:
    got = f"none of the {parts} parts in it as signed; another archive's volume, perhaps"
    if other is not None:
        got = f"those of {other.path.name}" + (": the two are swapped" if swapped else "")
    return Fault(
        archive=found.archive,
        volume=volume.path.name,
        expected=f"the archive's bytes from offset {volume.offset} on",
        got=got,
    )
