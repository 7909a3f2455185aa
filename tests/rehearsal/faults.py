"""What a proxy before a registry sees, and what a test can tell it to do wrong."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_PATH = re.compile(
    r"/v2/(?P<name>.+)/(?P<kind>blobs/uploads|blobs|manifests|referrers)/(?P<rest>.*)"
)
_OPERATIONS = {
    ("HEAD", "blobs"): "HeadBlob",
    ("GET", "blobs"): "GetBlob",
    ("POST", "blobs/uploads"): "StartUpload",
    ("GET", "blobs/uploads"): "AskUpload",
    ("PATCH", "blobs/uploads"): "PatchUpload",
    ("PUT", "blobs/uploads"): "PutBlob",
    ("DELETE", "blobs/uploads"): "CancelUpload",
    ("HEAD", "manifests"): "HeadManifest",
    ("GET", "manifests"): "GetManifest",
    ("PUT", "manifests"): "PutManifest",
}


@dataclass(slots=True, kw_only=True)
class Call:
    """One request of a client; the last four attributes are set while it is answered.

    Attributes:
        number: From 1, in the order in which they came.
        method, path: As sent, the path without its query.
        query: First value of each parameter.
        headers: Names in lower case.
        forwarded: Bytes of its body that the registry was given.
        status: What the registry answered; None before or without that.
        answered: Whether an answer, the registry's or a false one, was sent to its end.
        ended: Whether nothing more will happen to it.
    """

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    forwarded: int = 0
    status: int | None = None
    answered: bool = False
    ended: bool = False

    @property
    def operation(self) -> str:
        """Name it for what it does; ``Other`` for what is none of a push."""
        if self.path == "/v2/":
            return "Ping"
        found = _PATH.fullmatch(self.path)
        if found and self.method == "POST" and "mount" in self.query:
            return "Mount"
        return _OPERATIONS.get((self.method, found["kind"]), "Other") if found else "Other"

    @property
    def repository(self) -> str:
        """Name the repository; empty where there is none."""
        found = _PATH.fullmatch(self.path)
        return found["name"] if found else ""

    @property
    def digest(self) -> str:
        """Give the blob's digest, or a manifest's digest or tag; empty where none is said."""
        found = _PATH.fullmatch(self.path)
        named = self.query.get("digest") or self.query.get("mount")
        return named or (found["rest"] if found and found["kind"] != "blobs/uploads" else "")

    @property
    def took_blob(self) -> bool:
        """Whether the registry has a blob through this request."""
        return self.operation == "PutBlob" and self.status == http.client.CREATED


Hook = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer in the registry's place, after reading the whole body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """End the connection with a reset once ``after`` bytes of the body went to the registry.

    Attributes:
        after: Bytes; with 0 the registry hears nothing of the request.
        first: What to do before, such as killing the client.
    """

    after: int = 0
    first: Hook = lambda: None


@dataclass(frozen=True, slots=True)
class Lose:
    """Let the registry answer, do ``first``, and reset the connection without that answer."""

    first: Hook = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Stop reading for some seconds once ``after`` bytes of the body went through; then go on.

    With a shorter body, the answer comes that much later.
    """

    seconds: float
    after: int = 0


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """Reset the connection once ``after`` bytes of the answer's body went to the client."""

    after: int


Action = Answer | Cut | Lose | Stall | CutAnswer | None
Fault = Callable[[Call], Action]
