"""What extract tells of its files: large ones and images each by name, all others as one item."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from bundler.events import Advanced, Emit, Event, Finished, Started
from bundler.fetch.wanted import File, Gap

_VERB = "extract"
_SMALL_BYTES = 1 << 20


def tell_started(gaps: Sequence[Gap], emit: Emit) -> Emit:
    """Tell of files that are to be written, and say whom to tell what becomes of them.

    Args:
        gaps: The files; several of them may be told as one item.
        emit: Told, from several threads.
    """
    small = [gap for gap in gaps if _is_small(gap.file)]
    if len(small) < 2:
        small = []
    names = {gap.file.path for gap in small}
    for gap in gaps:
        if gap.file.path not in names:
            emit(Started(_VERB, gap.file.path, gap.missing))
    if not small:
        return emit
    item = f"{len(small)} small files"
    emit(Started(_VERB, item, sum(gap.missing for gap in small)))
    return _Summed(item, names, emit)


def _is_small(file: File) -> bool:
    return file.size < _SMALL_BYTES and not file.path.endswith(".tar")


class _Summed:
    """Passes events on; those of some items as events of one, which ends with the last of them."""

    def __init__(self, item: str, names: set[str], emit: Emit) -> None:
        self._item = item
        self._names = frozenset(names)
        self._left = names
        self._emit = emit
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        match event:
            case Advanced(name, step) if name in self._names:
                self._emit(Advanced(self._item, step))
            case Finished(name) if name in self._names:
                with self._lock:
                    self._left.discard(name)
                    last = not self._left
                if last:
                    self._emit(Finished(self._item))
            case _:
                self._emit(event)
