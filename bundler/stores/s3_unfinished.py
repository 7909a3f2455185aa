"""What others, or we ourselves when we were killed, left of an object: judged by its content.

Uploads carry no readable mark of whose they are. Our keys are named by content, so an upload of
such a key, with SHA-256, is one of the same object; its parts are believed by their checksums.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from bundler.digest import Digest
from bundler.parts import Span
from bundler.stores.s3_errors import Place, told

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_READ = 8
_OURS = "SHA256"
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')

Wanted = Mapping[int, tuple[Span, Digest]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """How a server lists an upload; None for what it does not tell.

    Attributes:
        algorithm: Of the checksums that its parts must have.
        storage_class: Of the object that it becomes.
    """

    algorithm: str | None
    storage_class: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """An upload that somebody began.

    Attributes:
        upload_id: The server's name for it.
        begun: When, by the server's clock.
        listed: How the server lists it.
        proven: ETags of the parts that the server holds under our checksums, by number.
        likely: ETags of parts of the right size without a checksum, where they may be the MD5.
    """

    upload_id: str
    begun: datetime
    listed: Listed
    proven: Mapping[int, str] = field(default_factory=dict)
    likely: Mapping[int, str] = field(default_factory=dict)


def find_unfinished(
    client: S3Client, place: Place, wanted: Wanted, asked: Listed, own: str = ""
) -> Unfinished | None:
    """Choose the upload of a key that has most of our parts, and of equal ones the oldest.

    So two publishers choose the same. One that has no part is chosen too: it is of our key. Those
    that are listed as we would have them come before all others.

    Args:
        client: For the bucket.
        place: The object.
        wanted: Its parts, by number.
        asked: How the server lists an upload of ours, if it tells all.
        own: One that was just begun, chosen where no other is as good.

    Raises:
        DeniedError, WorldError: As every call; that we may not list uploads is no error.
    """
    with told(place):
        try:
            found = _list_uploads(client, place)
        except ClientError:  # we may not, or the server cannot: then there is none to go on with
            return None
        judged = [_judge(client, place, wanted, *item) for item in found]
    return min(
        (item for item in judged if item is not None),
        key=lambda item: (
            item.listed != asked,
            -_parts(item),
            item.begun,
            item.upload_id == own,
            item.upload_id,
        ),
        default=None,
    )


def _parts(upload: Unfinished) -> int:
    return len(upload.proven) + len(upload.likely)


def proven_parts(
    client: S3Client, place: Place, wanted: Wanted, upload_id: str
) -> Mapping[int, str] | None:
    """Give the ETags of the parts that an upload holds under our checksums; None where it is gone.

    Raises:
        WorldError: The server cannot be reached.
    """
    with told(place):
        found = _judge(client, place, wanted, upload_id, datetime.min)
    return None if found is None else found.proven


def look_up(client: S3Client, place: Place, upload_id: str) -> Unfinished | None:
    """Look at an upload that has no parts yet; None where it is gone.

    Raises:
        WorldError: The server cannot be reached.
    """
    with told(place):
        return _judge(client, place, {}, upload_id, datetime.min)


def _list_uploads(client: S3Client, place: Place) -> list[tuple[str, datetime]]:
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=place.bucket, Prefix=place.key
    )
    every = (item for page in pages for item in page.get("Uploads", ()))
    ours = (
        (item["UploadId"], item["Initiated"])
        for item in every
        if item["Key"] == place.key and item.get("ChecksumAlgorithm", _OURS) == _OURS
    )
    return list(islice(ours, _READ))


def _judge(
    client: S3Client, place: Place, wanted: Wanted, upload_id: str, begun: datetime
) -> Unfinished | None:
    """Look at the parts of an upload; None where it is gone, or somebody else's affair."""
    pages = client.get_paginator("list_parts").paginate(
        Bucket=place.bucket, Key=place.key, UploadId=upload_id
    )
    try:
        listed = list(pages)
    except ClientError:
        return None
    every = [part for page in listed for part in page.get("Parts", ())]
    algorithm = listed[0].get("ChecksumAlgorithm")
    if algorithm not in {None, _OURS}:
        return None
    proven, likely = {}, {}
    for part in every:
        number, etag = part["PartNumber"], part["ETag"]
        span, digest = wanted.get(number, (None, None))
        if span is None or digest is None or part["Size"] != span.length:
            continue
        if part.get("ChecksumSHA256") == digest.base64:
            proven[number] = etag
        elif "ChecksumSHA256" not in part and _MD5.fullmatch(etag):
            likely[number] = etag
    if every and not proven and not likely:
        return None
    return Unfinished(
        upload_id=upload_id,
        begun=begun,
        listed=Listed(
            algorithm=_OURS if proven else algorithm, storage_class=listed[0].get("StorageClass")
        ),
        proven=proven,
        likely=likely,
    )


def md5_of(etag: str) -> str:
    """Give the MD5 that an ETag may be, in hex."""
    return etag.strip('"')
