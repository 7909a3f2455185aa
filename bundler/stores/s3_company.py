"""Whether somebody else brings the same object right now, as far as the server's lists tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from bundler.errors import BundleError
from bundler.stores.s3_errors import Place, told

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import PartTypeDef

_AT_ONCE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class _Sent:
    etag: str
    answered: datetime | None  # in whole seconds, by the server's clock
    once: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """Looks for traces of others at one object that we bring.

    Attributes:
        client: For the bucket.
        place: The object.
        upload_id: The upload that we use.
        joined: Whether somebody else began it.
        there: The parts that it had then.
    """

    client: S3Client
    place: Place
    upload_id: str
    joined: bool
    there: Set[int]
    _sent: dict[int, _Sent] = field(default_factory=dict)

    def sent(self, number: int, etag: str, answer: Mapping[str, object]) -> None:
        """Remember a part that we brought; ``answer`` is what the server says of the call."""
        if number in self.there:  # some servers go on listing what was there before
            return
        headers = answer.get("HTTPHeaders")
        date = headers.get("date") if isinstance(headers, Mapping) else None
        self._sent[number] = _Sent(etag, _date(date), answer.get("RetryAttempts", 0) == 0)

    def is_seen(self) -> bool:
        """Ask once, at the end, whether others are there; that nobody tells us is no error.

        Two that begin at the same time may have an upload each; else they use the same, and what
        they send last of a part is there in the place of ours.
        """
        with suppress(BundleError), told(self.place):
            return self._has_parts_of_others() or (not self.joined and self._is_begun_twice())
        return False

    def _has_parts_of_others(self) -> bool:
        pages = self.client.get_paginator("list_parts").paginate(
            Bucket=self.place.bucket, Key=self.place.key, UploadId=self.upload_id
        )
        found: dict[int, list[PartTypeDef]] = {}
        for page in pages:
            for part in page.get("Parts", ()):
                found.setdefault(part["PartNumber"], []).append(part)
        return any(_is_sent_again(found.get(n, []), sent) for n, sent in self._sent.items())

    def _is_begun_twice(self) -> bool:
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.place.bucket, Prefix=self.place.key
        )
        begun = {
            item["UploadId"]: item["Initiated"]
            for page in pages
            for item in page.get("Uploads", ())
            if item["Key"] == self.place.key
        }
        own = begun.pop(self.upload_id, None)
        return own is not None and any(other >= own - _AT_ONCE for other in begun.values())


def _is_sent_again(listed: Sequence[PartTypeDef], sent: _Sent) -> bool:
    """Say whether somebody stored a part after us; some servers list each time that it was."""
    if len(listed) > 1 and sent.once:
        return True
    for part in listed:
        stored = part.get("LastModified")
        later = stored and sent.answered and stored.replace(microsecond=0) > sent.answered
        if later or part["ETag"] != sent.etag:
            return True
    return False


def _date(text: object) -> datetime | None:
    """Read the date of an answer, which is always in UTC."""
    with suppress(ValueError):
        return parsedate_to_datetime(str(text)).replace(tzinfo=UTC)
    return None
