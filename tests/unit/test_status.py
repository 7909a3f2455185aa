from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from bundler.digest import Digest
from bundler.errors import ContentError, NotFoundError, UntrustedError, WorldError
from bundler.manifest import Blob, CheckpointFile, Image
from bundler.oci_manifest import OCI_INDEX, OCI_MANIFEST
from bundler.parts import SMALLEST_PART, s3_checksum
from bundler.publish.inventory import Held, Inventory
from bundler.publish.memory import read_pointer
from bundler.publish.only import EVERYTHING, Only
from bundler.publish.pointer import Deployed, Pointer, encode_pointer
from bundler.publish.status import Finding, Standing, Status, Subject
from bundler.publish.status_checkpoints import CheckpointLook
from bundler.publish.status_images import look_at_image
from bundler.publish.status_survey import Places, Survey, read_current
from bundler.reference import ImageTag, S3Prefix
from bundler.release import TrustedRelease
from bundler.stores.base import Registry, StoredManifest, StoredObject
from bundler.stores.upkeep import HeldObject, UnfinishedUpload
from bundler.tools.helm_release import Installed
from bundler.trust import NOBODY, Trust
from tests.memory_store import MemoryStore
from tests.memory_upkeep import MemoryUpkeep
from tests.published import Published
from tests.unit.small_files import new_key

NOW = 1_000_000
POINTER = "llm/releases/current.json"
CONFIG_MAP = "configmap poolside-models/bundle-current-inference"
CHECKPOINTS = {"one": {"config.json": b"{}", "model.safetensors": b"w" * 9}, "two": {"x": b"x"}}
NO_IMAGES = Only(("checkpoints", "chart"))


class Spy(MemoryStore):
    """Notes what is read of checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.read_keys: list[str] = []
        self.silent = False
        self.plain: set[str] = set()  # what somebody stored without a checksum

    def head(self, key: str) -> StoredObject | None:
        found = super().head(key)
        hidden = self.silent or key in self.plain
        return replace(found, checksum=None) if found and hidden else found

    def get(self, key: str, *, limit: int) -> bytes:
        self.read_keys.append(key)
        return super().get(key, limit=limit)

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        self.read_keys.append(key)
        return super().read(key, offset, length)


class Words(MemoryStore):
    """Says what it is told to say of objects."""

    def __init__(self, said: dict[str, StoredObject]) -> None:
        super().__init__()
        self.said = said

    def head(self, key: str) -> StoredObject | None:
        return self.said.get(key)


class Place:
    def __init__(self, directory: Path) -> None:
        self.store = Spy()
        self.upkeep = MemoryUpkeep(self.store, now=NOW)
        self.published = Published(self.store, directory)
        self.release = self.published.publish(1, CHECKPOINTS, deployed_at="2026-11-01T00:00:00Z")
        self.installed: Installed | WorldError | None = self.published.installed(self.release)
        self.remembered: Pointer | WorldError | None = read_pointer(self.store, POINTER)
        self.places = Places(
            store=self.store,
            upkeep=self.upkeep,
            registry=self.no_registry,
            installed=self.helm,
            remembered=self.cluster,
        )

    def no_registry(self) -> Any:
        raise WorldError("the registry does not answer")

    def cluster(self) -> Pointer | None:
        if isinstance(self.remembered, WorldError):
            raise self.remembered
        return self.remembered

    def helm(self) -> Installed | None:
        if isinstance(self.installed, WorldError):
            raise self.installed
        return self.installed

    def status(
        self,
        only: Only = NO_IMAGES,
        *,
        release: TrustedRelease | None = None,
        read_back: bool = False,
    ) -> Status:
        return Survey(
            release=release or self.release,
            target=self.published.target,
            places=self.places,
            trust=Trust.of_keys([self.published.key.public]),
            now=NOW,
            only=only,
            read_back=read_back,
        ).status()

    def key(self, checkpoint: str, path: str) -> str:
        return self.published.layout(self.release).checkpoints[checkpoint].key(path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def drift(status: Status) -> list[tuple[Subject, Standing, str]]:
    return [(item.subject, item.standing, item.name) for item in status.drift]


def test_what_was_published_is_all_there_and_no_checkpoint_is_read(place: Place) -> None:
    status = place.status()
    assert {item.standing for item in status.findings} == {Standing.PRESENT}
    assert {item.subject for item in status.findings} == {
        Subject.CHECKPOINT_FILE,
        Subject.RELEASE_FILE,
        Subject.MARKER,
        Subject.POINTER,
        Subject.CHART,
    }
    assert not [key for key in place.store.read_keys if "checkpoints/" in key]
    told = status.to_dict()
    assert told["ok"] is True
    assert json.dumps(told)


def test_missing_different_and_foreign_objects_are_all_named(place: Place) -> None:
    missing, other = place.key("one", "config.json"), place.key("one", "model.safetensors")
    shorter, marker = place.key("two", "x"), "llm/releases/demo-1.0.1/complete/two.json"
    place.store.delete(missing)
    place.store.replace(other, b"v" * 9)
    place.store.replace(shorter, b"")
    place.store.delete(marker)
    place.store.put(place.key("two", "model-9.safetensors"), b"planted")
    assert drift(place.status()) == [
        (Subject.CHECKPOINT_FILE, Standing.MISSING, missing),
        (Subject.CHECKPOINT_FILE, Standing.DIFFERENT, other),
        (Subject.CHECKPOINT_FILE, Standing.DIFFERENT, shorter),
        (Subject.MARKER, Standing.MISSING, marker),
        (Subject.OTHER, Standing.FOREIGN, place.key("two", "model-9.safetensors")),
    ]


def test_foreign_objects_elsewhere_are_named_and_no_drift(place: Place) -> None:
    foreign = [
        "llm/checkpoints/readme.txt",
        "llm/checkpoints/old/0123456789abcdef/x",
        "llm/releases/demo-1.0.1/notes.txt",
        "llm/releases/demo-1.0.1/complete/three.json",
        "llm/releases/demo-1.0.1/.bundle-check-0123456789abcdef",
        "llm/releases/index.html",
    ]
    for key in [*foreign, "llm/elsewhere/x"]:
        place.store.put(key, b"theirs")
    status = place.status()
    assert status.drift == ()
    found = {item.name for item in status.findings if item.standing is Standing.FOREIGN}
    assert found == set(foreign)


def test_objects_of_other_releases_are_not_foreign(place: Place) -> None:
    place.published.publish(2, {"one": {"config.json": b"[]"}, "three": {"y": b"y"}})
    assert {item.standing for item in place.status().findings} == {Standing.PRESENT}


def test_another_release_that_nobody_vouches_for_is_named(place: Place, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    Published(place.store, tmp_path / "others").publish(2, {"three": {"y": b"y"}})
    status = place.status()
    (finding,) = (item for item in status.findings if item.subject is Subject.RELEASE)
    assert finding.name == "demo-1.0.2"
    assert "not judged" in finding.detail
    assert status.drift == ()
    (foreign,) = (item for item in status.findings if item.standing is Standing.FOREIGN)
    assert foreign.name.endswith("/y")


def test_without_checksums_the_size_is_compared_and_reading_must_be_asked_for(place: Place) -> None:
    place.store.silent = True
    key = place.key("one", "model.safetensors")
    place.store.replace(key, b"v" * 9)
    files = [item for item in place.status().findings if item.subject is Subject.CHECKPOINT_FILE]
    assert {item.standing for item in files} == {Standing.UNPROVEN}
    assert not [read for read in place.store.read_keys if "checkpoints/" in read]
    assert drift(place.status(read_back=True)) == [
        (Subject.CHECKPOINT_FILE, Standing.DIFFERENT, key)
    ]
    place.store.replace(key, b"v" * 8)
    assert [item.detail for item in place.status().drift] == ["has 8 bytes, expected 9"]


def test_an_object_without_the_checksum_that_its_like_have_is_different(place: Place) -> None:
    key = place.key("one", "model.safetensors")
    place.store.replace(key, b"v" * 9)
    place.store.plain = {key}
    [finding] = place.status().drift
    assert (finding.standing, finding.name) == (Standing.DIFFERENT, key)
    assert finding.detail == "stored by somebody else, without our checksum: --read-back tells"
    assert not [read for read in place.store.read_keys if "checkpoints/" in read]
    place.store.replace(key, b"w" * 9)
    assert place.status(read_back=True).drift == ()


def test_checkpoints_all_without_checksums_are_compared_with_the_manifest_object(
    place: Place,
) -> None:
    place.store.plain = {place.key("one", path) for path in CHECKPOINTS["one"]}
    place.store.plain.add(place.key("two", "x"))
    assert {item.name for item in place.status().drift} == place.store.plain
    place.store.plain.add("llm/releases/demo-1.0.1/MANIFEST.json")
    assert place.status().drift == ()


@pytest.mark.parametrize(
    ("checksums", "standings"),
    [
        ({"a": "=-2", "b": None, "one": "="}, ["present", "different", "present"]),
        ({"a": None, "b": None, "one": "="}, ["not compared", "not compared", "present"]),
        ({"a": "=-2", "b": "=-2", "one": None}, ["present", "present", "not compared"]),
    ],
)
def test_objects_of_several_parts_are_only_compared_with_their_like(
    checksums: dict[str, str | None], standings: list[str]
) -> None:
    """Some servers keep checksums of objects of one part alone."""
    parts = (Digest.of(b"1"), Digest.of(b"2"))
    address = S3Prefix("models", "llm/checkpoints/one/0123456789abcdef")
    files = [
        CheckpointFile(
            path=name,
            size=(len(cut) - 1) * SMALLEST_PART + 1,
            offset=0,
            digest=parts[0],
            parts=cut,
        )
        for name, cut in (("a", parts), ("b", parts), ("one", parts[:1]))
    ]
    store = Words(
        {
            address.key(file.path): StoredObject(
                address.key(file.path),
                file.size,
                s3_checksum(file.parts) if checksums[file.path] else None,
            )
            for file in files
        }
    )
    held = Held(
        place=address,
        objects={file.path: HeldObject(file.path, file.size, NOW) for file in files},
    )
    look = CheckpointLook(
        store=store,
        inventory=Inventory(place=address, checkpoints={str(address): held}),
        manifest_key="llm/releases/demo-1.0.1/MANIFEST.json",
        read_back=False,
    )
    found = look.findings([(address, file) for file in files])
    assert [str(item.standing) for item in found] == standings


def test_unfinished_uploads_are_told_with_age_and_bytes_and_are_no_drift(place: Place) -> None:
    place.upkeep.unfinished = [
        UnfinishedUpload(
            key=place.key("one", "model.safetensors"),
            upload_id="u",
            begun=0,
            touched=NOW - 3 * 86400,
            parts=2,
            size=128 << 20,
        )
    ]
    status = place.status()
    (finding,) = (item for item in status.findings if item.subject is Subject.UPLOAD)
    assert finding.detail == "2 parts, 128.0 MiB, untouched for 3d"
    assert status.drift == ()


def test_what_cannot_be_asked_is_told_and_hides_the_answer_where_the_release_needs_it(
    place: Place,
) -> None:
    status = place.status(EVERYTHING)
    (registry,) = status.unknown
    assert registry.subject is Subject.REGISTRY
    assert "does not answer" in registry.detail
    place.installed = WorldError("no route to the cluster")
    status = place.status()
    assert status.unknown == ()
    (chart,) = (item for item in status.findings if item.subject is Subject.CHART)
    assert chart.standing is Standing.UNKNOWN
    assert "no route to the cluster" in chart.detail


def test_a_bucket_that_fails_hides_the_answer(place: Place) -> None:
    class Gone(MemoryUpkeep):
        def objects(self, prefix: str) -> Iterator[HeldObject]:
            raise WorldError("cannot reach it")

    place.places = replace(place.places, upkeep=Gone(place.store))
    assert [item.subject for item in place.status().unknown] == [Subject.BUCKET]


def test_a_store_that_lists_no_uploads_is_told_of_and_the_rest_compared(place: Place) -> None:
    class Old(MemoryUpkeep):
        def uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
            raise WorldError("NotImplemented")

    place.places = replace(place.places, upkeep=Old(place.store))
    status = place.status()
    assert status.unknown == status.drift == ()
    (finding,) = (item for item in status.findings if item.subject is Subject.UPLOAD)
    assert "NotImplemented" in finding.detail


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"status": "failed"}, "revision 1 is failed"),
        ({"status": "pending-upgrade"}, "a helm works on it, or was killed"),
        ({"chart": "inference-9.9.9"}, "chart inference-9.9.9, expected"),
        ({"values": {}}, "values of None, expected those of demo-1.0.1"),
    ],
)
def test_another_helm_release_is_drift(place: Place, change: dict[str, Any], told: str) -> None:
    place.installed = replace(place.published.installed(place.release), **change)
    (finding,) = place.status().drift
    assert finding.subject is Subject.CHART
    assert told in finding.detail


def test_values_that_name_another_checkpoint_are_drift(place: Place) -> None:
    values: Any = dict(place.published.installed(place.release).values)
    values["models"] = {**values["models"], "two": {"model": "s3://models/elsewhere"}}
    place.installed = replace(place.published.installed(place.release), values=values)
    (finding,) = place.status().drift
    assert finding.detail.startswith("model two: s3://models/elsewhere, expected s3://models/llm/")


def test_no_helm_release_is_drift(place: Place) -> None:
    place.installed = None
    assert [item.standing for item in place.status().drift] == [Standing.MISSING]


def test_a_release_that_is_not_the_deployed_one_is_compared_all_the_same(place: Place) -> None:
    later = place.published.publish(2, CHECKPOINTS)
    status = place.status(release=later)
    subjects = [item.subject for item in status.drift]
    assert subjects == [Subject.POINTER, Subject.POINTER, Subject.CHART]
    assert "demo-1.0.1 is deployed" in status.drift[0].detail
    assert place.status(Only(("checkpoints",)), release=later).drift == ()


def test_a_pointer_to_another_manifest_of_that_name_is_drift(place: Place) -> None:
    facts = place.release.manifest.release
    deployed = Deployed(release=facts.directory, manifest=Digest.of(b"x"), sequence=1)
    pointer = encode_pointer(Pointer(deployed=deployed, highest=1))
    place.store.replace("llm/releases/current.json", pointer)
    assert [item.name for item in place.status().drift] == [POINTER]


def test_two_memories_that_disagree_are_drift(place: Place) -> None:
    deployed = read_pointer(place.store, POINTER)
    assert deployed is not None
    place.remembered = None
    assert drift(place.status()) == [(Subject.POINTER, Standing.MISSING, CONFIG_MAP)]
    place.remembered = replace(deployed, highest=7)
    assert drift(place.status()) == [(Subject.POINTER, Standing.DIFFERENT, POINTER)]
    assert "1 is the highest sequence, and 7 was deployed" in place.status().drift[0].detail


def test_the_deployed_release_is_found_though_the_bucket_forgot_it(place: Place) -> None:
    place.store.delete(POINTER)
    trust = Trust.of_keys([place.published.key.public])
    release = read_current(place.places, place.published.target, trust)
    assert release.manifest == place.release.manifest
    assert drift(place.status()) == [(Subject.POINTER, Standing.MISSING, POINTER)]


def test_a_cluster_that_does_not_say_what_it_remembers_is_told(place: Place) -> None:
    place.remembered = WorldError("no route")
    unknown = [item for item in place.status().findings if item.standing is Standing.UNKNOWN]
    assert [(item.subject, item.name) for item in unknown] == [(Subject.POINTER, CONFIG_MAP)]
    assert place.status().drift == ()


def test_only_what_was_asked_for_is_looked_at(place: Place) -> None:
    status = place.status(Only(("two",)))
    files = [item.name for item in status.findings if item.subject is Subject.CHECKPOINT_FILE]
    assert files == [place.key("two", "x")]
    assert not [item for item in status.findings if item.subject is Subject.CHART]
    place.store.delete(place.key("one", "config.json"))
    assert place.status(Only(("two",))).drift == ()
    assert place.status(Only(("one",))).drift


def test_the_deployed_release_is_read_from_the_bucket_and_verified(place: Place) -> None:
    target, key = place.published.target, place.published.key.public
    release = read_current(place.places, target, Trust.of_keys([key]))
    assert release.manifest == place.release.manifest
    for trust in (NOBODY, Trust.of_keys([new_key().public])):
        with pytest.raises(UntrustedError, match=r"s3://models/llm/releases/demo-1\.0\.1"):
            read_current(place.places, target, trust)


def test_another_signed_manifest_in_the_place_of_the_deployed_one_is_refused(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Published(MemoryStore(), tmp_path / "other", key=place.published.key)
    release = other.publish(1, {"one": {"config.json": b"other"}})
    for item in list(other.store.list("llm/releases/demo-1.0.1/")):
        place.store.replace(item.key, other.store.get(item.key, limit=1 << 20))
    assert release.manifest != place.release.manifest
    with pytest.raises(ContentError, match="as deployed, got sha256:"):
        read_current(place.places, place.published.target, place.release.trust)


def test_without_a_deployed_release_one_has_to_be_named(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.store.delete(POINTER)
    place.remembered = None
    with pytest.raises(NotFoundError, match="no release was deployed here yet"):
        read_current(place.places, place.published.target, place.release.trust)


@dataclass
class OneImage:
    """Serves, like a registry, one image: an index with a manifest, its config and a layer."""

    tags: dict[str, bytes]
    manifests: dict[str, bytes]
    sizes: dict[str, int]
    image: Image

    def manifest(self, name: str, reference: str) -> StoredManifest | None:
        content = self.tags.get(reference) or self.manifests.get(reference)
        return StoredManifest(Digest.of(content), content) if content else None

    def blob_size(self, name: str, digest: Digest) -> int | None:
        return self.sizes.get(str(digest))

    def look(self) -> Finding:
        return look_at_image(cast("Registry", self), self.image)


@pytest.fixture
def served() -> OneImage:
    config, layer = Digest.of(b"config"), Digest.of(b"layer")
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "c", "digest": str(config), "size": 6},
            "layers": [{"mediaType": "l", "digest": str(layer), "size": 5}],
        }
    ).encode()
    child = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(manifest)), "size": len(manifest)}
    whole = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
    index = json.dumps(whole).encode()
    sizes = {Digest.of(index): len(index), Digest.of(manifest): len(manifest), config: 6, layer: 5}
    image = Image(
        tag=ImageTag("atlas", "1"),
        digest=Digest.of(index),
        source="docker://registry.example/atlas:1",
        source_digest=Digest.of(index),
        platforms=("linux/amd64",),
        blobs=tuple(Blob(digest=digest, size=sizes[digest]) for digest in sorted(sizes)),
    )
    return OneImage(
        tags={"1": index},
        manifests={str(Digest.of(item)): item for item in (index, manifest)},
        sizes={str(config): 6, str(layer): 5},
        image=image,
    )


def test_an_image_with_all_that_it_leads_to_is_present(served: OneImage) -> None:
    assert served.look() == Finding(
        subject=Subject.IMAGE, name="atlas:1", standing=Standing.PRESENT
    )


def test_a_tag_that_is_not_there_is_missing_though_the_digest_is(served: OneImage) -> None:
    served.tags.clear()
    finding = served.look()
    assert (finding.standing, finding.detail) == (
        Standing.MISSING,
        "the tag is not there; the digest is",
    )
    served.manifests.clear()
    assert served.look().detail == ""


def test_a_tag_that_names_another_image_is_different(served: OneImage) -> None:
    other = b'{"schemaVersion": 2}'
    served.tags["1"] = other
    finding = served.look()
    assert finding.standing is Standing.DIFFERENT
    assert finding.detail == f"the tag names {Digest.of(other)}, expected {served.image.digest}"
    served.image = replace(served.image, platforms=(), subject=Digest.of(b"subject"))
    assert served.look().standing is Standing.PRESENT


def test_a_manifest_or_a_blob_that_is_gone_is_named(served: OneImage) -> None:
    layer, child = str(Digest.of(b"layer")), list(served.manifests)[1]
    served.sizes[layer] = 4
    assert served.look().detail == f"lacks blob {layer} of 5 bytes, has 4"
    del served.sizes[layer]
    assert served.look().detail == f"lacks blob {layer} of 5 bytes"
    del served.manifests[child]
    assert served.look().detail == f"lacks the manifest {child}"
    assert served.look().is_drift


def test_a_registry_that_serves_other_bytes_is_different(served: OneImage) -> None:
    class Rotten(OneImage):
        def manifest(self, name: str, reference: str) -> StoredManifest | None:
            raise ContentError("serves other bytes")

    rotten = Rotten(served.tags, served.manifests, served.sizes, served.image)
    assert rotten.look().standing is Standing.DIFFERENT
