"""What a person is told to do next: the likeliest cause first, and the option or field by name."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bundler.archive.bundle_files import BundleFiles
from bundler.archive.image_tree import ImageTree, TreeManifest
from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ConflictError,
    ContentError,
    NotFoundError,
    StaleError,
    UntrustedError,
    WorldError,
)
from bundler.events import ignore
from bundler.faults import Fault
from bundler.manifest import MANIFEST_NAME, Blob, BundleFile, Image, Manifest
from bundler.publish.destination import PushArchive
from bundler.publish.images import plan_images
from bundler.publish.plan import Kind, Plan, State, Step, require_no_conflicts
from bundler.publish.push import PushOptions
from bundler.publish.push_archives import ArchivePush
from bundler.publish.schedule import Cargo
from bundler.publish.secrets import read_secrets
from bundler.reference import ImageTag, S3Prefix
from bundler.release import find_release, open_release
from bundler.sign import sign_release
from bundler.source import LayoutSource
from bundler.staleness import check_expiry
from bundler.stores.base import Registry, StoredManifest
from bundler.sums import SUMS_NAME
from bundler.target import RegistryTarget, S3Target, SecretSource, Target
from bundler.tools.helm_release import HelmRelease
from bundler.tools.kubectl import Kubectl
from bundler.tools.skopeo import Skopeo
from bundler.trust import Trust
from bundler.verify import Report
from tests.unit.small_files import SOME, new_key, small_manifest, write_small_files

KEY, OTHER = new_key(), new_key()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    directory = write_small_files(tmp_path / "out" / "demo-1.0.0")
    sign_release(directory, KEY)
    return directory


@pytest.fixture(autouse=True)
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


def hint_of(kind: type[BundleError], work: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        work()
    assert caught.value.hint is not None
    return caught.value.hint


def test_another_key_than_the_vendors_is_the_likeliest_cause(release: Path) -> None:
    hint = hint_of(UntrustedError, lambda: open_release(release, Trust.of_keys([OTHER.public])))
    assert hint.startswith("probably another key than the vendor's was given")
    assert OTHER.public.key8 in hint
    assert KEY.public.key8 in hint
    assert "fingerprint" in hint


def test_with_the_key_that_a_signature_is_called_after_the_file_is_blamed(release: Path) -> None:
    (release / SUMS_NAME).write_bytes((release / SUMS_NAME).read_bytes() + b"\n")
    hint = hint_of(UntrustedError, lambda: open_release(release, Trust.of_keys([KEY.public])))
    assert hint.startswith(f"{SUMS_NAME} or its signature was changed")


def test_the_option_for_a_key_is_named(release: Path) -> None:
    assert "--key PUB" in hint_of(UntrustedError, lambda: open_release(release, Trust.of_keys([])))


def test_a_manifest_that_differs_is_to_be_copied_again(release: Path) -> None:
    (release / MANIFEST_NAME).write_bytes(b"{}")
    hint = hint_of(ContentError, lambda: open_release(release, Trust.of_keys([KEY.public])))
    assert f"copy {MANIFEST_NAME} again" in hint


def test_the_parent_of_a_release_is_told_from_it(release: Path) -> None:
    with pytest.raises(NotFoundError, match="out: not a release directory") as caught:
        open_release(release.parent, Trust.of_keys([KEY.public]))
    assert caught.value.hint == f"did you mean {release}?"
    assert str(release) in hint_of(NotFoundError, lambda: sign_release(release.parent, KEY))
    assert str(release) in hint_of(NotFoundError, lambda: find_release(release.parent))


def test_the_option_for_the_small_files_is_named(out: Path) -> None:
    (out / "demo-1.0.0").mkdir()
    assert "--release DIR" in hint_of(NotFoundError, lambda: find_release(out / "demo-1.0.0"))


def test_the_options_for_an_expired_release_are_named() -> None:
    manifest = small_manifest(expires="2026-12-01T00:00:00Z")
    hint = hint_of(StaleError, lambda: check_expiry(manifest, now="2027-01-01T00:00:00Z"))
    assert "--allow-expired" in hint
    assert "--reason TEXT" in hint


@pytest.mark.parametrize(
    ("expected", "hints"),
    [
        (["nothing"], ["remove"]),
        (["4 bytes"], ["copy"]),
        (["nothing", "4 bytes"], ["copy", "remove"]),
    ],
)
def test_what_differs_is_copied_again_and_what_is_extra_is_removed(
    expected: list[str], hints: list[str]
) -> None:
    report = Report(
        path="demo-1.0.0",
        kind="release",
        release="demo-1.0.0",
        signatures=(),
        checked=(),
        absent=(),
        extra=(),
        expired=None,
        faults=tuple(Fault(archive="notes.txt", expected=text, got="a file") for text in expected),
    )
    told = hint_of(ContentError, report.raise_for_faults).split("; ")
    assert [word for hint in told for word in ("copy", "remove") if hint.startswith(word)] == hints


def test_an_oci_layout_that_is_not_there_is_named(out: Path) -> None:
    layout = out / "nowhere" / "atlas"
    with pytest.raises(NotFoundError, match=f"{layout}.*: expected an OCI layout there"):
        Skopeo().resolve(LayoutSource(str(layout), "1.0.0"))


def with_image() -> Manifest:
    tag = ImageTag("atlas", "1.0.0")
    image = Image(
        tag=tag,
        digest=SOME,
        source="docker://vendor.example/atlas:1.0.0",
        source_digest=SOME,
        platforms=("linux/amd64",),
        blobs=(Blob(digest=SOME, size=4),),
    )
    manifest = small_manifest()
    file = BundleFile(path=tag.archive_path, offset=2048, size=5 << 30, digest=SOME)
    bundle = replace(manifest.bundle, files=(*manifest.bundle.files, file))
    return replace(manifest, images=(image,), bundle=bundle)


class Taken:
    """A registry where every tag names something else, and nothing else is there."""

    def manifest(self, name: str, reference: str) -> StoredManifest | None:
        found = StoredManifest(Digest.of(b"another"), b"another")
        return None if ":" in reference else found


def test_a_tag_that_is_taken_is_named_with_its_registry_and_path() -> None:
    [image] = with_image().images
    top = TreeManifest(digest=SOME, media_type="", content=b"some", blobs=())
    cargo = [Cargo(image, ImageTree((top,)))]
    steps = tuple(plan_images(cast("Registry", Taken()), cargo, "registry.example.com/llm"))
    plan = Plan(release="demo-1.0.0", manifest=SOME, steps=steps)
    with pytest.raises(ConflictError, match=r"registry\.example\.com/llm/atlas:1\.0\.0") as caught:
        require_no_conflicts(plan)
    assert "registry.host" in str(caught.value.hint)
    assert "remove the tag" in str(caught.value.hint)


def test_a_remedy_is_told_for_each_kind_of_conflict_and_once() -> None:
    kinds = (Kind.RELEASE_FILE, Kind.MARKER, Kind.CHART)
    steps = tuple(Step(kind=kind, name=str(kind), state=State.CONFLICT) for kind in kinds)
    plan = Plan(release="demo-1.0.0", manifest=SOME, steps=steps)
    hint = hint_of(ConflictError, lambda: require_no_conflicts(plan))
    assert hint.count("s3.prefix") == 1
    assert "mend what is named" in hint
    assert "registry" not in hint


def test_a_scratch_directory_that_is_too_small_is_told_in_readable_units(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    manifest = with_image()
    push = ArchivePush(
        push=cast("PushArchive", None),
        registry=cast("Registry", Taken()),
        files=cast("BundleFiles", None),
        bundle=manifest.bundle,
        scratch=out,
        host="registry.example.com",
        options=PushOptions(),
        stop=threading.Event(),
        emit=ignore,
    )
    with pytest.raises(WorldError, match=r"expected 10\.0 GiB free .*, got 5\.0 MiB") as caught:
        push.send(manifest.images)
    assert "--scratch DIR" in str(caught.value.hint)


@pytest.mark.parametrize("field", ["apiKey.fromFile", "s3.credentials.fromFile"])
def test_the_field_that_names_an_absent_file_is_named(out: Path, field: str) -> None:
    source = SecretSource(name="secret", from_file=out / "absent")
    target = Target(
        registry=RegistryTarget(host="registry.example.com"),
        s3=S3Target(
            place=S3Prefix("bucket", ""),
            credentials=source if field.startswith("s3") else None,
        ),
        api_key=source if field.startswith("apiKey") else None,
    )
    with pytest.raises(NotFoundError, match=f"target {field}: .*absent: no such file") as caught:
        read_secrets(target)
    assert "relative to the target file" in str(caught.value.hint)


@pytest.mark.parametrize("content", ["hello: [not, a\n", "only text\n", "\x01\x02"])
def test_a_kubeconfig_that_is_none_is_blamed(
    out: Path, need: Callable[[str], str], content: str
) -> None:
    need("kubectl")
    need("helm")
    config = out / "kubeconfig"
    config.write_text(content)
    kubectl = Kubectl(namespace="n", kubeconfig=config)
    helm = HelmRelease(name="r", namespace="n", kubeconfig=config)
    calls: list[Callable[[], Any]] = [lambda: kubectl.get("secret", "x"), helm.installed]
    for call in calls:
        assert "is no kubeconfig" in hint_of(WorldError, call)
