"""Releases built with the real skopeo and helm from small, real inputs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.archive.bundle import open_bundle
from bundler.archive.oci import read_layout
from bundler.build import BuiltRelease, lock_release
from bundler.errors import ConflictError, ContentError, MalformedError
from bundler.lockfile import lock_path, read_lock
from bundler.manifest_codec import decode_manifest
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from bundler.yamltext import read_yaml
from tests.integration.building import NAME, build, content, refused, sh, spec_path, tools
from tests.integration.release_inputs import (
    IMAGES,
    ROOT,
    edit_spec,
    load_spec,
    write_inputs,
    write_layout,
)

__all__ = ["spec_path", "tools"]


@pytest.fixture(scope="module")
def built(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> BuiltRelease:
    need("skopeo")
    directory = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        need("helm")
        return build(write_inputs(directory / "in"), directory / "out")


def test_a_release_directory_holds_what_stock_tools_confirm(built: BuiltRelease) -> None:
    assert built.directory.name == NAME
    assert sorted(path.name for path in built.directory.iterdir()) == [
        "MANIFEST.json",
        "SHA256SUMS",
        "one_1.tar",
        f"{NAME}.tar.gz",
        "three_1.tar",
    ]
    assert list(built.directory.parent.iterdir()) == [built.directory]
    assert sh("sha256sum --strict -c SHA256SUMS", built.directory).count(": OK") == 4
    manifest = (built.directory / "MANIFEST.json").read_bytes()
    assert decode_manifest(manifest) == built.manifest


def test_the_bundle_unpacks_to_what_the_guide_expects(built: BuiltRelease, tmp_path: Path) -> None:
    sh(f"tar -xzf {built.directory / f'{NAME}.tar.gz'}", tmp_path)
    root = tmp_path / NAME
    assert list(tmp_path.iterdir()) == [root]
    sh("sha256sum --quiet --strict -c CONTENTS.sha256", root)
    assert {path.name for path in root.iterdir()} == {
        "README.md",
        "CONTENTS.sha256",
        "charts",
        "containers",
        "models",
        "sbom",
        "scripts",
    }
    assert sorted(path.name for path in (root / "containers").iterdir()) == [
        f"{name}__1.0.0.tar" for name in IMAGES
    ]
    assert sh("./scripts/hello.sh", root) == "hello\n"
    assert json.loads((root / "models" / "three.json").read_text()) == {
        "formatVersion": 1,
        "checkpoint": "three_1",
        "checkpointBytes": built.manifest.checkpoint("three_1").content_bytes,
        "modelName": "Three",
        "modelType": "completion",
        "gpus": 2,
    }


def test_image_archives_are_the_images_of_their_source(built: BuiltRelease, tmp_path: Path) -> None:
    bundle = built.manifest.bundle
    assert [image.tag.name for image in built.manifest.images] == list(IMAGES)
    with open_bundle(built.directory / bundle.archive, bundle) as reader:
        for image in built.manifest.images:
            archive = tmp_path / Path(image.tag.archive_path).name
            reader.extract(bundle.file(image.tag.archive_path), archive)
            expected = write_layout(tmp_path / image.tag.name, text=f"this is {image.tag.name}")
            copied = tmp_path / f"{image.tag.name}-extracted"
            copied.mkdir()
            sh(f"tar -xf {archive}", copied)
            layout = read_layout(copied)
            assert layout.digest == image.digest == image.source_digest == expected
            assert layout.blobs == image.blobs
            assert image.source == f"oci:images/{image.tag.name}:1.0.0"
            assert image.platforms == ("linux/amd64",)


def test_the_chart_is_preset_and_differs_in_nothing_else(
    built: BuiltRelease, tmp_path: Path
) -> None:
    sh(f"tar -xzf {built.directory / f'{NAME}.tar.gz'}", tmp_path)
    chart, source = tmp_path / NAME / "charts" / "inference", ROOT / "charts" / "inference"
    old, new = content(source), content(chart)
    assert {path for path in {*old, *new} if old.get(path) != new.get(path)} == {
        "Chart.yaml",
        "values.yaml",
    }
    about = read_yaml(new["Chart.yaml"], name="Chart.yaml").value
    assert isinstance(about, dict)
    assert (about["version"], about["appVersion"]) == ("2026.11.0", "2026.11.0")
    values = read_yaml(new["values.yaml"], name="values.yaml").value
    assert isinstance(values, dict)
    assert values["image"]["tag"] == "1.0.0"
    assert values["downloader"]["image"]["tag"] == "1.0.0"
    assert values["docs"]["image"]["tag"] == "1.0.0"


def test_the_guide_names_this_release(built: BuiltRelease) -> None:
    bundle = built.manifest.bundle
    with open_bundle(built.directory / bundle.archive, bundle) as reader:
        guide = reader.read(bundle.file("README.md"), limit=1 << 20).decode()
    assert "@" not in guide.replace("`@", "")
    for text in (NAME, "one_1.tar", "three_1.tar", str(built.manifest.images[0].digest)):
        assert text in guide


def test_the_guides_commands_verify_a_signed_release(built: BuiltRelease, tmp_path: Path) -> None:
    release = shutil.copytree(built.directory, tmp_path / "release")
    sh(
        "openssl ecparam -name prime256v1 -genkey -noout -out key.pem 2>/dev/null &&"
        " openssl ec -in key.pem -pubout -out release.pub 2>/dev/null &&"
        " openssl dgst -sha256 -sign key.pem -out SHA256SUMS.01234567.sig SHA256SUMS",
        release,
    )
    bundle = built.manifest.bundle
    with open_bundle(built.directory / bundle.archive, bundle) as reader:
        guide = reader.read(bundle.file("README.md"), limit=1 << 20).decode()
    section = guide.split("## 1. Verify")[1].split("In the place of openssl")[0]
    commands = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    said = sh("\n".join(line for line in commands if "bundle verify" not in line), release)
    assert "Verified OK" in said
    assert said.count(": OK") == 4


def test_a_release_is_the_same_bytes_at_any_time_and_place(
    built: BuiltRelease, tmp_path: Path
) -> None:
    time.sleep(1.1)  # every time that is written down anywhere has another second now
    spec_path = write_inputs(tmp_path / "elsewhere" / "in")
    again = build(spec_path, tmp_path / "other", built.lock)
    assert again.directory.stat().st_mtime_ns != built.directory.stat().st_mtime_ns
    assert content(again.directory) == content(built.directory)
    assert again.manifest == built.manifest


def test_the_lock_is_written_once_and_is_what_lock_makes(spec_path: Path, tmp_path: Path) -> None:
    first = build(spec_path, tmp_path / "out")
    lock = read_lock(lock_path(spec_path))
    assert lock == first.lock
    assert lock == lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
    before = lock_path(spec_path).stat()
    build(spec_path, tmp_path / "again", lock)
    assert lock_path(spec_path).stat().st_mtime_ns == before.st_mtime_ns


def change_weights(directory: Path) -> None:
    path = directory / "models" / "one" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def change_chart(directory: Path) -> None:
    with (directory / "chart" / "templates" / "NOTES.txt").open("a") as file:
        file.write("more\n")


def change_script(directory: Path) -> None:
    (directory / "hello.sh").write_text("#!/bin/sh\necho other\n")


def change_image(directory: Path) -> None:
    shutil.rmtree(directory / "images" / "atlas")
    write_layout(directory / "images" / "atlas", text="another")


def add_file(directory: Path) -> None:
    (directory / "models" / "one" / "more.json").write_text("{}")


def remove_file(directory: Path) -> None:
    (directory / "models" / "one" / "tokenizer" / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_weights, "model.safetensors"),
        (change_chart, "chart chart: expected sha256:"),
        (change_script, "script hello.sh: expected sha256:"),
        (change_image, "image atlas:1.0.0 at its source (oci:images/atlas:1.0.0)"),
        (add_file, "more.json"),
        (remove_file, "tokenizer/tokenizer.json"),
    ],
)
def test_a_source_that_is_not_the_locked_one_is_refused(
    change: Callable[[Path], None], named: str, spec_path: Path, tmp_path: Path
) -> None:
    lock = lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
    change(spec_path.parent)
    assert named in str(refused(spec_path, tmp_path / "out", ContentError, lock))


def test_a_stale_lock_is_refused(spec_path: Path, tmp_path: Path) -> None:
    lock = lock_release(spec_path, load_spec(spec_path), images=Skopeo(), charts=Helm())
    edit_spec(spec_path, "path: chart", "path: ./chart")
    error = refused(spec_path, tmp_path / "out", MalformedError, lock)
    assert "chart: spec says ./chart, lock says chart" in str(error)
    assert "bundle lock" in (error.hint or "")


def test_a_release_is_never_overwritten(spec_path: Path, tmp_path: Path) -> None:
    first = build(spec_path, tmp_path / "out")
    before = (first.directory / "SHA256SUMS").stat()
    with pytest.raises(ConflictError, match="found something"):
        build(spec_path, tmp_path / "out", first.lock)
    assert (first.directory / "SHA256SUMS").stat() == before
    assert list((tmp_path / "out").iterdir()) == [first.directory]
