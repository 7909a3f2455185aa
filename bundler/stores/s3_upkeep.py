"""Looking after a bucket of S3: what lies there since when, what was left unfinished, removal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from bundler.errors import DeniedError, NotFoundError, WorldError
from bundler.stores.s3_errors import LostError, Place, ending, told
from bundler.stores.upkeep import HeldObject, UnfinishedUpload

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_MAX_UPLOADS = 100_000


class S3Upkeep:
    """One bucket; an ``Upkeep``. Any number of threads may use it at once."""

    def __init__(self, bucket: str, client: S3Client) -> None:
        self._bucket = bucket
        self._client = client

    def objects(self, prefix: str) -> Iterator[HeldObject]:
        """Give every object whose key starts with ``prefix``, by key."""
        place = self._place(prefix)
        with told(place):
            pages = self._client.get_paginator("list_objects_v2")
            for page in ending(pages.paginate(Bucket=self._bucket, Prefix=prefix), place):
                for item in page.get("Contents", ()):
                    yield HeldObject(item["Key"], item["Size"], _seconds(item["LastModified"]))

    def uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """Give every unfinished upload whose key starts with ``prefix``, by key.

        MinIO takes the prefix for the whole key of an object, and only without one does it list
        them all; so where there seems to be none, all of the bucket are looked through.
        """
        found = self._listed(prefix)
        if not found:
            with suppress(DeniedError):
                found = self._listed("")
        for key, upload_id, begun in sorted(found):
            if key.startswith(prefix):
                upload = self._measured(key, upload_id, begun)
                if upload is not None:
                    yield upload

    def end(self, upload: UnfinishedUpload) -> bool:
        """End an upload, so that its parts go; success also where it is gone already.

        Source:
            Amazon S3 API reference, AbortMultipartUpload: parts on their way may be kept; list
            them, and end the upload again.
        """
        try:
            with told(self._place(upload.key)):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id
                )
        except (LostError, NotFoundError):
            return True
        return self._measured(upload.key, upload.upload_id, upload.begun) is None

    def remove(self, key: str) -> bool:
        """Remove one object; nothing happens where there is none."""
        try:
            with told(self._place(key)):
                answer = self._client.delete_object(Bucket=self._bucket, Key=key)
        except NotFoundError:
            return False
        return answer.get("DeleteMarker", False)

    def _listed(self, prefix: str) -> list[tuple[str, str, int]]:
        place = self._place(prefix)
        found: list[tuple[str, str, int]] = []
        with told(place):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                uploads = page.get("Uploads", ())
                found += [(it["Key"], it["UploadId"], _seconds(it["Initiated"])) for it in uploads]
                if len(found) > _MAX_UPLOADS:
                    raise WorldError(f"{place}: the listing of uploads does not end")
        return found

    def _measured(self, key: str, upload_id: str, begun: int) -> UnfinishedUpload | None:
        """Ask what an upload holds; None where it was completed or ended meanwhile."""
        try:
            with told(self._place(key)):
                pages = self._client.get_paginator("list_parts").paginate(
                    Bucket=self._bucket, Key=key, UploadId=upload_id
                )
                parts = [part for page in pages for part in page.get("Parts", ())]
        except (LostError, NotFoundError):
            return None
        return UnfinishedUpload(
            key=key,
            upload_id=upload_id,
            begun=begun,
            touched=max([begun, *(_seconds(part["LastModified"]) for part in parts)]),
            parts=len(parts),
            size=sum(part["Size"] for part in parts),
        )

    def _place(self, key: str) -> Place:
        return Place(self._bucket, key, self._client.meta.endpoint_url)


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
