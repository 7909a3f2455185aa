"""Images go from the bundle straight to a real registry, and nothing is tagged before all is in."""

from __future__ import annotations

import http.client
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.archive.bundle import Entry, write_bundle
from bundler.blob_content import BlobContent
from bundler.cli.publish import require_go_ahead
from bundler.cli.registry import open_target_registry
from bundler.digest import Digest
from bundler.errors import CheckError, ConflictError, ContentError, WorldError
from bundler.events import Advanced, Event, Finished, Noted, Started
from bundler.publish.content import read_images
from bundler.publish.destination import Destination, PushArchive
from bundler.publish.images import load, plan_images, require_images
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.publish.planning import make_plan
from bundler.publish.push import PushOptions, push_images
from bundler.publish.push_archives import ArchivePush
from bundler.publish.push_progress import Sent
from bundler.publish.rate_limit import RateLimit
from bundler.publish.together import StoppedError
from bundler.reference import ImageTag
from bundler.sizes import size_text
from bundler.stores.base import Registry, StoredManifest
from bundler.stores.login import GivenLogin, Login
from bundler.stores.opening import open_bucket, open_registry
from bundler.target import RegistryTarget
from bundler.target_reader import read_target
from bundler.tools.cluster import open_cluster
from bundler.yamltext import read_yaml
from tests.contract.registry_contract import MANIFEST_TYPE, push_image
from tests.publishable import SMALL, make_publishable
from tests.pushable import Pushable, make_pushable
from tests.rehearsal import registry as servers
from tests.rehearsal.faults import Answer, Call, Stall
from tests.rehearsal.faulty_proxy import FaultyProxy, faulty_proxy
from tests.rehearsal.fixtures import need
from tests.small_release import MTIME, noise

BASE, MIDDLE, OWN = noise(700_001, 1), noise(300_000, 2), noise(50_000, 3)
OTHER, THIRD = noise(60_000, 4), noise(70_000, 5)
IMAGES = {
    "one:1.0": [BASE, MIDDLE, OWN],
    "two:1.0": [BASE, OTHER],
    "three:1.0": [THIRD, MIDDLE, OTHER],
}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Pushable:
    """Give three images that share layers, and a signature of the first."""
    return make_pushable(tmp_path_factory.mktemp("three") / "release", IMAGES, signed="one:1.0")


@pytest.fixture
def counted(registry: servers.Registry) -> Iterator[FaultyProxy]:
    with faulty_proxy(registry) as proxy:
        yield proxy


@pytest.fixture
def place() -> str:
    """Give a path of this test's own in the registry."""
    return f"push-{uuid.uuid4().hex[:12]}"


def opened(address: str, place: str) -> Registry:
    return open_registry(f"{address}/{place}", logins=GivenLogin(), plain_http=True)


def push(registry: Registry, release: Pushable, **more: Any) -> dict[ImageTag, Sent]:
    with release.open() as files:
        return push_images(registry, files, release.images, **more)


def uploads(proxy: FaultyProxy) -> list[str]:
    return [call.digest for call in proxy.calls if call.took_blob]


def written(proxy: FaultyProxy) -> list[str]:
    """Name every request that changes something."""
    return [call.operation for call in proxy.calls if call.method not in {"GET", "HEAD"}]


def layer(content: bytes) -> str:
    return str(Digest.of(content))


def state(registry: Registry, release: Pushable) -> list[object]:
    """Tell all that the registry has of a release: each tag, manifest and size of a blob."""
    found: list[object] = []
    for item in load(release.open(), release.images):
        named = registry.manifest(item.repository, item.image.tag.tag)
        found.append((item.image.tag, named and named.digest))
        for place in item.manifest_places:
            stored = registry.manifest(place.repository, str(place.digest))
            found.append((place, stored and stored.content))
        found += [
            (place, registry.blob_size(place.repository, place.digest))
            for place, _ in item.blob_places
        ]
    return found


def whole(release: Pushable) -> list[object]:
    """Tell the same as it must be."""
    found: list[object] = []
    for item in load(release.open(), release.images):
        found.append((item.image.tag, item.image.digest))
        contents = [manifest.content for manifest in item.tree.manifests]
        found += zip(item.manifest_places, contents, strict=True)
        found += [(place, blob.size) for place, blob in item.blob_places]
    return found


def test_shared_layers_are_sent_once_and_everything_is_there(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    registry = opened(counted.address, place)
    sent = push(registry, three)
    assert state(registry, three) == whole(three)
    took = uploads(counted)
    assert len(took) == len(set(took))
    assert {layer(each) for each in (BASE, MIDDLE, OWN, OTHER, THIRD)} <= set(took)
    mounts = [call.status for call in counted.calls if call.operation == "Mount"]
    assert mounts == [http.client.CREATED] * 3
    assert sent[ImageTag("two", "1.0")].mounted == len(BASE)
    assert sent[ImageTag("three", "1.0")].mounted == len(MIDDLE) + len(OTHER)
    distinct = {blob for item in load(three.open(), three.images) for blob in item.tree.blobs}
    assert sum(each.sent for each in sent.values()) == sum(blob.size for blob in distinct)


def test_tags_come_last_and_signatures_after_their_image(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    push(opened(counted.address, place), three)
    changes = [call for call in counted.calls if call.method not in {"GET", "HEAD"}]
    tags = [call for call in changes if call.operation == "PutManifest" and ":" not in call.digest]
    assert changes[-4:] == tags
    names = [(call.repository.split("/")[-1], call.digest) for call in tags]
    assert names[:3] == [("one", "1.0"), ("two", "1.0"), ("three", "1.0")]
    assert names[3][1].endswith(".sig")
    proof = {"HeadBlob", "GetManifest"}
    between = counted.calls[counted.calls.index(changes[-5]) + 1 : counted.calls.index(tags[0])]
    assert {call.operation for call in between} == proof


def test_a_second_push_sends_nothing(counted: FaultyProxy, place: str, three: Pushable) -> None:
    registry = opened(counted.address, place)
    push(registry, three)
    counted.calls.clear()
    sent = push(registry, three)
    assert written(counted) == []
    assert {(each.sent, each.mounted) for each in sent.values()} == {(0, 0)}


def test_what_was_there_is_asked_for_once(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    registry = opened(counted.address, place)
    first, both = (replace(three, images=three.images[:count]) for count in (1, 2))
    push(registry, first)
    counted.calls.clear()
    push(registry, both)
    asked = [call.digest for call in counted.calls if call.repository == f"{place}/one"]
    [one] = load(three.open(), first.images)
    assert sorted(asked) == sorted(["1.0", *(str(blob.digest) for blob in one.tree.blobs)])
    assert state(registry, both) == whole(both)


def test_a_plan_says_where_images_go_and_why_less_is_to_send_than_they_have(
    registry: servers.Registry, place: str, three: Pushable
) -> None:
    server, cargo = opened(registry.address, place), load(three.open(), three.images)
    one, two, third, _ = plan_images(server, cargo, f"R/{place}")
    assert [step.place for step in (one, two)] == [f"R/{place}/one:1.0", f"R/{place}/two:1.0"]
    assert one.detail == ""
    shared = f"{size_text(len(BASE))} shared with other images"
    assert two.detail == f"{shared}, not sent again if the registry mounts them"
    assert two.shared == len(BASE)
    assert third.size < len(MIDDLE)
    push(server, replace(three, images=three.images[:1]))
    other = replace(cargo[0].image, tag=ImageTag("one", "2.0"))
    [step] = plan_images(server, [replace(cargo[0], image=other)], "R")
    assert (step.state, step.size, step.detail) == (State.TO_DO, 0, "its layers are there")


def test_an_index_goes_children_first(counted: FaultyProxy, place: str, tmp_path: Path) -> None:
    both = make_pushable(tmp_path / "release", {"one:1.0": [OWN]}, platforms=2)
    registry = opened(counted.address, place)
    push(registry, both)
    assert state(registry, both) == whole(both)
    assert len(both.images[0].platforms) == 2


class Failing:
    """A registry that fails for good after some uploads."""

    def __init__(self, real: Registry, uploads: int) -> None:
        self.real, self.left = real, uploads
        self.lock = threading.Lock()

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def upload(self, name: str, blob: BlobContent, *, advance: Any) -> None:
        with self.lock:
            self.left -= 1
            if self.left < 0:
                raise WorldError(f"{name}: the registry is full")
        self.real.upload(name, blob, advance=advance)


class Counting(Failing):
    """A registry that takes no blob before so many are under way at once."""

    def __init__(self, real: Registry, wanted: int) -> None:
        super().__init__(real, 100)
        self.wanted, self.now, self.most = wanted, 0, 0
        self.met = threading.Event()

    def upload(self, name: str, blob: BlobContent, *, advance: Any) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now == self.wanted:
                self.met.set()
        assert self.met.wait(10), f"{self.most} at once"
        super().upload(name, blob, advance=advance)
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("parallel", [1, 3])
def test_as_many_blobs_are_under_way_at_once_as_was_asked_for(
    registry: servers.Registry, place: str, three: Pushable, parallel: int
) -> None:
    counting: Any = Counting(opened(registry.address, place), parallel)
    push(counting, three, options=PushOptions(parallel=parallel))
    assert counting.most == parallel


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_rerun_sends_only_what_is_missing(
    counted: FaultyProxy, place: str, three: Pushable, parallel: int
) -> None:
    registry = opened(counted.address, place)
    options = PushOptions(parallel=parallel)
    for number in (2, 3):
        broken: Any = Failing(registry, number)
        with pytest.raises(WorldError, match="the registry is full"):
            push(broken, three, options=options)
        for image in three.images:
            assert registry.manifest(image.tag.name, image.tag.tag) is None
    if parallel == 1:  # else what is on its way when something fails is given up
        assert len(uploads(counted)) == 5
    push(registry, three, options=options)
    took = uploads(counted)
    assert len(took) == len(set(took))
    assert state(registry, three) == whole(three)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        [byte] = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def damaged(release: Pushable, tmp_path: Path, digest: Digest) -> Pushable:
    """Copy a release and change one byte of a blob of its first image."""
    copy = replace(release, directory=tmp_path / "damaged")
    shutil.copytree(release.directory, copy.directory)
    flip(copy.archive, release.offset(release.images[0], digest))
    return copy


@pytest.mark.parametrize("rehash", [False, True])
def test_with_a_wrong_byte_in_the_bundle_nothing_is_tagged(
    counted: FaultyProxy, place: str, three: Pushable, tmp_path: Path, rehash: bool
) -> None:
    broken = damaged(three, tmp_path, Digest.of(OWN))
    registry = opened(counted.address, place)
    with pytest.raises(ContentError, match=r"containers/one__1\.0\.tar: expected blob") as caught:
        push(registry, broken, options=PushOptions(rehash=rehash))
    assert layer(OWN) in str(caught.value)
    assert layer(OWN) not in uploads(counted)
    for image in three.images:
        assert registry.manifest(image.tag.name, image.tag.tag) is None
    push(registry, three)
    assert state(registry, three) == whole(three)


def misnamed(release: Pushable, tmp_path: Path, digest: Digest) -> Pushable:
    """Build a release whose first image has a blob with other bytes than its name says."""
    directory, entries = tmp_path / "misnamed", list[Entry]()
    directory.mkdir()
    with release.open() as files:
        for image in release.images:
            archive = tmp_path / f"{len(entries)}.tar"
            files.extract(files.archive_of(image), archive)
            entries.append(Entry(image.tag.archive_path, archive))
        flip(tmp_path / "0.tar", files.image_tree(release.images[0]).offsets[digest])
    bundle = write_bundle(
        directory / release.bundle.archive,
        root=release.bundle.root,
        entries=sorted(entries, key=lambda entry: entry.path),
        mtime=MTIME,
    )
    return replace(release, directory=directory, bundle=bundle)


@pytest.mark.parametrize("rehash", [False, True])
def test_a_layer_that_was_signed_wrong_is_the_vendors_to_mend(
    registry: servers.Registry, place: str, three: Pushable, tmp_path: Path, rehash: bool
) -> None:
    wrong, store = misnamed(three, tmp_path, Digest.of(OWN)), opened(registry.address, place)
    with pytest.raises(ContentError, match="is not what its name says") as caught:
        push(store, wrong, options=PushOptions(rehash=rehash))
    assert f"containers/one__1.0.tar is as signed, and its blob {layer(OWN)}" in str(caught.value)
    assert "the vendor must build this release again" in str(caught.value.hint)
    assert "nothing was tagged" in str(caught.value.hint)
    for image in three.images:
        assert store.manifest(image.tag.name, image.tag.tag) is None


def test_to_read_first_finds_layers_that_were_signed_wrong(three: Pushable, tmp_path: Path) -> None:
    wrong = misnamed(three, tmp_path, Digest.of(OWN))
    with wrong.open() as files:
        read = read_images(files, wrong.images, wrong.bundle.archive, lambda _: None)
    [text] = read.misnamed
    assert f"one__1.0.tar is as signed, and its blob {layer(OWN)} is not what its name" in text
    assert not read.faults


def test_to_read_first_tells_damage_from_what_was_signed_wrong(
    three: Pushable, tmp_path: Path
) -> None:
    broken = damaged(three, tmp_path, Digest.of(OWN))
    with broken.open() as files:
        read = read_images(files, broken.images, broken.bundle.archive, lambda _: None)
    assert [fault.path for fault in read.faults] == ["containers/one__1.0.tar"]
    assert not read.misnamed


def test_a_limit_holds_for_all_images_together(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    now, waited = time.monotonic(), list[float]()
    limit = RateLimit(1 << 30, clock=lambda: now, sleep=waited.append)
    push(opened(counted.address, place), three, options=PushOptions(limit=limit))
    sent = sum(call.forwarded for call in counted.calls if call.operation == "PutBlob")
    assert max(waited) <= sent / (1 << 30)
    assert max(waited) > sent / (1 << 30) / 2


def test_rehash_keeps_the_last_bytes_of_a_wrong_blob_from_the_registry(
    counted: FaultyProxy, place: str, three: Pushable, tmp_path: Path
) -> None:
    broken = damaged(three, tmp_path, Digest.of(OWN))
    with pytest.raises(ContentError):
        push(opened(counted.address, place), broken, options=PushOptions(rehash=True))
    sent = [call for call in counted.calls if call.digest == layer(OWN)]
    assert not [call for call in sent if call.operation == "PutBlob" and call.status]


def test_bytes_that_change_on_the_way_are_not_blamed_on_the_bundle(
    registry: servers.Registry, place: str, three: Pushable
) -> None:
    class Garbling(Failing):
        def upload(self, name: str, blob: BlobContent, *, advance: Any) -> None:
            def pieces(offset: int) -> Iterator[memoryview]:
                for piece in blob.pieces(offset):
                    yield memoryview(bytes(len(piece)))

            self.real.upload(name, replace(blob, pieces=pieces), advance=advance)

    garbling: Any = Garbling(opened(registry.address, place), 0)
    with pytest.raises(ContentError, match="itself is as signed"):
        push(garbling, three)


def test_an_answer_that_names_another_digest_is_not_blamed_on_the_way(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    other = {"Docker-Content-Digest": layer(b"other")}
    counted.fault = lambda call: Answer(201, other) if call.operation == "PutBlob" else None
    with pytest.raises(ContentError, match="its answer names another digest") as caught:
        push(opened(counted.address, place), three)
    assert "itself is as signed" in str(caught.value)
    assert "nothing was tagged; the registry, or a proxy before it" in str(caught.value.hint)
    assert "on their way" not in str(caught.value.hint)


def test_a_tag_that_names_something_else_stops_everything(
    counted: FaultyProxy, place: str, three: Pushable, tmp_path: Path
) -> None:
    registry = opened(counted.address, place)
    push(registry, make_pushable(tmp_path / "other", {"two:1.0": [noise(10, 7)]}))
    counted.calls.clear()
    with pytest.raises(ConflictError, match=r"two:1\.0 names sha256:"):
        push(registry, three)
    assert written(counted) == []
    steps = list(plan_images(registry, load(three.open(), three.images), "R"))
    assert [step.state for step in steps].count(State.CONFLICT) == 1


def other_signature(registry: Registry, release: Pushable) -> bytes:
    """Put something else under the tag of the release's signature, as its customer would."""
    image = release.images[0]
    top = load(release.open(), [image])[0].tree.manifests[-1]
    content = top.content.replace(b"{", b"{ ", 1)
    for blob in top.blobs:
        assert registry.blob_size(image.tag.name, blob.digest) == blob.size
    tag = release.images[-1].tag
    registry.put_manifest(tag.name, tag.tag, top.media_type, content)
    return content


def noted(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Noted)]


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_other_signatures_stay_and_ours_are_not_claimed(
    counted: FaultyProxy, place: str, three: Pushable, moment: str
) -> None:
    registry = opened(counted.address, place)
    push(registry, replace(three, images=three.images[:1]))
    signature = three.images[-1]
    theirs = other_signature(registry, three) if moment == "before" else b""
    events: list[Event] = []

    def tell(event: Event) -> None:
        nonlocal theirs
        events.append(event)
        if isinstance(event, Started) and event.verb == "check" and not theirs:
            theirs = other_signature(registry, three)

    sent = push(registry, three, emit=tell)
    assert set(sent) == {image.tag for image in three.images[:-1]}
    assert noted(events) == [
        f"image {signature.tag}: something else is attached under this tag; it stays"
    ]
    kept = registry.manifest(signature.tag.name, signature.tag.tag)
    assert kept is not None
    assert kept.content == theirs
    images = replace(three, images=three.images[:-1])
    assert state(registry, images) == whole(images)
    *steps, step = plan_images(registry, load(three.open(), three.images), "R")
    assert {each.state for each in steps} == {State.PRESENT}
    assert not any(each.kept for each in steps)
    assert (step.state, step.kept, step.size) == (State.PRESENT, True, 0)
    assert step.detail == "something else is attached under this tag; it stays"
    if moment == "before":
        [own] = load(three.open(), [signature])
        assert not uploads(counted).count(str(own.tree.blobs[0].digest))


def test_skopeo_leaves_other_signatures_too(
    registry: servers.Registry,
    place: str,
    three: Pushable,
    tmp_path: Path,
    need: Callable[[str], str],
) -> None:
    need("skopeo")
    server = opened(registry.address, place)
    push(server, replace(three, images=three.images[:1]))
    theirs = other_signature(server, three)
    target = RegistryTarget(host=f"{registry.address}/{place}", plain_http=True)
    _, sent = archive_push(target, tmp_path / "own", three)
    assert set(sent) == {image.tag for image in three.images[:-1]}
    kept = server.manifest(three.images[-1].tag.name, three.images[-1].tag.tag)
    assert kept is not None
    assert kept.content == theirs


def test_a_tag_that_somebody_moves_meanwhile_stops_all_tags(
    counted: FaultyProxy, place: str, three: Pushable, tmp_path: Path
) -> None:
    registry = opened(counted.address, place)
    other = make_pushable(tmp_path / "other", {"three:1.0": [noise(10, 7)]})
    waiting = [other]

    def tell(event: Event) -> None:
        if isinstance(event, Started) and event.verb == "check" and waiting:
            push(registry, waiting.pop())

    with pytest.raises(ConflictError, match=r"three:1\.0 names"):
        push(registry, three, emit=tell)
    for image in three.images[:2]:
        assert registry.manifest(image.tag.name, image.tag.tag) is None


def test_a_tag_that_somebody_sets_while_we_tag_others_is_never_overwritten(
    registry: servers.Registry, counted: FaultyProxy, place: str, three: Pushable, tmp_path: Path
) -> None:
    theirs = opened(registry.address, place)
    other = make_pushable(tmp_path / "other", {"three:1.0": [noise(10, 7)]})
    waiting = [other]

    def set_theirs(call: Call) -> None:
        if waiting and call.operation == "PutManifest" and call.path.endswith("/one/manifests/1.0"):
            push(theirs, waiting.pop())

    counted.fault = set_theirs
    with pytest.raises(ConflictError, match=r"three:1\.0: names"):
        push(opened(counted.address, place), three)
    named = theirs.manifest("three", "1.0")
    assert named is not None
    assert named.digest == other.images[0].digest


def test_a_right_tag_is_left_alone_so_that_it_may_be_immutable(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    class Immutable(Failing):
        def put_manifest(self, name: str, reference: str, kind: str, content: bytes) -> None:
            if ":" not in reference and self.real.manifest(name, reference):
                raise ConflictError("ImageTagAlreadyExistsException")
            self.real.put_manifest(name, reference, kind, content)

    real = opened(counted.address, place)
    immutable: Any = Immutable(real, 100)
    push(immutable, three)
    push(immutable, three)
    # Somebody else sets the tag between our look and our PUT.
    image = three.images[0]
    top = load(three.open(), [image])[0].tree.manifests[-1]

    class Late(Immutable):
        looks = 0

        def manifest(self, name: str, reference: str) -> object:
            if reference == image.tag.tag:
                self.looks += 1
                if self.looks <= 2:
                    return None
            return self.real.manifest(name, reference)

    late: Any = Late(real, 100)
    with three.open() as files:
        push_images(late, files, [image])
    stored = real.manifest(image.tag.name, image.tag.tag)
    assert stored is not None
    assert stored.content == top.content


class Lying(Failing):
    """A registry that says it took a blob, and did not."""

    def upload(self, name: str, blob: BlobContent, *, advance: Any) -> None:
        if blob.digest != Digest.of(OWN):
            self.real.upload(name, blob, advance=advance)

    def put_manifest(self, name: str, reference: str, kind: str, content: bytes) -> None:
        if name != "one":  # a registry would refuse this manifest
            self.real.put_manifest(name, reference, kind, content)


def test_a_registry_that_lies_is_found_out_before_any_tag(
    registry: servers.Registry, place: str, three: Pushable
) -> None:
    real = opened(registry.address, place)
    lying: Any = Lying(real, 0)
    with pytest.raises(ContentError, match=r"one.*got nothing"):
        push(lying, three)
    for image in three.images:
        assert real.manifest(image.tag.name, image.tag.tag) is None


def lie_about(proxy: FaultyProxy, content: bytes, answer: Answer) -> None:
    """Answer falsely for a blob as soon as the registry has taken it."""

    def fault(call: Call) -> Answer | None:
        taken = any(each.took_blob and each.digest == layer(content) for each in proxy.calls)
        mine = call.operation == "HeadBlob" and call.digest == layer(content)
        return answer if taken and mine else None

    proxy.fault = fault


def test_a_blob_that_has_another_size_after_the_push_is_found_out_before_any_tag(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    lie_about(counted, OWN, Answer(200, body=OWN[:-1]))
    registry = opened(counted.address, place)
    wrong = f"one: blob {layer(OWN)}: expected 50000 bytes at the registry, got 49999 bytes"
    with pytest.raises(ContentError, match=wrong):
        push(registry, three)
    for image in three.images:
        assert registry.manifest(image.tag.name, image.tag.tag) is None


def test_after_skopeo_too_the_registry_is_asked_for_each_blob(
    counted: FaultyProxy,
    place: str,
    three: Pushable,
    tmp_path: Path,
    need: Callable[[str], str],
) -> None:
    need("skopeo")
    lie_about(counted, OWN, Answer(404))
    target = RegistryTarget(host=f"{counted.address}/{place}", plain_http=True)
    with pytest.raises(ContentError, match=f"one: blob {layer(OWN)}: .* got nothing"):
        archive_push(target, tmp_path / "own", three)


@pytest.mark.parametrize("theirs", [True, False])
def test_what_the_tag_names_after_a_program_pushed_is_told(
    registry: servers.Registry, place: str, three: Pushable, tmp_path: Path, theirs: bool
) -> None:
    """As where somebody moves it meanwhile; our own engine sets tags by itself."""
    target = RegistryTarget(host=f"{registry.address}/{place}", plain_http=True)
    server = opened(registry.address, place)
    digests = {image.tag: image.digest for image in three.images}
    named = ["nothing"]

    def program(_: Path, tag: ImageTag) -> Digest:
        if theirs:
            manifest = push_image(server, tag.name, b"theirs")
            server.put_manifest(tag.name, tag.tag, MANIFEST_TYPE, manifest)
            named[0] = str(Digest.of(manifest))
        return digests[tag]

    with pytest.raises(ContentError, match="after the push, the tag names") as caught:
        archive_push(target, tmp_path / "own", three, program=program)
    assert str(caught.value).endswith(f"the tag names {named[0]}")
    assert "run again" in str(caught.value.hint)


def test_a_program_that_pushes_something_else_is_told(
    registry: servers.Registry, place: str, three: Pushable, tmp_path: Path
) -> None:
    target = RegistryTarget(host=f"{registry.address}/{place}", plain_http=True)
    other = Digest.of(b"other")
    with pytest.raises(ContentError, match=f"to be pushed, got {other}$") as caught:
        archive_push(target, tmp_path / "own", three, program=lambda *_: other)
    assert "without --image-engine skopeo" in str(caught.value.hint)


def test_a_mount_that_was_none_is_found_out_before_any_tag(
    registry: servers.Registry, place: str, three: Pushable
) -> None:
    kept: dict[tuple[str, str], StoredManifest] = {}

    class Forgetful(Failing):
        """It mounts nothing, and takes manifests without a look at their blobs."""

        def mount(self, name: str, digest: Digest, *, source: str) -> bool:
            return True

        def put_manifest(self, name: str, reference: str, kind: str, content: bytes) -> None:
            kept[name, reference] = StoredManifest(Digest.of(content), content)

        def manifest(self, name: str, reference: str) -> StoredManifest | None:
            return kept.get((name, reference))

    real = opened(registry.address, place)
    push(real, replace(three, images=three.images[:1]))
    forgetful: Any = Forgetful(real, 100)
    with three.open() as files, pytest.raises(ContentError, match=r"two: blob .* got nothing"):
        push_images(forgetful, files, three.images[1:2], present=three.images[:1])
    assert ("two", "1.0") not in kept


def test_a_manifest_that_was_lost_is_found_out_before_any_tag(
    registry: servers.Registry, place: str, three: Pushable
) -> None:
    class Forgetful(Failing):
        def put_manifest(self, name: str, reference: str, kind: str, content: bytes) -> None:
            pass

    real = opened(registry.address, place)
    forgetful: Any = Forgetful(real, 100)
    with pytest.raises(ContentError, match="expected the manifest at the registry, got nothing"):
        push(forgetful, three)
    assert real.manifest("one", "1.0") is None


def test_without_read_back_a_rotten_blob_passes_and_with_it_nothing_is_tagged(
    place: str, three: Pushable
) -> None:
    with servers.registry() as server:
        registry = opened(server.address, place)
        broken: Any = Failing(registry, 4)
        with pytest.raises(WorldError):
            push(broken, three, options=PushOptions(parallel=1))
        digest = Digest.of(BASE)
        [data] = server.storage.rglob(f"{digest.hex}/data")
        flip(data, 350_000)
        named = f"^r.local/.*: expected blob {digest} at the registry, got"
        with pytest.raises(ContentError, match=named):
            push(registry, three, options=PushOptions(read_back=True), host="r.local")
        for image in three.images:
            assert registry.manifest(image.tag.name, image.tag.tag) is None
        flip(data, 350_000)
        events: list[Event] = []
        push(registry, three, options=PushOptions(read_back=True), emit=events.append)
        assert "4 images at the registry: were read back, and as signed" in noted(events)
        assert state(registry, three) == whole(three)


_NOWHERE = """\
formatVersion: 1
registry: {host: 127.0.0.1:9, plainHttp: true}
s3: {bucket: models, region: us-east-1, endpoint: "http://127.0.0.1:9"}
kubernetes: {namespace: models, release: inference}
"""


def test_a_plan_that_reaches_neither_bucket_nor_registry_tells_both(tmp_path: Path) -> None:
    release = make_publishable(tmp_path / "release", SMALL)
    target = read_target(read_yaml(_NOWHERE.encode(), name="target.yaml"), base=tmp_path)
    destination = Destination(
        store=open_bucket("models", region="us-east-1", endpoint=target.s3.endpoint),
        registry=open_registry(target.registry.host, logins=GivenLogin(), plain_http=True),
        cluster=open_cluster(target.kubernetes),
    )
    with pytest.raises(WorldError) as caught:
        make_plan(release, target, destination, secrets=(), now="2026-11-21T00:00:00Z")
    bucket, registry = str(caught.value).splitlines()
    assert "models" in bucket
    assert registry.startswith("127.0.0.1:9: cannot reach the registry")
    assert "AWS" in str(caught.value.hint)
    assert "registry.host" in str(caught.value.hint)


def test_what_is_only_read_back_is_not_called_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    there = Step(kind=Kind.IMAGE, name="a:1", state=State.PRESENT)
    plan = Plan(release="r", manifest=Digest.of(b""), steps=(there,))
    require_go_ahead(plan, yes=False, reads_back=True)
    told = capsys.readouterr().err
    assert "all is there; nothing to send; its images are read back, with a receipt" in told


def test_a_blob_of_another_size_at_the_registry_is_named(place: str, three: Pushable) -> None:
    with servers.registry() as server:
        registry = opened(server.address, place)
        push(registry, three)
        [data] = server.storage.rglob(f"{Digest.of(BASE).hex}/data")
        with data.open("r+b") as stream:
            stream.truncate(1000)
        with pytest.raises(ContentError, match=r"expected 700001 bytes at the registry, got 1000"):
            push(registry, three)
        steps = list(plan_images(registry, load(three.open(), three.images), "R"))
    assert [step.state for step in steps].count(State.CONFLICT) == 2
    assert "expected 700001 bytes" in steps[0].detail


def delete_blob(server: servers.Registry, repository: str, content: bytes) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("DELETE", f"/v2/{repository}/blobs/{layer(content)}")
    assert connection.getresponse().status == http.client.ACCEPTED
    connection.close()


def test_a_tag_whose_blobs_are_gone_is_to_do_and_is_healed(place: str, three: Pushable) -> None:
    with servers.registry() as server:
        registry = opened(server.address, place)
        cargo = load(three.open(), three.images)
        push(registry, three)
        assert {s.state for s in plan_images(registry, cargo, "R")} == {State.PRESENT}
        delete_blob(server, f"{place}/one", OWN)
        steps = list(plan_images(registry, cargo, "R"))
        assert [step.state for step in steps].count(State.TO_DO) == 1
        assert (steps[0].size, steps[0].detail) == (
            len(OWN),
            "the tag is there, and not all that it names",
        )
        push(registry, three)
        assert state(registry, three) == whole(three)


def test_a_plan_counts_shared_bytes_once(registry: servers.Registry, three: Pushable) -> None:
    cargo = load(three.open(), three.images)
    steps = list(plan_images(opened(registry.address, "nowhere"), cargo, "R"))
    distinct = {blob for item in cargo for blob in item.tree.blobs}
    assert sum(step.size for step in steps) == sum(blob.size for blob in distinct)
    assert sum(step.size + step.shared for step in steps) == sum(item.size for item in cargo)


@pytest.mark.parametrize(("kind", "mounts"), [("debian", True), ("crane", False)])
def test_what_a_registry_does_not_mount_is_told_and_counted_as_sent_again(
    three: Pushable, place: str, kind: servers.Kind, mounts: bool
) -> None:
    need(lambda: servers.program(kind))
    shared = len(BASE) + len(MIDDLE) + len(OTHER)
    events: list[Event] = []
    with servers.registry(kind) as server:
        registry = opened(server.address, place)
        steps = list(plan_images(registry, load(three.open(), three.images), "R"))
        assert sum(step.shared for step in steps) == shared
        sent = push(registry, three, emit=events.append)
    went = sum(each.sent for each in sent.values())
    told = [each.text for each in events if isinstance(each, Noted)]
    again = sum(each.again for each in sent.values())
    if mounts:
        assert (went, again, told) == (sum(step.size for step in steps), 0, [])
        return
    assert went == sum(step.size + step.shared for step in steps)
    assert again == shared
    assert sent[ImageTag("two", "1.0")].again == len(BASE)
    assert told == [
        "the registry did not mount 3 blobs from another of its repositories: "
        f"{size_text(shared)} sent again"
    ]


def test_nothing_is_asked_of_repositories_that_are_not_there(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    cargo = load(three.open(), three.images)
    registry = opened(counted.address, place)
    steps = list(plan_images(registry, cargo, "R", without={"one", "three"}))
    assert {step.state for step in steps} == {State.TO_DO}
    assert {call.repository for call in counted.calls} == {f"{place}/two"}


def test_what_is_there_of_the_release_already_is_mounted(
    counted: FaultyProxy, place: str, three: Pushable
) -> None:
    registry = opened(counted.address, place)
    first, *others = three.images
    with three.open() as files:
        push_images(registry, files, [first])
        sent = push_images(registry, files, others, present=[first])
    assert sent[ImageTag("two", "1.0")].mounted == len(BASE)
    took = uploads(counted)
    assert len(took) == len(set(took))


def test_from_the_extracted_bundle_it_is_the_same(
    registry: servers.Registry, place: str, three: Pushable, tmp_path: Path
) -> None:
    extracted = replace(three, directory=tmp_path / "extracted")
    extracted.directory.mkdir()
    subprocess.run(["tar", "-xzf", three.archive, "-C", extracted.directory], check=True)
    server = opened(registry.address, place)
    push(server, extracted)
    assert state(server, three) == whole(three)


def archive_push(
    target: RegistryTarget,
    own: Path,
    release: Pushable,
    login: Login | None = None,
    program: PushArchive | None = None,
) -> tuple[Registry, dict[ImageTag, Sent]]:
    """Push by skopeo, as the command line puts it together, or by another program."""
    scratch = own / "scratch"
    scratch.mkdir(parents=True)
    found = open_target_registry(target, own, login=login, skopeo=True)
    assert found.push_archive is not None
    with release.open() as files:
        sent = ArchivePush(
            push=program or found.push_archive,
            registry=found.registry,
            files=files,
            bundle=release.bundle,
            scratch=scratch,
            host=target.host,
            options=PushOptions(),
            stop=threading.Event(),
            emit=lambda _: None,
        ).send(release.images)
    assert not list(scratch.iterdir())
    return found.registry, sent


def test_skopeo_brings_it_to_the_same_end(
    registry: servers.Registry,
    place: str,
    three: Pushable,
    tmp_path: Path,
    need: Callable[[str], str],
) -> None:
    need("skopeo")
    target = RegistryTarget(host=f"{registry.address}/{place}", plain_http=True)
    server, sent = archive_push(target, tmp_path / "own", three)
    assert state(server, three) == whole(three)
    assert {each.there for each in sent.values()} == {0}
    _, again = archive_push(target, tmp_path / "again", three)
    assert {each.sent for each in again.values()} == {0}


def test_a_login_reaches_both_engines_and_no_argument(
    place: str,
    three: Pushable,
    tmp_path: Path,
    need: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    need("skopeo")
    with servers.registry(tls=True, auth="basic", client_tls=True) as server:
        assert server.client is not None
        target = RegistryTarget(
            host=f"{server.address}/{place}",
            ca=server.ca_file,
            client_certificate=server.client.certificate,
            client_key=server.client.key,
        )
        login = Login(server.username, server.password)
        caplog.set_level(logging.DEBUG)
        own = tmp_path / "own"
        found, _ = archive_push(target, own, three, login)
        assert state(found, three) == whole(three)
        private = [path for path in own.rglob("*") if path.is_file()]
        assert {path.name for path in private} == {
            "auth.json",
            "ca.crt",
            "client.cert",
            "client.key",
        }
        assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
        direct = replace(target, host=f"{server.address}/{place}-direct")
        again = open_target_registry(direct, own, login=login, skopeo=False)
        assert again.push_archive is None
        push(again.registry, three)
        assert state(again.registry, three) == whole(three)
    assert "running: skopeo" in caplog.text
    assert server.password not in caplog.text


def test_progress_adds_up_to_what_was_missing(
    registry: servers.Registry, place: str, three: Pushable
) -> None:
    events: list[Event] = []
    push(opened(registry.address, place), three, emit=events.append)
    totals = {e.item: e.total for e in events if isinstance(e, Started) and e.verb == "push"}
    for item, total in totals.items():
        assert total == sum(e.step for e in events if isinstance(e, Advanced) and e.item == item)
    finished = [event.item for event in events if isinstance(event, Finished)]
    assert set(totals) < set(finished)


@pytest.mark.parametrize("moment", ["image one:1.0", "4 images at the registry"])
def test_when_other_work_failed_nothing_is_tagged(
    counted: FaultyProxy, place: str, three: Pushable, moment: str
) -> None:
    stop = threading.Event()

    def tell(event: Event) -> None:
        if isinstance(event, Finished) and event.item == moment:
            stop.set()

    with pytest.raises(StoppedError):
        push(opened(counted.address, place), three, stop=stop, emit=tell)
    tags = [c for c in counted.calls if c.operation == "PutManifest" and ":" not in c.digest]
    assert tags == []


def test_an_image_that_vanished_is_named(
    registry: servers.Registry, place: str, three: Pushable
) -> None:
    server = opened(registry.address, place)
    push(server, three)
    require_images(server, three.images, registry.address)
    moved = replace(three.images[0], tag=ImageTag("one", "2.0"))
    named = f"^{re.escape(registry.address)}/one:2.0: expected .*, got nothing"
    with pytest.raises(CheckError, match=named):
        require_images(server, [moved], registry.address)


_PUSHER = """
import pickle, sys
from bundler.archive.bundle_files import open_bundle_files
from bundler.publish.push import push_images
from bundler.stores.login import GivenLogin
from bundler.stores.opening import open_registry
directory, bundle, images = pickle.load(open(sys.argv[1], "rb"))
with open_bundle_files(directory, bundle) as files:
    registry = open_registry(sys.argv[2], logins=GivenLogin(), plain_http=True)
    try:
        push_images(registry, files, images)
    except KeyboardInterrupt:
        sys.exit(130)
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


def pusher(release: Pushable, host: str, tmp_path: Path) -> subprocess.Popen[bytes]:
    described = tmp_path / "release.pickle"
    described.write_bytes(pickle.dumps((release.directory, release.bundle, release.images)))
    environment = {**os.environ, "TMPDIR": str(tmp_path / "empty")}
    (tmp_path / "empty").mkdir()
    # Whoever started the tests in the background may have had SIGINT ignored.
    argv = ["env", "--default-signal=INT", sys.executable, "-c", _PUSHER, str(described), host]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE)


def test_memory_is_bounded_and_no_disk_is_used(
    registry: servers.Registry, place: str, tmp_path: Path
) -> None:
    piece = noise(1 << 20, 9)
    large = make_pushable(
        tmp_path / "release", {"one:1.0": [piece * 80, piece[1:] * 80, piece[2:] * 80]}
    )
    process = pusher(large, f"{registry.address}/{place}", tmp_path)
    peak_kib, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert int(peak_kib) < 100 << 10
    assert not list((tmp_path / "empty").iterdir())
    assert state(opened(registry.address, place), large) == whole(large)


def test_an_interrupt_ends_a_push_whose_registry_stalls(
    counted: FaultyProxy, place: str, three: Pushable, tmp_path: Path
) -> None:
    stalled = threading.Event()

    def stall(call: Call) -> Stall | None:
        if call.operation != "PutBlob":
            return None
        stalled.set()
        return Stall(seconds=30)

    counted.fault = stall
    process = pusher(three, f"{counted.address}/{place}", tmp_path)
    assert stalled.wait(60)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert time.monotonic() - began < 10
