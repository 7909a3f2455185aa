"""SBOMs hold to CycloneDX's schema, say what was not looked at, and are the same every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
import uuid
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bundler.digest import Digest
from bundler.inventory.cyclonedx import (
    BundleParts,
    Sbom,
    bundle_sbom,
    image_sbom,
    sbom_path,
)
from bundler.inventory.image import ImageInventory, PlatformInventory
from bundler.inventory.package import MAX_PACKAGES, Package, System
from bundler.manifest import (
    Blob,
    Chart,
    Checkpoint,
    CheckpointFile,
    Image,
    Release,
)
from bundler.reference import ImageTag

ROOT = Path(__file__).parents[2]
RELEASE = Release(name="demo", version="2026.11.0", sequence=1, created="2026-11-01T00:00:00Z")
DIGEST = Digest.of(b"image")
IMAGE = Image(
    tag=ImageTag("atlas", "1.0.0"),
    digest=DIGEST,
    source="docker://vendor.example.com/atlas:1.0.0",
    source_digest=DIGEST,
    platforms=("linux/amd64",),
    blobs=(Blob(digest=DIGEST, size=5),),
)
DEBIAN, STATUS = System("debian", "12"), "var/lib/dpkg/status"
Json = dict[str, object]


def inventory(
    *packages: Package, system: System = DEBIAN, unread: tuple[str, ...] = ()
) -> ImageInventory:
    found = PlatformInventory(
        platform="linux/amd64", system=system, packages={STATUS: packages}, unread=unread
    )
    return ImageInventory(image=IMAGE, platforms=(found,))


def read(sbom: Sbom) -> Json:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.content.decode())
    assert problem is None, problem
    return cast("Json", json.loads(sbom.content))


def components(value: Json) -> dict[str, Json]:
    found = cast("list[Json]", value.get("components", []))
    assert len({one["bom-ref"] for one in found}) == len(found)
    return {str(one["bom-ref"]): one for one in found}


def properties(value: object, name: str) -> list[str]:
    items = cast("list[dict[str, str]]", cast("Json", value)["properties"])
    return [item["value"] for item in items if item["name"] == f"airgap-llm-bundle:{name}"]


PACKAGES = {
    Package(
        kind="deb", name="g++", version="4:12.2.0-3", architecture="amd64", source="gcc@1.203"
    ): "pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64&distro=debian-12&upstream=gcc%401.203",
    Package(
        kind="apk", name="musl", version="1.2.5-r0", architecture="x86_64", licence="MIT"
    ): "pkg:apk/debian/musl@1.2.5-r0?arch=x86_64&distro=debian-12",
    Package(
        kind="rpm", name="curl", version="8-2.fc41", architecture="x86_64", epoch="3"
    ): "pkg:rpm/debian/curl@8-2.fc41?arch=x86_64&distro=debian-12&epoch=3",
    Package(kind="pypi", name="Ruamel_Yaml", version="0.18"): "pkg:pypi/ruamel-yaml@0.18",
}


@pytest.mark.parametrize(("package", "url"), PACKAGES.items())
def test_a_package_has_the_url_that_scanners_know_it_by(package: Package, url: str) -> None:
    value = read(image_sbom(inventory(package), RELEASE))
    found = components(value)[url]
    assert found["purl"] == url
    assert found["name"] == package.name
    assert found["version"] == f"{package.epoch}:{package.version}".removeprefix(":")
    assert found["evidence"] == {"occurrences": [{"location": STATUS}]}


@pytest.mark.parametrize(
    ("kind", "url"),
    [("deb", "pkg:deb/debian/a@1"), ("apk", "pkg:apk/alpine/a@1"), ("rpm", "pkg:rpm/a@1")],
)
def test_an_image_that_does_not_say_what_it_is_made_of_has_packages_still(
    kind: str, url: str
) -> None:
    package = Package(kind=kind, name="a", version="1")
    assert list(
        components(read(image_sbom(inventory(package, system=System("", "")), RELEASE)))
    ) == [url]


def test_an_sbom_is_about_the_image_that_is_pulled() -> None:
    value = read(image_sbom(inventory(), RELEASE))
    about = cast("Json", cast("Json", value["metadata"])["component"])
    assert about["purl"] == f"pkg:oci/atlas@{DIGEST}?tag=1.0.0"
    assert about["hashes"] == [{"alg": "SHA-256", "content": DIGEST.hex}]
    assert properties(about, "archive") == ["containers/atlas__1.0.0.tar"]
    assert sbom_path(IMAGE.tag) == "sbom/atlas__1.0.0.cdx.json"


def test_what_was_not_read_is_told() -> None:
    value = read(image_sbom(inventory(unread=("var/lib/rpm/Packages: a Berkeley DB",)), RELEASE))
    told = value["metadata"]
    assert properties(told, "unread") == ["linux/amd64: var/lib/rpm/Packages: a Berkeley DB"]
    assert properties(told, "read") == ["linux/amd64: var/lib/dpkg/status: 0 packages"]
    assert any("Go modules" in text for text in properties(told, "not-looked-at"))
    assert any("status.d" in text for text in properties(told, "looked-for"))


def test_files_about_one_package_each_are_counted_by_their_kind() -> None:
    packages = {
        f"var/lib/dpkg/status.d/{name}": (Package(kind="deb", name=name, version="1"),)
        for name in "ab"
    } | {
        "usr/lib/python3/a.dist-info/METADATA": (Package(kind="pypi", name="a", version="1"),),
        STATUS: (Package(kind="deb", name="c", version="1"),),
    }
    found = inventory()
    [one] = found.platforms
    found = replace(found, platforms=(replace(one, packages=packages),))
    told = read(image_sbom(found, RELEASE))["metadata"]
    assert sorted(properties(told, "read")) == [
        "linux/amd64: Python metadata: 1 package",
        "linux/amd64: var/lib/dpkg/status.d: 2 packages",
        "linux/amd64: var/lib/dpkg/status: 1 package",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT", {"license": {"acknowledgement": "declared", "id": "MIT"}}),
        (
            "MIT AND GPL-2.0-only",
            {"acknowledgement": "declared", "expression": "MIT AND GPL-2.0-only"},
        ),
        (
            "GPLv2+ and more",
            {"license": {"acknowledgement": "declared", "name": "GPLv2+ and more"}},
        ),
        ("(" * 900, {"license": {"acknowledgement": "declared", "name": "(" * 900}}),
    ],
)
def test_a_licence_is_an_identifier_an_expression_or_a_name(text: str, expected: Json) -> None:
    package = Package(kind="apk", name="a", version="1", licence=text)
    found = components(read(image_sbom(inventory(package), RELEASE)))
    assert found["pkg:apk/debian/a@1?distro=debian-12"]["licenses"] == [expected]


def several_places() -> ImageInventory:
    bare = Package(kind="pypi", name="a", version="1")
    licensed = replace(bare, licence="MIT")
    platforms = tuple(
        PlatformInventory(platform=p, system=DEBIAN, packages=packages, unread=())
        for p, packages in [
            ("linux/amd64", {"x/a.egg-info": (bare,), "y/a.egg-info": (licensed,)}),
            ("linux/arm64", {"x/a.egg-info": (bare,)}),
        ]
    )
    return ImageInventory(image=IMAGE, platforms=platforms)


def test_a_package_in_several_places_and_platforms_stands_once() -> None:
    value = read(image_sbom(several_places(), RELEASE))
    found = components(value)["pkg:pypi/a@1"]
    assert properties(found, "platform") == ["linux/amd64", "linux/arm64"]
    assert "MIT" in str(found["licenses"])
    assert found["evidence"] == {
        "occurrences": [{"location": "x/a.egg-info"}, {"location": "y/a.egg-info"}]
    }
    assert len(components(value)) == 2


def test_packages_of_one_url_stand_once() -> None:
    packages = {
        f"{directory}/METADATA": (Package(kind="pypi", name=name, version="6", licence=licence),)
        for directory, name, licence in [("a", "PyYAML", "MIT"), ("b", "pyyaml", "")]
    }
    found = PlatformInventory(platform="linux/amd64", system=DEBIAN, packages=packages, unread=())
    value = read(image_sbom(ImageInventory(image=IMAGE, platforms=(found,)), RELEASE))
    one = components(value)["pkg:pypi/pyyaml@6"]
    assert one["name"] == "PyYAML"
    assert one["evidence"] == {
        "occurrences": [{"location": "a/METADATA"}, {"location": "b/METADATA"}]
    }


def test_an_image_with_as_many_packages_as_may_be_takes_little_memory() -> None:
    some = 1000
    found = inventory(*(Package(kind="deb", name=f"p{n}", version="1") for n in range(some)))
    image_sbom(inventory(), RELEASE)
    tracemalloc.start()
    try:
        sbom = image_sbom(found, RELEASE)
        assert tracemalloc.get_traced_memory()[1] * MAX_PACKAGES // some < 250 << 20
    finally:
        tracemalloc.stop()
    assert sbom.content.count(b'"purl"') == some + 1


def test_an_sbom_is_the_same_every_time_and_its_number_is_of_its_content() -> None:
    first = image_sbom(inventory(*PACKAGES), RELEASE)
    assert image_sbom(inventory(*reversed(PACKAGES)), RELEASE) == first
    value = read(first)
    assert cast("Json", value["metadata"])["timestamp"] == "2026-11-01T00:00:00+00:00"
    later = image_sbom(inventory(*PACKAGES), replace(RELEASE, created="2026-11-02T00:00:00Z"))
    assert read(later)["serialNumber"] != value["serialNumber"]
    assert first.link == str(value["serialNumber"]).replace("urn:uuid:", "urn:cdx:") + "/1"
    uuid.UUID(str(value["serialNumber"]).removeprefix("urn:uuid:"))


def test_an_sbom_does_not_depend_on_the_process_that_writes_it() -> None:
    """Python hashes text in another way in each process, and so orders sets in another way."""
    code = (
        "import sys; from tests.unit.test_inventory_sbom import *;"
        "sys.stdout.buffer.write(image_sbom(several_places(), RELEASE).content)"
    )
    written = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert written == [image_sbom(several_places(), RELEASE).content] * 3


def test_the_bundles_sbom_names_all_that_a_release_holds() -> None:
    own = image_sbom(inventory(), RELEASE)
    signature = replace(
        IMAGE, tag=ImageTag("atlas", "sha256-0.sig"), platforms=(), subject=IMAGE.digest
    )
    part = Digest.of(b"weights")
    file = CheckpointFile(path="a.safetensors", offset=0, size=7, digest=part, parts=(part,))
    checkpoint = Checkpoint(
        name="tiny_1", root="tiny", size=9, digest=DIGEST, frame_digest=DIGEST, files=(file,)
    )
    charts = [
        Chart(name="inference", version="1", path="charts/inference", digest=DIGEST),
        Chart(name="other", version="2", path="charts/other/other-2.tgz", digest=part),
    ]
    parts = BundleParts(
        images=[(IMAGE, own), (signature, None)],
        charts=charts,
        scripts={"scripts/upload_images.sh": part},
        checkpoints=[checkpoint],
    )
    found = components(read(bundle_sbom(parts, RELEASE)))
    assert sorted((str(one["type"]), str(one["name"])) for one in found.values()) == [
        ("application", "inference"),
        ("application", "other"),
        ("container", "atlas"),
        ("data", "atlas"),
        ("file", "scripts/upload_images.sh"),
        ("machine-learning-model", "tiny_1"),
    ]
    model = found["checkpoint:tiny_1"]
    assert properties(model, "identity") == [str(checkpoint.identity)]
    assert cast("list[Json]", model["components"])[0]["hashes"] == [
        {"alg": "SHA-256", "content": part.hex}
    ]
    (reference,) = cast(
        "list[Json]", found[f"pkg:oci/atlas@{DIGEST}?tag=1.0.0"]["externalReferences"]
    )
    assert reference["url"] == own.link
    assert reference["hashes"] == [{"alg": "SHA-256", "content": Digest.of(own.content).hex}]
    # What a directory has is a digest over a list, which no hash of bytes is.
    assert "hashes" not in found["chart:charts/inference"]
    assert properties(found["chart:charts/inference"], "tree-sha256") == [DIGEST.hex]
    assert found["chart:charts/other/other-2.tgz"]["hashes"] == [
        {"alg": "SHA-256", "content": part.hex}
    ]
