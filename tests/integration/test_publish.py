from __future__ import annotations

import json
import multiprocessing
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from bundler.archive.bundle_files import open_bundle_files
from bundler.blob_content import BlobContent
from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    CheckError,
    ConflictError,
    ContentError,
    StaleError,
    WorldError,
)
from bundler.events import Emit, Event, Noted, Started
from bundler.parts import MIB, Span, s3_checksum
from bundler.publish.carry_out import publish
from bundler.publish.destination import Destination
from bundler.publish.plan import Kind, Plan, State
from bundler.publish.planning import make_plan
from bundler.publish.pointer import NOTHING_ALLOWED, Allowances
from bundler.publish.push import DEFAULT_OPTIONS, PushOptions, push_images
from bundler.publish.secrets import read_secrets
from bundler.receipt import Receipt, decode_receipt
from bundler.reference import ImageTag, S3Prefix
from bundler.release import TrustedRelease, open_release, signature_name
from bundler.release_files import ReleaseDirectory
from bundler.signing.keys import new_key_pair, read_private_key
from bundler.split import split_release
from bundler.stores.base import (
    MissingRepository,
    ObjectStore,
    Repositories,
    StoredObject,
)
from bundler.stores.login import GivenLogin
from bundler.stores.opening import open_bucket, open_registry
from bundler.target import (
    KubernetesTarget,
    ModelTarget,
    RegistryTarget,
    S3Target,
    SecretSource,
    Target,
)
from tests.fake_cluster import NAMESPACE, FakeCluster
from tests.publishable import SMALL, Recipe, make_publishable
from tests.pushable import blob_offset
from tests.rehearsal import registry as registries
from tests.rehearsal.fixtures import need
from tests.rehearsal.registry import Registry
from tests.rehearsal.s3 import S3
from tests.small_release import noise

NOW = "2026-11-20T12:00:00Z"
API_KEY = "sk-0123456789"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    return make_publishable(tmp_path_factory.mktemp("release") / "demo")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    """Give a release with a file of two parts."""
    weights = noise(1 << 20, 3) * 66
    recipe = Recipe(checkpoints={"big_1": {"model.safetensors": weights}}, models={"big": "big_1"})
    return make_publishable(tmp_path_factory.mktemp("release") / "big", recipe)


@dataclass
class Site:
    """One destination, and an operator's directory."""

    target: Target
    store: ObjectStore
    registry: Any
    directory: Path
    cluster: FakeCluster = field(default_factory=FakeCluster)
    events: list[Event] = field(default_factory=list)
    emit: Emit | None = None
    repositories: Repositories | None = None
    images: PushOptions = DEFAULT_OPTIONS
    now: str = NOW

    @property
    def destination(self) -> Destination:
        return Destination(
            store=self.store,
            registry=self.registry,
            cluster=self.cluster,
            repositories=self.repositories,
        )

    @property
    def values_path(self) -> Path:
        return self.directory / "target.values.yaml"

    def plan(self, release: TrustedRelease, allow: Allowances = NOTHING_ALLOWED) -> Plan:
        return make_plan(
            release,
            self.target,
            self.destination,
            secrets=read_secrets(self.target),
            now=self.now,
            allowances=allow,
            emit=self.events.append,
        )

    def publish(
        self,
        release: TrustedRelease,
        plan: Plan | None = None,
        *,
        allow: Allowances = NOTHING_ALLOWED,
        verify_first: bool = False,
    ) -> Receipt | None:
        return publish(
            plan or self.plan(release, allow),
            release,
            self.target,
            self.destination,
            secrets=read_secrets(self.target),
            values_path=self.values_path,
            receipts=self.directory,
            now=self.now,
            verify_first=verify_first,
            images=self.images,
            scratch_parent=self.directory,
            emit=self.emit or self.events.append,
        )

    def objects(self) -> dict[str, StoredObject]:
        return {item.key: item for item in self.store.list("")}

    def state(self) -> object:
        """Everything at the destination that can be told apart from the outside."""
        tags = {name: self.digest(ImageTag(name, "1.0.0")) for name in IMAGES}
        files = {path.name: path.read_bytes() for path in self.directory.iterdir()}
        return (self.objects(), tags, self.cluster.upgrades, len(self.cluster.applied), files)

    def digest(self, image: ImageTag) -> Digest | None:
        """Ask what a tag names at the registry."""
        found = self.registry.manifest(image.name, image.tag)
        return found.digest if found else None

    @property
    def said(self) -> str:
        return "\n".join(str(event) for event in self.events)


IMAGES = ("atlas", "model-downloader", "public-docs")


@pytest.fixture
def site(
    s3: S3,
    s3_bucket: str,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    need: Callable[[str], str],
) -> Site:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials.secret_key)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    need("helm")
    host = f"{registry.address}/{s3_bucket}"  # a tag is for ever, so tests cannot share a path
    directory = tmp_path / "operator"
    directory.mkdir()
    (tmp_path / "api-key").write_text(f"{API_KEY}\n")
    target = Target(
        registry=RegistryTarget(host=host, plain_http=True),
        s3=S3Target(place=S3Prefix(s3_bucket, "llm"), region=s3.region, endpoint=s3.url),
        kubernetes=KubernetesTarget(namespace=NAMESPACE, timeout_seconds=5),
        api_key=SecretSource(name="vllm-auth", from_file=tmp_path / "api-key"),
    )
    return Site(
        target=target,
        store=open_bucket(s3_bucket, endpoint=s3.url, region=s3.region),
        registry=open_registry(host, logins=GivenLogin(), plain_http=True),
        directory=directory,
    )


def test_a_release_is_published_whole(site: Site, small: TrustedRelease) -> None:
    receipt = site.publish(small)
    assert receipt is not None
    laguna, point = (small.manifest.checkpoint(name) for name in ("laguna_1", "point_1"))
    objects = site.objects()
    for key, checkpoint in (("laguna", laguna), ("point", point)):
        for file in checkpoint.files:
            stored = f"llm/checkpoints/{key}/{checkpoint.identity.id16}/{file.path}"
            head = site.store.head(objects.pop(stored).key)
            assert head is not None
            assert (head.size, head.checksum) == (file.size, s3_checksum(file.parts))
    assert sorted(objects) == [
        "llm/releases/current.json",
        "llm/releases/demo-2026.11.1/MANIFEST.json",
        "llm/releases/demo-2026.11.1/SHA256SUMS",
        f"llm/releases/demo-2026.11.1/SHA256SUMS.{small.signatures[0]}.sig",
        "llm/releases/demo-2026.11.1/complete/laguna_1.json",
        "llm/releases/demo-2026.11.1/complete/point_1.json",
        f"llm/releases/demo-2026.11.1/receipts/{receipt.name}.json",
    ]
    for image in small.manifest.images:
        assert site.digest(image.tag) == image.digest
    assert site.cluster.secret("vllm-auth") == {"VLLM_API_KEY": API_KEY}
    assert site.cluster.upgrades == 1
    written = site.directory / f"demo-2026.11.1-{receipt.name}.receipt.json"
    assert decode_receipt(written.read_bytes(), name="receipt") == receipt
    assert {path.name for path in site.directory.iterdir()} == {
        "target.values.yaml",
        written.name,
    }


def test_a_place_for_the_values_that_takes_no_file_is_told_before_anything_is_sent(
    site: Site, small: TrustedRelease
) -> None:
    plan, before = site.plan(small), site.state()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(WorldError, match="the values file and receipt go there") as caught:
            site.publish(small, plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "--values FILE" in str(caught.value.hint)
    assert site.state() == before


def test_a_second_publish_finds_nothing_to_do(site: Site, small: TrustedRelease) -> None:
    site.publish(small)
    before = site.state()
    plan = site.plan(small)
    assert not plan.pending
    assert not plan.conflicts
    assert site.publish(small, plan) is None
    assert site.state() == before


def test_the_receipt_says_what_became_of_each_image(site: Site, small: TrustedRelease) -> None:
    receipt = site.publish(small)
    assert receipt is not None
    with open_bundle_files(small.directory, small.manifest.bundle) as files:
        sizes = {
            image.tag: sum(blob.size for blob in files.image_tree(image).blobs)
            for image in small.manifest.images
        }
    assert {
        each.tag: each.bytes_sent + each.bytes_mounted + each.bytes_there for each in receipt.images
    } == sizes
    # They share nothing.
    assert sum(each.bytes_sent for each in receipt.images) > 2048 * len(sizes)
    site.target = replace(site.target, values={"models": {"point": {"replicas": 2}}})
    again = site.publish(small)
    assert again is not None
    assert {each.tag: each.bytes_there for each in again.images} == sizes


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    """Give a release whose images share a layer."""
    recipe = replace(SMALL, shared=noise(9000, 7))
    return make_publishable(tmp_path_factory.mktemp("sharing") / "demo", recipe)


def test_the_receipt_says_what_was_sent_again_since_it_was_not_mounted(
    site: Site, sharing: TrustedRelease
) -> None:
    need(lambda: registries.program("crane"))
    with registries.registry("crane") as crane:
        host = f"{crane.address}/here"
        site.registry = open_registry(host, logins=GivenLogin(), plain_http=True)
        site.target = replace(site.target, registry=replace(site.target.registry, host=host))
        plan = site.plan(sharing)
        receipt = site.publish(sharing, plan)
    assert receipt is not None
    again = [each.bytes_sent_again for each in receipt.images]
    assert again[0] == 0
    assert all(again[1:])
    assert sum(again) == plan.shared_bytes
    images = [step for step in plan.pending if step.kind is Kind.IMAGE]
    assert sum(each.bytes_sent for each in receipt.images) == sum(
        step.size + step.shared for step in images
    )
    assert "sent again" in site.said


def test_the_extracted_bundle_is_as_good_as_the_archive(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    copy = tmp_path / "extracted"
    shutil.copytree(small.directory, copy)
    bundle = small.manifest.bundle
    subprocess.run(["tar", "-xzf", copy / bundle.archive, "-C", copy], check=True)
    (copy / bundle.archive).unlink()
    (copy / bundle.root / "notes.txt").write_text("mine")
    extracted = open_release(copy, small.trust)
    receipt = site.publish(extracted, verify_first=True)
    assert receipt is not None
    assert f"{bundle.root}/notes.txt: is not signed" in site.said
    for image in small.manifest.images:
        assert site.digest(image.tag) == image.digest
    assert not site.plan(small).pending
    (copy / bundle.root / "containers" / "extra.tar").write_bytes(b"")
    with pytest.raises(ContentError, match=r"containers/extra\.tar"):
        site.plan(extracted)


def test_read_back_looks_also_where_nothing_is_to_do_and_its_proof_is_written(
    site: Site, small: TrustedRelease
) -> None:
    class Rotten:
        """A registry whose disk changed a byte of every blob."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def read_blob(self, name: str, digest: Digest, size: int) -> Iterator[bytes]:
            yield b"".join(real.read_blob(name, digest, size))[:-1] + b"?"

    real = site.registry
    site.images = PushOptions(read_back=True)
    first = site.publish(small)
    assert first is not None
    assert first.images_read_back
    assert "verb='read back'" in site.said
    before, upgrades, applied = site.objects(), site.cluster.upgrades, len(site.cluster.applied)
    site.now = "2026-11-22T00:00:00Z"
    again = site.publish(small)
    assert again is not None
    assert (again.done, again.time, again.images_read_back) == ((), site.now, True)
    assert {(each.sent, each.bytes_sent, each.bytes_mounted) for each in again.images} == {
        (False, 0, 0)
    }
    assert [each.digest for each in again.images] == [each.digest for each in first.images]
    assert not [each for each in again.objects if each.sent]
    assert again.chart is not None
    assert first.chart is not None
    assert again.chart == replace(first.chart, changed=False)
    assert (site.cluster.upgrades, len(site.cluster.applied)) == (upgrades, applied)
    key = f"llm/releases/demo-2026.11.1/receipts/{again.name}.json"
    assert site.objects().keys() - before.keys() == {key}
    written = (site.directory / again.file_name).read_bytes()
    assert decode_receipt(written, name="receipt") == again
    assert site.store.get(key, limit=len(written)) == written
    site.registry = Rotten()
    state = site.state()
    with pytest.raises(ContentError, match="expected blob sha256:"):
        site.publish(small)
    assert site.state() == state
    site.registry, site.images = real, DEFAULT_OPTIONS
    assert site.publish(small) is None
    assert site.state() == state


class SomeRepositories:
    """Repositories that have to be made first, as those of Amazon ECR have."""

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.made: list[str] = []

    def missing(self, names: Sequence[str]) -> tuple[MissingRepository, ...]:
        return tuple(MissingRepository(name) for name in names if name not in self.there)

    def create(self, name: str) -> bool:
        self.made.append(name)
        self.there.add(name)
        return True

    def mount_refusal(self) -> str:
        return "nobody mounts here"

    def never_mounts(self) -> bool:
        return True


def test_repositories_are_planned_and_made_before_images_are_sent(
    site: Site, small: TrustedRelease
) -> None:
    site.repositories = some = SomeRepositories("atlas")
    plan = site.plan(small)
    assert [(step.name, step.state) for step in plan.steps if step.kind is Kind.REPOSITORY] == [
        ("atlas", State.PRESENT),
        ("model-downloader", State.TO_DO),
        ("public-docs", State.TO_DO),
    ]
    assert all(plan.is_pending(Kind.IMAGE, f"{name}:1.0.0") for name in IMAGES)
    assert some.made == []
    receipt = site.publish(small, plan)
    assert receipt is not None
    assert some.made == ["model-downloader", "public-docs"]
    assert "repository public-docs" in receipt.done
    assert site.plan(small).pending == ()


def test_where_repositories_say_that_nothing_is_mounted_the_plan_says_so(
    site: Site, sharing: TrustedRelease
) -> None:
    site.repositories = SomeRepositories(*IMAGES)
    images = [step for step in site.plan(sharing).pending if step.kind is Kind.IMAGE]
    assert ["sent again: nobody mounts here" in step.detail for step in images] == [
        False,
        True,
        True,
    ]
    assert all(step.size > 9000 and not step.shared for step in images)


def test_where_it_is_known_that_nothing_is_mounted_no_mount_is_tried(
    site: Site, sharing: TrustedRelease
) -> None:
    tried: list[str] = []

    class Registry:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def mount(self, name: str, digest: Digest, *, source: str) -> bool:
            tried.append(name)
            return False

    real, site.registry = site.registry, Registry()
    site.repositories = SomeRepositories(*IMAGES)
    receipt = site.publish(sharing)
    assert receipt is not None
    assert sum(each.bytes_sent_again for each in receipt.images) > 9000
    assert tried == []


def test_planning_changes_nothing(site: Site, small: TrustedRelease) -> None:
    before = site.state()
    plan = site.plan(small)
    assert {step.kind for step in plan.pending} == set(Kind) - {Kind.REPOSITORY, Kind.RECEIPT}
    assert plan.pending_bytes > 8000
    assert site.state() == before


def test_the_values_are_pinned_to_what_was_signed(site: Site, small: TrustedRelease) -> None:
    site.publish(small)
    values = yaml.safe_load(site.values_path.read_text())
    digests = {image.tag.name: str(image.digest) for image in small.manifest.images}
    assert values["image"] == {
        "registry": site.target.registry.host,
        "digest": digests["atlas"],
    }
    assert values["downloader"]["image"] == {"digest": digests["model-downloader"]}
    manifest = site.store.get("llm/releases/demo-2026.11.1/MANIFEST.json", limit=1 << 20)
    assert values["release"]["manifestSha256"] == Digest.of(manifest).hex
    point = small.manifest.checkpoint("point_1")
    assert values["models"]["point"]["model"] == (
        f"{site.target.s3.place}/checkpoints/point/{point.identity.id16}"
    )
    assert values["models"]["point"]["storageBytes"] == point.content_bytes
    laguna = values["models"]["laguna"]["model"]
    assert values["models"]["laguna-two"]["model"] == laguna


def test_no_secret_is_told_or_written(site: Site, small: TrustedRelease) -> None:
    plan = site.plan(small)
    site.publish(small, plan)
    texts = [site.said, json.dumps(plan.to_dict()), repr(read_secrets(site.target))]
    texts += [path.read_text() for path in site.directory.iterdir()]
    assert not [text for text in texts if API_KEY in text]


def test_another_image_under_a_tag_stops_everything(site: Site, small: TrustedRelease) -> None:
    other = make_publishable(site.directory.parent / "other", replace(SMALL, image_seed=1))
    site.publish(other)
    before = site.state()
    moved = replace(site.target, s3=replace(site.target.s3, place=S3Prefix(bucket(site), "new")))
    fresh = replace(site, target=moved)
    with pytest.raises(ConflictError, match=r"image atlas:1\.0\.0: .* names sha256:") as caught:
        fresh.publish(small)
    assert caught.value.exit_status == 7
    assert f"{site.target.registry.host}/atlas:1.0.0" in str(caught.value)
    assert site.state() == before


def test_other_signatures_stay_and_the_receipt_claims_none(site: Site, tmp_path: Path) -> None:
    release = make_publishable(tmp_path / "signed", replace(SMALL, signed=True))
    signature = next(image for image in release.manifest.images if image.subject)
    first = site.publish(release)
    assert first is not None
    assert signature.tag in {image.tag for image in first.images}
    content = site.registry.manifest(signature.tag.name, str(signature.digest)).content
    theirs = content.replace(b"{", b"{ ", 1)
    site.registry.put_manifest(
        signature.tag.name, signature.tag.tag, json.loads(content)["mediaType"], theirs
    )
    plan = site.plan(release)
    assert not plan.pending
    assert not plan.conflicts
    assert site.publish(release, plan) is None
    site.target = replace(site.target, values={"models": {"point": {"replicas": 2}}})
    receipt = site.publish(release)
    assert receipt is not None
    images = {image.tag for image in release.manifest.images} - {signature.tag}
    assert {image.tag for image in receipt.images} == images
    assert f"image {signature.tag}: something else is attached under this tag" in site.said
    assert site.digest(signature.tag) == Digest.of(theirs)


def test_signatures_that_came_since_the_plan_are_not_claimed(site: Site, tmp_path: Path) -> None:
    release = make_publishable(tmp_path / "signed", replace(SMALL, signed=True))
    signature = next(image for image in release.manifest.images if image.subject)
    plan = site.plan(release)
    image = release.manifest.images[0]
    with open_bundle_files(release.directory, release.manifest.bundle) as files:
        push_images(site.registry, files, [image])
    content = site.registry.manifest(image.tag.name, image.tag.tag).content
    theirs = content.replace(b"{", b"{ ", 1)
    kind = json.loads(content)["mediaType"]
    site.registry.put_manifest(signature.tag.name, signature.tag.tag, kind, theirs)
    receipt = site.publish(release, plan)
    assert receipt is not None
    assert signature.tag not in {each.tag for each in receipt.images}
    assert f"image {signature.tag}" not in receipt.done
    assert site.digest(signature.tag) == Digest.of(theirs)


def bucket(site: Site) -> str:
    return site.target.s3.place.bucket


@pytest.mark.parametrize(
    ("content", "found"), [(b"other", "5 bytes, expected 3"), (b"[]\n", "SHA-256 checksum")]
)
def test_another_object_under_a_key_stops_everything(
    site: Site, small: TrustedRelease, content: bytes, found: str
) -> None:
    checkpoint = small.manifest.checkpoint("point_1")
    key = f"llm/checkpoints/point/{checkpoint.identity.id16}/config.json"
    site.store.put(key, content)
    before = site.state()
    with pytest.raises(ConflictError, match=rf"checkpoint file .*config\.json: has {found}"):
        site.publish(small)
    assert site.state() == before


def test_an_object_that_is_there_is_not_sent_again(site: Site, small: TrustedRelease) -> None:
    checkpoint = small.manifest.checkpoint("point_1")
    key = f"llm/checkpoints/point/{checkpoint.identity.id16}/model.safetensors"
    site.store.put(key, SMALL.checkpoints["point_1"]["model.safetensors"])
    site.publish(small)
    uploads = {event.item for event in site.events if isinstance(event, Started)}
    assert "point_1/config.json" in uploads
    assert "point_1/model.safetensors" not in uploads


def test_a_wrong_byte_in_an_archive_is_stopped_by_the_store(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    broken = damaged(small, tmp_path, "point_1", "model.safetensors", 100)
    with pytest.raises(ContentError, match=r"point_1\.tar.*model\.safetensors.*part 1") as caught:
        site.publish(broken)
    assert caught.value.exit_status == 5
    assert site.objects() == {}
    assert not site.cluster.applied
    assert not site.cluster.upgrades
    assert not site.values_path.exists()


def weights_of_point(release: TrustedRelease) -> str:
    identity = release.manifest.checkpoint("point_1").identity
    return f"llm/checkpoints/point/{identity.id16}/model.safetensors"


def damaged(
    release: TrustedRelease, place: Path, name: str, path: str, offset: int
) -> TrustedRelease:
    """Copy a release, and change one byte of one file of a checkpoint in it."""
    copy = place / "damaged"
    shutil.copytree(release.directory, copy)
    checkpoint = release.manifest.checkpoint(name)
    file = next(file for file in checkpoint.files if file.path == path)
    flip(copy / checkpoint.archive, file.offset + offset)
    return replace(release, files=ReleaseDirectory(copy))


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        [byte] = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def flip_layer(release: TrustedRelease, *, manifest: bool = False) -> None:
    """Change one byte of the layer, or of the manifest, of the first image in a bundle."""
    bundle, image = release.manifest.bundle, release.manifest.images[0]
    assert image.tag.name == "atlas"
    with open_bundle_files(release.directory, bundle) as files:
        layer = files.image_tree(image).blobs[0].digest
        offset = blob_offset(files, bundle, image, image.digest if manifest else layer)
    flip(release.directory / bundle.archive, offset)


def test_a_wrong_byte_in_a_large_file_is_named_by_its_part(
    site: Site, tmp_path: Path, big: TrustedRelease
) -> None:
    broken = damaged(big, tmp_path, "big_1", "model.safetensors", 65 * MIB)
    with pytest.raises(ContentError, match=r"model\.safetensors.*part 2") as caught:
        site.publish(broken)
    assert "the S3 server refused" in str(caught.value.hint)
    assert not [key for key in site.objects() if "/checkpoints/" in key]
    receipt = site.publish(big)
    assert receipt is not None
    [sent] = [item for item in receipt.objects if item.key.endswith("model.safetensors")]
    assert sent.checksum.endswith("-2")


def test_verify_first_finds_every_wrong_byte_before_anything_is_sent(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    broken = damaged(small, tmp_path, "point_1", "model.safetensors", 100)
    file = small.manifest.checkpoint("point_1").files[0]
    flip(broken.directory / "point_1.tar", file.offset)
    flip_layer(broken)
    before = site.state()
    with pytest.raises(ContentError) as caught:
        site.publish(broken, verify_first=True)
    for name in ("model.safetensors", file.path, small.manifest.bundle.archive):
        assert name in str(caught.value)
    assert site.state() == before


def test_a_wrong_byte_in_an_image_never_gets_a_tag(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(small.directory, copy)
    broken = replace(small, files=ReleaseDirectory(copy))
    flip_layer(broken)
    with pytest.raises(ContentError, match=r"atlas__1\.0\.0\.tar: expected blob"):
        site.publish(broken)
    for image in small.manifest.images:
        assert site.digest(image.tag) is None
    assert not site.cluster.upgrades


def test_a_wrong_byte_in_an_images_manifest_is_found_by_the_plan(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(small.directory, copy)
    broken = replace(small, files=ReleaseDirectory(copy))
    flip_layer(broken, manifest=True)
    with pytest.raises(ContentError, match=r"atlas__1\.0\.0\.tar"):
        site.plan(broken)


def test_a_truncated_archive_sends_nothing(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(small.directory, copy)
    with (copy / "point_1.tar").open("r+b") as stream:
        stream.truncate(4096)
    before = site.state()
    with pytest.raises(ContentError, match=r"point_1\.tar"):
        site.plan(replace(small, files=ReleaseDirectory(copy)))
    assert site.state() == before


def test_an_absent_archive_that_is_needed_is_named(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    copy = tmp_path / "partial"
    shutil.copytree(small.directory, copy)
    (copy / "point_1.tar").unlink()
    with pytest.raises(ContentError, match=r"point_1\.tar: absent, and s3://.* lacks 4 objects"):
        site.plan(replace(small, files=ReleaseDirectory(copy)))


def test_a_missing_volume_that_is_needed_is_named_before_anything_is_sent(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    copy = tmp_path / "volumes"
    shutil.copytree(small.directory, copy)
    split_release(copy, volume_bytes=8192, remove_original=True)
    missing, *_ = sorted(copy.glob("point_1.tar.002-of-*"))
    missing.unlink()
    before = site.state()
    with pytest.raises(ContentError, match=re.escape(missing.name)):
        site.plan(replace(small, files=ReleaseDirectory(copy)))
    assert site.state() == before


def test_an_absent_archive_whose_checkpoint_is_there_is_fine(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    site.publish(small)
    copy = tmp_path / "partial"
    shutil.copytree(small.directory, copy)
    (copy / "point_1.tar").unlink()
    assert not site.plan(replace(small, files=ReleaseDirectory(copy))).pending


def test_a_model_that_the_target_leaves_out_is_not_sent(site: Site, small: TrustedRelease) -> None:
    site.target = replace(site.target, models=(ModelTarget(key="laguna-two"),))
    site.publish(small)
    checkpoints = {key.split("/")[2] for key in site.objects() if "/checkpoints/" in key}
    assert checkpoints == {"laguna-two"}
    assert list(yaml.safe_load(site.values_path.read_text())["models"]) == ["laguna-two"]


def test_a_stopped_run_is_finished_by_the_next(site: Site, small: TrustedRelease) -> None:
    """Fail at each call that changes the destination, once; then the run goes through."""
    calls = 0

    class Killed(BaseException):
        pass

    class Fragile:
        """Forwards to a real thing, and dies before its n-th change."""

        def __init__(self, real: object, deadline: int) -> None:
            self.real, self.deadline = real, deadline

        def __getattr__(self, name: str) -> object:
            nonlocal calls
            if name in {"put", "upload", "mount", "put_manifest", "replace", "apply", "upgrade"}:
                calls += 1
                if calls == self.deadline:
                    raise Killed(name)
            return getattr(self.real, name)

    receipt = None
    store, registry, cluster = site.store, site.registry, site.cluster
    for deadline in range(1, 100):
        calls = 0
        fragile: list[Any] = [Fragile(real, deadline) for real in (store, registry, cluster)]
        broken = replace(site, store=fragile[0], registry=fragile[1], cluster=fragile[2])
        try:
            receipt = broken.publish(small)
        except Killed:
            continue
        break
    # Each death but the last left one change for the next run, so there is little left to do.
    assert deadline > 4
    assert site.plan(small).pending == ()
    assert receipt is not None
    assert cluster.upgrades == 1


@pytest.mark.parametrize("moment", ["Advanced(", "verb='push'", "verb='put'", "Waiting("])
def test_a_run_that_is_killed_is_finished_by_the_next(
    site: Site, big: TrustedRelease, moment: str
) -> None:
    here, there = multiprocessing.Pipe()

    def run() -> None:
        def tell(event: Event) -> None:
            if moment in str(event):
                there.send(None)
                threading.Event().wait()

        replace(site, emit=tell).publish(big)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    here.recv()
    process.kill()
    process.join()
    receipt = site.publish(big)
    assert receipt is not None
    assert not site.plan(big).pending
    assert not list(site.directory.glob("bundle-scratch-*"))


def test_pods_are_waited_for_after_a_run_that_was_killed_while_waiting(
    site: Site, small: TrustedRelease
) -> None:
    class Killed(BaseException):
        pass

    def die(ready: list[Any], look: int) -> list[Any]:
        raise Killed

    site.cluster.watch = die
    with pytest.raises(Killed):
        site.publish(small)
    site.cluster.watch = lambda ready, look: ready[:-1] if look == 2 else ready
    receipt = site.publish(small)
    assert receipt is not None
    assert site.cluster.upgrades == 1
    assert site.plan(small).pending == ()


def test_a_new_release_leaves_the_old_checkpoints(site: Site, small: TrustedRelease) -> None:
    site.publish(small)
    before = {key for key in site.objects() if "/checkpoints/" in key}
    checkpoints = {**SMALL.checkpoints, "point_1": {"model.safetensors": noise(100, 9)}}
    recipe = replace(SMALL, sequence=2, checkpoints=checkpoints)
    newer = make_publishable(site.directory.parent / "newer", recipe)
    site.publish(newer)
    after = {key for key in site.objects() if "/checkpoints/" in key}
    assert before < after
    assert len(after - before) == 1
    assert site.cluster.upgrades == 2


def test_an_older_release_is_refused_unless_named(site: Site, small: TrustedRelease) -> None:
    newer = make_publishable(site.directory.parent / "newer", replace(SMALL, sequence=2))
    site.publish(newer)
    before = site.state()
    for allow in (NOTHING_ALLOWED, Allowances(rollback=2)):
        with pytest.raises(StaleError, match="sequence 1, expected 2") as caught:
            site.publish(small, allow=allow)
        assert caught.value.exit_status == 6
    assert site.state() == before
    receipt = site.publish(small, allow=Allowances(rollback=1))
    assert receipt is not None
    assert receipt.allowances == ("rollback to sequence 1 below 2",)
    pointer = json.loads(site.store.get("llm/releases/current.json", limit=4096))
    assert (pointer["release"], pointer["sequence"], pointer["highest"]) == ("demo-2026.11.1", 1, 2)
    with pytest.raises(StaleError):
        site.plan(small)


def test_a_crash_after_the_chart_does_not_open_the_way_back(
    site: Site, small: TrustedRelease
) -> None:
    class Killed(BaseException):
        pass

    site.publish(small)
    newer = make_publishable(site.directory.parent / "newer", replace(SMALL, sequence=2))

    def die() -> None:
        raise Killed

    site.cluster.before_upgrade = die
    with pytest.raises(Killed):
        site.publish(newer)
    with pytest.raises(StaleError):
        site.plan(small)


def test_a_crash_of_the_first_deployment_does_not_open_the_way_back(
    site: Site, small: TrustedRelease
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    newer = make_publishable(site.directory.parent / "newer", replace(SMALL, sequence=2))
    site.cluster.before_upgrade = die
    with pytest.raises(Killed):
        site.publish(newer)
    with pytest.raises(StaleError, match="sequence 1, expected 2"):
        site.plan(small)
    site.cluster.before_upgrade = lambda: None
    assert Kind.POINTER in {step.kind for step in site.plan(newer).pending}
    site.publish(newer)
    assert not site.plan(newer).pending


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_newer_release_since_the_plan_stops_it(
    site: Site, small: TrustedRelease, moment: str
) -> None:
    newer = make_publishable(site.directory.parent / "newer", replace(SMALL, sequence=2))

    def come_between() -> None:
        other.publish(newer)

    plan = site.plan(small)
    other = replace(site, cluster=FakeCluster(), directory=site.directory.parent)
    if moment == "before":
        other.publish(newer)
    else:
        site.cluster.before_upgrade = come_between
    with pytest.raises(StaleError, match="sequence 1, and 2 was deployed here since") as caught:
        site.publish(small, plan)
    assert caught.value.exit_status == 6
    assert site.cluster.upgrades == (moment == "after")
    pointer = json.loads(site.store.get("llm/releases/current.json", limit=4096))
    assert (pointer["sequence"], pointer["highest"]) == (2, 2)


def test_only_signatures_that_hold_are_sent(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    copy = tmp_path / "renamed"
    shutil.copytree(small.directory, copy)
    [right] = copy.glob("*.sig")
    good = right.read_bytes()
    (copy / "SHA256SUMS.00000000.sig").write_bytes(good)
    right.write_bytes(b"junk")
    site.publish(open_release(copy, small.trust))
    sent = {key: item for key, item in site.objects().items() if key.endswith(".sig")}
    assert list(sent) == [f"llm/releases/demo-2026.11.1/{right.name}"]
    assert site.store.get(*sent, limit=4096) == good


@pytest.mark.parametrize("length", [4, 4096])
def test_a_signature_that_does_not_hold_is_a_conflict(
    site: Site, small: TrustedRelease, length: int
) -> None:
    [name] = small.signature_files
    site.store.put(f"llm/releases/demo-2026.11.1/{name}", b"j" * length)
    with pytest.raises(ConflictError, match=rf"{name}: holds other content"):
        site.publish(small)


def test_another_signature_by_the_same_key_is_as_good(site: Site, tmp_path: Path) -> None:
    key = read_private_key(new_key_pair(None)[0], None, name="key")
    release = make_publishable(tmp_path / "demo")
    signature = key.sign(release.sums_bytes)
    assert signature != key.sign(release.sums_bytes)
    name = signature_name(key.public.key8)
    release = replace(release, signers=(key.public,), signature_files={name: signature})
    site.publish(release)
    again = replace(release, signature_files={name: key.sign(release.sums_bytes)})
    assert not site.plan(again).pending


def test_an_expired_release_needs_a_reason(site: Site, tmp_path: Path) -> None:
    release = make_publishable(tmp_path / "old", replace(SMALL, expires="2026-11-19T00:00:00Z"))
    with pytest.raises(StaleError, match="expired at 2026-11-19T00:00:00Z"):
        site.plan(release)
    receipt = site.publish(release, allow=Allowances(expired_reason="the new one is on its way"))
    assert receipt is not None
    assert receipt.allowances == ("expired at 2026-11-19T00:00:00Z: the new one is on its way",)


def test_a_secret_that_people_made_is_not_touched(site: Site, small: TrustedRelease) -> None:
    site.cluster.add_secret("vllm-auth", {"VLLM_API_KEY": "theirs"})
    with pytest.raises(ConflictError, match=r"secret vllm-auth: .*not made by bundle"):
        site.publish(small)
    assert not site.objects()
    site.target = replace(site.target, api_key=SecretSource(name="vllm-auth"))
    site.publish(small)
    assert site.cluster.secret("vllm-auth") == {"VLLM_API_KEY": "theirs"}


def test_our_own_secret_is_updated(site: Site, small: TrustedRelease) -> None:
    site.cluster.add_secret("vllm-auth", {"VLLM_API_KEY": "old"}, label="bundle")
    site.publish(small)
    assert site.cluster.secret("vllm-auth") == {"VLLM_API_KEY": API_KEY}


def test_a_secret_that_must_exist_is_named_with_the_command(
    site: Site, small: TrustedRelease
) -> None:
    site.target = replace(site.target, api_key=SecretSource(name="my-key"))
    command = (
        f"kubectl create secret generic my-key --namespace {NAMESPACE} "
        "--from-file=VLLM_API_KEY=FILE_WITH_IT"
    )
    with pytest.raises(ConflictError, match=command):
        site.publish(small)
    site.cluster.add_secret("my-key", {"api-key": "x"})
    with pytest.raises(ConflictError, match="secret my-key: has no VLLM_API_KEY"):
        site.publish(small)


def test_a_changed_target_is_one_new_revision(site: Site, small: TrustedRelease) -> None:
    site.publish(small)
    site.target = replace(site.target, values={"models": {"point": {"replicas": 2}}})
    plan = site.plan(small)
    assert [(step.kind, step.detail) for step in plan.pending] == [
        (Kind.CHART, "values change"),
        (Kind.PODS, "to wait for"),
    ]
    site.publish(small, plan)
    assert site.cluster.upgrades == 2


def test_a_failed_revision_is_repaired(site: Site, small: TrustedRelease) -> None:
    site.publish(small)
    site.cluster.set_status("failed")
    site.publish(small)
    assert site.cluster.upgrades == 2


def test_a_chart_that_names_another_image_is_not_installed(
    site: Site, small: TrustedRelease
) -> None:
    # A sidecar would be the like; this chart has no way for one, so the closure is shown the
    # objects of a chart that has.
    class Sidecar(FakeCluster):
        def render(self, chart: Path, values: Path) -> list[Any]:
            spec = {"containers": [{"name": "spy", "image": "docker.io/spy:latest"}]}
            return [{"kind": "Pod", "metadata": {"name": "x"}, "spec": spec}]

    site.cluster = Sidecar()
    with pytest.raises(CheckError, match=r"Pod/x, spy: docker\.io/spy:latest") as caught:
        site.publish(small)
    assert caught.value.exit_status == 8
    assert not site.objects()


def test_another_image_that_came_to_be_installed_is_found_each_time(
    site: Site, small: TrustedRelease
) -> None:
    class Different(FakeCluster):
        def manifest(self) -> list[Any]:
            spec = {"containers": [{"name": "spy", "image": "docker.io/spy:latest"}]}
            return [*super().manifest(), {"kind": "Pod", "metadata": {"name": "x"}, "spec": spec}]

    site.cluster = Different()
    for _attempt in range(2):
        with pytest.raises(CheckError, match=r"installed .*: Pod/x, spy: docker\.io/spy:latest"):
            site.publish(small)
    assert site.cluster.upgrades == 1
    assert not [key for key in site.objects() if "/receipts/" in key]


def test_an_image_that_vanished_meanwhile_stops_the_chart(
    site: Site, small: TrustedRelease
) -> None:
    site.publish(small)
    site.cluster.set_status("failed")
    plan = site.plan(small)

    class Gone:
        def manifest(self, name: str, reference: str) -> None:
            return None

    site.registry = Gone()
    with pytest.raises(CheckError, match="at the registry, got nothing"):
        site.publish(small, plan)
    assert site.cluster.upgrades == 1


def test_values_that_the_chart_refuses_are_found_before_anything_is_sent(
    site: Site, small: TrustedRelease
) -> None:
    site.target = replace(site.target, values={"nonsense": 1})
    with pytest.raises(BundleError, match="nonsense") as caught:
        site.publish(small)
    assert caught.value.exit_status == 9
    assert not site.objects()


def test_a_directory_that_takes_no_receipt_is_found_first(
    site: Site, small: TrustedRelease, tmp_path: Path
) -> None:
    with pytest.raises(WorldError, match="nowhere: no such file or directory; the values file"):
        publish(
            site.plan(small),
            small,
            site.target,
            site.destination,
            secrets=read_secrets(site.target),
            values_path=site.values_path,
            receipts=tmp_path / "nowhere",
            now=NOW,
        )
    assert not site.objects()


def test_extra_objects_beside_a_checkpoint_are_named(site: Site, small: TrustedRelease) -> None:
    checkpoint = small.manifest.checkpoint("point_1")
    key = f"llm/checkpoints/point/{checkpoint.identity.id16}/other\x1b[2J.bin"
    site.store.put(key, b"x")
    site.plan(small)
    assert [e for e in site.events if isinstance(e, Noted) and r"other\u001b[2J.bin" in e.text]


class Slow:
    """A store with parts that take for ever, unless the sender gives up."""

    missing = (Span(1, 0, 1),)

    def __init__(self, real: ObjectStore) -> None:
        self.real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def begin(self, key: str, **_: object) -> Slow:
        return self

    def copy(self, *_: object) -> bool:
        return False

    def holds(self, *_: object) -> bool:
        return False

    def send(self, span: Span, pieces: Any, advance: object) -> None:
        for _attempt in range(200):
            next(pieces())
            time.sleep(0.1)
        raise AssertionError("nobody gave up")


def test_when_an_image_fails_the_uploads_stop_and_the_image_is_named(
    site: Site, small: TrustedRelease
) -> None:
    class Broken:
        def manifest(self, name: str, reference: str) -> None:
            return None

        def blob_size(self, name: str, digest: Digest) -> None:
            return None

        def upload(self, name: str, blob: BlobContent, *, advance: object) -> None:
            raise WorldError(f"{name}: the registry is full")

    site.registry = Broken()
    slow: Any = Slow(site.store)
    site.store = slow
    with pytest.raises(WorldError, match="the registry is full"):
        site.publish(small)
    assert not [key for key in site.objects() if "/checkpoints/" in key]


class Careless:
    """A store that takes bytes whatever their checksum says, as some servers do."""

    def __init__(self, real: ObjectStore) -> None:
        self.real = real
        self.completed: set[str] = set()
        self.read_back: set[str] = set()

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def checks_content(self, prefix: str) -> bool:
        return False

    def begin(self, key: str, *, size: int, **_: object) -> Any:
        return SimpleNamespace(
            missing=[Span(1, 0, size)],
            holds=lambda *_: False,
            send=lambda span, pieces, advance: self.store(key, pieces),
            complete=lambda: None,
        )

    def store(self, key: str, pieces: Any) -> None:
        self.real.put(key, b"".join(map(bytes, pieces())))
        self.completed.add(key)

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        self.read_back.add(key)
        return self.real.read(key, offset, length)


def test_with_a_careless_store_parts_are_hashed_and_objects_read_back(
    site: Site, tmp_path: Path, small: TrustedRelease
) -> None:
    careless: Any = Careless(site.store)
    site.store = careless
    broken = damaged(small, tmp_path, "point_1", "model.safetensors", 100)
    with pytest.raises(ContentError, match=r"model\.safetensors"):
        site.publish(broken)
    assert weights_of_point(small) not in careless.completed
    receipt = site.publish(small)
    assert receipt is not None
    assert not receipt.store_checks_content
    assert weights_of_point(small) in careless.completed
    assert careless.read_back == {key for key in site.objects() if "/checkpoints/" in key}
    assert "hashed before it is sent" in site.said
