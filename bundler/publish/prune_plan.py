"""What would go from a destination, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from bundler.publish.inventory import MARKERS
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
        foreign: How many objects lie there that publish never writes; they stay.
    """

    going: tuple[Verdict, ...]
    staying: tuple[Verdict, ...] = ()
    uploads: tuple[UnfinishedUpload, ...] = ()
    foreign: int = 0

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

        Markers first, and a release's own files last: whatever ends us between, nothing looks
        complete that is not, and the next run still knows what it was.
        """
        objects = [(item.thing, found) for item in self.going for found in item.objects]
        marked = [found.key for thing, found in objects if _is_marker(thing, found.key)]
        heavy = [found.key for thing, found in objects if thing is Thing.CHECKPOINT]
        done = {*marked, *heavy}
        yield marked
        yield heavy
        yield [found.key for _, found in objects if found.key not in done]

    def to_dict(self) -> dict[str, object]:
        """Give the plan for machines."""
        return {
            "going": [item.to_dict() for item in self.going],
            "staying": [item.to_dict() for item in self.staying],
            "goingBytes": self.size,
            "foreignObjects": self.foreign,
        }


def _is_marker(thing: Thing, key: str) -> bool:
    return thing is not Thing.CHECKPOINT and f"/{MARKERS}" in key
