"""One large object on its way to S3, in parts whose digests are known."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from bundler.digest import Digest
from bundler.errors import WorldError
from bundler.parts import Span
from bundler.remote_object import RemoteObject
from bundler.sizes import count_text
from bundler.stores.aws_errors import code_of
from bundler.stores.base import Advance, Note, Pieces
from bundler.stores.retry import Tries
from bundler.stores.s3_body import Body
from bundler.stores.s3_company import Company
from bundler.stores.s3_copy import CannotCopyError
from bundler.stores.s3_errors import LostError, Place, told
from bundler.stores.s3_joining import end_upload, join_or_begin
from bundler.stores.s3_unfinished import Wanted, md5_of, proven_parts
from bundler.stores.s3_writer import Writer, only_if_absent

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef

_LOOK_SECONDS = 20.0
_LOOKS = (0.5, 1.0, 2.0)
_COMPLETIONS = 3
_INVALID_PART = "InvalidPart"
_ELSEWHERE = "another publisher sends it too"


class S3Incoming:
    """One object as a multipart upload; an ``Incoming``.

    An upload that somebody left is joined; one that we cannot go on with stays, since somebody may
    use it: only where the object stands complete, and right, the upload that we used is ended.

    Attributes:
        place: The object.
        upload_id: The server's name for the upload.
    """

    def __init__(
        self,
        writer: Writer,
        place: Place,
        parts: Sequence[tuple[Span, Digest]],
        stands: Callable[[], bool],
        note: Note,
    ) -> None:
        """Join an unfinished upload, or begin one.

        Args:
            writer: Makes objects.
            place: The object.
            parts: All of its parts.
            stands: Says whether the object is there; raises ConflictError where another is.
            note: Told of other publishers.
        """
        self.place = place
        self._writer = writer
        self._client = writer.client
        self._wanted: Wanted = {span.number: (span, digest) for span, digest in parts}
        self._stands = stands
        self._note = note
        self._lock = threading.Lock()
        self._done = False
        self._sending: set[int] = set()
        self._looked = writer.patience.clock()
        found = join_or_begin(writer, place, self._wanted, note)
        self.upload_id = found.upload_id
        self._etags, self._likely = dict(found.proven), dict(found.likely)
        self._company = Company(
            client=writer.client,
            place=place,
            upload_id=found.upload_id,
            joined=found.begun != datetime.min,
            there={*found.proven, *found.likely},
        )
        self._company_told = False
        # Listings do not tell of encryption: whoever asks for a key needs one answer to a part
        # of his own, and until then takes nothing from elsewhere.
        self._key_shown = not writer.settings.kms_key
        if not self._key_shown:
            self._likely.clear()  # an ETag is no MD5 then
            if len(self._etags) == len(parts):
                self._etags.pop(len(parts))

    @property
    def missing(self) -> Sequence[Span]:
        """What is still to be sent, in order."""
        return tuple(span for n, (span, _) in self._wanted.items() if n not in self._etags)

    def holds(self, span: Span, pieces: Pieces) -> bool:
        """Compare a part that was listed without a checksum by its MD5."""
        etag = self._likely.pop(span.number, None)
        if etag is None or _md5(pieces) != md5_of(etag):
            return False
        self._etags[span.number] = etag
        return True

    def send(self, span: Span, pieces: Pieces, advance: Advance) -> None:
        """Bring one part."""

        def put(digest: Digest) -> str:
            body = Body(pieces, span.length, advance, Tries(self._writer.patience))
            done = self._client.upload_part(
                Bucket=self.place.bucket,
                Key=self.place.key,
                UploadId=self.upload_id,
                PartNumber=span.number,
                Body=body.as_stream(),
                ChecksumSHA256=digest.base64,
            )
            self._writer.require_encrypted(self.place, done)
            self._company.sent(span.number, done["ETag"], done["ResponseMetadata"])
            return done["ETag"]

        self.bring(span, put)

    def copy(self, span: Span, source: RemoteObject, offset: int, advance: Advance) -> bool:
        """Have the server take one part from an object that it holds, and prove it."""

        def put(digest: Digest) -> str:
            done = self._writer.copying.copy_part(
                self._client, self.place, self.upload_id, (span, digest), (source, offset)
            )
            self._writer.require_encrypted(self.place, done)
            return done["CopyPartResult"]["ETag"]

        try:
            self.bring(span, put)
        except CannotCopyError as error:
            if error.news:
                self._note(error.news)
            return False
        advance(span.length)
        return True

    def bring(self, span: Span, put: Callable[[Digest], str]) -> None:
        """Bring one part by a call of its own, unless it is there by now.

        Args:
            span: The part.
            put: Makes the call, given the part's digest, and gives its ETag; what it raises of the
                client library is told in our words.
        """
        self._look_around()
        if self._done or span.number in self._etags:
            return
        digest = self._wanted[span.number][1]
        part = f"part {span.number} of {len(self._wanted)}, expected {digest}"
        self._sending.add(span.number)
        try:
            with told(dataclasses.replace(self.place, part=part)):
                self._etags[span.number] = put(digest)
                self._key_shown = True
        except LostError as error:
            self._settle(error)

    def complete(self) -> None:
        """Make the object appear, unless it stands there by now."""
        if self._done:
            return
        if self._stands():
            self._settle(None)
            return
        if not self._company_told and self._company.is_seen():
            self._note(f"{self.place}: {_ELSEWHERE}")
        try:
            self._complete()
        except LostError as error:
            self._settle(error)

    def _complete(self) -> None:
        with told(self.place):
            for _ in range(_COMPLETIONS - 1):
                try:
                    self._make_object()
                except ClientError as error:
                    if code_of(error) != _INVALID_PART or not self._take_all():
                        raise
                else:
                    return
            self._make_object()

    def _take_all(self) -> bool:
        """Take the parts as they are now: whoever sends one again may change its ETag."""
        found = proven_parts(self._client, self.place, self._wanted, self.upload_id) or {}
        self._etags |= found
        return len(found) == len(self._wanted)

    def _make_object(self) -> None:
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": self._etags[number], "ChecksumSHA256": digest.base64}
            for number, (_, digest) in self._wanted.items()
        ]
        only_if_absent(
            lambda condition: self._client.complete_multipart_upload(
                Bucket=self.place.bucket,
                Key=self.place.key,
                UploadId=self.upload_id,
                MultipartUpload={"Parts": parts},
                **condition,
            )
        )

    def _settle(self, lost: LostError | None) -> None:
        """The upload is gone, or the key taken: the same content there is success.

        Args:
            lost: How we learnt of it; None where we looked.

        Raises:
            ConflictError: Another object is there.
            WorldError: None is.
        """
        with self._lock:
            if self._done:
                return
            if lost is not None and not stands_soon(self._stands, self._writer.patience.sleep):
                raise WorldError(
                    f"{self.place}: its unfinished upload was ended by somebody else",
                    hint="run again; what arrived of other objects stays",
                ) from lost
            self._done = True
        if lost is None or not lost.may_be_ours:
            self._note(f"{self.place}: {_ELSEWHERE}, and has completed it")
        end_upload(self._writer, self.place, self.upload_id)

    def _look_around(self) -> None:
        """See from time to time what others brought: they may go on with the same upload."""
        now = self._writer.patience.clock()
        with self._lock:
            if not self._key_shown or now - self._looked < _LOOK_SECONDS:
                return
            self._looked = now
        found = proven_parts(self._client, self.place, self._wanted, self.upload_id) or {}
        theirs = found.keys() - self._etags.keys() - self._sending
        if theirs:
            self._company_told = True
            self._etags |= {number: found[number] for number in theirs}
            count = count_text(len(theirs), "part")
            self._note(f"{self.place}: {_ELSEWHERE}: {count} came from elsewhere")


def stands_soon(stands: Callable[[], bool], sleep: Callable[[float], None]) -> bool:
    """Look a few times: what somebody else completes right now may take a moment to be there."""
    for wait in _LOOKS:
        if stands():
            return True
        sleep(wait)
    return stands()


def _md5(pieces: Pieces) -> str:
    whole = hashlib.md5(usedforsecurity=False)
    for piece in pieces():
        whole.update(piece)
    return whole.hexdigest()
