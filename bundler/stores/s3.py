"""S3, and whatever speaks its protocol: the only place that uses boto3."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.response import StreamingBody

from bundler.digest import Digest
from bundler.errors import ConflictError, ContentError, MalformedError, NotFoundError, WorldError
from bundler.object_settings import ObjectSettings
from bundler.parts import Span, part_size, s3_checksum, spans
from bundler.stores.aws_errors import code_of
from bundler.stores.base import Advance, Incoming, Note, Pieces, StoredObject, unnoted
from bundler.stores.judgement import Sameness, judge, read_back
from bundler.stores.retry import Patience, Timeouts, Tries
from bundler.stores.s3_body import Body
from bundler.stores.s3_connection import be_patient
from bundler.stores.s3_errors import NO_SUCH_KEY, LostError, Place, ending, explain, told
from bundler.stores.s3_retry import Retries
from bundler.stores.s3_small import Small, Standing
from bundler.stores.s3_source import Arriving, read_range
from bundler.stores.s3_upload import S3Incoming, stands_soon
from bundler.stores.s3_writer import Writer

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from types_boto3_s3 import S3Client

_CONNECTIONS = 32


def connect(
    *,
    endpoint: str | None = None,
    region: str | None = None,
    ca: Path | None = None,
    patience: Patience | None = None,
    timeouts: Timeouts | None = None,
    note: Note = unnoted,
) -> S3Client:
    """Make a client with the credentials and settings that boto3 finds in its usual places.

    Where an endpoint is named, here or there, buckets are addressed by path.

    Args:
        endpoint: URL of a server that speaks the S3 protocol; None for AWS, or what
            ``AWS_ENDPOINT_URL_S3`` or the profile names.
        region: The bucket's region; None for ``AWS_DEFAULT_REGION`` or what the profile names.
        ca: PEM file of the authority that the server's certificate is of; None for the usual ones.
        patience: How often and how long a call is tried; None for what suits S3.
        timeouts: How long the server may do nothing; None for what suits S3.
        note: Told, in words, of a server that is waited for; any thread.

    Raises:
        BundleError: boto3's configuration names a profile that is not there, or cannot be read.
    """
    timeouts = timeouts or Timeouts()
    config = Config(
        # The checksum of each part is known and sent: hashing the body again for its signature
        # would cost more than all the rest.
        s3={"payload_signing_enabled": False},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 1},  # the others are Retries' affair
        connect_timeout=timeouts.connect,
        read_timeout=timeouts.idle,
        max_pool_connections=_CONNECTIONS,
    )
    verify = None if ca is None else str(ca)
    try:
        session = boto3.session.Session(region_name=region)
        client = session.client("s3", endpoint_url=endpoint, verify=verify, config=config)
    except BotoCoreError as error:
        raise explain(error, Place("", "", endpoint or "")) from error
    except ValueError as error:
        server = Place("", "", endpoint or "").server
        raise MalformedError(f"{server}: not the URL of an S3 server") from error
    server = Place("", "", client.meta.endpoint_url).server
    if "@" in urlsplit(client.meta.endpoint_url).netloc:  # the library would repeat it in errors
        raise MalformedError(
            f"{server}: this S3 endpoint is given with a login in it, expected https://HOST[:PORT]",
            hint="credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
        )
    be_patient(client)
    Retries(patience or Patience(), note).watch(client)
    client.meta.events.register(
        "after-call.s3.GetObject", partial(_limit_reads, server, timeouts.answer)
    )
    return client


def _limit_reads(
    server: str, seconds: float, http_response: AWSResponse, parsed: dict[str, Any], **_: object
) -> None:
    """Have each read of an object's bytes come within a time."""
    if "Body" in parsed:
        body = Arriving(http_response.raw, server, seconds)
        parsed["Body"] = StreamingBody(body.as_stream(), cast("int", parsed.get("ContentLength")))


class S3Store:
    """One bucket; an ``ObjectStore``. Any number of threads may use it at once."""

    def __init__(
        self,
        bucket: str,
        client: S3Client,
        *,
        settings: ObjectSettings | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._bucket = bucket
        self._client = client
        self._patience = patience or Patience()
        self._writer = Writer(
            client=client, settings=settings or ObjectSettings(), patience=self._patience
        )
        self._bucket_seen = False

    def head(self, key: str) -> StoredObject | None:
        """Look one object up; None where there is none."""
        for _ in range(2):  # another publisher may store it between the two questions
            try:
                found = self._client.head_object(
                    Bucket=self._bucket, Key=key, ChecksumMode="ENABLED"
                )
            except ClientError as error:
                if self._is_missing(key, said=code_of(error) in NO_SUCH_KEY):
                    return None
            except BotoCoreError as error:
                raise explain(error, self._place(key)) from error
            else:
                self._bucket_seen = True
                return StoredObject(key, found["ContentLength"], found.get("ChecksumSHA256"))
        raise WorldError(f"{self._place(key)}: HEAD and GET disagree", hint="run again")

    def _is_missing(self, key: str, *, said: bool) -> bool:
        """Read a byte: a refused HEAD has no body that says why, nor what is missing."""
        if said and self._bucket_seen:
            return True
        try:
            list(self.read(key, 0, 1))
        except NotFoundError:
            self._bucket_seen = True
            return True
        return False

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object whose key starts with ``prefix``, by key, without checksums."""
        pages = self._client.get_paginator("list_objects_v2")
        with told(self._place(prefix)):
            found = pages.paginate(Bucket=self._bucket, Prefix=prefix)
            for page in ending(found, self._place(prefix)):
                for item in page.get("Contents", ()):
                    yield StoredObject(item["Key"], item["Size"])

    def get(self, key: str, *, limit: int) -> bytes:
        """Read a small object whole."""
        found = self._find(key)
        if found.size > limit:
            text = f"expected at most {limit} bytes, got {found.size}"
            raise MalformedError(f"{self._place(key)}: {text}")
        return b"".join(self.read(key, 0, found.size))

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """Stream ``length`` bytes from ``offset``, going on where a connection broke."""
        if length == 0:
            self._find(key)
        yield from read_range(self._client, self._place(key), offset, length)

    def put(self, key: str, content: bytes) -> bool:
        """Store a small object under its own SHA-256, never over another."""
        parts = [Digest.of(content)]
        if self._holds(key, len(content), parts):
            return False
        return self._put_new(key, content, len(content), parts[0])

    def replace(self, key: str, content: bytes) -> None:
        """Store a small object whatever is there: only for pointers such as ``current``."""
        with told(self._place(key)):
            self._writer.put(self._place(key), content, Digest.of(content))

    def begin(
        self, key: str, *, size: int, parts: Sequence[Digest], note: Note = unnoted
    ) -> Incoming:
        """Look whether an object is there, and else begin to bring it, or go on with that."""
        if self._holds(key, size, parts):
            return Standing()
        cut = tuple(zip(spans(size, part_size(size)), parts, strict=True))
        if len(cut) == 1:
            return Small(
                name=str(self._place(key)),
                span=cut[0][0],
                put=partial(self._put_part, key, cut[0]),
                note=note,
            )
        stands = partial(self._holds, key, size, parts)
        return S3Incoming(self._writer, self._place(key), cut, stands, note)

    def _put_part(
        self, key: str, part: tuple[Span, Digest], pieces: Pieces, advance: Advance
    ) -> bool:
        span, digest = part
        body = Body(pieces, span.length, advance, Tries(self._patience))
        content = body.as_stream() if span.length else b""
        return self._put_new(key, content, span.length, digest)

    def checks_content(self, prefix: str) -> bool:
        """Say whether this store refuses bytes that differ from their checksum."""
        key = f"{prefix.rstrip('/')}/.bundle-check-{secrets.token_hex(8)}".lstrip("/")
        try:
            with told(self._place(key)):
                self._writer.put(self._place(key), b"wrong", Digest.of(b"right"))
        except ContentError:
            return True
        self.delete(key)
        return False

    def delete(self, key: str) -> None:
        """Remove one object; nothing happens where there is none."""
        with suppress(NotFoundError), told(self._place(key)):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def _find(self, key: str) -> StoredObject:
        found = self.head(key)
        if found is None:
            raise NotFoundError(f"{self._place(key)}: no such object")
        return found

    def _put_new(self, key: str, content: bytes | IO[bytes], size: int, digest: Digest) -> bool:
        """Store in one request; False where somebody else stored the same meanwhile."""
        try:
            with told(self._place(key, f"part 1 of 1, expected {digest}")):
                self._writer.put_new(self._place(key), content, digest)
        except LostError as error:
            self._require(key, size, [digest])
            return error.may_be_ours
        return True

    def _holds(self, key: str, size: int, parts: Sequence[Digest]) -> bool:
        """Say whether the object is there; ConflictError where it is another."""
        found = self.head(key)
        if found is None:
            return False
        sameness = judge(found, size, parts).sameness
        if sameness is Sameness.OTHER or (
            sameness is Sameness.UNKNOWN and read_back(partial(self.read, key), size, parts)
        ):
            raise ConflictError(
                f"{self._place(key)}: expected {size} bytes of checksum {s3_checksum(parts)}, "
                f"holds {found.size} bytes of checksum {found.checksum or 'unknown'}",
                hint="nothing was overwritten; move that object away or choose another prefix",
            )
        return True

    def _require(self, key: str, size: int, parts: Sequence[Digest]) -> None:
        """Look again after a write that could not be done: the same content there is success."""
        if not stands_soon(partial(self._holds, key, size, parts), self._patience.sleep):
            raise WorldError(
                f"{self._place(key)}: another writer's upload came between and is gone again",
                hint="run again",
            )

    def _place(self, key: str, part: str = "") -> Place:
        return Place(self._bucket, key, self._client.meta.endpoint_url, part)
