from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bundler.digest import Digest, tree_digest
from bundler.errors import MalformedError
from bundler.manifest import (
    MAX_MANIFEST_BYTES,
    SLICE_BYTES,
    Blob,
    Bundle,
    BundleFile,
    Chart,
    Checkpoint,
    CheckpointFile,
    Image,
    Manifest,
    Model,
    Release,
    require_unique,
)
from bundler.manifest_codec import decode_manifest, encode_manifest
from bundler.parts import SMALLEST_PART
from bundler.reference import ImageTag

ONE, TWO, THREE = (Digest(str(n) * 64) for n in (1, 2, 3))
BIG = 2 * SMALLEST_PART + 1


def file(path: str, offset: int, size: int = 5, digest: Digest = ONE) -> CheckpointFile:
    return CheckpointFile(path=path, offset=offset, size=size, digest=digest, parts=(digest,))


CHECKPOINT = Checkpoint(
    name="tiny_2026.10",
    root="tiny",
    size=BIG + 10_240,
    digest=TWO,
    frame_digest=THREE,
    files=(
        file("config.json", 1024),
        CheckpointFile(
            path="model.safetensors", offset=2048, size=BIG, digest=TWO, parts=(ONE, TWO, THREE)
        ),
    ),
)
BUNDLE = Bundle(
    archive="demo-2026.11.0.tar.gz",
    root="demo-2026.11.0",
    size=SLICE_BYTES + 1,
    digest=ONE,
    block_bytes=65_024,
    slices=(ONE, TWO),
    files=(
        BundleFile(path="charts/inference/Chart.yaml", offset=256, size=7, digest=THREE),
        BundleFile(path="containers/atlas__1.0.tar", offset=512, size=9, digest=ONE),
        BundleFile(path="scripts/x.sh", offset=2048, size=9, digest=TWO, executable=True),
    ),
)
MANIFEST = Manifest(
    release=Release(
        name="demo",
        version="2026.11.0",
        sequence=7,
        created="2026-11-01T00:00:00Z",
        expires="2028-05-01T00:00:00Z",
    ),
    bundle=BUNDLE,
    images=(
        Image(
            tag=ImageTag("atlas", "1.0"),
            digest=TWO,
            source="docker://registry.example.com/atlas:1.0",
            source_digest=ONE,
            platforms=("linux/amd64", "linux/arm64"),
            blobs=(Blob(digest=ONE, size=3), Blob(digest=TWO, size=4)),
        ),
    ),
    charts=(
        Chart(
            name="inference",
            version="2026.11.0",
            path="charts/inference",
            digest=tree_digest([("Chart.yaml", 7, THREE)]),
        ),
    ),
    checkpoints=(CHECKPOINT,),
    models=(
        Model(key="tiny", checkpoint="tiny_2026.10", model_name="Tiny", model_type="agent", gpus=8),
        Model(
            key="tiny-too",
            checkpoint="tiny_2026.10",
            model_name="Tiny Too",
            model_type="completion",
            gpus=1,
        ),
    ),
)


def test_a_manifest_survives_its_encoding() -> None:
    content = encode_manifest(MANIFEST)
    assert decode_manifest(content) == MANIFEST
    assert encode_manifest(decode_manifest(content)) == content
    without = replace(MANIFEST, release=replace(MANIFEST.release, expires=None))
    assert decode_manifest(encode_manifest(without)) == without


def test_a_manifest_finds_what_it_holds() -> None:
    assert MANIFEST.archives == {
        "demo-2026.11.0.tar.gz": (SLICE_BYTES + 1, ONE),
        "tiny_2026.10.tar": (CHECKPOINT.size, TWO),
    }
    assert MANIFEST.checkpoint("tiny_2026.10") is CHECKPOINT
    assert BUNDLE.file("scripts/x.sh").executable
    assert CHECKPOINT.content_bytes == BIG + 5
    for find in (MANIFEST.checkpoint, BUNDLE.file):
        with pytest.raises(KeyError, match="absent"):
            find("absent")


def test_a_checkpoints_identity_is_its_files_and_not_their_archive() -> None:
    expected = tree_digest([("config.json", 5, ONE), ("model.safetensors", BIG, TWO)])
    assert CHECKPOINT.identity == expected
    moved = replace(
        CHECKPOINT,
        name="other",
        root="other",
        digest=ONE,
        frame_digest=ONE,
        files=tuple(replace(one, offset=one.offset + 512) for one in CHECKPOINT.files),
    )
    assert moved.identity == expected
    changed = replace(CHECKPOINT, files=(file("config.json", 1024, digest=TWO),))
    assert changed.identity != expected


Edit = Callable[[dict[str, Any]], object]


def edited(edit: Edit) -> bytes:
    value = json.loads(encode_manifest(MANIFEST))
    edit(value)
    return json.dumps(value).encode()


def first(value: dict[str, Any], *path: str) -> dict[str, Any]:
    """Go down by names, into the first item of each list on the way."""
    for name in path:
        found = value[name]
        value = found[0] if isinstance(found, list) else found
    return value


def put(*path: str, value: object) -> Edit:
    """Set one field."""
    return lambda whole: first(whole, *path[:-1]).update({path[-1]: value})


def drop(*path: str) -> Edit:
    """Remove one field."""
    return lambda whole: first(whole, *path[:-1]).pop(path[-1])


FILES, FILE = ("checkpoints", "files"), ("bundle", "files")


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (put("formatVersion", value=2), "formatVersion 2, expected 1"),
        (put("formatVersion", value="1"), "expected an integer"),
        (drop("formatVersion"), "formatVersion: missing"),
        (put("critical", value=["volumes"]), "names 'volumes', which this version does not know"),
        (put("critical", value="release"), "critical: expected a list"),
        (drop("release"), "release.name: missing"),
        (put("release", "name", value="a/b"), "not a file name of ours"),
        (put("release", "name", value="a__b"), "not a file name of ours"),
        (put("release", "version", value="1:2"), "not an image tag"),
        (put("release", "sequence", value=0), "sequence: expected 1 to"),
        (put("release", "sequence", value=True), "expected an integer"),
        (put("release", "created", value="yesterday"), "not a time"),
        (put("release", "created", value="1979-12-31T23:59:59Z"), "created: expected 1980-01-01T"),
        (put("release", "created", value="2200-01-01T00:00:00Z"), "created: expected 1980-01-01T"),
        (put("release", "expires", value="2026-11-01T00:00:00Z"), "is not after created"),
        (put("bundle", "archive", value="../x"), "not a file name of ours"),
        (put("bundle", "root", value=".."), "not a file name of ours"),
        (put("bundle", "size", value=-1), "expected 0 to"),
        (put("bundle", "size", value=SLICE_BYTES), "2 slices do not make"),
        (put("bundle", "sha256", value="A" * 64), "not 64 lowercase hex digits"),
        (put("bundle", "sha256", value=f"sha256:{'1' * 64}"), "not 64 lowercase hex digits"),
        (put("bundle", "blockBytes", value=0), "blockBytes: expected 1 to 65535"),
        (put("bundle", "sliceSha256", value=["1" * 64]), "1 slices do not make"),
        (put(*FILE, "path", value="../x"), "climbs"),
        (put(*FILE, "path", value="z"), "bundle.files: not sorted"),
        (put(*FILE, "path", value="Scripts/X.sh"), "stands there 2 times"),
        (
            lambda whole: whole["bundle"]["files"].pop(1),
            "no containers/atlas__1.0.tar in the bundle",
        ),
        (
            lambda whole: whole["bundle"]["files"].append(whole["bundle"]["files"][-1]),
            "stands there 2 times",
        ),
        (put("bundle", "archive", value="SHA256SUMS"), "expected archive demo-2026.11.0.tar.gz"),
        (put("bundle", "archive", value="SHA256SUMS.a.sig"), "expected archive demo-2026.11.0"),
        (put("bundle", "root", value="other"), "with root demo-2026.11.0, got .* with other"),
        (put(*FILE, "offset", value=-1), "expected 0 to"),
        (put(*FILE, "executable", value="no"), "expected true or false"),
        (drop(*FILE, "executable"), "executable: missing"),
        (put("images", "name", value="a__b"), "has '/' or '__'"),
        (put("images", "tag", value="a b"), "not an image tag"),
        (put("images", "digest", value="1" * 64), "not a sha256 digest"),
        (put("images", "digest", value=str(THREE)), "is not among its blobs"),
        (put("images", "blobs", "digest", value=str(THREE)), "blobs: not sorted"),
        (put("images", "blobs", "size", value=-1), "expected 0 to"),
        (
            lambda whole: whole["images"][0]["blobs"].append(whole["images"][0]["blobs"][-1]),
            "blobs: not sorted, or one stands there twice",
        ),
        (put("images", "platforms", value=[]), "expected platforms or a subject, got neither"),
        (put("images", "subject", value="1" * 64), "not a sha256 digest"),
        (put("images", "subject", value=str(ONE)), "expected platforms or a subject, got both"),
        (put("images", "platforms", value=["b/b", "a/a"]), "platforms: not sorted"),
        (put("images", "platforms", value=["a/a", "a/a"]), "or one stands there twice"),
        (put("images", "platforms", value=["linux"]), "not a platform: 'linux'; expected OS/ARCH"),
        (put("images", "platforms", value=["a/b/c/d"]), "not a platform: 'a/b/c/d'"),
        (put("images", "platforms", value=[""]), "not a platform: ''"),
        (put("images", "platforms", value=["a" * 4097]), r"platforms\[0\]: expected at most 4096"),
        (put("images", "platforms", value=["\x1b[2J"]), r"not a platform: '.?.?x1b"),
        (
            put("images", "source", value="\x1b[2J"),
            "source: text is empty or has a control character",
        ),
        (
            put("charts", "version", value="1\n2"),
            "version: text is empty or has a control character",
        ),
        (put("charts", "path", value="/x"), "path is absolute"),
        (put("charts", "path", value="charts/infer"), "below charts/infer in the bundle, got 0"),
        (put("charts", "path", value="containers"), "chart inference: expected files of sha256:"),
        (put("charts", "sha256", value="1" * 64), "chart inference: expected files of sha256:1111"),
        (lambda whole: whole["charts"].append(whole["charts"][0]), "chart 'inference' stands"),
        (put("charts", "name", value=".."), "not a file name of ours"),
        (put("checkpoints", "name", value="a/b"), "not a file name of ours"),
        (put("checkpoints", "name", value="other"), "archive: expected 'other.tar'"),
        (put("checkpoints", "archive", value="x.tar"), "archive: expected 'tiny_2026.10.tar'"),
        (put("checkpoints", "root", value="a/b"), "not a file name of ours"),
        (put("checkpoints", "size", value=4000), "overlaps or leaves archive"),
        (put("checkpoints", "identity", value="1" * 64), "identity: expected"),
        (put("checkpoints", "files", value=[]), "has no file"),
        (put(*FILES, "path", value="z"), "not sorted"),
        (put(*FILES, "path", value="Model.safetensors"), "stands there 2 times"),
        (put(*FILES, "path", value="a/../b"), "climbs"),
        (put(*FILES, "offset", value=2047), "overlaps or leaves archive"),
        (put(*FILES, "size", value=1 << 52), "expected 0 to"),
        (put(*FILES, "sha256", value="3" * 64), "its one part has another digest"),
        (put(*FILES, "partBytes", value=1 << 20), "partBytes: expected 67108864"),
        (put(*FILES, "partSha256", value=[]), "expected 1 parts, got 0"),
        (put(*FILES, "partSha256", value=["1" * 64] * 2), "expected 1 parts, got 2"),
        (put("models", "key", value="Tiny"), "not a model key"),
        (put("models", "key", value="tiny-too"), "model 'tiny-too' stands there 2 times"),
        (put("models", "checkpoint", value="other"), "there is no checkpoint 'other'"),
        (put("models", "modelName", value=""), "must not be empty"),
        (
            put("models", "modelName", value="a\u202eb"),
            "modelName: text is empty or has a control character",
        ),
        (put("models", "modelType", value="chat"), "expected one of agent"),
        (put("models", "gpus", value=3), "gpus: expected one of 1, 2, 4, 8, got 3"),
        (lambda whole: whole["images"].append(whole["images"][0]), "image 'atlas:1.0' stands"),
        (lambda whole: whole["checkpoints"].append(whole["checkpoints"][0]), "archive 'tiny_2026"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(edit: Edit, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint) as caught:
        decode_manifest(edited(edit))
    assert str(caught.value).startswith("MANIFEST.json: ")
    assert "\n" not in str(caught.value)


def with_images(*images: Image) -> Manifest:
    """Give the manifest with these images, each with an archive in the bundle."""
    files = {file.path: file for file in BUNDLE.files}
    for image in images:
        path = image.tag.archive_path
        files[path] = BundleFile(path=path, offset=1024, size=9, digest=ONE)
    bundle = replace(BUNDLE, files=tuple(files[path] for path in sorted(files)))
    return replace(MANIFEST, images=images, bundle=bundle)


def about(subject: Digest, text: str, *, name: str = "atlas", **more: Any) -> Image:
    """Give what is attached to a manifest."""
    digest = Digest.of(text.encode())
    return Image(
        tag=ImageTag(name, f"sha256-{subject.hex}{text}"),
        digest=digest,
        source="docker://registry.example.com/atlas:x",
        source_digest=digest,
        platforms=(),
        blobs=tuple(sorted((Blob(digest=digest, size=1), *more.pop("blobs", ())), key=by_digest)),
        subject=subject,
        **more,
    )


def by_digest(blob: Blob) -> Digest:
    return blob.digest


ATLAS = MANIFEST.images[0]


def test_what_is_about_an_image_has_no_platform_and_leads_to_it() -> None:
    signature = about(TWO, ".sig")
    manifest = with_images(about(signature.digest, ".att"), ATLAS, signature)
    content = encode_manifest(manifest)
    assert decode_manifest(content) == manifest
    assert json.loads(content)["images"][2]["subject"] == str(TWO)
    assert manifest.running == (ATLAS,)


def circle() -> tuple[Image, Image]:
    """Give two signatures, each of the other."""
    first, second = (about(TWO, text) for text in (".sig", ".att"))
    return replace(first, subject=second.digest), replace(second, subject=first.digest)


@pytest.mark.parametrize(
    "images",
    [
        (ATLAS, about(THREE, ".sig")),
        (ATLAS, about(TWO, ".sig", name="atlas2")),
        (about(TWO, ".sig"),),
        (ATLAS, *circle()),
        (ATLAS, replace(about(TWO, ".sig"), subject=about(TWO, ".sig").digest)),
        (
            replace(ATLAS, blobs=(*ATLAS.blobs, Blob(digest=THREE, size=(4 << 20) + 1))),
            about(THREE, ".sig"),
        ),
    ],
    ids=["nothing", "another name", "no image", "each other", "itself", "too large"],
)
def test_what_does_not_lead_to_an_image_that_runs_is_refused(images: tuple[Image, ...]) -> None:
    with pytest.raises(ValueError, match=r"is no manifest of an image of atlas2? that runs, nor"):
        with_images(*images)


@pytest.mark.parametrize("names", [(), ("inference", "other")])
def test_a_release_has_one_chart_of_its_own(names: tuple[str, ...]) -> None:
    [chart] = MANIFEST.charts
    charts = tuple(replace(chart, name=name) for name in names)
    got = ", ".join(names) or "none"
    with pytest.raises(ValueError, match=f"charts: expected one that is a directory, got {got}"):
        replace(MANIFEST, charts=charts)


@pytest.mark.parametrize(
    "values", ["README.md", "charts/x.yaml", "x.values.yaml", "a/b.values.yaml"]
)
def test_values_of_a_chart_lie_beside_its_archive(values: str) -> None:
    chart = Chart(
        name="x", version="1", path="charts/x-1.tgz", digest=ONE, values="charts/x.values.yaml"
    )
    with pytest.raises(ValueError, match=r"values: expected charts/\*\.values\.yaml, beside"):
        replace(chart, values=values)


def test_no_two_archives_have_one_name() -> None:
    other = replace(CHECKPOINT, name="Tiny_2026.10")
    with pytest.raises(ValueError, match=r"archive 'tiny_2026\.10\.tar' stands there 2 times"):
        replace(MANIFEST, checkpoints=(CHECKPOINT, other))


@pytest.mark.parametrize(
    "edit",
    [put("later", value=1), put("release", "later", value=[]), put("critical", value=["models"])],
)
def test_a_field_of_a_later_version_is_ignored_unless_critical(edit: Edit) -> None:
    assert decode_manifest(edited(edit)) == MANIFEST


def test_a_newer_format_says_which_command_reads_it() -> None:
    with pytest.raises(MalformedError) as caught:
        decode_manifest(edited(put("formatVersion", value=2)))
    assert "newer format" in str(caught.value.hint)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"null", b" " * (MAX_MANIFEST_BYTES + 1), b'{"formatVersion": 1.0}'],
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError, match=r"MANIFEST\.json"):
        decode_manifest(content)


def test_names_that_are_one_where_case_does_not_matter_are_refused() -> None:
    require_unique("x", ["a", "b"])
    with pytest.raises(ValueError, match="x 'strasse' stands there 2 times"):
        require_unique("x", ["STRASSE", "straße"])


def test_an_empty_file_has_one_part() -> None:
    digest = Digest.of(b"")
    assert len(file("empty", 512, 0, digest).spans()) == 1
    with pytest.raises(ValueError, match="expected 1 parts, got 0"):
        CheckpointFile(path="empty", offset=512, size=0, digest=digest, parts=())
