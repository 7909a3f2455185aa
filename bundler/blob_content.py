"""A blob that lies somewhere and can be read: what a bundle gives, and what a registry takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bundler.digest import Digest


@dataclass(frozen=True, slots=True)
class BlobContent:
    """A blob, and how to read it.

    Attributes:
        digest, size: What was signed of it.
        pieces: Gives its bytes from an offset to its end, about 1 MiB at a time; each piece is good
            until the next one is asked for. Any thread may call it, any number of times, several at
            once. Raises ContentError where the source is damaged, WorldError where it fails.
    """

    digest: Digest
    size: int
    pieces: Callable[[int], Iterator[memoryview]]
