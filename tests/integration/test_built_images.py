"""Every image archive that a build writes, judged by what others made: schemas, umoci, skopeo.

One release has all kinds: an image for one platform of several, one for all of them, one converted
from Docker's form, and what is attached to an image: cosign's images, SBOMs, the index of those.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bundler.digest import Digest
from bundler.manifest import Image
from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from tests import oci_schemas
from tests.attaching import Attacher
from tests.integration.building import build
from tests.integration.release_inputs import edit_spec, write_index_layout, write_inputs
from tests.layouts import LayoutMaker
from tests.oci_schemas import Schemas
from tests.rehearsal import go_build
from tests.rehearsal.fixtures import need as need_to
from tests.rehearsal.go_programs import UMOCI
from tests.rehearsal.registry import registry

Need = Callable[[str], str]
PLATFORM = "linux/amd64"


@dataclass(frozen=True, slots=True)
class Built:
    """An image of the release, its archive, and that archive unpacked by GNU tar."""

    image: Image
    archive: Path
    layout: Path

    @property
    def kind(self) -> str:
        """Which of the forms it is."""
        if self.image.subject:
            return "attached"
        return "all platforms" if len(self.image.platforms) > 1 else "one platform"

    def runs(self) -> bool:
        """Whether it is one image with layers of files: no index, no signature."""
        layers = self._manifest(self.image.digest).get("layers", [])
        return bool(layers) and all("image.layer" in layer["mediaType"] for layer in layers)

    def names_subject(self) -> bool:
        """Whether what is attached says so itself, and not by its tag alone."""
        below = self._manifest(self.image.digest).get("manifests", [])
        found = [self._manifest(Digest.parse(one["digest"])) for one in below]
        return any("subject" in one for one in found)

    def _manifest(self, digest: Digest) -> dict[str, Any]:
        content = (self.layout / "blobs" / "sha256" / digest.hex).read_bytes()
        found: dict[str, Any] = json.loads(content)
        return found


def run(*argv: object) -> str:
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def copy(*argv: object) -> None:
    run("skopeo", "copy", "--quiet", *argv)


def sources(directory: Path, address: str) -> Path:
    """Write the inputs of a release with an image of each kind; give the path of its spec."""
    spec_path = write_inputs(directory)
    images = directory / "images"
    copy(f"oci:{images / 'atlas'}:1.0.0", f"docker-archive:{images / 'atlas.tar'}:e.com/atlas:1")
    edit_spec(spec_path, "oci:images/atlas:1.0.0", "docker-archive:images/atlas.tar\n  tag: 1.0.0")
    index = write_index_layout(images / "both", text="for both")
    place = f"{address}/downloader"
    options = ("--all", "--preserve-digests", "--dest-tls-verify=false")
    copy(*options, f"oci:{images / 'both'}:1.0.0", f"docker://{place}:1.0.0")
    attacher = Attacher(address, "downloader")
    attacher.cosign(index)
    attacher.cosign(index, ".att", "attested")
    about = (OCI_INDEX, (images / "both" / "blobs" / "sha256" / index.hex).stat().st_size)
    sboms = [attacher.referrer(index, text, about=about) for text in ("an SBOM", "another")]
    attacher.index(index, *sboms)
    taken = f"docker://{place}:1.0.0\n  plainHttp: true\n  platform: all"
    edit_spec(spec_path, "oci:images/model-downloader:1.0.0", taken)
    write_index_layout(images / "one-of-two", text="for one")
    edit_spec(spec_path, "oci:images/public-docs:1.0.0", "oci:images/one-of-two:1.0.0")
    return spec_path


@pytest.fixture(scope="module")
def built(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Built]:
    for tool in ("skopeo", "helm", "tar", "docker-registry"):
        need(tool)
    directory = tmp_path_factory.mktemp("built-images")
    with registry() as server:
        release = build(sources(directory / "in", server.address), directory / "out")
    [bundle] = release.directory.glob("*.tar.gz")
    run("tar", "-xzf", bundle, "-C", directory, "--strip-components=1")
    found = {}
    for image in release.manifest.images:
        archive = directory / image.tag.archive_path
        layout = directory / "layouts" / archive.stem
        layout.mkdir(parents=True)
        run("tar", "-xf", archive, "-C", layout)
        found[str(image.tag)] = Built(image, archive, layout)
    return found


@pytest.fixture(params=["umoci of Debian", "umoci 0.6"])
def umoci(request: pytest.FixtureRequest, need: Need) -> str:
    if request.param == "umoci of Debian":
        return need("umoci")
    return str(need_to(lambda: go_build.find(UMOCI)))


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return need_to(oci_schemas.fetch)


def of_one_platform(one: Built, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Give the image, or each of an index, as a layout with one image: umoci takes no index."""
    if one.kind != "all platforms":
        yield one.image.platforms[0], one.layout
        return
    for platform in one.image.platforms:
        system, machine = platform.split("/")
        layout = scratch / machine
        scratch.mkdir(exist_ok=True)
        source = f"oci-archive:{one.archive}:{one.image.tag.tag}"
        wanted = (f"--override-os={system}", f"--override-arch={machine}")
        run("skopeo", *wanted, "copy", "--preserve-digests", source, f"oci:{layout}:1.0.0")
        yield platform, layout


def test_the_release_has_every_kind(built: Mapping[str, Built]) -> None:
    kinds = {name: one.kind for name, one in built.items() if one.kind != "attached"}
    assert kinds == {
        "atlas:1.0.0": "one platform",
        "model-downloader:1.0.0": "all platforms",
        "public-docs:1.0.0": "one platform",
    }
    assert built["atlas:1.0.0"].image.source_digest != built["atlas:1.0.0"].image.digest
    subject = built["model-downloader:1.0.0"].image.digest
    tags = {name for name, one in built.items() if one.image.subject == subject}
    stem = f"model-downloader:sha256-{subject.hex}"
    assert tags == {f"{stem}.sig", f"{stem}.att", stem}
    assert {one.kind for one in built.values()} == {"attached", "one platform", "all platforms"}


def test_every_document_of_every_layout_holds_to_its_schema(
    built: Mapping[str, Built], schemas: Schemas
) -> None:
    held = {
        (name, what): wrong
        for name, one in built.items()
        for what, wrong in schemas.of_layout(one.layout)
    }
    assert {place: wrong for place, wrong in held.items() if wrong} == {}
    for name, one in built.items():
        documents = {what for which, what in held if which == name}
        assert {"oci-layout", "index.json"} < documents
        for blob in one.image.blobs:
            assert f"descriptor of {blob.digest}" in documents, (name, blob)
    kinds = {what.split()[0] for _, what in held}
    assert {OCI_INDEX, OCI_MANIFEST, OCI_CONFIG} <= kinds


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("layout", {"imageLayoutVersion": "2.0.0"}),
        (OCI_INDEX, {"schemaVersion": 1, "manifests": []}),
        (OCI_INDEX, {"schemaVersion": 2, "manifests": [{"digest": "sha256:0", "size": 1}]}),
        (OCI_MANIFEST, {"schemaVersion": 2, "config": {}, "layers": [{}]}),
        (OCI_CONFIG, {"os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}),
        ("descriptor", {"mediaType": "none", "digest": "sha256:0", "size": 1}),
        ("descriptor", {"mediaType": "a/b", "digest": "0", "size": 1}),
    ],
)
def test_a_document_that_breaks_its_schema_is_found(
    schemas: Schemas, kind: str, document: object
) -> None:
    assert schemas.complaints(kind, document)


def test_umoci_lists_every_archive(built: Mapping[str, Built], umoci: str) -> None:
    for one in built.values():
        assert run(umoci, "ls", "--layout", one.layout).split() == [one.image.tag.tag]


def test_umoci_reaches_every_blob(built: Mapping[str, Built], umoci: str, tmp_path: Path) -> None:
    """What its garbage collector leaves is what index.json leads to: all that we wrote.

    It also goes to the subject of what is attached, which lies in an archive of its own.
    """
    for number, one in enumerate(built.values()):
        layout = Path(shutil.copytree(one.layout, tmp_path / str(number)))
        wanted = {blob.digest.hex for blob in one.image.blobs}
        if one.names_subject():
            [subject] = [two for two in built.values() if two.image.digest == one.image.subject]
            shutil.copytree(subject.layout / "blobs", layout / "blobs", dirs_exist_ok=True)
            wanted |= {blob.digest.hex for blob in subject.image.blobs}
        (layout / "blobs" / "sha256" / f"{0:064x}").write_bytes(b"nobody names it")
        run(umoci, "gc", "--layout", layout)
        assert {path.name for path in (layout / "blobs" / "sha256").iterdir()} == wanted


def test_umoci_unpacks_every_image_that_runs(
    built: Mapping[str, Built], umoci: str, tmp_path: Path
) -> None:
    seen = {}
    for number, one in enumerate(one for one in built.values() if not one.image.subject):
        for platform, layout in of_one_platform(one, tmp_path / f"split-{number}"):
            [tag] = run(umoci, "ls", "--layout", layout).split()
            assert "history" in json.loads(
                run(umoci, "stat", "--json", "--image", f"{layout}:{tag}")
            )
            runtime = tmp_path / f"runtime-{number}-{platform.replace('/', '-')}"
            run(umoci, "unpack", "--rootless", "--image", f"{layout}:{tag}", runtime)
            seen[one.image.tag.name, platform] = (runtime / "rootfs" / "hello").read_text()
    assert seen == {
        ("atlas", PLATFORM): "this is atlas",
        ("model-downloader", PLATFORM): "for bothamd64",
        ("model-downloader", "linux/arm64"): "for botharm64",
        ("public-docs", PLATFORM): "for oneamd64",
    }


def test_umoci_refuses_a_layer_that_is_another(
    built: Mapping[str, Built], umoci: str, tmp_path: Path
) -> None:
    """The reader itself: what it takes of ours, it would not take of anybody."""
    one = built["public-docs:1.0.0"]
    layout = Path(shutil.copytree(one.layout, tmp_path / "layout"))
    largest = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[-1] ^= 1
    largest.write_bytes(content)
    argv = [umoci, "unpack", "--rootless", "--image", f"{layout}:1.0.0", str(tmp_path / "out")]
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0


def test_skopeo_inspects_every_archive(built: Mapping[str, Built]) -> None:
    for one in built.values():
        place = f"oci-archive:{one.archive}:{one.image.tag.tag}"
        raw = subprocess.run(
            ["skopeo", "inspect", "--raw", place], capture_output=True, check=True
        ).stdout
        assert Digest.of(raw) == one.image.digest
        if one.runs():
            seen = json.loads(run("skopeo", "inspect", place))
            assert f"{seen['Os']}/{seen['Architecture']}" == one.image.platforms[0]


def test_skopeo_copies_every_archive_and_every_blob(
    built: Mapping[str, Built], tmp_path: Path
) -> None:
    for number, one in enumerate(built.values()):
        place, copied = f"oci-archive:{one.archive}:{one.image.tag.tag}", tmp_path / str(number)
        copy("--all", "--preserve-digests", place, f"oci:{copied}:x")
        blobs = {path.name for path in (copied / "blobs" / "sha256").iterdir()}
        assert blobs == {blob.digest.hex for blob in one.image.blobs}


def test_a_layout_of_no_image_is_seen_by_the_walk(schemas: Schemas, tmp_path: Path) -> None:
    """The walk over the documents: it goes as deep as the layout does."""
    maker = LayoutMaker(tmp_path / "layout")
    broken = maker.document({"schemaVersion": 2, "layers": []}, OCI_MANIFEST)
    maker.name(maker.index([maker.index([broken])]))
    found = {what: wrong for what, wrong in schemas.of_layout(maker.directory) if wrong}
    assert list(found) == [f"{OCI_MANIFEST} {broken['digest']}"]
