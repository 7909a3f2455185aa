"""A bundle's files, read from the archive in place or from what tar extracted, alike."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bundler.archive.bundle import Entry, write_bundle
from bundler.archive.bundle_files import BundleFiles, ExtractedBundle, open_bundle_files
from bundler.archive.bundle_reader import BundleReader
from bundler.archive.oci import read_layout, write_oci_archive
from bundler.digest import Digest
from bundler.errors import BundleError, ContentError, MalformedError, NotFoundError
from bundler.manifest import SLICE_BYTES, Blob, Bundle, BundleFile, Image
from bundler.parts import Span
from bundler.reference import ImageTag
from tests.layouts import LAYER, LayoutMaker
from tests.tars import MTIME
from tests.unit.test_hashing import is_cached, make_cold

TAG = ImageTag("atlas", "1.0.0")
ROOT = "tiny-1"
LAYERS = (os.urandom(3 << 20), b"", os.urandom(70_000), b"x")
ARCHIVE, DIRECTORY = "archive", "directory"


@dataclass(frozen=True)
class Case:
    """A release directory with one image in its bundle, in one of the two forms."""

    directory: Path
    bundle: Bundle
    image: Image
    form: str

    def open(self) -> BundleFiles:
        return open_bundle_files(self.directory, self.bundle)

    @property
    def file(self) -> BundleFile:
        return self.bundle.file(TAG.archive_path)

    @property
    def layers(self) -> list[Digest]:
        return [Digest.of(content) for content in LAYERS]

    def flip(self, digest: Digest, at: int = 0) -> None:
        """Change one byte of a blob where it lies."""
        with self.open() as files:
            start = files.image_tree(self.image).offsets[digest] + at
        if self.form == DIRECTORY:
            flip(self.directory / ROOT / self.file.path, start)
            return
        archive = self.directory / self.bundle.archive
        with BundleReader(archive, self.bundle) as reader:
            flip(archive, reader._gzip.archive_offset(self.file.offset + start))


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def make_bundle(directory: Path) -> tuple[Bundle, Image]:
    maker = LayoutMaker(directory.with_name("layout"))
    maker.name(maker.manifest([maker.blob(content, LAYER) for content in LAYERS]))
    layout = read_layout(maker.directory)
    archive = directory.with_name("image.tar")
    write_oci_archive(maker.directory, layout, TAG, archive, mtime=MTIME)
    entries = [
        Entry("README.md", b"# read me\n"),
        Entry("charts/inference/Chart.yaml", b"name: inference\n"),
        Entry("scripts/upload.sh", b"#!/bin/bash\n", executable=True),
        Entry(TAG.archive_path, archive),
    ]
    directory.mkdir()
    bundle = write_bundle(directory / f"{ROOT}.tar.gz", root=ROOT, entries=entries, mtime=MTIME)
    image = Image(
        tag=TAG,
        digest=layout.digest,
        source="oci:layout",
        source_digest=layout.digest,
        platforms=layout.platforms,
        blobs=layout.blobs,
    )
    return bundle, image


def extract(directory: Path, bundle: Bundle) -> None:
    subprocess.run(["tar", "-xzf", bundle.archive], cwd=directory, check=True)
    (directory / bundle.archive).unlink()


@pytest.fixture(params=[ARCHIVE, DIRECTORY])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    directory = tmp_path / "release"
    bundle, image = make_bundle(directory)
    if request.param == DIRECTORY:
        extract(directory, bundle)
    return Case(directory, bundle, image, request.param)


@pytest.fixture
def unpacked(tmp_path: Path) -> Case:
    directory = tmp_path / "release"
    bundle, image = make_bundle(directory)
    extract(directory, bundle)
    return Case(directory, bundle, image, DIRECTORY)


def whole(pieces: Iterator[memoryview]) -> bytes:
    return b"".join(map(bytes, pieces))


def test_every_blob_is_read_from_where_it_lies(case: Case) -> None:
    with case.open() as files:
        assert files.check_structure() == ()
        files.check_images([case.image])
        for blob in case.image.blobs:
            found = files.blob(case.image, blob.digest)
            assert (found.digest, found.size) == (blob.digest, blob.size)
            assert Digest.of(whole(found.pieces(0))) == blob.digest


@pytest.mark.parametrize("rehash", [False, True])
def test_a_blob_is_read_from_any_offset_again(case: Case, rehash: bool) -> None:
    content = LAYERS[0]
    with case.open() as files:
        blob = files.blob(case.image, Digest.of(content), rehash=rehash)
        for offset in (0, 1, 65_023, 1 << 20, len(content) - 1, len(content)):
            assert whole(blob.pieces(offset)) == content[offset:]
        for offset in (-1, len(content) + 1):
            with pytest.raises(ValueError, match=f"has {len(content)} bytes"):
                blob.pieces(offset)


def test_pieces_are_about_a_mebibyte_and_no_more_memory_than_the_blob(case: Case) -> None:
    with case.open() as files:
        sizes = [len(p) for p in files.blob(case.image, Digest.of(LAYERS[0])).pieces(0)]
        assert max(sizes) <= 1 << 20
        assert len(sizes) <= 5
        [small] = files.blob(case.image, Digest.of(b"x")).pieces(0)
        assert len(memoryview(small.obj)) == 1
        assert list(files.blob(case.image, Digest.of(b"")).pieces(0)) == []


def test_many_threads_read_at_once(case: Case) -> None:
    with case.open() as files, ThreadPoolExecutor(8) as pool:

        def read(digest: Digest) -> Digest:
            return Digest.of(whole(files.blob(case.image, digest).pieces(0)))

        digests = [blob.digest for blob in case.image.blobs] * 6
        assert list(pool.map(read, digests)) == digests


def test_an_image_has_no_other_blob(case: Case) -> None:
    with case.open() as files, pytest.raises(KeyError):
        files.blob(case.image, Digest.of(b"another"))


@pytest.mark.parametrize("at", [0, (3 << 20) - 1])
def test_rehash_finds_a_wrong_byte_before_the_last_piece(case: Case, at: int) -> None:
    digest = Digest.of(LAYERS[0])
    case.flip(digest, at)
    with case.open() as files:
        assert Digest.of(whole(files.blob(case.image, digest).pieces(0))) != digest
        for offset in (0, 100, (3 << 20) - 1, 3 << 20):
            got: list[int] = []
            pieces = files.blob(case.image, digest, rehash=True).pieces(offset)
            with pytest.raises(ContentError, match=f"blob: expected {digest}, got sha256:"):
                got.extend(map(len, pieces))
            assert sum(got) < max(1, len(LAYERS[0]) - offset)


def test_an_empty_blob_is_rehashed_too(case: Case) -> None:
    lying = Blob(digest=Digest.of(b"x"), size=0)
    with case.open() as files, pytest.raises(ContentError, match="blob: expected"):
        list(files._pieces_hashed(case.file, 0, lying, 0))


def test_a_rotten_manifest_is_no_tree(case: Case) -> None:
    case.flip(case.image.digest)
    with case.open() as files, pytest.raises(ContentError, match=case.image.digest.hex):
        files.image_tree(case.image)


def test_a_header_that_was_changed_is_other_content_than_was_signed(case: Case) -> None:
    case.flip(min(blob.digest for blob in case.image.blobs), -100)
    with case.open() as files, pytest.raises(ContentError, match="at offset") as caught:
        files.check_images([case.image])
    assert caught.value.hint is not None


def test_an_image_that_was_signed_wrong_is_malformed(case: Case) -> None:
    with case.open() as files, pytest.raises(MalformedError, match="expected platforms linux/s390"):
        files.check_images([replace(case.image, platforms=("linux/s390x",))])
    with case.open() as files:
        files.check_images([case.image])
        with pytest.raises(MalformedError):
            files.check_images([replace(case.image, platforms=("linux/s390x",))])


def test_small_files_are_read_and_copied_out(case: Case, tmp_path: Path) -> None:
    with case.open() as files:
        readme, script = case.bundle.file("README.md"), case.bundle.file("scripts/upload.sh")
        assert files.read(readme, limit=10) == b"# read me\n"
        with pytest.raises(MalformedError, match=r"README\.md: expected at most 9 bytes, got 10"):
            files.read(readme, limit=9)
        files.extract(script, tmp_path / "copy")
        assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o755
        wrong = replace(readme, digest=Digest.of(b""))
        for use in (
            lambda: files.read(wrong, limit=10),
            lambda: files.extract(wrong, tmp_path / "x"),
        ):
            with pytest.raises(ContentError, match=r"README\.md: expected sha256"):
                use()
        assert not (tmp_path / "x").exists()


def test_sums_that_are_not_the_manifests_are_refused(case: Case) -> None:
    other = tuple(
        replace(file, digest=Digest.of(b"")) if file.path == "README.md" else file
        for file in case.bundle.files
    )
    with (
        open_bundle_files(case.directory, replace(case.bundle, files=other)) as files,
        pytest.raises(MalformedError, match=r"CONTENTS\.sha256 does not name the files"),
    ):
        files.check_structure()


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 11), (11, 0), (5, 6), (0, -1)])
def test_a_range_beyond_a_file_is_a_mistake_of_the_caller(
    case: Case, offset: int, length: int
) -> None:
    with case.open() as files, pytest.raises(ValueError, match=r"README\.md has 10"):
        list(files.pieces(case.bundle.file("README.md"), offset, length))


def test_what_was_not_in_memory_is_not_left_there(case: Case) -> None:
    path = case.directory / case.bundle.archive
    if case.form == DIRECTORY:
        path = case.directory / ROOT / case.file.path
    with case.open() as files:
        blob = files.blob(case.image, Digest.of(LAYERS[0]))
        middle = files.image_tree(case.image).offsets[blob.digest] + (2 << 20)
        make_cold(path)
        whole(blob.pieces(0))
    assert not is_cached(path, middle)


def test_the_archive_goes_before_the_directory(tmp_path: Path) -> None:
    bundle, _ = make_bundle(tmp_path / "release")
    shutil.copy(tmp_path / "release" / bundle.archive, tmp_path)
    extract(tmp_path / "release", bundle)
    with open_bundle_files(tmp_path / "release", bundle) as files:
        assert isinstance(files, ExtractedBundle)
    shutil.copy(tmp_path / bundle.archive, tmp_path / "release")
    with open_bundle_files(tmp_path / "release", bundle) as files:
        assert isinstance(files, BundleReader)
    (tmp_path / "release" / bundle.archive).write_bytes(b"rotten")
    with pytest.raises(ContentError, match=r"tiny-1\.tar\.gz"):
        open_bundle_files(tmp_path / "release", bundle)


def test_neither_archive_nor_directory_names_both(tmp_path: Path) -> None:
    bundle, _ = make_bundle(tmp_path / "release")
    (tmp_path / "release" / bundle.archive).unlink()
    with pytest.raises(NotFoundError, match=r"expected tiny-1\.tar\.gz, or tiny-1/ as tar"):
        open_bundle_files(tmp_path / "release", bundle)


def test_what_people_put_beside_is_told_and_not_read(unpacked: Case) -> None:
    root = unpacked.directory / ROOT
    (root / "notes").mkdir()
    (root / "notes" / "secret").mkdir(mode=0)
    (root / "values.yaml").write_text("x")
    with unpacked.open() as files:
        assert files.check_structure() == ("notes", "values.yaml")


def remove(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def link(path: Path) -> None:
    elsewhere = path.parents[3] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def link_directory(path: Path) -> None:
    elsewhere = path.parents[3] / "elsewhere"
    path.parent.rename(elsewhere)
    path.parent.symlink_to(elsewhere)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [remove, shorten, lengthen, link, link_directory, directory])
def test_a_file_that_is_not_what_tar_extracted_is_refused_by_every_use(
    unpacked: Case, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(unpacked.directory / ROOT / TAG.archive_path)
    with unpacked.open() as files:
        for use in (
            files.check_structure,
            lambda: files.image_tree(unpacked.image),
            lambda: files.extract(unpacked.file, tmp_path / "copy"),
            lambda: list(files.pieces(unpacked.file, 0, 1)),
        ):
            with pytest.raises(ContentError) as caught:
                use()
            assert "containers" in str(caught.value)
            assert "\n" not in str(caught.value)
            assert caught.value.hint is not None


@pytest.mark.parametrize("place", ["charts/evil.yaml", "containers/x.tar", "scripts/a/b.sh"])
def test_nothing_may_be_added_where_things_are_run_from(unpacked: Case, place: str) -> None:
    path = unpacked.directory / ROOT / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    with unpacked.open() as files, pytest.raises(ContentError, match="expected nothing, got a"):
        files.check_structure()


def test_a_link_that_comes_after_the_check_is_not_followed(unpacked: Case) -> None:
    with unpacked.open() as files:
        files.check_structure()
        blob = files.blob(unpacked.image, Digest.of(LAYERS[0]))
        link_directory(unpacked.directory / ROOT / TAG.archive_path)
        with pytest.raises(ContentError, match="expected a directory, got a file or a symbolic"):
            next(blob.pieces(0))


def test_the_root_itself_may_be_named_by_a_link(unpacked: Case, tmp_path: Path) -> None:
    (unpacked.directory / ROOT).rename(tmp_path / "large-disk")
    (unpacked.directory / ROOT).symlink_to(tmp_path / "large-disk")
    with unpacked.open() as files:
        assert files.check_structure() == ()
        files.check_images([unpacked.image])


def test_only_the_slices_that_a_read_touches_are_hashed_to_say_whose_fault_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong block header in 128 MiB is judged by the 64 MiB around it."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(2 * SLICE_BYTES)
    out = tmp_path / f"{ROOT}.tar.gz"
    entries = [Entry("a", b"12345"), Entry("big", big)]
    bundle = write_bundle(out, root=ROOT, entries=entries, mtime=MTIME)
    with BundleReader(out, bundle) as reader:
        last = bundle.file("big")
        begin, _ = reader._gzip.archive_range(last.offset + last.size - 1, 1)
        flip(out, begin + 1)
        hashed: list[int] = []
        digest = reader._hash_slice

        def noted(span: Span) -> tuple[Span, Digest]:
            hashed.append(span.number)
            return digest(span)

        monkeypatch.setattr(reader, "_hash_slice", noted)
        assert sum(map(len, reader.pieces(bundle.file("big"), 0, SLICE_BYTES))) == SLICE_BYTES
        with pytest.raises(ContentError, match="expected the header of a stored block"):
            list(reader.pieces(last, last.size - 10, 10))
    assert hashed == [3]


def test_each_stored_byte_of_a_blob_is_read_once(tmp_path: Path) -> None:
    bundle, image = make_bundle(tmp_path / "release")
    with BundleReader(tmp_path / "release" / bundle.archive, bundle) as reader:
        blob = reader.blob(image, Digest.of(LAYERS[0]))
        reads: list[int] = []
        readv = reader._gzip._readv

        def counted(offset: int, buffers: list[memoryview]) -> None:
            reads.append(sum(map(len, buffers)))
            readv(offset, buffers)

        reader._gzip._readv = counted  # type: ignore[assignment]
        digest = hashlib.sha256(whole(blob.pieces(0))).hexdigest()
    assert digest == blob.digest.hex
    assert sum(reads) <= blob.size + 5 * (blob.size // 65_024 + 2)
    assert len(reads) <= 5


def test_every_error_is_one_of_ours(case: Case) -> None:
    """Whatever byte of the image's archive is hit, its use ends in an error of this package."""
    with case.open() as files:
        tree = files.image_tree(case.image)
    for digest, start in list(tree.offsets.items())[:3]:
        for at in (-start, -512, -1):
            case.flip(digest, at)
            with case.open() as files, pytest.raises(BundleError):
                files.image_tree(case.image)
            flip_back(case, digest, at, start)


def flip_back(case: Case, digest: Digest, at: int, start: int) -> None:
    if case.form == DIRECTORY:
        flip(case.directory / ROOT / case.file.path, start + at)
        return
    archive = case.directory / case.bundle.archive
    with BundleReader(archive, case.bundle) as reader:
        flip(archive, reader._gzip.archive_offset(case.file.offset + start + at))
