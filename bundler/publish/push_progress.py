"""What is told of a push while it goes on, and what is kept of it for the receipt."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bundler.events import Advanced, Emit, Finished, Noted, Planned, Started
from bundler.manifest import Image
from bundler.publish.schedule import Cargo, Wave
from bundler.reference import ImageTag
from bundler.sizes import count_text, size_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Bytes of an image's configs and layers, by how they came to be at the registry.

    Attributes:
        sent: Sent by us.
        again: What of that another repository had, and the registry did not mount.
        mounted: Taken by the registry from another repository.
        there: There already.
    """

    sent: int = 0
    again: int = 0
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
        self._again: dict[ImageTag, list[int]] = {tag: [] for tag in self._sizes}
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

    def count_sent(self, image: Image, size: int, *, again: bool) -> None:
        """Keep that a blob was sent; ``again`` where the registry did not mount it."""
        with self._lock:
            self._sent[image.tag] += size
            if again:
                self._again[image.tag].append(size)

    def count_mounted(self, image: Image, size: int) -> None:
        """Keep that a blob was taken from another repository."""
        with self._lock:
            self._mounted[image.tag] += size

    def finish(self, image: Image) -> None:
        """Tell that an image is whole, but for its tag."""
        self.begin(image)
        self._emit(Finished(_name(image), skipped=not self._missing[image.tag]))

    def tell_not_mounted(self) -> None:
        """Tell of what was sent although another repository had it."""
        sizes = [size for each in self._again.values() for size in each]
        if sizes:
            self._emit(
                Noted(
                    f"the registry did not mount {count_text(len(sizes), 'blob')} from another of "
                    f"its repositories: {size_text(sum(sizes))} sent again"
                )
            )

    def sent(self) -> dict[ImageTag, Sent]:
        """Say what became of the bytes of each image."""
        return {
            tag: Sent(
                sent=self._sent[tag],
                again=sum(self._again[tag]),
                mounted=self._mounted[tag],
                there=size - self._sent[tag] - self._mounted[tag],
            )
            for tag, size in self._sizes.items()
        }


def _name(image: Image) -> str:
    return f"image {image.tag}"
