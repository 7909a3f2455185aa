"""What a publish goes to: a registry and a bucket, each behind a proxy that counts requests."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal.addresses import REGION
from tests.rehearsal.aws import aws
from tests.rehearsal.ecr_front import ecr_front
from tests.rehearsal.faulty_proxy import FaultyProxy, faulty_proxy
from tests.rehearsal.registry import Kind, Registry
from tests.rehearsal.registry import registry as start_registry
from tests.rehearsal.s3 import S3

_ECR = "ecr"
_KINDS: Mapping[str, Kind] = {
    "debian": "debian",
    "distribution": "distribution",
    "crane": "crane",
    _ECR: "debian",
}
REGISTRIES = tuple(_KINDS)

_SECONDS = 60
_MANIFESTS = ", ".join(
    f"application/vnd.oci.image.{kind}.v1+json" for kind in ("manifest", "index")
)


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Shore:
    """A registry and an S3 server.

    Attributes:
        kind: Whose registry, or what it pretends to be.
        registry: What keeps the images; an ECR front has one behind it.
        images: The proxy before the registry, or before the front.
        server: What keeps the objects.
        objects: The proxy before it.
    """

    kind: str
    registry: Registry
    images: FaultyProxy
    server: S3
    objects: FaultyProxy

    @property
    def mounts(self) -> bool:
        """Whether a blob of one repository is had in another without its bytes."""
        return self.kind in {"debian", "distribution"}

    def stored(self, path: str, names: tuple[str, ...]) -> Mapping[str, object]:
        """Tell all that the registry has of some repositories below a path."""
        found: dict[str, object] = {}
        for name in names:
            base = f"/v2/{path}/{name}"
            status, tags = self._ask("GET", f"{base}/tags/list")
            found[f"{name} tags"] = tagged = (status, sorted(json.loads(tags).get("tags") or ()))
            for tag in tagged[1]:
                found |= dict(self._image(base, name, tag))
        if self.kind != "crane":  # which keeps them in memory
            links = self._repositories(path).rglob("link")
            kept = {str(link.relative_to(self._repositories(path))) for link in links}
            found["links"] = sorted(link for link in kept if "/_uploads/" not in link)
        return found

    def forget(self, path: str) -> None:
        """Remove what is below a path; of crane's, whose blobs lie below none, all of them."""
        if self.kind != "crane":
            shutil.rmtree(self._repositories(path), ignore_errors=True)
            return
        for blob in self.registry.storage.rglob("*"):
            if blob.is_file():
                blob.unlink()

    def _image(self, base: str, name: str, tag: str) -> Iterator[tuple[str, object]]:
        status, manifest = self._ask("GET", f"{base}/manifests/{tag}")
        yield f"{name}:{tag}", (status, hashlib.sha256(manifest).hexdigest())
        named = json.loads(manifest)
        for blob in [named["config"], *named["layers"]]:
            status, content = self._ask("GET", f"{base}/blobs/{blob['digest']}")
            digest = hashlib.sha256(content).hexdigest()
            yield f"{name} {blob['digest']}", (status, len(content), digest)

    def _repositories(self, path: str) -> Path:
        return self.registry.storage / "docker/registry/v2/repositories" / path

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        address = (self.registry.host, self.registry.port)
        with closing(http.client.HTTPConnection(*address, timeout=_SECONDS)) as connection:
            connection.request(method, path, headers={"Accept": _MANIFESTS})
            response = connection.getresponse()
            return response.status, response.read()


@contextmanager
def open_shore(kind: str, server: S3) -> Iterator[Shore]:
    """Run a registry, and the proxies, while the block lasts.

    Args:
        kind: Whose registry.
        server: The S3 server, which runs.

    Raises:
        RehearsalError: It did not start, or is not installed.
    """
    with ExitStack() as opened:
        kept = opened.enter_context(start_registry(_KINDS[kind]))
        if kind == _ECR:
            moto = opened.enter_context(aws())
            front = opened.enter_context(ecr_front(kept.url, moto.url))
            host, _, port = front.address.partition(":")
            images = opened.enter_context(faulty_proxy(_Address(host, int(port))))
            front.address = images.address  # where it sends clients that go on with an upload
        else:
            images = opened.enter_context(faulty_proxy(kept))
        objects = opened.enter_context(faulty_proxy(server))
        yield Shore(kind, kept, images, server, objects)


def registry_lines(shore: Shore, path: str) -> list[str]:
    """Say in a target's words where images go."""
    lines = [f"  host: {shore.images.address}/{path}", "  plainHttp: true"]
    if shore.kind == _ECR:
        lines += ["  ecr:", f"    region: {REGION}", f"    endpoint: {shore.images.url}"]
    return lines
