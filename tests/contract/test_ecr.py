"""A registry of Amazon ECR: its own ways, through the front that imitates them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import boto3
import pytest
from types_boto3_ecr import ECRClient

from bundler.blob_content import BlobContent
from bundler.digest import Digest
from bundler.errors import ConflictError, ContentError, DeniedError, NotFoundError, WorldError
from bundler.stores.base import Registry
from bundler.stores.ecr import Ecr, open_ecr
from bundler.stores.opening import open_registry
from bundler.target import EcrTarget
from tests.contract.registry_contract import (
    MANIFEST_TYPE,
    RegistryContract,
    Server,
    blob_of,
    push_image,
)
from tests.contract.scripted_registry import BRIEFLY, told
from tests.rehearsal import programs
from tests.rehearsal import registry as rehearsal
from tests.rehearsal.addresses import REGION
from tests.rehearsal.aws import CREDENTIALS, Aws, aws
from tests.rehearsal.ecr_front import EcrFront, Quirks, Template, ecr_front
from tests.rehearsal.fixtures import need


@dataclass(frozen=True)
class Site:
    """The front, and what we open of it.

    Attributes:
        client: boto3's view of it, for what somebody else does.
    """

    front: EcrFront
    client: ECRClient

    def ecr(self, settings: EcrTarget | None = None, path: str = "") -> Ecr:
        asked = settings or EcrTarget(region=REGION, endpoint=self.front.url)
        return open_ecr(f"{self.front.address}{path}", asked)

    def registry(self, path: str = "") -> Registry:
        host = f"{self.front.address}{path}"
        return open_registry(
            host, logins=self.ecr().logins, plain_http=True, environment={}, patience=BRIEFLY
        )

    def uploads(self, method: str) -> list[str]:
        """Give the requests so far that are about uploads."""
        return [
            each
            for each in self.front.requests
            if each.startswith(f"{method} ") and "/blobs/uploads/" in each
        ]


@pytest.fixture(scope="module")
def moto() -> Iterator[Aws]:
    need(lambda: programs.find_in_environment("moto_server"))
    with aws() as running:
        yield running


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="class")
def front(request: pytest.FixtureRequest, moto: Aws) -> Iterator[EcrFront]:
    """Run the front before the registry that a class of tests names."""
    wanted: type[_Contract] = request.cls
    need(lambda: rehearsal.program(wanted.kind))
    with rehearsal.registry(wanted.kind) as behind, ecr_front(behind.url, moto.url) as running:
        yield running


@pytest.fixture
def site(moto: Aws, credentials: None) -> Iterator[Site]:
    """Run the front with an account that has no repository at all."""
    need(lambda: rehearsal.program("debian"))
    with rehearsal.registry() as behind, ecr_front(behind.url, moto.url) as front:
        client = boto3.Session().client("ecr", region_name=REGION, endpoint_url=moto.url)
        for each in client.describe_repositories()["repositories"]:
            client.delete_repository(repositoryName=each["repositoryName"], force=True)
        yield Site(front, client)


def noise(size: int) -> bytes:
    """Give bytes that are the same each time and do not repeat."""
    return hashlib.shake_128(str(size).encode()).digest(size)


def send(registry: Registry, content: bytes, name: str = "atlas") -> Digest:
    sent: list[int] = []
    blob = blob_of(content)
    registry.upload(name, blob, advance=sent.append)
    assert sum(sent) == len(content)
    return blob.digest


def send_image(registry: Registry, name: str, tag: str, layer: bytes = b"layer") -> Digest:
    manifest = push_image(registry, name, layer)
    registry.put_manifest(name, tag, MANIFEST_TYPE, manifest)
    return Digest.of(manifest)


class _Contract(RegistryContract):
    """Subclass it and say what keeps the blobs."""

    kind: ClassVar[rehearsal.Kind]

    @pytest.fixture
    def server(self, front: EcrFront, moto: Aws, credentials: None) -> Server:
        site = Site(front, boto3.Session().client("ecr", region_name=REGION, endpoint_url=moto.url))
        repositories = site.ecr().repositories

        def prepare(name: str) -> None:
            assert repositories.create(name)

        return Server(open=site.registry, prepare=prepare)


class TestBeforeDebian(_Contract):
    kind = "debian"


class TestBeforeDistribution3(_Contract):
    kind = "distribution"


class TestBeforeCrane(_Contract):
    kind = "crane"


def test_a_repository_that_was_made_takes_an_image(site: Site) -> None:
    registry = site.registry("/team")
    with pytest.raises(NotFoundError) as caught:
        send(registry, b"layer")
    assert "repository" in told(caught.value)
    assert site.ecr(path="/team").repositories.create("atlas")
    digest = send_image(registry, "atlas", "1.0.0")
    found = registry.manifest("atlas", "1.0.0")
    assert found is not None
    assert found.digest == digest
    assert registry.blob_size("atlas", Digest.of(b"layer")) == 5


def test_a_template_makes_the_repository_when_an_image_comes(moto: Aws, credentials: None) -> None:
    client = boto3.Session().client("ecr", region_name=REGION, endpoint_url=moto.url)
    templates = (Template("pushed"),)
    with (
        rehearsal.registry() as behind,
        ecr_front(behind.url, moto.url, templates=templates) as front,
    ):
        site = Site(front, client)
        [missing] = site.ecr(path="/pushed").repositories.missing(["atlas"])
        assert (missing.on_push, missing.detail) == (True, "template pushed makes it")
        send_image(site.registry("/pushed"), "atlas", "1")
        assert site.ecr(path="/pushed").repositories.missing(["atlas"]) == ()
        client.delete_repository(repositoryName="pushed/atlas", force=True)


@pytest.fixture
def atlas(site: Site) -> Site:
    site.client.create_repository(repositoryName="atlas")
    site.client.create_repository(repositoryName="docs")
    return site


@pytest.mark.parametrize("size", [0, 1, (6 << 20) + 1])
def test_a_blob_is_one_upload_and_one_put(atlas: Site, size: int) -> None:
    registry = atlas.registry()
    content = noise(size)
    assert registry.blob_size("atlas", Digest.of(content)) is None  # logs in, too
    digest = send(registry, content)
    assert registry.blob_size("atlas", digest) == size
    assert (len(atlas.uploads("POST")), len(atlas.uploads("PUT"))) == (1, 1)
    assert atlas.uploads("PATCH") == []
    assert b"".join(registry.read_blob("atlas", digest, size)) == content


def test_an_upload_that_broke_is_begun_anew_since_the_offset_is_not_to_be_trusted(
    atlas: Site,
) -> None:
    atlas.front.breaks.append(3 << 20)
    content = noise(8 << 20)
    registry = atlas.registry()
    assert registry.blob_size("atlas", Digest.of(content)) is None
    digest = send(registry, content)
    assert b"".join(registry.read_blob("atlas", digest, len(content))) == content
    assert len(atlas.uploads("POST")) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_that_expires_in_the_middle_is_renewed(atlas: Site, status: int) -> None:
    atlas.front.quirks.login_requests = 4
    atlas.front.quirks.expired_status = status
    registry = atlas.registry()
    for n in range(6):
        content = noise(1000 + n)
        assert registry.blob_size("atlas", send(registry, content)) == len(content)
    assert len(atlas.front.logins) > 3


def test_a_login_that_is_refused_for_good_is_given_up_soon(atlas: Site) -> None:
    atlas.front.quirks.login_requests = 0
    with pytest.raises(DeniedError) as caught:
        send(atlas.registry(), b"layer")
    assert len(atlas.front.requests) < 12
    source = f"user 'AWS' from GetAuthorizationToken of {atlas.front.url}"
    assert str(caught.value).endswith(f"; login: {source}")


@pytest.mark.parametrize("after", [None, "1"])
def test_throttling_is_sat_out(atlas: Site, after: str | None) -> None:
    registry = atlas.registry()
    registry.blob_size("atlas", Digest.of(b"none"))
    atlas.front.throttle(3, retry_after=after)
    assert registry.blob_size("atlas", send(registry, b"layer")) == 5


def test_wrong_bytes_are_never_taken(atlas: Site) -> None:
    right = Digest.of(b"right")
    blob = BlobContent(right, 5, lambda offset: iter([memoryview(b"wrong")[offset:]]))
    registry = atlas.registry()
    with pytest.raises(ContentError):
        registry.upload("atlas", blob, advance=lambda _: None)
    assert registry.blob_size("atlas", right) is None


def test_a_tag_that_cannot_be_moved_is_a_conflict(atlas: Site) -> None:
    atlas.client.create_repository(repositoryName="fixed", imageTagMutability="IMMUTABLE")
    registry = atlas.registry()
    send_image(registry, "fixed", "1")
    with pytest.raises(ConflictError):
        send_image(registry, "fixed", "1", b"other")


def test_a_mount_that_ecr_refuses_is_an_upload(atlas: Site) -> None:
    registry = atlas.registry()
    send_image(registry, "atlas", "1")
    layer = Digest.of(b"layer")
    assert not registry.mount("docs", layer, source="atlas")
    assert registry.blob_size("docs", send(registry, b"layer", "docs")) == 5


def test_what_a_manifest_names_is_mounted_where_the_account_allows_it(atlas: Site) -> None:
    atlas.front.quirks.mounting = True
    registry = atlas.registry()
    send(registry, b"loose")
    assert not registry.mount("docs", Digest.of(b"loose"), source="atlas")
    send_image(registry, "atlas", "1")
    assert registry.mount("docs", Digest.of(b"layer"), source="atlas")
    assert registry.blob_size("docs", Digest.of(b"layer")) == 5


def test_a_layer_over_the_limit_is_an_error_and_not_tried_again(atlas: Site) -> None:
    atlas.front.quirks = Quirks(max_layer=1000)
    with pytest.raises(WorldError):
        send(atlas.registry(), noise(1001))
    assert len(atlas.uploads("PUT")) == 1
