"""What a Registry must do, whatever server is behind it. A server is one class in a test module."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from bundler.blob_content import BlobContent
from bundler.digest import Digest
from bundler.errors import ContentError, NotFoundError
from bundler.stores.base import Registry

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
PIECE = 1 << 16
NOWHERE = Digest.of(b"what nobody ever uploaded")


def nothing(_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Server:
    """A registry to hold to the contract.

    Attributes:
        open: Opens it, at a path below its host.
        prepare: Told of each repository, with its path, before anything goes there.
    """

    open: Callable[[str], Registry]
    prepare: Callable[[str], None] = nothing


def blob_of(
    content: bytes, *, digest: Digest | None = None, size: int | None = None
) -> BlobContent:
    """Give a blob in pieces of 64 KiB; ``digest`` and ``size`` may be lies."""

    def pieces(offset: int) -> Iterator[memoryview]:
        view = memoryview(content)
        for start in range(offset, len(content), PIECE):
            yield view[start : start + PIECE]

    return BlobContent(digest or Digest.of(content), len(content) if size is None else size, pieces)


def described(content: bytes, media_type: str) -> dict[str, object]:
    """Describe content as manifests do."""
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


def manifest_of(config: bytes, *layers: bytes, subject: bytes | None = None) -> bytes:
    """Write the manifest of an image, or of what is about the one whose manifest is ``subject``."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": described(config, CONFIG_TYPE),
        "layers": [described(layer, LAYER_TYPE) for layer in layers],
    }
    if subject is not None:
        manifest["subject"] = described(subject, MANIFEST_TYPE)
    return json.dumps(manifest).encode()


def config_of(*layers: bytes, text: str = "") -> bytes:
    """Write the configuration of an image; ``text`` makes it another one."""
    ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"text": text}},
            "rootfs": {"type": "layers", "diff_ids": ids},
        }
    ).encode()


def push_image(
    registry: Registry, name: str, *layers: bytes, text: str = "", subject: bytes | None = None
) -> bytes:
    """Upload an image's blobs, and its manifest under its digest; gives the manifest."""
    config = config_of(*layers, text=text)
    for content in (config, *layers):
        registry.upload(name, blob_of(content), advance=nothing)
    manifest = manifest_of(config, *layers, subject=subject)
    registry.put_manifest(name, str(Digest.of(manifest)), MANIFEST_TYPE, manifest)
    return manifest


class RegistryContract:
    """Subclass it and give a fixture ``server``."""

    @pytest.fixture
    def name(self, server: Server) -> str:
        """Give a repository that nothing is in."""
        return self.another(server)

    @pytest.fixture
    def registry(self, server: Server) -> Registry:
        return server.open("")

    def another(self, server: Server, path: str = "", pattern: str = "atlas-{}") -> str:
        name = pattern.format(uuid.uuid4().hex[:12])
        server.prepare(f"{path}/{name}".lstrip("/"))
        return name

    def test_what_is_not_there_is_none(self, registry: Registry, name: str) -> None:
        assert registry.manifest(name, "1.0.0") is None
        assert registry.manifest(name, str(NOWHERE)) is None
        assert registry.blob_size(name, NOWHERE) is None

    def test_a_repository_that_is_not_there_has_nothing(self, registry: Registry) -> None:
        assert registry.manifest("nowhere-at-all", "1.0.0") is None
        assert registry.blob_size("nowhere-at-all", NOWHERE) is None

    def test_an_image_is_put_by_digest_and_then_tagged(self, registry: Registry, name: str) -> None:
        manifest = push_image(registry, name, b"layer one", os.urandom(3 * PIECE + 7))
        digest = Digest.of(manifest)
        assert registry.manifest(name, "1.0.0") is None
        registry.put_manifest(name, "1.0.0", MANIFEST_TYPE, manifest)
        for reference in ("1.0.0", str(digest)):
            found = registry.manifest(name, reference)
            assert found is not None
            assert (found.digest, found.content) == (digest, manifest)

    def test_an_index_names_images(self, registry: Registry, name: str) -> None:
        children = [push_image(registry, name, b"layer", text=text) for text in ("one", "two")]
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [described(each, MANIFEST_TYPE) for each in children],
        }
        content = json.dumps(index).encode()
        registry.put_manifest(name, "all", INDEX_TYPE, content)
        found = registry.manifest(name, "all")
        assert found is not None
        assert found.digest == Digest.of(content)

    def test_a_tag_names_what_was_put_last(self, registry: Registry, name: str) -> None:
        for text in ("one", "two"):
            manifest = push_image(registry, name, b"layer", text=text)
            registry.put_manifest(name, "moving", MANIFEST_TYPE, manifest)
            found = registry.manifest(name, "moving")
            assert found is not None
            assert found.digest == Digest.of(manifest)

    @pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 9 * (1 << 20) + 13])
    def test_a_blob_arrives_as_it_is(self, registry: Registry, name: str, size: int) -> None:
        content = os.urandom(size)
        told: list[int] = []
        registry.upload(name, blob_of(content), advance=told.append)
        digest = Digest.of(content)
        assert sum(told) == size
        assert registry.blob_size(name, digest) == size
        assert b"".join(registry.read_blob(name, digest, size)) == content

    def test_the_same_blob_may_come_twice(self, registry: Registry, name: str) -> None:
        for _ in range(2):
            registry.upload(name, blob_of(b"the same"), advance=nothing)
        assert registry.blob_size(name, Digest.of(b"the same")) == 8

    def test_other_content_than_was_signed_is_refused(self, registry: Registry, name: str) -> None:
        signed = Digest.of(os.urandom(20))
        told: list[int] = []
        with pytest.raises(ContentError, match="other content than was signed") as caught:
            registry.upload(name, blob_of(b"rotten", digest=signed), advance=told.append)
        assert f"{name}@{signed}" in str(caught.value)
        assert sum(told) <= 6
        assert registry.blob_size(name, signed) is None

    @pytest.mark.parametrize("size", [5, 7, PIECE * 3])
    def test_a_source_of_another_size_leaves_nothing(
        self, registry: Registry, name: str, size: int
    ) -> None:
        content = os.urandom(6)
        told: list[int] = []
        with pytest.raises(ContentError, match=f"expected {size} bytes to send"):
            registry.upload(name, blob_of(content, size=size), advance=told.append)
        assert sum(told) <= size
        assert registry.blob_size(name, Digest.of(content)) is None

    def test_a_blob_is_mounted_or_sent(self, server: Server, registry: Registry, name: str) -> None:
        content = os.urandom(PIECE)
        push_image(registry, name, content)
        other, digest = self.another(server), Digest.of(content)
        if not registry.mount(other, digest, source=name):
            registry.upload(other, blob_of(content), advance=nothing)
        assert registry.blob_size(other, digest) == PIECE
        assert b"".join(registry.read_blob(other, digest, PIECE)) == content

    def test_what_is_not_there_cannot_be_mounted(
        self, server: Server, registry: Registry, name: str
    ) -> None:
        content = os.urandom(99)
        other, digest = self.another(server), Digest.of(content)
        assert not registry.mount(other, digest, source=name)
        assert registry.blob_size(other, digest) is None
        registry.upload(other, blob_of(content), advance=nothing)
        assert registry.blob_size(other, digest) == 99

    def test_a_blob_that_is_not_there_cannot_be_read(self, registry: Registry, name: str) -> None:
        with pytest.raises(NotFoundError, match="does not have it"):
            list(registry.read_blob(name, NOWHERE, 1))

    def test_a_blob_of_another_size_is_told(self, registry: Registry, name: str) -> None:
        registry.upload(name, blob_of(b"four"), advance=nothing)
        with pytest.raises(ContentError, match="expected 5 bytes, the registry serves 4"):
            list(registry.read_blob(name, Digest.of(b"four"), 5))

    @pytest.mark.parametrize(
        ("path", "pattern"), [("/team/models", "atlas-{}"), ("", "team/{}/atlas"), ("/a", "b/{}/c")]
    )
    def test_names_may_have_several_parts(self, server: Server, path: str, pattern: str) -> None:
        name = self.another(server, path, pattern)
        below = server.open(path)
        manifest = push_image(below, name, b"layer")
        below.put_manifest(name, "1.0.0", MANIFEST_TYPE, manifest)
        found = server.open("").manifest(f"{path}/{name}".lstrip("/"), "1.0.0")
        assert found is not None
        assert found.digest == Digest.of(manifest)

    def test_many_threads_share_a_registry(self, registry: Registry, name: str) -> None:
        contents = [os.urandom(2 * PIECE + n) for n in range(12)]

        def send(some: list[bytes]) -> None:
            for each in some:
                registry.upload(name, blob_of(each), advance=nothing)

        threads = [threading.Thread(target=send, args=(contents[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sizes = [registry.blob_size(name, Digest.of(each)) for each in contents]
        assert sizes == [len(each) for each in contents]
