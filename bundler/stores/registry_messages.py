"""Requests to registries and their answers: values alone."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field

# What may pass by itself. Source: RFC 9110, section 15; 429: RFC 6585.
BUSY = frozenset({408, 429, 500, 502, 503, 504})
# What an answer may have where nobody wants it, such as the words of an error.
SMALL = 64 << 10


def is_success(status: int) -> bool:
    """Tell whether a status says that what was asked for was done."""
    return 200 <= status < 300


class InterruptedTransferError(Exception):
    """A connection was not made, or broke, or stood still; another try may do better.

    Attributes:
        unreached: Whether the server had not even taken the connection.
        stranger: Whether it has never answered anything before, too.
        away: Whether it has: it may just be started again, which takes its time.
    """

    def __init__(self, reason: str, *, unreached: bool = False, stranger: bool = False) -> None:
        super().__init__(reason)
        self.unreached = unreached
        self.stranger = stranger
        self.away = unreached and not stranger


class NoWayError(Exception):
    """A server cannot be spoken to, and no other try would do better: no TLS, or no tunnel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        method: Such as GET.
        url: Whole, with its query.
        headers: Further headers; the length of a body is added.
        content: What to send, when it is small.
        body: What to send, when it is large: ``length`` bytes in all.
        commits: The answer may take long, since the server puts something away first.
        limit: The most bytes that the answer to success may have.
        never_empty: Success without a byte is an answer that broke off.
        streamed: Success is not read whole, but piece by piece by whoever asked.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    body: Iterator[memoryview] | None = field(default=None, repr=False)
    length: int = 0
    commits: bool = False
    limit: int = SMALL
    never_empty: bool = False
    streamed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered.

    Attributes:
        status: HTTP status.
        reason: Its words for the status.
        headers: By name, whatever its case.
        url: What was asked.
        login: Who we said that we are.
        content: The body; of an error, and where nobody asked for one, at most its beginning.
        over: The body has more bytes than ``content``, which were not read.
        pieces: The body piece by piece, where it was asked for so and there is one. To be read to
            its end or closed.
    """

    status: int
    reason: str
    headers: Mapping[str, str] = field(repr=False)
    url: str
    login: str | None = field(default=None, repr=False)
    content: bytes = field(default=b"", repr=False)
    over: bool = False
    pieces: Generator[bytes, None, None] | None = field(default=None, repr=False)

    @property
    def fine(self) -> bool:
        """Whether it is one of success."""
        return is_success(self.status)
