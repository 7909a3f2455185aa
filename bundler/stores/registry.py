"""Where images go: the operations of a registry, as in the OCI distribution specification v1.1.

``registry_client`` asks, ``registry_upload`` sends blobs; here stands what is asked for, and what
an answer is worth: digests are computed by us, never believed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator

from bundler.blob_content import BlobContent
from bundler.digest import Digest
from bundler.errors import (
    ConflictError,
    ContentError,
    NotFoundError,
    WorldError,
    printable,
)
from bundler.oci_manifest import ACCEPTED, MAX_OCI_MANIFEST_BYTES
from bundler.stores.base import Advance, StoredManifest
from bundler.stores.registry_challenge import repository_scope
from bundler.stores.registry_client import Client, Purpose, blob_size
from bundler.stores.registry_errors import NOT_FOUND, broken, is_immutable_tag, said
from bundler.stores.registry_messages import Answer, InterruptedTransferError, Request
from bundler.stores.registry_upload import BlobUpload
from bundler.stores.registry_url import with_query
from bundler.stores.retry import Tries

_OK, _CREATED, _ACCEPTED, _PARTIAL = 200, 201, 202, 206
_WHATEVER = range(200, 600)
_TAG_REFUSALS = frozenset({400, 403, 409, 412})
# Source: RFC 9110, section 14.4.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class OciRegistry:
    """One host and path below it that images go to; a ``Registry``."""

    def __init__(self, host: str, client: Client, *, plain_http: bool = False) -> None:
        """Remember where the registry is; nothing is asked yet.

        Args:
            host: ``HOST[:PORT][/PATH]``.
            client: Speaks to it.
            plain_http: Speak HTTP without TLS.
        """
        self._host = host
        self._client = client
        address, _, self._path = host.partition("/")
        self._api = f"{'http' if plain_http else 'https'}://{address}/v2"

    def manifest(self, name: str, reference: str) -> StoredManifest | None:
        """Read what a tag or digest names; None where there is no such thing, or repository."""
        purpose = self._purpose(name, reference)
        request = Request(
            method="GET",
            url=f"{self._url(name)}/manifests/{reference}",
            headers={"Accept": ACCEPTED},
            limit=MAX_OCI_MANIFEST_BYTES,
            never_empty=True,
        )
        answer = self._ask(request, purpose, {_OK, NOT_FOUND})
        if answer.status == NOT_FOUND:
            return None
        if answer.over:
            raise WorldError(f"{purpose.place}: manifest of over {MAX_OCI_MANIFEST_BYTES} bytes")
        computed = Digest.of(answer.content)
        announced = _announced(answer.headers.get("Docker-Content-Digest"))
        wanted = _announced(reference)
        if announced not in {None, computed}:
            raise ContentError(
                f"{purpose.place}: the registry announces {announced} and sends {computed}"
            )
        if wanted not in {None, computed}:
            raise ContentError(f"{purpose.place}: the registry sends {computed}")
        return StoredManifest(computed, answer.content)

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Ask how many bytes a blob has there; None where it is not."""
        purpose, url = self._purpose(name, str(digest)), f"{self._url(name)}/blobs"
        return blob_size(self._client, purpose, self._client.begin(), url, digest)

    def mount(self, name: str, digest: Digest, *, source: str) -> bool:
        """Make a blob of the repository ``source`` one of ``name`` too; False where that fails.

        It only saves sending the blob: a registry that is gone fails in that.
        """
        purpose = self._purpose(name, str(digest), source)
        url = f"{self._url(name)}/blobs/uploads/"
        request = Request(
            method="POST", url=with_query(url, mount=str(digest), **{"from": self._full(source)})
        )
        try:
            tries = self._client.begin_briefly()
            answer = self._client.ask(request, purpose, tries, fine=_WHATEVER)
        except WorldError:
            return False
        return answer.status == _CREATED

    def upload(self, name: str, blob: BlobContent, *, advance: Advance) -> None:
        """Send a blob, and go on where the registry's own offset can be trusted."""
        BlobUpload(
            self._client,
            self._purpose(name, str(blob.digest)),
            blob,
            blobs_url=f"{self._url(name)}/blobs",
            advance=advance,
        ).send()

    def put_manifest(self, name: str, reference: str, media_type: str, content: bytes) -> None:
        """Store a manifest or index under its digest or a tag."""
        purpose = self._purpose(name, reference)
        request = Request(
            method="PUT",
            url=f"{self._url(name)}/manifests/{reference}",
            headers={"Content-Type": media_type},
            content=content,
        )
        answer = self._ask(request, purpose, {_OK, _CREATED, _ACCEPTED, *_TAG_REFUSALS})
        digest = Digest.of(content)
        if not answer.fine:
            if not is_immutable_tag(answer):
                raise self._client.refusal(answer, purpose)
            self._settle(name, reference, digest, answer)
            return
        announced = _announced(answer.headers.get("Docker-Content-Digest"))
        if announced not in {None, digest}:
            raise ContentError(
                f"{purpose.place}: expected {digest}, the registry says that it has {announced}"
            )

    def read_blob(self, name: str, digest: Digest, size: int) -> Iterator[bytes]:
        """Stream a blob as the registry serves it; ends early only by raising."""
        purpose = self._purpose(name, str(digest))
        url = f"{self._url(name)}/blobs/{digest}"
        tries = self._client.begin()
        at = 0
        while True:
            try:
                for piece in self._pieces(url, purpose, tries, at, size):
                    at += len(piece)
                    if at > size:
                        break
                    yield piece
                    tries.flows()
            except InterruptedTransferError as error:
                tries.reached(at, size)
                if not tries.again():
                    raise broken(purpose.place, str(error), tried=tries.failed) from error
                continue
            if at != size:
                raise _other_size(purpose, size, f"more than {size}" if at > size else f"{at}")
            return

    def _pieces(
        self, url: str, purpose: Purpose, tries: Tries, start: int, size: int
    ) -> Iterator[bytes]:
        """Read a blob from an offset."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        request = Request(method="GET", url=url, headers=headers, streamed=True)
        answer = self._client.ask(request, purpose, tries, fine={_OK, _PARTIAL, NOT_FOUND})
        if answer.pieces is None:
            raise NotFoundError(f"{purpose.place}: the registry does not have it")
        with contextlib.closing(answer.pieces) as pieces:
            skipped = start
            if answer.status == _PARTIAL:
                _require_range(purpose, answer, start, size)
                skipped = 0
            length = answer.headers.get("Content-Length")
            if length is not None and length != str(size - start + skipped):
                raise _other_size(purpose, size - start + skipped, length)
            for piece in pieces:
                rest = piece[skipped:]
                skipped -= len(piece) - len(rest)
                if rest:
                    yield rest

    def _ask(self, request: Request, purpose: Purpose, fine: Collection[int]) -> Answer:
        return self._client.ask(request, purpose, self._client.begin(), fine=fine)

    def _settle(self, name: str, reference: str, digest: Digest, answer: Answer) -> None:
        """Judge the refusal of a tag that cannot be moved: it may name the same already."""
        there = self.manifest(name, reference)
        if there is None or there.digest != digest:
            place = self._purpose(name, reference).place
            raise ConflictError(
                f"{place}: expected {digest}, the tag names {there.digest if there else 'nothing'} "
                f"and must not be moved ({answer.status} {said(answer).text})",
                hint="another release has this tag already: see who published it",
            )

    def _purpose(self, name: str, reference: str, *sources: str) -> Purpose:
        sign = "@" if _announced(reference) else ":"
        scopes = [repository_scope(self._full(name))]
        scopes += [repository_scope(self._full(source), "pull") for source in sources]
        return Purpose(f"{self._host}/{name}{sign}{reference}", tuple(scopes))

    def _full(self, name: str) -> str:
        """Give the name of a repository as the registry has it."""
        return f"{self._path}/{name}" if self._path else name

    def _url(self, name: str) -> str:
        return f"{self._api}/{self._full(name)}"


def _announced(text: str | None) -> Digest | None:
    """Read a digest; None for what is none, or of another algorithm."""
    try:
        return Digest.parse(text or "")
    except ValueError:
        return None


def _require_range(purpose: Purpose, answer: Answer, start: int, size: int) -> None:
    """Refuse a part of a blob that is none of what was asked for.

    Raises:
        ContentError: It is of a blob of another size.
        WorldError: It is another part.
    """
    header = answer.headers.get("Content-Range", "")
    found = _CONTENT_RANGE.fullmatch(header)
    if found is not None and found[3] not in {"*", str(size)}:
        raise _other_size(purpose, size, found[3])
    if found is None or int(found[1]) != start or int(found[2]) != size - 1:
        raise WorldError(
            f"{purpose.place}: expected bytes {start}-{size - 1}, the registry serves "
            f"{printable(header)[:60] or 'a part and does not say which'}",
            hint="a cache or proxy before the registry mixes up parts: ask its operator",
        )


def _other_size(purpose: Purpose, expected: int, got: str) -> ContentError:
    return ContentError(
        f"{purpose.place}: expected {expected} bytes, the registry serves {printable(got)[:40]}",
        hint="delete the blob in the registry, then run again",
    )
