"""Parts that an S3 server takes from an object it holds: their bytes pass no network of ours."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from bundler.digest import Digest
from bundler.errors import WorldError
from bundler.parts import Span
from bundler.remote_object import RemoteObject
from bundler.stores.aws_errors import REFUSALS, code_of
from bundler.stores.s3_errors import Place

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import UploadPartCopyOutputTypeDef

_CHANGED = frozenset({"PreconditionFailed", "412"})
_NOT_ABOUT_COPYING = frozenset({"NoSuchUpload", "SlowDown", *REFUSALS})
_NOT_IMPLEMENTED = 501


class CannotCopyError(Exception):
    """The part has to be sent instead.

    Attributes:
        news: Why, in words; empty where that was told before.
    """

    def __init__(self, news: str = "") -> None:
        super().__init__(news)
        self.news = news


class Copying:
    """Whether a server copies parts for us, as far as we know; any thread.

    It is asked until it once refuses, or does not prove what it copied: from then on parts are
    sent. A source on another server is not asked for at all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused = False

    def copy_part(
        self,
        client: S3Client,
        place: Place,
        upload_id: str,
        part: tuple[Span, Digest],
        source: tuple[RemoteObject, int],
    ) -> UploadPartCopyOutputTypeDef:
        """Have one part copied, compare the checksum that the server computed, give its answer.

        Args:
            client: For the server.
            place: The object that the part is of.
            upload_id: Of its multipart upload, which has SHA-256 checksums.
            part: Which, and its signed digest.
            source: The object that holds it, and from where on.

        Raises:
            CannotCopyError: The server cannot, may not, or does not prove that it did right.
            WorldError: The source is no longer the object that was listed.
            ClientError, BotoCoreError: Something else failed.
        """
        if self._refused:
            raise CannotCopyError
        if not same_side(source[0].server, place.endpoint):
            raise self._refuse("the release lies on another server")
        try:
            done = _copy(client, place, upload_id, part[0], source)
        except ClientError as error:
            if code_of(error) in _CHANGED:
                raise WorldError(
                    f"s3://{source[0].bucket}/{source[0].key}: changed while it was read",
                    hint="run again when nobody writes there",
                ) from error
            if not _about_copying(error):
                raise
            reason = f"{place.server} does not copy them ({code_of(error)})"
            raise self._refuse(reason) from error
        checksum = done["CopyPartResult"].get("ChecksumSHA256")
        checksum = checksum or _listed(client, place, upload_id, part[0])
        if checksum != part[1].base64:
            # Perhaps the bytes are wrong, perhaps the answer: sending the part shows which.
            told = "no SHA-256" if checksum is None else "another SHA-256 than was signed"
            raise self._refuse(f"{place.server} tells {told} of what it copied")
        return done

    def _refuse(self, reason: str) -> CannotCopyError:
        with self._lock:
            first, self._refused = not self._refused, True
        return CannotCopyError(f"parts go through this machine: {reason}" * first)


def _copy(
    client: S3Client, place: Place, upload_id: str, span: Span, source: tuple[RemoteObject, int]
) -> UploadPartCopyOutputTypeDef:
    found, offset = source
    return client.upload_part_copy(
        Bucket=place.bucket,
        Key=place.key,
        UploadId=upload_id,
        PartNumber=span.number,
        CopySource={"Bucket": found.bucket, "Key": found.key},
        CopySourceRange=f"bytes={offset}-{offset + span.length - 1}",
        CopySourceIfMatch=found.etag,
    )


def _listed(client: S3Client, place: Place, upload_id: str, span: Span) -> str | None:
    """Ask for the checksum of a part that the answer to its copying did not tell."""
    try:
        found = client.list_parts(
            Bucket=place.bucket,
            Key=place.key,
            UploadId=upload_id,
            PartNumberMarker=span.number - 1,
            MaxParts=1,
        )
    except ClientError:
        return None
    parts = {part["PartNumber"]: part.get("ChecksumSHA256") for part in found.get("Parts", ())}
    return parts.get(span.number)


def _about_copying(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    refused = 400 <= status < 500 or status == _NOT_IMPLEMENTED
    return refused and code_of(error) not in _NOT_ABOUT_COPYING


def same_side(left: str, right: str) -> bool:
    """Say whether one server may have both; AWS copies between the regions of a partition."""
    ours, theirs = urlsplit(left), urlsplit(right)
    if (ours.hostname, ours.port) == (theirs.hostname, theirs.port):
        return True
    return all("amazonaws" in (url.hostname or "").split(".") for url in (ours, theirs))
