"""Verifying each kind of path, on real files; what is whole, what is absent, what is too much."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import ContentError, MalformedError, NotFoundError, StaleError, UntrustedError
from bundler.events import Advanced, Event, Finished, Noted, Started
from bundler.manifest import MANIFEST_NAME, SLICE_BYTES, Manifest
from bundler.parts import SMALLEST_PART
from bundler.release import open_release
from bundler.sign import sign_release
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.sums import SUMS_NAME
from bundler.trust import Trust
from bundler.verify import Report, verify_path
from tests.small_release import (
    RELEASE,
    make_checkpoint,
    make_release,
    replace_checkpoint,
    sign_anything,
    write_small_files,
)

KEY: PrivateKey = read_private_key(new_key_pair(None)[0], None, name="test key")
KEYS = Trust.of_keys([KEY.public])
NOW = "2026-11-02T00:00:00Z"
BUNDLE = f"{RELEASE.directory}.tar.gz"
TINY, SHARDED = "tiny_2026.10.tar", "sharded_2026.10.tar"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / RELEASE.directory
    make_release(directory)
    sign_release(directory, KEY)
    return directory


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "media" / RELEASE.directory))


def manifest_of(release: Path) -> Manifest:
    return open_release(release, KEYS).manifest


def verify(path: Path, *, strict: bool = False, require_all: bool = False) -> Report:
    return verify_path(path, KEYS, now=NOW, strict=strict, require_all=require_all)


def fault_lines(report: Report) -> list[str]:
    assert not report
    return [str(fault) for fault in report.faults]


def tree(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): path.lstat().st_mtime_ns for path in directory.rglob("*")
    }


def extract(archive: Path, destination: Path, *options: str) -> Path:
    destination.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-xf", archive, "-C", destination, *options], check=True)
    return destination


@pytest.fixture
def unpacked(release: Path, tmp_path: Path) -> Path:
    """An extracted bundle with the small files of its release beside it."""
    site = tmp_path / "site"
    extract(release / BUNDLE, site)
    for path in [*release.glob(f"{SUMS_NAME}*"), release / MANIFEST_NAME]:
        shutil.copy(path, site)
    return site / RELEASE.directory


@pytest.fixture
def weights(release: Path, tmp_path: Path) -> Path:
    """An extracted checkpoint, in a directory that is called as people call it."""
    return extract(release / TINY, tmp_path / "checkpoints" / "anything", "--strip-components=1")


class TestReleaseDirectory:
    def test_a_whole_release_is_well(self, release: Path) -> None:
        before = tree(release)
        report = verify(release, strict=True, require_all=True)
        assert report
        assert report.kind == "release"
        assert report.release == RELEASE.directory
        assert report.signatures == (KEY.public.key8,)
        assert {item.name for item in report.checked} == {BUNDLE, TINY, SHARDED}
        assert report.notes == ()
        report.raise_for_faults()
        assert tree(release) == before

    def test_an_absent_checkpoint_is_named_and_is_a_fault_only_where_asked_for(
        self, release: Path
    ) -> None:
        (release / TINY).unlink()
        report = verify(release, strict=True)
        assert report
        assert report.absent == (TINY,)
        assert report.notes == (f"{TINY}: not here, so not checked",)
        [line] = fault_lines(verify(release, require_all=True))
        assert line == f"{TINY}: expected a file of 10240 bytes, got nothing"

    def test_an_absent_bundle_is_a_fault(self, release: Path) -> None:
        (release / BUNDLE).unlink()
        [line] = fault_lines(verify(release))
        assert line.startswith(f"{BUNDLE}: expected a file of ")

    def test_what_is_not_signed_is_listed_and_only_strictly_a_fault(self, release: Path) -> None:
        (release / "notes.txt").write_bytes(b"")
        (release / "folder").mkdir()
        os.mkfifo(release / "folder" / "would-hang-if-read")
        report = verify(release)
        assert report
        assert report.extra == ("folder", "notes.txt")
        assert fault_lines(verify(release, strict=True)) == [
            "folder: expected nothing, got a directory",
            "notes.txt: expected nothing, got a file",
        ]

    def test_additive_files_belong_to_a_release(self, release: Path) -> None:
        for name in (
            f"{SUMS_NAME}.01234567.sigstore.json",
            "provenance.01234567.sigstore.json",
            "tiny_2026.10.01234567.oms.json",
            "VOLUMES.json",
        ):
            (release / name).write_bytes(b"{}")
        (release / "trust").mkdir()
        assert verify(release, strict=True)

    def test_a_file_for_other_tools_that_does_not_hold_is_told_and_decides_nothing(
        self, release: Path
    ) -> None:
        [bundle] = release.glob(f"{SUMS_NAME}.*.sigstore.json")
        events: list[Event] = []
        assert verify_path(release, KEYS, now=NOW, emit=events.append)
        assert not [event for event in events if isinstance(event, Noted)]
        bundle.write_bytes(b"{}")
        assert verify_path(release, KEYS, now=NOW, emit=events.append)
        [note] = [event.text for event in events if isinstance(event, Noted)]
        assert bundle.name in note

    def test_archives_may_lie_apart_from_the_small_files(
        self, release: Path, tmp_path: Path
    ) -> None:
        small = tmp_path / "small"
        small.mkdir()
        for path in [*release.glob(f"{SUMS_NAME}*"), release / MANIFEST_NAME]:
            path.rename(small / path.name)
        report = verify_path(release, KEYS, now=NOW, release_dir=small, require_all=True)
        assert report
        assert report.kind == "release"

    def test_small_files_beside_the_archives_must_be_the_trusted_ones(
        self, release: Path, tmp_path: Path
    ) -> None:
        other = Path(shutil.copytree(release, tmp_path / "other"))
        with (release / MANIFEST_NAME).open("ab") as file:
            file.write(b"\n")
        report = verify_path(release, KEYS, now=NOW, release_dir=other)
        [line] = fault_lines(report)
        assert line.startswith(f"{MANIFEST_NAME}: expected sha256:")

    def test_every_fault_is_reported_at_once(self, release: Path) -> None:
        manifest = manifest_of(release)
        for checkpoint in manifest.checkpoints:
            with (release / checkpoint.archive).open("r+b") as file:
                for entry in checkpoint.files:
                    if entry.size:
                        file.seek(entry.offset)
                        file.write(b"?")
        (release / BUNDLE).unlink()
        report = verify(release)
        damaged = {(f.archive, f.path) for f in report.faults if f.path}
        assert damaged == {
            (checkpoint.archive, entry.path)
            for checkpoint in manifest.checkpoints
            for entry in checkpoint.files
            if entry.size
        }
        with pytest.raises(ContentError) as caught:
            report.raise_for_faults()
        lines = str(caught.value).splitlines()
        assert lines == [f"{release}: {len(report.faults)} faults", *fault_lines(report)]
        assert caught.value.exit_status == 5

    def test_every_damaged_header_is_told_with_its_place(self, release: Path) -> None:
        checkpoint = manifest_of(release).checkpoint("sharded_2026.10")
        first, *_, last = sorted(checkpoint.files, key=lambda file: file.offset)
        places = [5, last.offset - 300, checkpoint.size - 1]
        with (release / SHARDED).open("r+b") as file:
            for place in places:
                file.seek(place)
                file.write(b"?")
        faults = verify(release).faults
        assert [(fault.path, fault.offset) for fault in faults] == list(
            zip([first.path, last.path, None], places, strict=True)
        )
        assert faults[0].expected.startswith("the header before it to be sha256:")
        assert faults[2].expected.startswith("the archive's end to be sha256:")

    def test_bad_spots_of_a_medium_are_faults_like_others(
        self, release: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = manifest_of(release)
        bad = [checkpoint.files[-1].offset for checkpoint in manifest.checkpoints]
        read = os.preadv

        def fail_at(descriptor: int, buffers: list[memoryview], offset: int, *more: int) -> int:
            end = offset + sum(map(len, buffers))
            if any(offset <= place < end for place in bad) and not more:
                raise OSError(errno.EIO, "as a worn medium does")
            return read(descriptor, buffers, offset, *more)

        monkeypatch.setattr(os, "preadv", fail_at)
        told = fault_lines(verify(release))
        for checkpoint in manifest.checkpoints:
            place = f"{checkpoint.archive}: {checkpoint.files[-1].path}, part 1, from offset "
            assert any(line.startswith(place) and "input/output error" in line for line in told)

    def test_all_slices_of_a_bundle_that_cannot_be_opened_are_told(self, release: Path) -> None:
        with (release / BUNDLE).open("r+b") as file:
            file.write(b"?")
        [line] = fault_lines(verify(release))
        assert line.startswith(f"{BUNDLE}, slice 1, from offset 0: expected sha256:")

    def test_progress_adds_up_to_what_was_read(self, release: Path) -> None:
        events: list[Event] = []
        verify_path(release, KEYS, now=NOW, emit=events.append)
        started = {e.item: e.total for e in events if isinstance(e, Started)}
        assert {event.item for event in events if isinstance(event, Finished)} == set(started)
        for item, total in started.items():
            steps = [e.step for e in events if isinstance(e, Advanced) and e.item == item]
            assert sum(steps) == total

    def test_an_expired_release_is_stale_unless_allowed(self, release: Path) -> None:
        late = "2099-01-01T00:00:00Z"
        with pytest.raises(StaleError, match="expired at 2099-01-01T00:00:00Z"):
            verify_path(release, KEYS, now=late)
        report = verify_path(release, KEYS, now=late, allow_expired=True)
        assert report
        assert report.expired is not None
        assert report.notes == (report.expired,)

    def test_the_report_is_the_same_for_machines(self, release: Path) -> None:
        (release / TINY).unlink()
        (release / "notes.txt").write_bytes(b"")
        with (release / SHARDED).open("r+b") as file:
            file.seek(manifest_of(release).checkpoint("sharded_2026.10").files[0].offset)
            file.write(b"?")
        told = json.loads(json.dumps(verify(release).to_dict()))
        assert told["ok"] is False
        assert told["absent"] == [TINY]
        assert told["extra"] == ["notes.txt"]
        assert told["signatures"] == [KEY.public.key8]
        [fault] = told["faults"]
        assert fault["archive"] == SHARDED
        assert fault["path"] == "config.json"
        assert fault["part"] == 1


class TestArchives:
    @pytest.mark.parametrize(
        ("name", "kind"), [(BUNDLE, "bundle"), (TINY, "checkpoint"), (SHARDED, "checkpoint")]
    )
    def test_an_archive_is_judged_by_the_small_files_beside_it(
        self, release: Path, name: str, kind: str
    ) -> None:
        report = verify(release / name)
        assert report
        assert report.kind == kind
        assert [item.name for item in report.checked] == [name]

    def test_an_archive_is_judged_by_small_files_elsewhere(
        self, release: Path, tmp_path: Path
    ) -> None:
        (release / TINY).rename(tmp_path / TINY)
        assert verify_path(tmp_path / TINY, KEYS, now=NOW, release_dir=release)
        with pytest.raises(NotFoundError, match=SUMS_NAME):
            verify(tmp_path / TINY)

    def test_a_file_that_the_manifest_does_not_name_is_refused(self, release: Path) -> None:
        (release / TINY).rename(release / "renamed.tar")
        with pytest.raises(ContentError, match=r"renamed\.tar: expected an archive of this"):
            verify(release / "renamed.tar")

    def test_nothing_there_is_said(self, release: Path) -> None:
        with pytest.raises(NotFoundError, match=r"nothing\.tar: no such file"):
            verify(release / "nothing.tar")

    def test_part_and_offset_of_each_fault_are_named(self, tmp_path: Path) -> None:
        release, path = tmp_path / "release", "model.safetensors"
        manifest = make_release(release)
        large = bytes(2 * SMALLEST_PART + 5)
        files = {"config.json": b"{}", path: large}
        checkpoint = make_checkpoint(release, tmp_path / "scratch", "tiny_2026.10", "tiny", files)
        write_small_files(release, replace_checkpoint(manifest, checkpoint))
        sign_release(release, KEY)
        assert verify(release / TINY)
        start = checkpoint.files[1].offset
        with (release / TINY).open("r+b") as file:
            for offset in (SMALLEST_PART - 1, SMALLEST_PART, 2 * SMALLEST_PART + 4):
                file.seek(start + offset)
                file.write(b"\1")
        faults = verify(release / TINY).faults
        assert [(f.path, f.part, f.offset) for f in faults] == [
            (path, 1, start),
            (path, 2, start + SMALLEST_PART),
            (path, 3, start + 2 * SMALLEST_PART),
        ]
        assert str(faults[1]).startswith(
            f"{TINY}: {path}, part 2, from offset {start + SMALLEST_PART}: expected sha256:"
        )

    def test_file_and_slice_of_a_fault_in_the_bundle_are_named(self, release: Path) -> None:
        file = manifest_of(release).bundle.file("scripts/upload_images.sh")
        with (release / BUNDLE).open("r+b") as archive:
            archive.seek(15 + file.offset)  # one stored block: ten bytes of gzip, five of deflate
            archive.write(b"!")
        faults = verify(release / BUNDLE).faults
        assert manifest_of(release).bundle.size < SLICE_BYTES
        assert (faults[0].path, faults[0].part, faults[0].offset) == (None, 1, 0)
        assert [fault.path for fault in faults[1:]] == ["scripts/upload_images.sh"]

    @pytest.mark.parametrize("name", [BUNDLE, TINY])
    def test_a_size_that_changes_between_two_looks_hides_nothing(
        self, release: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with (release / name).open("r+b") as file:
            file.seek(-4, os.SEEK_END)  # in a tar, of no file; in gzip, the length
            file.write(b"?")
        real = Path.stat

        def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            found = real(path, follow_symlinks=follow_symlinks)
            if path.name == name and follow_symlinks:
                return os.stat_result((*found[:6], found.st_size + 1, *found[7:10]))
            return found

        monkeypatch.setattr(Path, "stat", stat)
        assert fault_lines(verify(release / name))

    def test_a_manifest_that_contradicts_an_image_is_refused(
        self, release: Path, unpacked: Path
    ) -> None:
        manifest = manifest_of(release)
        [image] = manifest.images
        other = next(blob.digest for blob in image.blobs if blob.digest != image.digest)
        write_small_files(release, replace(manifest, images=(replace(image, digest=other),)))
        sign_anything(release, KEY)
        for path in (release, release / BUNDLE):
            with pytest.raises(MalformedError, match=f"digest: expected one of {other}"):
                verify(path)
        with pytest.raises(MalformedError, match=f"digest: expected one of {other}"):
            verify_path(unpacked, KEYS, now=NOW, release_dir=release)


class TestWhatADirectoryIs:
    @pytest.mark.parametrize("name", [SUMS_NAME, BUNDLE, TINY])
    def test_an_archive_beside_what_was_extracted_does_not_hide_it(
        self, release: Path, unpacked: Path, weights: Path, name: str
    ) -> None:
        (unpacked / "scripts" / "upload_images.sh").write_bytes(b"evil")
        (unpacked / "CONTENTS.sha256").unlink()
        (weights / "model.safetensors").write_bytes(b"evil")
        for path, what in ((unpacked, "charts"), (weights, "config.json")):
            shutil.copy(release / name, path)
            with pytest.raises(MalformedError, match=f"got both: {name} and {what}"):
                verify_path(path, KEYS, now=NOW, release_dir=release)

    @pytest.mark.parametrize("name", ["CONTENTS.sha256", "charts", "containers", "scripts"])
    def test_a_release_with_part_of_an_extracted_bundle_in_it_is_refused(
        self, release: Path, name: str
    ) -> None:
        (release / name).mkdir()
        with pytest.raises(MalformedError, match=f"got both: {SUMS_NAME} and {name}"):
            verify(release)

    def test_what_is_extracted_in_a_directory_of_a_release_is_foreign_to_it(
        self, release: Path
    ) -> None:
        extract(release / BUNDLE, release)
        extract(release / TINY, release)
        report = verify(release)
        assert report
        assert report.kind == "release"
        assert report.extra == ("tiny", RELEASE.directory)
        assert verify(release / RELEASE.directory).kind == "extracted bundle"
        assert verify(release / "tiny").kind == "extracted checkpoint"

    def test_a_checkpoint_may_hold_files_that_are_called_as_a_release_s(
        self, tmp_path: Path
    ) -> None:
        release = tmp_path / "release"
        manifest = make_release(release)
        files = {"config.json": b"{}", SUMS_NAME: b"x", MANIFEST_NAME: b"{}"}
        checkpoint = make_checkpoint(release, tmp_path / "scratch", "tiny_2026.10", "tiny", files)
        write_small_files(release, replace_checkpoint(manifest, checkpoint))
        sign_release(release, KEY)
        assert verify(release).kind == "release"
        weights = extract(release / TINY, tmp_path / "site") / "tiny"
        report = verify_path(weights, KEYS, now=NOW, release_dir=release)
        assert report
        assert report.kind == "extracted checkpoint"
        (weights / SUMS_NAME).write_bytes(b"y")
        assert not verify_path(weights, KEYS, now=NOW, release_dir=release)


class TestExtractedBundle:
    def test_what_tar_extracts_is_well(self, unpacked: Path) -> None:
        before = tree(unpacked)
        report = verify(unpacked, strict=True)
        assert report
        assert report.kind == "extracted bundle"
        assert tree(unpacked) == before

    def test_it_may_be_called_otherwise(self, unpacked: Path) -> None:
        report = verify(unpacked.rename(unpacked.parent / "renamed"))
        assert report
        assert report.kind == "extracted bundle"

    def test_what_the_guide_puts_there_is_listed_and_not_read(self, unpacked: Path) -> None:
        (unpacked / "inference_values.yaml").write_bytes(b"models: {}\n")
        (unpacked / "checkpoints").mkdir()
        os.mkfifo(unpacked / "checkpoints" / "would-hang-if-read")
        (unpacked / "models" / "mine.json").write_bytes(b"{}")
        report = verify(unpacked)
        assert report
        assert report.extra == ("checkpoints", "inference_values.yaml", "models/mine.json")
        name = unpacked.name
        assert fault_lines(verify(unpacked, strict=True)) == [
            f"{name}: checkpoints: expected nothing, got a directory",
            f"{name}: inference_values.yaml: expected nothing, got a file",
            f"{name}: models/mine.json: expected nothing, got a file",
        ]

    @pytest.mark.parametrize(
        ("path", "make", "got"),
        [
            ("charts/inference/templates/more.yaml", Path.touch, "a file"),
            ("charts/inference/charts", Path.mkdir, "a directory"),
            ("scripts/more.sh", Path.touch, "a file"),
            ("containers/more__1.tar", Path.touch, "a file"),
            ("containers/link.tar", lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
            ("charts/pipe", os.mkfifo, "a device, pipe or socket"),
        ],
    )
    def test_nothing_may_be_added_where_things_are_run_from(
        self, unpacked: Path, path: str, make: Callable[[Path], object], got: str
    ) -> None:
        make(unpacked / path)
        assert fault_lines(verify(unpacked)) == [
            f"{unpacked.name}: {path}: expected nothing, got {got}"
        ]

    @pytest.mark.parametrize("path", ["README.md", "models/tiny.json", "scripts/upload_images.sh"])
    def test_a_missing_file_is_named(self, unpacked: Path, path: str) -> None:
        (unpacked / path).unlink()
        assert fault_lines(verify(unpacked)) == [
            f"{unpacked.name}: {path}: expected a file, got nothing"
        ]

    @pytest.mark.parametrize("path", ["README.md", "charts/inference/Chart.yaml"])
    def test_a_changed_file_is_named(self, unpacked: Path, path: str) -> None:
        content = (unpacked / path).read_bytes()
        (unpacked / path).write_bytes(b"?" + content[1:])
        [line] = fault_lines(verify(unpacked))
        assert line.startswith(f"{unpacked.name}: {path}: expected sha256:")
        (unpacked / path).write_bytes(content[:-1])
        [line] = fault_lines(verify(unpacked))
        assert line == (
            f"{unpacked.name}: {path}: expected {len(content)} bytes, got {len(content) - 1} bytes"
        )

    def test_a_file_or_directory_that_became_a_link_is_not_followed(
        self, unpacked: Path, tmp_path: Path
    ) -> None:
        for path in ("README.md", "charts"):
            (unpacked / path).rename(tmp_path / path)
            (unpacked / path).symlink_to(tmp_path / path)
        lines = fault_lines(verify(unpacked))
        name = unpacked.name
        assert f"{name}: README.md: expected a file, got a symbolic link" in lines
        assert f"{name}: charts: expected a directory, got a symbolic link" in lines
        assert f"{name}: charts/inference/Chart.yaml: expected a file, got nothing" in lines


class TestExtractedCheckpoint:
    def test_what_tar_extracts_is_known_by_its_files(self, weights: Path, release: Path) -> None:
        report = verify_path(weights, KEYS, now=NOW, release_dir=release)
        assert report
        assert report.kind == "extracted checkpoint"

    @pytest.mark.parametrize("name", ["tiny", "tiny_2026.10"])
    def test_its_name_says_which_it_is(self, weights: Path, release: Path, name: str) -> None:
        renamed = weights.rename(weights.parent / name)
        (renamed / "config.json").unlink()
        [line] = fault_lines(verify_path(renamed, KEYS, now=NOW, release_dir=release))
        assert line == f"{name}: config.json: expected a file, got nothing"

    def test_a_changed_part_is_named(self, weights: Path, release: Path) -> None:
        with (weights / "model.safetensors").open("r+b") as file:
            file.write(b"?")
        [line] = fault_lines(verify_path(weights, KEYS, now=NOW, release_dir=release))
        where = "anything: model.safetensors, part 1, from offset 0"
        assert line.startswith(f"{where}: expected sha256:")

    def test_nothing_else_may_lie_where_a_server_loads_from(
        self, weights: Path, release: Path
    ) -> None:
        (weights / "tokenizer" / "pickle.bin").write_bytes(b"")
        [line] = fault_lines(verify_path(weights, KEYS, now=NOW, release_dir=release))
        assert line == "anything: tokenizer/pickle.bin: expected nothing, got a file"

    def test_two_that_share_a_root_are_told_apart_by_their_files(self, tmp_path: Path) -> None:
        release = tmp_path / "release"
        manifest = make_release(release)
        files = {"config.json": b"{}", "more.json": b"{ }"}
        twin = make_checkpoint(release, tmp_path / "scratch", "twin_2026.10", "tiny", files)
        checkpoints = (*manifest.checkpoints, twin)
        write_small_files(release, replace(manifest, checkpoints=checkpoints))
        sign_release(release, KEY)
        for archive in (TINY, "twin_2026.10.tar"):
            weights = extract(release / archive, tmp_path / f"site-{archive}") / "tiny"
            assert verify_path(weights, KEYS, now=NOW, release_dir=release)
            (weights / "config.json").write_bytes(b"neither")
            with pytest.raises(MalformedError, match="fits no checkpoints"):
                verify_path(weights, KEYS, now=NOW, release_dir=release)

    def test_a_directory_that_fits_no_checkpoint_is_refused(
        self, release: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(MalformedError, match="got a directory that fits no checkpoints"):
            verify_path(tmp_path / "empty", KEYS, now=NOW, release_dir=release)


def test_nothing_is_judged_without_a_key(release: Path) -> None:
    for path in (release, release / BUNDLE, release / TINY):
        with pytest.raises(UntrustedError, match="no public key was given"):
            verify_path(path, Trust.of_keys([]), now=NOW)
