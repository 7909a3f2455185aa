"""One large object on its way to S3, in parts whose digests are known."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import IO, TYPE_CHECKING, BinaryIO, TypedDict, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError

from bundler.digest import Digest
from bundler.errors import BundleError, ContentError
from bundler.parts import Span
from bundler.stores.aws_errors import code_of
from bundler.stores.base import Advance, OpenPart
from bundler.stores.s3_errors import LostError, Place, told

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

T = TypeVar("T")

_THREADS = 4
_UNFINISHED_READ = 8


class Body:
    """A request body: a stream that tells of each byte sent, and takes it back on a retry."""

    def __init__(self, content: BinaryIO, advance: Advance) -> None:
        self._content = content
        self._advance = advance
        self._told = content.tell()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        chunk = self._content.read(size)
        self._told += len(chunk)
        self._advance(len(chunk))
        return chunk

    def tell(self) -> int:
        """Say how far it is read."""
        return self._content.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere; whatever lies behind that place counts as not yet sent."""
        position = self._content.seek(offset, whence)
        if position < self._told:
            self._advance(position - self._told)
            self._told = position
        return position

    def as_stream(self) -> IO[bytes]:
        """Give it the type under which the client library takes it."""
        return cast("IO[bytes]", self)


class Condition(TypedDict, total=False):
    """What a call is sent with, so that it is carried out only if that holds."""

    IfMatch: str
    IfNoneMatch: str


def only_if_absent(write: Callable[[Condition], T]) -> T:
    """Write on condition that the key is free, or without one where the server knows none."""
    try:
        return write({"IfNoneMatch": "*"})
    except ClientError as error:
        if code_of(error) != "NotImplemented":
            raise
    return write({})


class Multipart:
    """One object as a multipart upload: ``send`` its parts, then ``complete`` or ``abandon``."""

    def __init__(
        self,
        client: S3Client,
        place: Place,
        parts: Sequence[tuple[Span, Digest]],
        open_part: OpenPart,
        advance: Advance,
    ) -> None:
        self._client = client
        self._place = place
        self._parts = parts
        self._open_part = open_part
        self._advance = advance
        self._upload_id = ""
        self._began = False
        self._etags: dict[int, str] = {}

    def send(self) -> None:
        """Send the parts that are not there yet.

        An unfinished upload of the same key is joined where the server proves by checksum that it
        holds parts of ours. An upload that we began and cannot go on with is abandoned; one that
        somebody else began is left to them.
        """
        joined = self._join()
        self._began = not joined
        if self._began:
            self._begin()
        try:
            self._etags = joined | self._send_missing(joined)
        except (BundleError, OSError) as error:
            self.abandon(refused=isinstance(error, ContentError))
            raise

    def complete(self) -> bool:
        """Make the object appear; False where its key is taken, or the upload gone."""
        try:
            self._complete()
        except LostError:
            self.abandon(refused=True)
            return False
        return True

    def abandon(self, *, refused: bool = False) -> None:
        """Abort an upload that we began, unless the next run can join its parts.

        Args:
            refused: Its parts are of no use: abort it in any case.
        """
        if not self._began:
            return
        with contextlib.suppress(BundleError):  # the server is gone: its parts stay
            if refused or not self._proven(self._upload_id):
                self._abort()

    def _join(self) -> dict[int, str]:
        """Choose the unfinished upload that has most of our parts; their ETags by number."""
        with told(self._place):
            found = {upload_id: self._proven(upload_id) for upload_id in self._unfinished()}
        if not any(found.values()):
            return {}
        self._upload_id = max(found, key=lambda upload_id: len(found[upload_id]))
        return found[self._upload_id]

    def _unfinished(self) -> list[str]:
        """List uploads of this very key; none where we may not, or the server cannot."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._place.bucket, Prefix=self._place.key
        )
        try:
            every = (item for page in pages for item in page.get("Uploads", ()))
            ours = (item["UploadId"] for item in every if item["Key"] == self._place.key)
            return list(islice(ours, _UNFINISHED_READ))
        except ClientError:
            return []

    def _proven(self, upload_id: str) -> dict[int, str]:
        """Give the ETags of the parts that the server holds under our checksums, by number."""
        wanted = {span.number: (span.length, digest.base64) for span, digest in self._parts}
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self._place.bucket, Key=self._place.key, UploadId=upload_id
        )
        try:
            every = [part for page in pages for part in page.get("Parts", ())]
        except ClientError:
            return {}
        return {
            part["PartNumber"]: part["ETag"]
            for part in every
            if wanted.get(part["PartNumber"]) == (part["Size"], part.get("ChecksumSHA256"))
        }

    def _begin(self) -> None:
        with told(self._place):
            begun = self._client.create_multipart_upload(
                Bucket=self._place.bucket, Key=self._place.key, ChecksumAlgorithm="SHA256"
            )
        self._upload_id = begun["UploadId"]

    def _send_missing(self, sent: Mapping[int, str]) -> dict[int, str]:
        missing = [(span, digest) for span, digest in self._parts if span.number not in sent]
        with ThreadPoolExecutor(_THREADS) as threads:
            jobs = {threads.submit(self._send_part, *part): part[0].number for part in missing}
            try:
                return {jobs[job]: job.result() for job in as_completed(jobs)}
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _send_part(self, span: Span, digest: Digest) -> str:
        part = f"part {span.number} of {len(self._parts)}, expected {digest}"
        place = dataclasses.replace(self._place, part=part)
        with self._open_part(span) as content, told(place):
            done = self._client.upload_part(
                Bucket=self._place.bucket,
                Key=self._place.key,
                UploadId=self._upload_id,
                PartNumber=span.number,
                Body=Body(content, self._advance).as_stream(),
                ChecksumSHA256=digest.base64,
            )
        return done["ETag"]

    def _complete(self) -> None:
        parts: list[CompletedPartTypeDef] = [
            {
                "PartNumber": span.number,
                "ETag": self._etags[span.number],
                "ChecksumSHA256": digest.base64,
            }
            for span, digest in self._parts
        ]
        with told(self._place):
            only_if_absent(
                lambda condition: self._client.complete_multipart_upload(
                    Bucket=self._place.bucket,
                    Key=self._place.key,
                    UploadId=self._upload_id,
                    MultipartUpload={"Parts": parts},
                    **condition,
                )
            )

    def _abort(self) -> None:
        with contextlib.suppress(ClientError, BotoCoreError):  # an earlier error matters more
            self._client.abort_multipart_upload(
                Bucket=self._place.bucket, Key=self._place.key, UploadId=self._upload_id
            )
