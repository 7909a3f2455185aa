"""One large object on its way to S3, in parts whose digests are known."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from bundler.digest import Digest
from bundler.errors import WorldError
from bundler.parts import Span
from bundler.remote_object import RemoteObject
from bundler.stores.base import Advance, Note, Pieces
from bundler.stores.retry import Tries
from bundler.stores.s3_body import Body
from bundler.stores.s3_copy import CannotCopyError
from bundler.stores.s3_errors import LostError, Place, told
from bundler.stores.s3_unfinished import Wanted, find_unfinished, md5_of, proven_parts
from bundler.stores.s3_writer import Writer, only_if_absent

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef

_LOOK_SECONDS = 20.0
_LOOKS = (0.5, 1.0, 2.0)
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
        left = find_unfinished(self._client, place, self._wanted)
        self._etags = dict(left.proven) if left else {}
        self._likely = dict(left.likely) if left else {}
        if writer.settings.kms_key:
            # An ETag is no MD5 then, and one answer is needed that names the key.
            self._likely.clear()
            self._etags.pop(len(parts), None)
        if left is None:
            with told(place):
                self.upload_id = writer.begin(place)
        else:
            self.upload_id = left.upload_id
            there = len(left.proven) + len(left.likely)
            note(
                f"{place}: goes on with an upload that was begun at "
                f"{left.begun:%Y-%m-%d %H:%M:%S} UTC: {there} of {len(parts)} parts are there"
            )

    @property
    def missing(self) -> Sequence[Span]:
        """What is still to be sent, in order."""
        return tuple(span for n, (span, _) in self._wanted.items() if n not in self._etags)

    def send(self, span: Span, pieces: Pieces, advance: Advance) -> None:
        """Bring one part, unless the server turns out to hold it."""
        etag = self._likely.pop(span.number, None)
        if etag is not None and _md5(pieces) == md5_of(etag):
            self._etags[span.number] = etag
            advance(span.length)
            return

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
        except LostError as error:
            self._settle(error)

    def complete(self) -> None:
        """Make the object appear, unless it stands there by now."""
        if self._done:
            return
        if self._stands():
            self._settle(None)
            return
        try:
            self._complete()
        except LostError as error:
            self._settle(error)

    def _complete(self) -> None:
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": self._etags[number], "ChecksumSHA256": digest.base64}
            for number, (_, digest) in self._wanted.items()
        ]
        with told(self.place):
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
        self._end()

    def _look_around(self) -> None:
        """See from time to time what others brought: they may go on with the same upload."""
        now = self._writer.patience.clock()
        with self._lock:
            if now - self._looked < _LOOK_SECONDS:
                return
            self._looked = now
        found = proven_parts(self._client, self.place, self._wanted, self.upload_id) or {}
        theirs = found.keys() - self._etags.keys() - self._sending
        if theirs:
            self._etags |= {number: found[number] for number in theirs}
            self._note(f"{self.place}: {_ELSEWHERE}: {len(theirs)} parts came from elsewhere")

    def _end(self) -> None:
        with contextlib.suppress(ClientError, BotoCoreError):  # nobody needs it any more
            self._client.abort_multipart_upload(
                Bucket=self.place.bucket, Key=self.place.key, UploadId=self.upload_id
            )


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
