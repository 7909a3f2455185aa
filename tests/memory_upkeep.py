"""The plainest statement of what looking after a bucket means, beside ``MemoryStore``."""

from __future__ import annotations

from collections.abc import Iterator

from bundler.stores.upkeep import HeldObject, UnfinishedUpload
from tests.memory_store import MemoryStore


class MemoryUpkeep:
    """Looks after a ``MemoryStore``; an ``Upkeep``.

    Attributes:
        times: When objects were stored, by key; ``now`` for all others.
        unfinished: Uploads that were neither completed nor ended.
        removed: Keys in the order in which they were removed.
        versioned: Whether removed objects are only hidden.
    """

    def __init__(self, store: MemoryStore, *, now: int = 0) -> None:
        self.store = store
        self.now = now
        self.times: dict[str, int] = {}
        self.unfinished: list[UnfinishedUpload] = []
        self.removed: list[str] = []
        self.versioned = False

    def objects(self, prefix: str) -> Iterator[HeldObject]:
        """Give every object whose key starts with ``prefix``, by key."""
        for item in self.store.list(prefix):
            yield HeldObject(item.key, item.size, self.times.get(item.key, self.now))

    def uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """Give every unfinished upload whose key starts with ``prefix``, by key."""
        return iter(sorted(item for item in self.unfinished if item.key.startswith(prefix)))

    def end(self, upload: UnfinishedUpload) -> bool:
        """End an upload."""
        if upload in self.unfinished:
            self.unfinished.remove(upload)
        return True

    def remove(self, key: str) -> bool:
        """Remove one object."""
        self.store.delete(key)
        self.removed.append(key)
        return self.versioned
