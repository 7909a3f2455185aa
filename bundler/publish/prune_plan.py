"""What would go from a destination, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bundler.publish.inventory import is_marker_name
from bundler.release import is_signature_name
from bundler.sizes import count_text, size_text
from bundler.stores.upkeep import HeldObject, UnfinishedUpload


class Thing(StrEnum):
    """What may go, in the order in which it is shown."""

    RELEASE = "release"
    REMAINS = "remains of a release"
    LEFTOVER = "leftover"
    CHECKPOINT = "checkpoint"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to become of one thing.

    Attributes:
        name: Of the release, or an address or key in the bucket.
        reason: Why it goes, or stays.
        objects: All that it is, where it goes; of an upload nothing.
        size: Bytes.
    """

    thing: Thing
    name: str
    reason: str
    objects: tuple[HeldObject, ...] = ()
    size: int = 0

    def to_dict(self) -> dict[str, object]:
        """Give it for machines."""
        return {
            "thing": str(self.thing),
            "name": self.name,
            "reason": self.reason,
            "objects": [item.key for item in self.objects],
            "bytes": self.size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What would be deleted, or ended, and what stays.

    Attributes:
        going: What goes.
        staying: What stays, and why.
        uploads: Those of ``going`` that are uploads, as the store knows them.
        foreign: What no manifest and no name of ours explains; it stays.
    """

    going: tuple[Verdict, ...]
    staying: tuple[Verdict, ...] = ()
    uploads: tuple[UnfinishedUpload, ...] = ()
    foreign: tuple[HeldObject, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of what goes."""
        return sum(item.size for item in self.going)

    def same_as(self, other: PrunePlan) -> bool:
        """Whether the very same goes by another plan."""
        return (self.uploads, self._going_objects) == (other.uploads, other._going_objects)

    @property
    def _going_objects(self) -> list[tuple[str, tuple[HeldObject, ...]]]:
        return [(item.name, item.objects) for item in self.going]

    def batches(self) -> Iterator[list[str]]:
        """Give the keys to delete: a batch only when the one before it is gone.

        Markers first, then a release's own files, its signatures last: whatever ends us between,
        nothing looks complete that is not, and the next run still knows what it was.
        """
        objects = [(item.thing, found) for item in self.going for found in item.objects]
        marked = [found.key for thing, found in objects if _is_marker(thing, found.key)]
        heavy = [found.key for thing, found in objects if thing is Thing.CHECKPOINT]
        last = [found.key for thing, found in objects if _is_signature(thing, found.key)]
        done = {*marked, *heavy, *last}
        yield marked
        yield heavy
        yield [found.key for _, found in objects if found.key not in done]
        yield last

    def to_dict(self) -> dict[str, object]:
        """Give the plan for machines."""
        return {
            "going": [item.to_dict() for item in self.going],
            "staying": [item.to_dict() for item in self.staying],
            "goingBytes": self.size,
            "foreignObjects": len(self.foreign),
            "foreignBytes": sum(item.size for item in self.foreign),
            "foreign": [item.key for item in self.foreign],
        }


def by_folder(objects: Iterable[HeldObject]) -> list[str]:
    """Sum objects up by what their keys have before the last slash, a line for each."""
    sizes: dict[str, list[int]] = {}
    for item in objects:
        folder, slash, _ = item.key.rpartition("/")
        sizes.setdefault(folder + slash, []).append(item.size)
    return [
        f"{folder} ({count_text(len(found), 'object')}, {size_text(sum(found))})"
        for folder, found in sizes.items()
    ]


def _is_marker(thing: Thing, key: str) -> bool:
    return thing is not Thing.CHECKPOINT and is_marker_name("/".join(key.split("/")[-2:]))


def _is_signature(thing: Thing, key: str) -> bool:
    return thing is not Thing.CHECKPOINT and is_signature_name(key.rpartition("/")[2])
