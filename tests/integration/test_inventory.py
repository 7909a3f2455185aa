"""SBOMs of releases that were built, and packages as the package managers themselves list them."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from bundler.build import BuiltRelease
from bundler.cli import run
from bundler.describe import describe_path
from bundler.digest import Digest
from bundler.inventory.image import KnownLayers, PlatformInventory, take_inventory
from bundler.inventory.package import Package
from bundler.manifest import MANIFEST_NAME
from bundler.manifest_codec import decode_manifest
from bundler.reference import ImageTag
from bundler.sign import sign_release
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.trust import Trust
from bundler.verify import verify_path
from tests.conftest import missing
from tests.integration.building import NAME, build, sh, spec_path, tools
from tests.integration.release_inputs import IMAGES, write_inputs
from tests.layouts import LAYER, LayoutMaker, pack, plain_layer

__all__ = ["spec_path", "tools"]

KEY: PrivateKey = read_private_key(new_key_pair(None)[0], None, name="test key")
NOW = "2026-11-02T00:00:00Z"
MTIME = 1_793_491_200
RPM_SPEC = """\
Name: hello
Epoch: 2
Version: 1.5
Release: 3.test
Summary: A package of a test
License: MIT AND Apache-2.0
BuildArch: noarch
%description
Nothing.
%files
"""


@pytest.fixture(scope="module")
def built(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> BuiltRelease:
    need("skopeo")
    directory = tmp_path_factory.mktemp("built")
    release = build(write_inputs(directory / "in"), directory / "out")
    sign_release(release.directory, KEY)
    return release


@pytest.fixture
def extracted(built: BuiltRelease, tmp_path: Path) -> Path:
    sh(f"tar -xzf {built.directory / f'{NAME}.tar.gz'}", tmp_path)
    return tmp_path / NAME


def valid(content: bytes) -> dict[str, Any]:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(content.decode())
    assert problem is None, problem
    value: dict[str, Any] = json.loads(content)
    return value


def take(scratch: Path, layer: bytes) -> PlatformInventory:
    """Take the inventory of an image of one layer."""
    maker = LayoutMaker(scratch / "layout")
    top = maker.manifest([maker.blob(gzip.compress(layer, 1), LAYER)])
    about = pack(maker, ImageTag("image", "1"), top, scratch / "image.tar", mtime=MTIME)
    (found,) = take_inventory(scratch / "image.tar", about, KnownLayers()).platforms
    return found


def packages(scratch: Path, files: Mapping[str, bytes]) -> list[Package]:
    found = take(scratch, plain_layer(files))
    assert found.unread == ()
    return [package for of_one in found.packages.values() for package in of_one]


def test_a_bundle_has_an_sbom_of_each_image_and_of_itself(extracted: Path) -> None:
    sboms = {path.name: valid(path.read_bytes()) for path in (extracted / "sbom").iterdir()}
    assert set(sboms) == {"bundle.cdx.json", *(f"{name}__1.0.0.cdx.json" for name in IMAGES)}
    sh("sha256sum --quiet --strict -c CONTENTS.sha256", extracted)
    whole = {one["name"]: one for one in sboms["bundle.cdx.json"]["components"]}
    assert whole["inference"]["version"] == "2026.11.0"
    for name in IMAGES:
        own = sboms[f"{name}__1.0.0.cdx.json"]
        (reference,) = whole[name]["externalReferences"]
        assert own["serialNumber"].removeprefix("urn:uuid:") in reference["url"]
        content = (extracted / reference["comment"]).read_bytes()
        assert reference["hashes"][0]["content"] == Digest.of(content).hex
        assert own["metadata"]["component"]["purl"] == whole[name]["purl"]
        assert own["metadata"]["timestamp"] == "2026-11-01T00:00:00+00:00"


def test_the_sbom_names_each_file_of_each_checkpoint(built: BuiltRelease, extracted: Path) -> None:
    value = valid((extracted / "sbom/bundle.cdx.json").read_bytes())
    models = {
        one["name"]: {file["name"]: file["hashes"][0]["content"] for file in one["components"]}
        for one in value["components"]
        if one["type"] == "machine-learning-model"
    }
    assert models == {
        checkpoint.name: {file.path: file.digest.hex for file in checkpoint.files}
        for checkpoint in built.manifest.checkpoints
    }


def test_an_sbom_is_as_signed_as_everything_else(built: BuiltRelease, extracted: Path) -> None:
    trust = Trust.of_keys([KEY.public])

    def faults(*, strict: bool = False) -> list[str]:
        report = verify_path(extracted, trust, now=NOW, release_dir=built.directory, strict=strict)
        return [str(fault) for fault in report.faults]

    assert faults(strict=True) == []
    sbom = extracted / "sbom" / "atlas__1.0.0.cdx.json"
    content = sbom.read_bytes()
    sbom.write_bytes(content.replace(b"atlas", b"xtlas", 1))
    (told,) = faults()
    assert "sbom/atlas__1.0.0.cdx.json" in told
    sbom.unlink()
    (told,) = faults()
    assert "nothing" in told
    sbom.write_bytes(content)
    (extracted / "sbom" / "more.json").write_bytes(b"{}")
    assert faults() == []
    (told,) = faults(strict=True)
    assert "sbom/more.json" in told


def test_inspect_says_how_many_sboms_there_are(built: BuiltRelease) -> None:
    (release, *_) = describe_path(built.directory).sections()
    assert ("SBOMs", "4 in sbom/ of the bundle") in release.rows


def test_a_release_can_be_built_without_sboms(spec_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["build", str(spec_path), "-o", str(out), "--no-cache", "--no-sbom"]) == 0
    manifest = decode_manifest((out / NAME / MANIFEST_NAME).read_bytes())
    assert not any(file.path.startswith("sbom/") for file in manifest.bundle.files)
    (release, *_) = describe_path(out / NAME).sections()
    assert ("SBOMs", "none") in release.rows


def test_an_image_that_cannot_be_read_is_built_and_its_sbom_says_so(
    spec_path: Path, tmp_path: Path
) -> None:
    layout = spec_path.parent / "images" / "atlas"
    shutil.rmtree(layout)
    maker = LayoutMaker(layout)
    broken = maker.blob(b"no tar at all " * 100, "application/vnd.oci.image.layer.v1.tar")
    maker.name(maker.manifest([broken]), tag="1.0.0")
    built = build(spec_path, tmp_path / "out")
    sh(f"tar -xzf {built.directory / f'{NAME}.tar.gz'}", tmp_path)
    value = valid((tmp_path / NAME / "sbom/atlas__1.0.0.cdx.json").read_bytes())
    told = [
        item["value"]
        for item in value["metadata"]["properties"]
        if item["name"] == "airgap-llm-bundle:unread"
    ]
    assert len(told) == 1
    assert str(broken["digest"]) in told[0]


def test_dpkg_itself_lists_the_same_packages(need: Callable[[str], str], tmp_path: Path) -> None:
    need("dpkg-query")
    path = Path("/var/lib/dpkg/status")
    if not path.exists():
        missing("a database of dpkg")
    status = path.read_bytes()
    copy = tmp_path / "admin"
    (copy / "info").mkdir(parents=True)
    (copy / "status").write_bytes(status)
    style = "${db:Status-Status} ${Package} ${Version} ${Architecture} ${source:Package}\\n"
    listed = subprocess.run(
        ["dpkg-query", f"--admindir={copy}", "-W", "-f", style],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    expected = {tuple(line.split()[1:]) for line in listed if line.startswith("installed ")}
    found = packages(tmp_path, {"var/lib/dpkg/status": status})
    assert len(found) == len(expected) > 100
    assert {
        (one.name, one.version, one.architecture, one.source.partition("@")[0] or one.name)
        for one in found
    } == expected


def test_a_database_that_rpm_made_is_read(need: Callable[[str], str], tmp_path: Path) -> None:
    need("rpm")
    need("rpmbuild")
    spec, top, database = tmp_path / "hello.spec", tmp_path / "top", tmp_path / "database"
    spec.write_text(RPM_SPEC)
    sh(f"rpmbuild --quiet -bb --define '_topdir {top}' {spec}", tmp_path)
    sh(f"rpm --dbpath {database} -i --justdb --nodeps {top}/RPMS/*/*.rpm", tmp_path)
    files = {f"var/lib/rpm/{path.name}": path.read_bytes() for path in database.iterdir()}
    assert packages(tmp_path / "image", files) == [
        Package(
            kind="rpm",
            name="hello",
            version="1.5-3.test",
            architecture="noarch",
            epoch="2",
            source="hello-1.5-3.test.src.rpm",
            licence="MIT AND Apache-2.0",
        )
    ]


def test_python_itself_lists_the_same_packages(tmp_path: Path) -> None:
    """A layer of the packages that run this test, compared with what Python's own library says."""
    site = Path(sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages")
    here = list(importlib.metadata.distributions(path=[str(site)]))
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        for directory in sorted(site.glob("*.dist-info")):
            archive.add(directory, f"opt/venv/site-packages/{directory.name}")
    found = take(tmp_path, layer.read_bytes())
    assert found.unread == ()
    assert {(p.name, p.version) for of_one in found.packages.values() for p in of_one} == {
        (one.metadata["Name"], one.version) for one in here
    }
    assert len(here) > 30


def test_images_that_we_build_tell_what_they_are_made_of(
    need: Callable[[str], str], tmp_path: Path
) -> None:
    """The packages of Debian and of PyPI that scripts/build-images puts into our own images."""
    need("buildah")
    need("skopeo")
    if os.geteuid():
        missing("root")
    spec = write_inputs(tmp_path / "in")
    output = spec.parent / "built"
    script = Path(__file__).parents[2] / "scripts" / "build-images"
    subprocess.run(
        [script, "--tag", "t1", f"--output={output}"], check=True, capture_output=True, timeout=500
    )
    text = spec.read_text()
    for name in IMAGES:
        text = text.replace(f"oci:images/{name}:1.0.0", f"oci-archive:built/{name}__t1.tar:t1")
    spec.write_text(text)
    built = build(spec, tmp_path / "out")
    sh(f"tar -xzf {built.directory / f'{NAME}.tar.gz'}", tmp_path)
    urls = {}
    for name in IMAGES:
        (path,) = (tmp_path / NAME / "sbom").glob(f"{name}__*.cdx.json")
        found = valid(path.read_bytes())["components"]
        urls[name] = {PackageURL.from_string(one["purl"]).name for one in found if "purl" in one}
    assert {"libc6", "python3.11-minimal", "busybox-static"} <= urls["atlas"]
    assert {"boto3", "click", "airgap-llm-bundle", "libc6"} <= urls["model-downloader"]
    assert urls["public-docs"] == {"busybox-static"}
