"""What is told of a push while it goes on, and what is kept of it for the receipt."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bundler.events import Advanced, Emit, Finished, Planned, Started
from bundler.manifest import Image
from bundler.publish.schedule import Cargo, Wave
from bundler.reference import ImageTag


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Bytes of an image's configs and layers, by how they came to be at the registry.

    Attributes:
        sent: Sent by us.
        mounted: Taken by the registry from another repository.
        there: There already.
    """

    sent: int = 0
    mounted: int = 0
    there: int = 0


class PushProgress:
    """Counts what each image gets, and tells it; any thread may call."""

    def __init__(self, cargo: Sequence[Cargo], waves: Iterable[Wave], emit: Emit) -> None:
        self._emit = emit
        self._sizes = {item.image.tag: item.size for item in cargo}
        self._missing = dict.fromkeys(self._sizes, 0)
        for transfer in (item for wave in waves for item in wave.transfers):
            self._missing[transfer.image.tag] += transfer.blob.size
        emit(Planned(sum(self._missing.values())))
        self._sent = dict.fromkeys(self._sizes, 0)
        self._mounted = dict.fromkeys(self._sizes, 0)
        self._begun: set[ImageTag] = set()
        self._lock = threading.Lock()

    def begin(self, image: Image) -> None:
        """Tell, the first time, that work on an image begins."""
        with self._lock:
            if image.tag in self._begun:
                return
            self._begun.add(image.tag)
        self._emit(Started("push", _name(image), self._missing[image.tag]))

    def advance(self, image: Image, step: int) -> None:
        """Tell of bytes that are there now; negative where some are sent again."""
        self._emit(Advanced(_name(image), step))

    def count(self, image: Image, *, sent: int = 0, mounted: int = 0) -> None:
        """Keep what became of a blob."""
        with self._lock:
            self._sent[image.tag] += sent
            self._mounted[image.tag] += mounted

    def finish(self, image: Image) -> None:
        """Tell that an image is whole, but for its tag."""
        self.begin(image)
        self._emit(Finished(_name(image), skipped=not self._missing[image.tag]))

    def sent(self) -> dict[ImageTag, Sent]:
        """Say what became of the bytes of each image."""
        return {
            tag: Sent(
                sent=self._sent[tag],
                mounted=self._mounted[tag],
                there=size - self._sent[tag] - self._mounted[tag],
            )
            for tag, size in self._sizes.items()
        }


def _name(image: Image) -> str:
    return f"image {image.tag}"
