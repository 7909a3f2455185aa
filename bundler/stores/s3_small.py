"""Objects on their way to S3 that need no multipart upload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bundler.parts import Span
from bundler.remote_object import RemoteObject
from bundler.stores.base import Advance, Note, Pieces


class Standing:
    """An object that is there already; an ``Incoming``."""

    missing: Sequence[Span] = ()

    def send(self, span: Span, pieces: Pieces, advance: Advance) -> None:
        """Send nothing."""

    def copy(self, span: Span, source: RemoteObject, offset: int, advance: Advance) -> bool:
        """Say that it is there."""
        return True

    def holds(self, span: Span, pieces: Pieces) -> bool:
        """Say that it is there."""
        return True

    def complete(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """An object of one part; an ``Incoming``.

    Attributes:
        name: What to call it.
        span: The part.
        put: Stores it; False where somebody else stored the same meanwhile.
        note: Told of that.
    """

    name: str
    span: Span
    put: Callable[[Pieces, Advance], bool]
    note: Note

    @property
    def missing(self) -> Sequence[Span]:
        """Give the one part."""
        return (self.span,)

    def send(self, span: Span, pieces: Pieces, advance: Advance) -> None:
        """Store the object."""
        if not self.put(pieces, advance):
            self.note(f"{self.name}: another publisher sends it too, and was faster")

    def copy(self, span: Span, source: RemoteObject, offset: int, advance: Advance) -> bool:
        """Say no: only parts of a multipart upload are copied."""
        return False

    def holds(self, span: Span, pieces: Pieces) -> bool:
        """Say no: it is sent at once or not at all."""
        return False

    def complete(self) -> None:
        """Do nothing: it is there."""
