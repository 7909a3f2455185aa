"""What a release spec may say, and where a mistake in it is blamed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.manifest import Model
from bundler.provenance import provenance_statement
from bundler.reference import ImageTag
from bundler.source import (
    ArchiveSource,
    LayoutSource,
    Platform,
    RegistrySource,
    Source,
    parse_source,
)
from bundler.spec import Allowance, Spec, read_spec, semver
from bundler.yamltext import read_yaml
from tests.unit.small_files import small_manifest

SPEC = """\
formatVersion: 1
release: {name: demo, version: 2026.11.0, sequence: 7, created: "2026-11-01T00:00:00Z"}
images:
  - {name: atlas, source: "docker://registry.example.com:5000/llm/atlas:1.2"}
chart: {path: ../charts/inference}
scripts: [../scripts/upload_images.sh]
checkpoints:
  - name: tiny_1
    source: models/tiny
    allow: [{path: extra.bin, reason: read as plain bytes}]
models:
  tiny: {checkpoint: tiny_1, modelName: Tiny, modelType: agent, gpus: 4}
"""
SOME = Digest.of(b"some")


def read(text: str) -> Spec:
    return read_spec(read_yaml(text.encode(), name="spec.yaml"))


def test_a_spec_is_read_with_its_defaults() -> None:
    spec = read(SPEC)
    assert spec.release.directory == "demo-2026.11.0"
    assert spec.mtime == 1793491200
    assert [image.tag for image in spec.images] == [ImageTag("atlas", "1.2")]
    assert spec.images[0].fetch.plain_http is False
    assert spec.chart.version == "2026.11.0"
    assert spec.scripts == ("../scripts/upload_images.sh",)
    assert spec.checkpoints[0].root == "tiny_1"
    assert spec.checkpoints[0].allow == (Allowance(path="extra.bin", reason="read as plain bytes"),)
    assert spec.models == (
        Model(key="tiny", checkpoint="tiny_1", model_name="Tiny", model_type="agent", gpus=4),
    )


def test_the_demo_spec_is_one() -> None:
    path = Path(__file__).parents[2] / "manifests" / "demo.yaml"
    spec = read_spec(read_yaml(path.read_bytes(), name=str(path)))
    assert spec.release.directory == "demo-inference-2026.11.0"
    assert {model.key for model in spec.models} == {"minilm", "tiny-sharded"}


def test_a_checkpoint_may_come_file_by_file_or_in_an_archive() -> None:
    listed = "files: [{source: ../a/config.json}, {source: b/x, path: model.safetensors}]"
    checkpoint = read(SPEC.replace("source: models/tiny", listed)).checkpoints[0]
    assert [(file.path, file.source) for file in checkpoint.files] == [
        ("config.json", "../a/config.json"),
        ("model.safetensors", "b/x"),
    ]
    archive = read(SPEC.replace("source: models/tiny", "archive: ../old/tiny.tar")).checkpoints[0]
    assert (archive.archive, archive.source, archive.files) == ("../old/tiny.tar", None, ())


@pytest.mark.parametrize(
    ("old", "new", "place", "problem"),
    [
        ("    source: models/tiny\n", "", "8:5", "one of source, files and archive"),
        ("source: models/tiny", "source: a\n    archive: b.tar", "8:5", "one of source, files"),
        ("source: models/tiny", "archive: /a.tar", "9:5", "not a path relative"),
        ("source: models/tiny", "files: [{path: x}]", "9:13", "source: missing"),
        ("source: models/tiny", "files: [{source: x, path: ../x}]", "9:25", "climbs"),
        ("source: models/tiny", "files: [{source: a/x}, {source: b/X}]", "8:5", "2 times"),
        ("formatVersion: 1", "formatVersion: 2", "1:1", "reads 1 only"),
        ("formatVersion: 1\n", "", "spec.yaml", "formatVersion: missing"),
        ("scripts:", "skripts:", "6:1", "unknown field"),
        ("checkpoints:", "checkpoint:", "7:1", "checkpoint: unknown field"),
        ("release:", "relese:", "2:1", "relese: unknown field"),
        ("allow:", "allowed:", "10:5", "unknown field"),
        ("sequence: 7", "sequence: 0", "2:43", "expected 1 to"),
        ("sequence: 7", 'sequence: "7"', "2:43", "expected an integer, got a text"),
        ("2026-11-01T", "2026-02-30T", "2:56", "not a time"),
        ("2026-11-01T00:00:00Z", "2026-11-01T29:00:00Z", "2:56", "not a time"),
        ("name: demo", "name: ../demo", "2:1", "not a file name of ours"),
        ("name: atlas", "name: at__las", "4:5", "'__'"),
        ("name: atlas", "name: llm/atlas", "4:5", "'/'"),
        ("atlas:1.2", "atlas:1__2", "4:19", "'__'"),
        ("atlas:1.2", "atlas", "4:19", "not an image source"),
        ("docker://registry.example.com:5000/llm/", "docker://", "4:19", "not an image source"),
        ("docker://", "containers-storage:", "4:19", "not an image source"),
        ("source: models/tiny", "source: /models/tiny", "9:5", "not a path relative"),
        ("source: models/tiny", "source: models/../../tiny", "9:5", "climbs"),
        ("name: tiny_1", "name: tiny__1", "8:5", "'__'"),
        ("path: extra.bin", "path: ../extra.bin", "10:14", "climbs"),
        (", reason: read as plain bytes", "", "10:13", "reason: missing"),
        ("checkpoint: tiny_1", "checkpoint: tiny_2", "12:10", "there is no checkpoint 'tiny_2'"),
        ("modelType: agent", "modelType: agents", "12:47", "expected one of agent"),
        ("gpus: 4", "gpus: 3", "12:3", "expected one of 1, 2, 4, 8"),
        ("  tiny: {", "  Tiny: {", "12:3", "not a model key"),
        ("../scripts/upload_images.sh", "../scripts/.hidden", "6:1", "not a file name of ours"),
    ],
)
def test_a_mistake_is_blamed_with_line_and_column(
    old: str, new: str, place: str, problem: str
) -> None:
    assert SPEC.count(old) == 1
    with pytest.raises(MalformedError, match=re.escape(problem)) as caught:
        read(SPEC.replace(old, new))
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('  - {name: atlas, source: "oci:atlas:1.3"}\n', "image 'atlas' stands there 2 times"),
        ('  - {name: docs, source: "oci:docs"}\n', "has no tag"),
    ],
)
def test_images_need_a_name_of_their_own_and_a_tag(line: str, problem: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(problem)):
        read(SPEC.replace("chart:", f"{line}chart:"))


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ("  tiny: {checkpoint: tiny_1, modelName: T, modelType: agent, gpus: 1}\n", "twice"),
        (
            "  other: {checkpoint: tiny_1, modelName: T, modelType: agent, gpus: 1, gpu: 1}\n",
            "models.other.gpu: unknown field",
        ),
    ],
)
def test_a_model_stands_there_once_and_has_known_fields(extra: str, problem: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(problem)):
        read(SPEC + extra)


def test_more_checkpoints_than_can_be_signed_are_refused_before_anything_is_read() -> None:
    def spec(checkpoints: int) -> str:
        lines = "".join(f"  - {{name: more_{n}, source: models/{n}}}\n" for n in range(checkpoints))
        return SPEC.replace("models:\n", f"{lines}models:\n")

    most = read(spec(1020))
    sums = {f"{checkpoint.name}.tar": SOME for checkpoint in most.checkpoints}
    sums |= {"demo-2026.11.0.tar.gz": SOME, "MANIFEST.json": SOME}
    assert len(json.loads(provenance_statement(small_manifest(), sums))["subject"]) == 1023
    with pytest.raises(MalformedError, match="checkpoints: expected at most 1021, got 1022"):
        read(spec(1021))
    with pytest.raises(MalformedError, match="expected at most 1023 files in SHA256SUMS, got 1024"):
        provenance_statement(small_manifest(), sums | {"more.tar": SOME})


def test_two_scripts_of_one_name_are_refused() -> None:
    with pytest.raises(MalformedError, match=r"script 'upload_images\.sh' stands there 2 times"):
        read(SPEC.replace("images.sh]", "images.sh, other/Upload_images.sh]"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker://a.example/x:1", RegistrySource("a.example/x", "1")),
        ("docker://localhost/x:1", RegistrySource("localhost/x", "1")),
        ("docker://vendor:5000/x/y_z:1", RegistrySource("vendor:5000/x/y_z", "1")),
        (f"docker://a.example/x@{SOME}", RegistrySource("a.example/x", None, SOME)),
        (f"docker://a.example/x:1@{SOME}", RegistrySource("a.example/x", "1", SOME)),
        ("oci:images/x", LayoutSource("images/x")),
        ("oci:../x:1", LayoutSource("../x", "1")),
        ("oci-archive:x.tar", ArchiveSource("oci-archive", "x.tar")),
        ("oci-archive:x.tar:1", ArchiveSource("oci-archive", "x.tar", "1")),
        ("docker-archive:../x.tar", ArchiveSource("docker-archive", "../x.tar")),
        ("docker-archive:x.tar:a/b:1", ArchiveSource("docker-archive", "x.tar", "a/b:1")),
        (
            "docker-archive:x.tar:a.example:5000/b:1",
            ArchiveSource("docker-archive", "x.tar", "a.example:5000/b:1"),
        ),
    ],
)
def test_a_source_is_read_and_written_alike(text: str, expected: Source) -> None:
    assert parse_source(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "docker://alpine:3",
        "docker://library/alpine:3",
        "docker://a.example/X:1",
        "docker://a.example/x:1:2",
        "docker://user@a.example/x:1",
        f"docker://a.example/x:1@sha512:{SOME.hex}",
        f"docker://a.example/x@{SOME}0",
        "oci:/absolute",
        "oci:",
        "oci:a:b:c",
        "oci-archive:/x.tar",
        "oci-archive:x.tar:a b",
        "docker-archive:x.tar:latest",
        "docker-archive:x.tar:a@1",
        "dir:x",
        "https://a.example/x:1",
    ],
)
def test_other_sources_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a|not 64"):
        parse_source(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("oci-archive:x.tar:atlas:1.0", "write 'oci-archive:x.tar:1.0', and the image's name into"),
        ("oci:x:a.example:5000/atlas:1.0", "write 'oci:x:1.0', and the image's name into `name:`"),
        ("oci-archive:x.tar:a/atlas:a b", "not an image tag"),
        ("docker-archive:x.tar:atlas", "write NAME:TAG as docker saved it, or no more than the"),
        ("docker-archive:x.tar:@0", "write NAME:TAG as docker saved it, or no more than the"),
    ],
)
def test_what_other_tools_write_is_refused_with_our_way(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(hint)):
        parse_source(text)


def with_image(more: str) -> str:
    """Give a spec whose image says something more."""
    return SPEC.replace('atlas:1.2"}', f'atlas:1.2", {more}}}')


@pytest.mark.parametrize(
    ("wanted", "known", "taken"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm/v6", "linux/arm", False),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm", "linux/arm/v6", True),
        ("linux/amd64", "linux/amd64/v3", True),
        ("linux/amd64/v3", "linux/amd64", False),
    ],
)
def test_a_platform_takes_its_usual_variant(wanted: str, known: str, taken: bool) -> None:
    assert Platform.parse(wanted).takes(Platform.parse(known)) is taken


@pytest.mark.parametrize("text", ["amd64", "linux/", "linux/AMD64", "a/b/c/d", "linux/a b"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match=r"platform: not a platform: .*OS/ARCH"):
        read(with_image(f'platform: "{text}"'))


def test_a_platform_has_the_name_that_go_has_for_it() -> None:
    with pytest.raises(MalformedError, match="did you mean 'linux/arm64'"):
        read(with_image("platform: linux/aarch64"))


def test_an_image_is_taken_for_one_platform_with_what_is_attached_unless_told() -> None:
    plain = read(with_image("platform: linux/amd64")).images[0].fetch
    assert plain == read(SPEC).images[0].fetch
    assert (plain.platform_text, plain.attached) == ("linux/amd64", True)
    other = read(with_image("platform: all, attached: false")).images[0].fetch
    assert (other.platform, other.platform_text, other.attached) == (None, "all", False)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.3", "1.2.3"),
        ("2026.11", "2026.11.0"),
        ("2026.01.05", "2026.1.5"),
        ("v1.2.3-rc.1", "1.2.3-rc.1"),
        ("1.2.3+build.5", "1.2.3+build.5"),
    ],
)
def test_a_version_becomes_semver(version: str, expected: str) -> None:
    assert semver(version) == expected


@pytest.mark.parametrize("version", ["2026", "nightly", "1.2.3-", "1.2.3-rc.01", "1.2.3.4"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="not a SemVer"):
        semver(version)


def test_a_chart_version_is_taken_as_it_is_or_refused() -> None:
    chart = "chart: {path: ../charts/inference}"
    assert (
        read(SPEC.replace(chart, chart.replace("}", ", version: 3.0.1}"))).chart.version == "3.0.1"
    )
    with pytest.raises(MalformedError, match=r"did you mean '3\.0\.0'"):
        read(SPEC.replace(chart, chart.replace("}", ', version: "3.0"}')))
