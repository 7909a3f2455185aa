"""One blob on its way to a registry.

A session is opened, and the blob goes as the body of one request. When that breaks, the registry
is asked how far the session came; we go on from there if that can be true, and else begin again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bundler.blob_content import BlobContent
from bundler.errors import ContentError, WorldError, printable
from bundler.stores.base import Advance
from bundler.stores.registry_client import Client, Purpose, blob_size, number
from bundler.stores.registry_errors import (
    NOT_FOUND,
    broken,
    in_words,
    is_no_repository,
    is_wrong_digest,
    said,
)
from bundler.stores.registry_messages import BUSY, Answer, InterruptedTransferError, Request
from bundler.stores.registry_url import resolve, with_query

_ACCEPTED, _NO_CONTENT, _RANGE_REFUSED = 202, 204, 416
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
# The session is of no use any more; ECR says the second of a part at the wrong place.
# Source: OCI distribution specification v1.1, "Error codes".
_LOST = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID"})
_OCTETS = {"Content-Type": "application/octet-stream"}
_MOST_WHOLE = 2
_WHATEVER = range(200, 500)
_KEPT_TRIES = 3  # for a fresh session, where one will not say how far it came
# As fast as a blob may be sent again: for so long it is better to wait for one that was sent.
_BYTES_PER_SECOND = 100 << 20


@dataclass(frozen=True, slots=True)
class _Session:
    """An upload that a registry waits for.

    Attributes:
        url: Where it is gone on with.
        start: Bytes that it has.
        least: The fewest bytes that it takes without ending.
    """

    url: str
    start: int = 0
    least: int = 0


class BlobUpload:
    """Sends one blob; for one thread, once."""

    def __init__(
        self,
        client: Client,
        purpose: Purpose,
        blob: BlobContent,
        *,
        blobs_url: str,
        advance: Advance,
    ) -> None:
        """Remember what goes where; nothing is sent yet.

        Args:
            client: Speaks to the registry.
            purpose: What the requests are about.
            blob: What to send.
            blobs_url: Where the blobs of the repository are, up to ``/blobs``.
            advance: Told of bytes sent, and taken back.
        """
        self._client = client
        self._purpose = purpose
        self._blob = blob
        self._blobs_url = blobs_url
        self._advance = advance
        self._tries = client.begin()
        self._session: _Session | None = None
        self._sent = 0  # bytes that may have reached the session, and that ``advance`` knows of
        self._closing = False  # whether the last request was to close the session
        self._refused_logins = 0  # since there was progress
        self._refused_whole = 0  # times that the registry had all, and did not want it

    def send(self) -> None:
        """Send the blob, until the registry says that it has it.

        Raises:
            ContentError: The registry found another digest, twice; or it calls it otherwise.
            WorldError: It fails for longer than we are patient.
        """
        while not self._attempt():
            pass

    def _attempt(self) -> bool:
        """Send what the session lacks; True when the blob is there."""
        if self._session is None:
            self._session = self._open()
        try:
            answer = self._send(self._session)
        except InterruptedTransferError as error:
            return self._recovered(str(error), error)
        if answer.fine:
            self._check(answer)
            return True
        if self._client.wants_login(answer, self._purpose, self._refused_logins):
            self._refused_logins += answer.login is not None
            self._closing = False
            return self._recovered("our login was no longer good")
        if answer.status in BUSY:
            after = answer.headers.get("Retry-After")
            return self._recovered(f"it answered {in_words(answer)}", retry_after=after)
        if answer.status == NOT_FOUND and self._is_there_by_and_by():
            return True
        self._begin_again(answer)
        return False

    def _open(self) -> _Session:
        request = Request(method="POST", url=f"{self._blobs_url}/uploads/")
        answer = self._client.ask(request, self._purpose, self._tries, fine={_ACCEPTED})
        least = number(answer.headers.get("OCI-Chunk-Min-Length")) or 0
        return _Session(self._location(answer, None), least=least)

    def _location(self, answer: Answer, default: str | None) -> str:
        location = answer.headers.get("Location") or default
        return resolve(answer.url, location, place=self._purpose.place)

    def _send(self, session: _Session) -> Answer:
        """Send the rest of the blob, and close the session."""
        rest = self._blob.size - session.start
        self._closing = False
        if session.start and rest >= max(1, session.least):
            answer = self._transfer("PATCH", session.url, session.start)
            if not answer.fine:  # 202; Amazon ECR: 201
                return answer
            url = self._location(answer, session.url)
            session = self._session = replace(session, url=url, start=self._blob.size)
            self._refused_logins = 0
        self._closing = True
        url = with_query(session.url, digest=str(self._blob.digest))
        return self._transfer("PUT", url, session.start)

    def _transfer(self, method: str, url: str, start: int) -> Answer:
        rest = self._blob.size - start
        ranged = {"Content-Range": f"{start}-{self._blob.size - 1}"} if start and rest else {}
        request = Request(
            method=method,
            url=url,
            headers=_OCTETS | ranged,
            content=None if rest else b"",
            body=self._body(start) if rest else None,
            length=rest,
            commits=True,
        )
        return self._client.send(request, self._purpose, self._tries)

    def _body(self, start: int) -> Iterator[memoryview]:
        """Give the bytes from ``start`` on, and never more or fewer than were announced."""
        at = start
        for piece in self._blob.pieces(at):
            at += len(piece)
            if at > self._blob.size:
                break
            self._tell(at)
            yield piece
            self._tries.flows()
        if at != self._blob.size:
            raise ContentError(
                f"{self._purpose.place}: expected {self._blob.size} bytes to send, "
                f"got {'more' if at > self._blob.size else at}"
            )

    def _tell(self, sent: int) -> None:
        if sent != self._sent:
            self._advance(sent - self._sent)
            self._sent = sent

    def _recovered(
        self,
        reason: str,
        cause: InterruptedTransferError | None = None,
        *,
        retry_after: str | None = None,
    ) -> bool:
        """Wait, and find out where we are; True when the blob is there after all."""
        hope = self._tries.again(retry_after, counted=cause is None or not cause.away)
        if self._may_be_done and self._is_there():
            return True
        if not hope:
            raise broken(self._purpose.place, reason, tried=self._tries.failed) from cause
        self._session = self._resumed()
        if self._session is None and self._is_there_by_and_by():
            return True
        start = self._session.start if self._session else 0
        if self._tries.reached(start, self._blob.size):
            self._refused_logins = 0
        self._tell(start)
        return False

    def _resumed(self) -> _Session | None:
        """Ask how many bytes the session has; None where the answer cannot be trusted."""
        session = self._session
        if session is None or not self._sent:
            return None
        request = Request(method="GET", url=session.url)
        few = max(1, self._tries.patience.tries - self._tries.counted - _KEPT_TRIES)
        try:
            answer = self._client.ask(request, self._purpose, self._tries, fine=_WHATEVER, few=few)
        except WorldError:  # what it is about a fresh session will tell
            return None
        found = _RANGE.fullmatch(answer.headers.get("Range", ""))
        if answer.status != _NO_CONTENT or found is None:
            return None
        offset = int(found[1]) + 1
        # 0-0 is said of no byte, too. What goes back is old, and where what stays is, 416 says so.
        least = min(session.start or 1, self._blob.size)
        if offset == 1 or not least <= offset <= self._sent:
            return None
        return replace(session, url=self._location(answer, session.url), start=offset)

    def _begin_again(self, answer: Answer) -> None:
        """Give up the session, if its end was such that another one may do better."""
        wrong = is_wrong_digest(answer)
        if wrong or self._sent == self._blob.size:
            self._refused_whole += 1
        lost = answer.status in {NOT_FOUND, _RANGE_REFUSED} or said(answer).codes & _LOST
        if wrong and self._refused_whole >= _MOST_WHOLE:
            raise ContentError(
                f"{self._purpose.place}: the registry found other content than was signed, "
                f"{_MOST_WHOLE} times ({said(answer).text})"
            )
        hopeless = not wrong and (not lost or self._refused_whole >= _MOST_WHOLE)
        if hopeless or is_no_repository(answer) or not self._tries.again():
            raise self._client.refusal(answer, self._purpose)
        self._session = None
        self._tell(0)

    def _check(self, answer: Answer) -> None:
        """See that the registry calls what we sent by its name."""
        announced = answer.headers.get("Docker-Content-Digest", str(self._blob.digest))
        if announced != str(self._blob.digest) and announced.startswith("sha256:"):
            raise ContentError(
                f"{self._purpose.place}: the registry took it, and its answer names another "
                f"digest: {printable(announced)[:80]}",
                hint="the registry, or a proxy before it, answers wrongly: ask its operator",
            )

    def _is_there_by_and_by(self) -> bool:
        """Look for a blob that may still be being put away.

        That is waited for as long as sending it again takes, and for half of the time at most that
        is left.
        """
        if not self._may_be_done:
            return False
        left = self._tries.patience.budget - self._tries.spent
        end = self._tries.spent + min(self._blob.size // _BYTES_PER_SECOND, left / 2)
        while not self._is_there():
            if self._tries.spent >= end or not self._tries.again(counted=False):
                return False
        return True

    @property
    def _may_be_done(self) -> bool:
        return self._closing and self._sent == self._blob.size

    def _is_there(self) -> bool:
        url, digest = self._blobs_url, self._blob.digest
        size = blob_size(self._client, self._purpose, self._tries, url, digest)
        if size not in {None, self._blob.size}:
            raise ContentError(
                f"{self._purpose.place}: expected {self._blob.size} bytes, the registry has {size}",
                hint="delete the blob in the registry, then run again",
            )
        return size is not None
