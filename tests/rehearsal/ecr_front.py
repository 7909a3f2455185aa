"""A front that makes a real registry behave as Amazon ECR does where ECR is unlike others.

ECR itself cannot be had. Each quirk names where it is from: AWS' documentation or public reports of
people who ran into it. Where nobody tells the exact words of an answer, a comment says so. One URL
serves both sides: the registry below ``/v2/`` and the AWS API, which moto answers but for logins,
templates and account settings.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from http.client import HTTPResponse
from urllib.parse import parse_qs, urlsplit

from tests.rehearsal.ecr_control import Control, Template
from tests.rehearsal.ecr_state import EcrFront, Quirks, RefusedError, Session
from tests.rehearsal.serving import LOOPBACK, in_thread
from tests.rehearsal.streaming import Listener, StreamingHandler, connect

__all__ = ["EcrFront", "Quirks", "Template", "ecr_front"]

# Debian's registry shows an OCI manifest only to who asks for it by its type.
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs|tags|referrers)/(?P<rest>.*)")


@contextlib.contextmanager
def ecr_front(
    upstream: str,
    moto: str,
    *,
    quirks: Quirks | None = None,
    templates: tuple[Template, ...] = (),
) -> Iterator[EcrFront]:
    """Run the front on a free port of loopback while the block lasts.

    Args:
        upstream: URL of a plain registry without logins that keeps the blobs.
        moto: URL of the stand-in for AWS that keeps the repositories.
        quirks: Limits and habits; None for those of ECR.
        templates: The registry's repository creation templates.
    """
    listener = _Listener((LOOPBACK, 0), _Handler)
    storage = Listener((LOOPBACK, 0), _StorageHandler)
    address = f"{LOOPBACK}:{listener.server_address[1]}"
    front = EcrFront(address=address, quirks=quirks or Quirks())
    listener.front, listener.upstream = front, upstream
    listener.control = Control(front, moto, templates)
    listener.storage = f"http://{LOOPBACK}:{storage.server_address[1]}"
    storage.upstream = upstream
    with in_thread(listener), in_thread(storage):
        yield front


class _Listener(Listener):
    front: EcrFront
    control: Control
    storage: str


class _StorageHandler(StreamingHandler):
    """What a signed URL leads to: it takes the signature, and no other login beside it."""

    def serve(self) -> None:
        # Source: Amazon S3, error "InvalidArgument: Only one auth mechanism allowed".
        if "Authorization" in self.headers:
            self.answer(400, {}, b"<Error><Code>InvalidArgument</Code></Error>")
            return
        with connect(self.server.upstream) as connection:
            connection.request("GET", self.path.partition("?")[0])
            self.pass_back(connection.getresponse(), {})

    do_GET = serve  # noqa: N815


class _Handler(StreamingHandler):
    server: _Listener

    def serve(self) -> None:
        front = self.server.front
        self.measure()
        front.note(self.command, self.path)
        try:
            if "X-Amz-Target" in self.headers:
                self.answer(*self.server.control.answer(dict(self.headers), self.whole_body()))
                return
            front.require_not_throttled()
            front.require_login(self.headers.get("Authorization", ""))
            self.route()
        except RefusedError as refusal:
            for _ in self.body():  # a client that is still sending would not see the answer
                pass
            self.answer(refusal.status, refusal.headers, refusal.body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = serve  # noqa: N815

    def route(self) -> None:
        found = _PATH.fullmatch(urlsplit(self.path).path)
        if found is None:
            self.answer(200 if self.path == "/v2/" else 404, {})
            return
        name, kind, rest = found["name"], found["kind"], found["rest"]
        starts_upload = self.command == "POST" and rest == "uploads/"
        self.server.control.require_repository(name, pushed=starts_upload)
        if starts_upload:
            self.begin_upload(name)
        elif kind == "blobs" and rest.startswith("uploads/"):
            self.continue_upload(name, rest.removeprefix("uploads/"))
        elif kind == "manifests" and self.command == "PUT":
            self.put_manifest(name, rest)
        elif kind == "blobs" and self.command == "GET" and self.server.front.quirks.redirects:
            self.redirect()
        else:
            self.forward(self.path)

    def redirect(self) -> None:
        # Source: Amazon ECR user guide, VPC endpoints: layers are downloaded from S3.
        with connect(self.server.upstream) as connection:
            connection.request("HEAD", self.path)
            status = connection.getresponse().status
        if status == 200:
            location = f"{self.server.storage}{self.path}?X-Amz-Signature=0"
            self.answer(307, {"Location": location})
        else:
            self.forward(self.path)

    def forward(self, path: str) -> None:
        with self.ask(path) as response:
            self.pass_back(response, {})

    def begin_upload(self, name: str) -> None:
        front, query = self.server.front, parse_qs(urlsplit(self.path).query)
        # Source: Amazon ECR's account setting BLOB_MOUNTING (off unless switched on), and
        # aws/containers-roadmap#2860: only what a manifest of the source names can be mounted.
        [digest], [source] = query.get("mount", [""]), query.get("from", [""])
        mountable = front.quirks.mounting and front.is_referenced(source, digest)
        path = self.path if mountable else f"/v2/{name}/blobs/uploads/"
        with self.ask(path) as response:
            if response.status == 201:
                self.pass_back(response, {"Location": f"/v2/{name}/blobs/{digest}"})
                return
            session = Session(location=response.getheader("Location", ""))
        identity = str(uuid.uuid4())
        front.sessions[identity] = session
        self.answer(202, {**self.progress(name, identity, session), "Range": "0-0"})

    def progress(self, name: str, identity: str, session: Session) -> dict[str, str]:
        """Give the headers by which a session says how far it is: it does not say that well."""
        # Source: aws/containers-roadmap#2831: Range stays at the end of the first chunk. The
        # location is the same for the whole session: log in regclient/regclient#81.
        return {
            "Location": f"{self.server.front.url}/v2/{name}/blobs/uploads/{identity}",
            "Docker-Upload-UUID": identity,
            "Range": f"0-{max(session.first - 1, 0)}",
        }

    def continue_upload(self, name: str, identity: str) -> None:
        session = self.server.front.sessions.get(identity.partition("?")[0])
        if session is None:
            raise RefusedError(404, "BLOB_UPLOAD_UNKNOWN", "The upload is not there")
        if self.command == "GET":
            self.answer(204, self.progress(name, identity, session))
        elif self.command == "DELETE":
            self.forward(session.location)
        else:
            with session.lock:
                self.take_part(name, identity, session)

    def take_part(self, name: str, identity: str, session: Session) -> None:
        last, digest = self.command == "PUT", ""
        session.check(self.server.front.quirks, self.headers.get("Content-Range"), self.left, last)
        location = session.location
        if last:
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            location += f"{'&' if '?' in location else '?'}digest={digest}"
        breaks = self.server.front.breaks
        end = breaks.pop(0) if breaks and self.left else None
        with self.ask(location, body=session.count(self.body(), end)) as response:
            if last:
                self.end_upload(name, digest, response)
            elif response.status == 202:
                session.location = response.getheader("Location", "")
                session.end_part()
                # Source: jdx/mise#11376, openai/tart#273: 201 where others answer 202.
                self.answer(201, self.progress(name, identity.partition("?")[0], session))
            else:
                self.pass_back(response, {})

    def end_upload(self, name: str, digest: str, response: HTTPResponse) -> None:
        if response.status == 400:
            response.read()
            # Source: dotnet/sdk-container-builds#424, for the words.
            text = "None of the provided layer digests match the calculated layer digest"
            raise RefusedError(400, "BLOB_UPLOAD_INVALID", text)
        self.pass_back(response, {"Location": f"{self.server.front.url}/v2/{name}/blobs/{digest}"})

    def put_manifest(self, name: str, reference: str) -> None:
        front, content = self.server.front, self.whole_body()
        if len(content) > front.quirks.max_manifest:
            # Source of the limit: API reference, PutImage, imageManifest. The words are ours.
            raise RefusedError(400, "MANIFEST_INVALID", "The manifest is too long")
        is_tag = not reference.startswith("sha256:")
        if is_tag and self.server.control.is_immutable(name) and self.is_there():
            # Source: aws/containers-roadmap#2380, #2179: also where it is the same image;
            # moby/buildkit#3776 for the words.
            text = (
                f"The image tag '{reference}' already exists in the '{name}' repository and cannot "
                "be overwritten because the repository is immutable."
            )
            raise RefusedError(400, "TAG_INVALID", text)
        with self.ask(self.path, body=iter([content]), length=len(content)) as response:
            if response.status == 201:
                front.refer(name, content)
            # Source: oras-project/rust-oci-client#33: no Location.
            self.pass_back(response, {"Location": None})

    def is_there(self) -> bool:
        """Tell whether the registry behind us has what this request names."""
        with connect(self.server.upstream) as connection:
            connection.request("HEAD", self.path, headers={"Accept": ", ".join(_MANIFESTS)})
            return connection.getresponse().status == 200
