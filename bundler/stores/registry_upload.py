"""One blob on its way to a registry.

A session is opened, and the blob goes as the body of one request. When that breaks, the registry
is asked how far the session came; we go on from there if that can be true, and else begin again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bundler.digest import Digest
from bundler.errors import ContentError, WorldError
from bundler.stores.base import Advance, BlobContent
from bundler.stores.registry_client import BUSY, Client, Purpose, Refusals
from bundler.stores.registry_errors import (
    NOT_FOUND,
    broken,
    is_no_repository,
    is_wrong_digest,
    said,
)
from bundler.stores.registry_http import Answer, InterruptedTransferError, Request
from bundler.stores.registry_url import resolve, with_query
from bundler.stores.retry import Tries

_ACCEPTED, _NO_CONTENT, _RANGE_REFUSED = 202, 204, 416
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_NUMBER = re.compile(r"[0-9]{1,18}")
# The session is of no use any more; ECR says the second of a part at the wrong place.
# Source: OCI distribution specification v1.1, "Error codes".
_LOST = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID"})
_OCTETS = {"Content-Type": "application/octet-stream"}
_MOST_WHOLE = 2
_WHATEVER = range(200, 500)


class BlobUpload:
    """Sends one blob; for one thread, once."""

    def __init__(
        self,
        client: Client,
        purpose: Purpose,
        blob: BlobContent,
        *,
        blobs_url: str,
        session: str | None = None,
        advance: Advance,
    ) -> None:
        """Remember what goes where; nothing is sent yet.

        Args:
            client: Speaks to the registry.
            purpose: What the requests are about.
            blob: What to send.
            blobs_url: Where the blobs of the repository are, up to ``/blobs``.
            session: URL of an upload session that is open already and empty.
            advance: Told of bytes sent, and taken back.
        """
        self._client = client
        self._purpose = purpose
        self._blob = blob
        self._blobs_url = blobs_url
        self._session = session
        self._advance = advance
        self._tries = Tries(client.patience)
        self._refusals = Refusals()
        self._least = 0  # bytes that the registry wants of a PATCH
        self._whole = 0  # times that it took all, and refused it
        self._start = 0  # where the session is gone on with
        self._told = 0  # bytes that ``advance`` knows of
        self._offered = 0  # bytes that may have reached the session

    def send(self) -> None:
        """Send the blob, and see that it is there.

        Raises:
            ContentError: The registry found another digest, twice; or it shows another blob.
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
        if answer.status in BUSY:
            reason = f"it answered {answer.status} {said(answer).text}"
            return self._recovered(reason, None, answer.headers.get("Retry-After"))
        self._begin_again(answer)
        return False

    def _open(self) -> str:
        """Open a session, and give its URL."""
        request = Request(method="POST", url=f"{self._blobs_url}/uploads/")
        answer = self._client.ask(request, self._purpose, fine={_ACCEPTED})
        self._least = _number(answer.headers.get("OCI-Chunk-Min-Length")) or 0
        return self._location(answer, None)

    def _location(self, answer: Answer, default: str | None) -> str:
        location = answer.headers.get("Location") or default
        return resolve(answer.url, location, place=self._purpose.place)

    def _send(self, session: str) -> Answer:
        """Send the rest of the blob, and close the session."""
        rest = self._blob.size - self._start
        if self._start and rest >= max(1, self._least):
            answer = self._transfer("PATCH", session, rest)
            if not answer.fine:  # 202; Amazon ECR: 201
                return answer
            session = self._session = self._location(answer, session)
            self._refusals.times = 0
            rest = 0
        return self._transfer("PUT", with_query(session, digest=str(self._blob.digest)), rest)

    def _transfer(self, method: str, url: str, rest: int) -> Answer:
        headers = dict(_OCTETS)
        if self._start and rest:
            headers["Content-Range"] = f"{self._start}-{self._blob.size - 1}"
        request = Request(
            method=method,
            url=url,
            headers=headers,
            content=None if rest else b"",
            body=self._body() if rest else None,
            length=rest,
            commits=True,
        )
        return self._client.ask_once(request, self._purpose, self._refusals)

    def _body(self) -> Iterator[memoryview]:
        """Give the bytes from ``start`` on, and never more or fewer than were announced."""
        at = self._start
        for piece in self._blob.pieces(at):
            at += len(piece)
            if at > self._blob.size:
                break
            self._offered = max(self._offered, at)
            yield piece
            self._told += len(piece)
            self._advance(len(piece))
        if at != self._blob.size:
            raise ContentError(
                f"{self._purpose.place}: expected {self._blob.size} bytes to send, "
                f"got {'more' if at > self._blob.size else at}"
            )

    def _recovered(
        self, reason: str, cause: Exception | None, retry_after: str | None = None
    ) -> bool:
        """Wait, and find out where we are; True when the blob is there after all."""
        if not self._tries.again(retry_after):
            raise broken(self._purpose.place, reason, tried=self._tries.failed) from cause
        if self._told == self._blob.size and self._is_there():
            return True
        offset = self._offset()
        if offset is None:
            self._restart()
            return False
        if offset > self._start:
            self._tries.start_anew()
            self._refusals.times = 0
        self._rewind(offset)
        return False

    def _offset(self) -> int | None:
        """Ask how many bytes the session has; None where the answer cannot be trusted."""
        if self._session is None or not self._offered:
            return None
        request = Request(method="GET", url=self._session)
        try:
            answer = self._client.ask(request, self._purpose, fine=_WHATEVER)
        except WorldError:  # what it is about a fresh session will tell
            return None
        found = _RANGE.fullmatch(answer.headers.get("Range", ""))
        if answer.status != _NO_CONTENT or found is None:
            return None
        offset = int(found[1]) + 1
        # 0-0 is said of no byte, too. What does not advance is old, but where only the end is due.
        least = min(self._start + 1, self._blob.size)
        if offset == 1 or not least <= offset <= self._offered:
            return None
        self._session = self._location(answer, self._session)
        return offset

    def _begin_again(self, answer: Answer) -> None:
        """Give up the session, if its end was such that another one may do better."""
        wrong = is_wrong_digest(answer)
        if wrong or self._told == self._blob.size:
            self._whole += 1
        lost = answer.status in {NOT_FOUND, _RANGE_REFUSED} or said(answer).codes & _LOST
        if wrong and self._whole >= _MOST_WHOLE:
            raise ContentError(
                f"{self._purpose.place}: the registry found other content than was signed, "
                f"{_MOST_WHOLE} times ({said(answer).text})",
                hint="is the release damaged? bundle verify tells",
            )
        hopeless = not wrong and (not lost or self._whole >= _MOST_WHOLE)
        if hopeless or is_no_repository(answer) or not self._tries.again():
            raise self._client.refusal(answer, self._purpose)
        self._restart()

    def _restart(self) -> None:
        self._session = None
        self._rewind(0)
        self._offered = 0

    def _rewind(self, offset: int) -> None:
        self._start = offset
        if self._told != offset:
            self._advance(offset - self._told)
            self._told = offset

    def _check(self, answer: Answer) -> None:
        """See that the registry has what we sent, by its own words."""
        announced = answer.headers.get("Docker-Content-Digest", str(self._blob.digest))
        if announced != str(self._blob.digest) and announced.startswith("sha256:"):
            raise ContentError(
                f"{self._purpose.place}: the registry took it and calls it {announced[:80]!r}"
            )
        if not self._is_there():
            raise WorldError(
                f"{self._purpose.place}: the registry took it ({answer.status}), but has it not",
                hint="run again; if it stays so, the registry's own log says more",
            )

    def _is_there(self) -> bool:
        size = blob_size(self._client, self._purpose, self._blobs_url, self._blob.digest)
        if size not in {None, self._blob.size}:
            raise ContentError(
                f"{self._purpose.place}: expected {self._blob.size} bytes, the registry has {size}",
                hint="delete the blob in the registry, then run again",
            )
        return size is not None


def blob_size(client: Client, purpose: Purpose, blobs_url: str, digest: Digest) -> int | None:
    """Ask for the bytes of a blob; None where it is not there.

    Raises:
        WorldError: The registry does not say.
    """
    request = Request(method="HEAD", url=f"{blobs_url}/{digest}")
    answer = client.ask(request, purpose, fine={200, NOT_FOUND})
    if answer.status == NOT_FOUND:
        return None
    length = _number(answer.headers.get("Content-Length"))
    if length is None:
        raise WorldError(f"{purpose.place}: the registry does not say how many bytes it has")
    return length


def _number(text: str | None) -> int | None:
    return int(text) if text and _NUMBER.fullmatch(text) else None
