"""What inspect shows of a release, and how far it says to trust it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.describe import Description, describe_path
from bundler.digest import Digest
from bundler.errors import ContentError, NotFoundError, UntrustedError
from bundler.manifest import MANIFEST_NAME, Blob, BundleFile, Image
from bundler.reference import ImageTag
from bundler.sign import sign_release
from bundler.sizes import size_text
from bundler.trust import Trust
from tests.unit.small_files import new_key, small_manifest, write_small_files

KEY = new_key()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    directory = write_small_files(tmp_path / "release")
    (directory / "tiny_1.tar").write_bytes(b"")
    sign_release(directory, KEY)
    return directory


def cells(description: Description, title: str) -> list[str]:
    [section] = [section for section in description.sections() if section.title == title]
    return [cell for row in section.rows for cell in row]


def test_a_release_shows_all_that_it_holds(release: Path) -> None:
    description = describe_path(release, Trust.of_keys([KEY.public]))
    titles = [section.title for section in description.sections()]
    assert titles == ["Release", "Archives", "Images", "Charts", "Checkpoints", "Models"]
    assert {"demo", "1.0.0", "3", "never", KEY.public.key8} <= set(cells(description, "Release"))
    assert "Tiny" in cells(description, "Models")
    assert description.present == {"tiny_1.tar"}
    for section in description.sections():
        assert {len(row) for row in section.rows} <= {len(section.columns)}


def test_without_a_key_it_says_that_nobody_vouches_for_it(release: Path) -> None:
    description = describe_path(release)
    assert description.signatures == ()
    assert "not verified: no key was given" in cells(description, "Release")


def test_with_a_key_it_must_hold(release: Path) -> None:
    with pytest.raises(UntrustedError):
        describe_path(release, Trust.of_keys([new_key().public]))


def test_a_manifest_that_the_sums_do_not_name_is_not_shown(release: Path) -> None:
    with (release / MANIFEST_NAME).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ContentError, match=MANIFEST_NAME):
        describe_path(release)


def test_a_checkpoint_archive_shows_its_files_and_models(release: Path) -> None:
    description = describe_path(release / "tiny_1.tar")
    assert [s.title for s in description.sections()] == ["Checkpoints", "Models", "Files"]
    assert "model.safetensors" in cells(description, "Files")


def test_a_bundle_archive_shows_its_files(release: Path) -> None:
    (release / "demo-1.0.0.tar.gz").write_bytes(b"")
    description = describe_path(release / "demo-1.0.0.tar.gz")
    assert [section.title for section in description.sections()] == ["Images", "Charts", "Files"]
    assert "README.md" in cells(description, "Files")


def test_the_small_files_may_lie_elsewhere(release: Path, tmp_path: Path) -> None:
    moved = tmp_path / "tiny_1.tar"
    (release / "tiny_1.tar").rename(moved)
    assert describe_path(moved, release_dir=release).present == {"tiny_1.tar"}
    with pytest.raises(NotFoundError):
        describe_path(moved)


def test_a_file_that_the_release_does_not_name_is_refused(release: Path) -> None:
    (release / "other.tar").write_bytes(b"")
    said = r"other\.tar: expected an archive of this release"
    with pytest.raises(ContentError, match=said) as caught:
        describe_path(release / "other.tar")
    assert "rename it back" in (caught.value.hint or "")


def test_machines_get_the_whole_manifest(release: Path) -> None:
    description = describe_path(release, Trust.of_keys([KEY.public]))
    described = json.loads(json.dumps(description.to_dict()))
    assert described["manifest"] == json.loads((release / MANIFEST_NAME).read_bytes())
    assert described["signatures"] == [KEY.public.key8]
    assert described["present"] == ["tiny_1.tar"]
    assert described["archive"] is None


def test_no_cell_can_move_a_cursor() -> None:
    manifest = small_manifest()
    model = replace(manifest.models[0], model_name="Tiny\u2028evil")
    manifest = replace(manifest, models=(model,))
    description = Description(manifest=manifest, archive=None, signatures=(), present=frozenset())
    assert "Tiny\\u2028evil" in cells(description, "Models")


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        (".sig", "signature"),
        (".att", "attestation"),
        (".sbom", "SBOM"),
        ("", "OCI referrers (SBOMs and the like)"),
    ],
)
def test_what_is_attached_to_an_image_is_called_what_it_is(tag: str, kind: str) -> None:
    manifest, digest = small_manifest(), Digest.of(b"image")
    image = Image(
        tag=ImageTag("atlas", "1"),
        digest=digest,
        source="docker://a.example/atlas:1",
        source_digest=digest,
        platforms=("linux/amd64",),
        blobs=(Blob(digest=digest, size=1),),
    )
    name = ImageTag("atlas", f"sha256-{digest.hex}{tag}")
    attached = replace(image, tag=name, platforms=(), subject=digest)
    held = [
        BundleFile(path=one.tag.archive_path, offset=512, size=1, digest=digest)
        for one in (image, attached)
    ]
    files = sorted((*manifest.bundle.files, *held), key=lambda one: one.path.encode())
    bundle = replace(manifest.bundle, files=tuple(files))
    manifest = replace(manifest, images=(image, attached), bundle=bundle)
    description = Description(manifest=manifest, archive=None, signatures=(), present=frozenset())
    assert f"{kind} of {digest}" in cells(description, "Images")
    assert "linux/amd64" in cells(description, "Images")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (90_900_000, "86.7 MiB"),
        (3 << 50, "3.0 PiB"),
        (2**53 - 1, "8.0 PiB"),
    ],
)
def test_sizes_are_shown_in_the_largest_unit(size: int, text: str) -> None:
    assert size_text(size) == text
