"""Objects of a bucket that are only read, each held to what it was when it was first looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteObject:
    """One object, in the content that it had when it was listed.

    Attributes:
        server: URL of its server.
        bucket, key: Where it lies there.
        size: Its bytes.
        etag: What the server calls this content.
        read: Streams so many bytes from an offset; any thread may call it. Raises WorldError where
            the object is no longer that content, or the server fails.
    """

    server: str
    bucket: str
    key: str
    size: int
    etag: str
    read: Callable[[int, int], Iterator[bytes]] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """What would be its file name."""
        return self.key.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFolder:
    """What lies directly below a prefix of a bucket.

    Attributes:
        url: ``s3://BUCKET/PREFIX``, with no slash at its end.
        objects: By name below the prefix; the names are whatever somebody chose.
        folders: Names that have something below them.
        enter: Lists what lies below one of those names. Raises WorldError.
    """

    url: str
    objects: Mapping[str, RemoteObject]
    folders: frozenset[str] = frozenset()
    enter: Callable[[str], RemoteFolder] = field(repr=False, compare=False)
