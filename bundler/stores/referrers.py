"""What a repository holds about an image, as the registry's referrers API or tags tell."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import urljoin

import requests

from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, NotFoundError, WorldError, printable
from bundler.jsontext import read_json
from bundler.oci_manifest import ACCEPTED, MAX_OCI_MANIFEST_BYTES
from bundler.stores.base import StoredManifest
from bundler.stores.login_origins import LEAVE_OUT, origin
from bundler.stores.oras_client import OrasClient

_MAX_PAGES, _MAX_REFERRERS = 20, 1000
_READ_BYTES = 1 << 20
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?')
# What a registry answers that has never heard of the question.
_NO_API = {404, 405, 501}
_UNSUPPORTED = b'"UNSUPPORTED"'
_OK, _NOT_FOUND = 200, 404


class Repository:
    """One repository of a registry, read; an ``Artifacts``."""

    def __init__(self, client: OrasClient, name: str) -> None:
        """Remember how it is asked, and what to call it in an error; nothing is asked yet."""
        self.name = name
        self._client = client

    def manifest(self, reference: str) -> StoredManifest | None:
        """Read what a tag or digest names; None where there is no such thing."""
        place = f"{self.name}: {reference}"
        headers = {"Accept": ACCEPTED}
        with self._client.asked(f"manifests/{reference}", headers, place) as answer:
            if answer.status_code == _NOT_FOUND:
                return None
            _require_ok(answer, place)
            content = _limited(answer, place)
        found = StoredManifest(Digest.of(content), content)
        if reference.startswith("sha256:") and str(found.digest) != reference:
            raise ContentError(f"{place}: got {found.digest}")
        return found

    def referrers(self, subject: Digest) -> tuple[Digest, ...]:
        """Give the manifests that say that they are about a manifest, sorted."""
        place = f"{self.name}: referrers of {subject}"
        found: set[Digest] = set()
        path = f"referrers/{subject}"
        for _ in range(_MAX_PAGES):
            with self._client.asked(path, {}, place) as answer:
                if answer.status_code in _NO_API:
                    return self._by_tag(subject)
                content = _limited(answer, place)
                if answer.status_code != _OK and _UNSUPPORTED in content:
                    return self._by_tag(subject)
                _require_ok(answer, place)
                found |= _manifests(content, place)
                following = self._next(answer, place)
            if following is None:
                return tuple(sorted(found))
            path = following
        raise MalformedError(f"{place}: more than {_MAX_PAGES} pages")

    def fetch(self, digest: Digest, size: int, out: Path) -> None:
        """Write a blob to a new file."""
        place = f"{self.name}: blob {digest}"
        whole, got = hashlib.sha256(), 0
        with self._client.asked(f"blobs/{digest}", {}, place) as answer, out.open("xb") as file:
            if answer.status_code == _NOT_FOUND:
                raise NotFoundError(f"{place}: not there", hint=f"push it again, {LEAVE_OUT}")
            _require_ok(answer, place)
            while got <= size and (piece := answer.raw.read(_READ_BYTES)):
                got += len(piece)
                whole.update(piece)
                file.write(piece)
        if (got, whole.hexdigest()) != (size, digest.hex):
            raise ContentError(
                f"{place}: expected {size} bytes, got {got} of sha256:{whole.hexdigest()}"
            )

    def _by_tag(self, subject: Digest) -> tuple[Digest, ...]:
        """Read the index that clients keep where a registry does not.

        Source:
            OCI distribution specification v1.1, "Referrers Tag Schema".
        """
        tag = f"sha256-{subject.hex}"
        found = self.manifest(tag)
        if found is None:
            return ()
        return tuple(sorted(_manifests(found.content, f"{self.name}:{tag}")))

    @staticmethod
    def _next(answer: requests.Response, place: str) -> str | None:
        link = _NEXT.search(answer.headers.get("Link", ""))
        if link is None:
            return None
        url: str = urljoin(answer.url, link[1])
        if origin(url) not in {origin(each.url) for each in (*answer.history, answer)}:
            raise MalformedError(f"{place}: the next page is at another host: {printable(url)}")
        return url


def _require_ok(answer: requests.Response, place: str) -> None:
    if answer.status_code == _OK:
        return
    raise WorldError(
        f"{place}: the registry answered {answer.status_code} "
        f"{printable(answer.reason or '')[:80]}",
        hint=f"run again, {LEAVE_OUT}",
    )


def _limited(answer: requests.Response, place: str) -> bytes:
    content: bytes = answer.raw.read(MAX_OCI_MANIFEST_BYTES + 1)
    if len(content) > MAX_OCI_MANIFEST_BYTES:
        raise MalformedError(f"{place}: expected at most {MAX_OCI_MANIFEST_BYTES} bytes")
    return content


def _manifests(content: bytes, place: str) -> set[Digest]:
    index = read_json(content, name=place, limit=MAX_OCI_MANIFEST_BYTES).table()
    if "layers" in index or "config" in index:
        index.refuse("layers", "expected an index, got a manifest")
    found = index.tables("manifests")
    if len(found) > _MAX_REFERRERS:
        index.refuse("manifests", f"more than {_MAX_REFERRERS}")
    return {item.parse("digest", Digest.parse) for item in found}
