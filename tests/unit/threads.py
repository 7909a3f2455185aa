"""Whether what is tried ends its threads: one that is left keeps a small image from exiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Refuse threads that are there afterwards and were not before."""
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    assert not left, left
