"""A prefix of a bucket that is only read, every object of it in the content that was listed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import IO, TYPE_CHECKING, Protocol, cast

from botocore.exceptions import HTTPClientError, IncompleteReadError, ReadTimeoutError

from bundler.errors import WorldError
from bundler.reference import S3Prefix
from bundler.remote_object import RemoteFolder, RemoteObject
from bundler.stores.s3_errors import CutError, LostError, Place, ending, explain, told

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3 import S3Client

_ATTEMPTS = 5
_CHUNK = 1 << 20


class Raw(Protocol):
    """What the HTTP library gives to read an answer from."""

    def read1(self, size: int, /) -> bytes:
        """Give what comes next, at most so much; nothing at the end."""

    def close(self) -> None:
        """Close the connection."""


class Arriving:
    """The body of an answer, of which each read comes within a time, however slowly bytes drip.

    Args:
        raw: What it is read from.
        server: Its URL.
        seconds: That one read may take.
    """

    def __init__(self, raw: Raw, server: str, seconds: float) -> None:
        self._raw = raw
        self._server = server
        self._seconds = seconds

    def read(self, size: int) -> bytes:
        """Give so many bytes, or what is left where the body ends.

        Raises:
            ReadTimeoutError: The time is over.
        """
        until = time.monotonic() + self._seconds
        pieces = []
        while size and (piece := self._raw.read1(size)):
            pieces.append(piece)
            size -= len(piece)
            if size and time.monotonic() > until:
                raise ReadTimeoutError(endpoint_url=self._server, error="too slow")
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()

    def as_stream(self) -> IO[bytes]:
        """Give it the type under which the client library takes it."""
        return cast("IO[bytes]", self)


def list_folder(client: S3Client, where: S3Prefix) -> RemoteFolder:
    """List what lies directly below a prefix; each object is then read in this content only.

    Raises:
        DeniedError, WorldError: The server refuses us, cannot be reached, or fails.
    """
    above = f"{where.prefix}/" if where.prefix else ""
    server = client.meta.endpoint_url
    place = Place(where.bucket, above, server, source=True)
    objects, folders = {}, set()
    pages = client.get_paginator("list_objects_v2")
    with told(place):
        found = pages.paginate(Bucket=where.bucket, Prefix=above, Delimiter="/")
        for page in ending(found, place):
            folders |= {_below(item["Prefix"], above) for item in page.get("CommonPrefixes", ())}
            for item in page.get("Contents", ()):
                objects[_below(item["Key"], above)] = RemoteObject(
                    server=server,
                    bucket=where.bucket,
                    key=item["Key"],
                    size=item["Size"],
                    etag=item["ETag"],
                    read=partial(
                        read_range,
                        client,
                        Place(where.bucket, item["Key"], server, source=True),
                        etag=item["ETag"],
                    ),
                )
    objects.pop("", None)  # what some tools make so that a prefix looks like a directory
    return RemoteFolder(
        url=str(where),
        objects=objects,
        folders=frozenset(folders),
        enter=lambda name: list_folder(client, where / name),
    )


def read_range(
    client: S3Client, place: Place, offset: int, length: int, *, etag: str = ""
) -> Iterator[bytes]:
    """Stream a range of an object, going on where a connection broke, never in other content.

    Args:
        client: For the bucket.
        place: The object.
        offset: Its first byte.
        length: How many.
        etag: What the object must be; empty for whatever it is now.

    Raises:
        NotFoundError: There is no such object.
        WorldError: The object changed, or ended, or the connection did, before ``length`` bytes.
    """
    position, end, failures = offset, offset + length, 0
    while position < end:
        start = position
        try:
            body, etag = _open(client, place, (position, end), etag)
            with closing(body):
                while chunk := body.read(min(_CHUNK, end - position)):
                    position += len(chunk)
                    yield chunk
            if position < end:  # the body ended too early, and yet as its length said
                raise IncompleteReadError(actual_bytes=position, expected_bytes=end)
        except (HTTPClientError, IncompleteReadError, CutError) as error:
            failures = 1 if position - start >= _CHUNK else failures + 1
            if failures < _ATTEMPTS:
                continue
            if isinstance(error, CutError):
                raise
            raise explain(error, place) from error


def _open(
    client: S3Client, place: Place, between: tuple[int, int], etag: str
) -> tuple[StreamingBody, str]:
    start, last = between[0], between[1] - 1
    wanted = f"bytes={start}-{last}"
    try:
        with told(place):
            if etag:
                found = client.get_object(
                    Bucket=place.bucket, Key=place.key, Range=wanted, IfMatch=etag
                )
            else:
                found = client.get_object(Bucket=place.bucket, Key=place.key, Range=wanted)
    except LostError as error:
        raise WorldError(
            f"{place}: changed while it was read", hint="run again when nobody writes there"
        ) from error
    given = found.get("ContentRange", "the whole object")
    if not given.startswith(f"bytes {start}-{last}/"):
        found["Body"].close()
        raise WorldError(f"{place}: asked for bytes {start}-{last}, got {given}")
    if etag not in {"", found["ETag"]}:
        found["Body"].close()
        raise WorldError(f"{place}: changed while it was read: {etag} is now {found['ETag']}")
    return found["Body"], found["ETag"]


def _below(key: str, prefix: str) -> str:
    return key.removeprefix(prefix).rstrip("/")
