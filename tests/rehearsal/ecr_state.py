"""What the front of Amazon ECR remembers and refuses: logins, sessions, limits."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

_RANGE = re.compile(r"(?:bytes )?([0-9]+)-([0-9]+)(?:/.*)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RefusedError(Exception):
    """An answer that says no, in the form of the distribution specification."""

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"Content-Type": "application/json", **(headers or {})}
        self.body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@dataclass(slots=True, kw_only=True)
class Quirks:
    """Habits and limits; smaller ones make small tests.

    Attributes:
        min_part: Bytes that each chunk but the last must have.
        max_parts: Chunks of a blob.
        max_layer: Bytes of a blob.
        max_manifest: Bytes of a manifest.
        login_requests: Requests that a login is good for; None for any number of them.
        expired_status: What an expired login is answered.
        mounting: Whether the account setting BLOB_MOUNTING is on.
        redirects: Whether blobs are served from another origin.

    Source:
        Amazon ECR user guide, "Service quotas": 5 MiB, 4,200 parts, 52,000 MiB; API reference,
        PutImage: 4,194,304. flipt-io/flipt#3043 and awslabs/soci-snapshotter#945: an expired
        login is answered 403 with no challenge.
    """

    min_part: int = 5 << 20
    max_parts: int = 4200
    max_layer: int = 52_000 << 20
    max_manifest: int = 4 << 20
    login_requests: int | None = None
    expired_status: int = 403
    mounting: bool = False
    redirects: bool = True


@dataclass(slots=True)
class Session:
    """One upload.

    Attributes:
        location: Where the registry behind goes on with it.
        received: Bytes that came, also those of a request that broke off.
        first: Bytes of the first chunk; 0 until it is whole.
        parts: Chunks so far.
        short: Whether one of them had less than the minimum.
    """

    location: str
    received: int = 0
    first: int = 0
    parts: int = 0
    short: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, quirks: Quirks, content_range: str | None, size: int, last: bool) -> None:
        """Refuse what ECR refuses of the next chunk, before any of it is read."""
        start = self.received if size == 0 and content_range is None else 0
        if content_range is not None:
            found = _RANGE.fullmatch(content_range)
            start = int(found[1]) if found else -1
        if start != self.received:
            # Source: apple/containerization#790, status and words.
            text = f"First byte of the layer part is {start} instead of {self.received}"
            raise RefusedError(416, "BLOB_UPLOAD_INVALID", text)
        if self.short and (size or not last):
            # Source: dotnet/sdk-container-builds#424 (found in CloudTrail); the status is a guess.
            text = "All layer parts except the last part should be at least 5MB"
            raise RefusedError(400, "BLOB_UPLOAD_INVALID", text)
        if self.parts + bool(size) > quirks.max_parts or self.received + size > quirks.max_layer:
            # Source of the limits: user guide, "Service quotas". The answer's words are ours.
            raise RefusedError(
                400, "SIZE_INVALID", "The layer exceeds a quota: LimitExceededException"
            )
        self.short = not last and 0 <= size < quirks.min_part

    def count(self, pieces: Iterator[bytes], end: int | None) -> Iterator[bytes]:
        """Pass a body on and keep count of what came of it; at ``end`` the connection breaks."""
        for piece in pieces:
            self.received += len(piece)
            if end is not None and self.received >= end:
                raise ConnectionResetError("broken on purpose")
            yield piece

    def end_part(self) -> None:
        """Remember that a chunk is whole."""
        self.parts += 1
        self.first = self.first or self.received


@dataclass(slots=True)
class EcrFront:
    """A running front.

    Attributes:
        address: ``host:port``, as image references begin.
        quirks: How it behaves; may be changed while it runs.
        requests: ``METHOD PATH`` of each so far; of an API call, its action.
        sessions: Uploads, by their id.
        logins: Requests that each password is still good for; None for any number.
        denied: Actions of the API that the caller may not do.
        breaks: Bytes after which the next bodies of uploads break off, one each.
    """

    address: str
    quirks: Quirks
    requests: list[str] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    logins: dict[str, int | None] = field(default_factory=dict, repr=False)
    denied: set[str] = field(default_factory=set)
    breaks: list[int] = field(default_factory=list)
    _referenced: set[tuple[str, str]] = field(default_factory=set)
    _throttled: int = 0
    _throttling: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Where both the registry's API and AWS' begin."""
        return f"http://{self.address}"

    def throttle(self, count: int, *, retry_after: str | None = None) -> None:
        """Refuse the next ``count`` requests of the registry as too many."""
        # Source: Amazon ECR user guide, "Troubleshooting errors with Docker commands": 429
        # toomanyrequests, "Rate exceeded".
        self._throttling = {} if retry_after is None else {"Retry-After": retry_after}
        self._throttled = count

    def note(self, method: str, path: str) -> None:
        """Remember a request."""
        self.requests.append(f"{method} {path}")

    def require_not_throttled(self) -> None:
        """Refuse a request that comes too soon."""
        with self._lock:
            if self._throttled:
                self._throttled -= 1
                raise RefusedError(429, "TOOMANYREQUESTS", "Rate exceeded", self._throttling)

    def new_login(self) -> str:
        """Give a password that nobody had before."""
        password = secrets.token_hex(16)
        with self._lock:
            self.logins[password] = self.quirks.login_requests
        return password

    def require_login(self, authorization: str) -> None:
        """Refuse who has no login, or one whose time is over."""
        kind, _, encoded = authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = password = ""
        with self._lock:
            if kind != "Basic" or user != "AWS" or password not in self.logins:
                # Source: NVIDIA/enroot#59 for the challenge, #143 for the words, which come there
                # as plain text; the JSON around them is ours.
                challenge = f'Basic realm="https://{self.address}/",service="ecr.amazonaws.com"'
                headers = {"WWW-Authenticate": challenge}
                raise RefusedError(401, "UNAUTHORIZED", "Not Authorized", headers)
            left = self.logins[password]
            if left is not None and left <= 0:
                text = "Your authorization token has expired. Reauthenticate and try again."
                raise RefusedError(self.quirks.expired_status, "DENIED", text)
            self.logins[password] = None if left is None else left - 1

    def refer(self, name: str, manifest: bytes) -> None:
        """Remember what a manifest of a repository names."""
        named = _DIGEST.findall(manifest.decode(errors="replace"))
        self._referenced |= {(name, digest) for digest in named}

    def is_referenced(self, name: str, digest: str) -> bool:
        """Tell whether a manifest of a repository names a blob."""
        return (name, digest) in self._referenced
