"""Volumes as a person gets them: mixed up, on several read-only media; verified and published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.archive.bundle_files import open_bundle_files
from bundler.describe import describe_path
from bundler.errors import ContentError, MalformedError, UntrustedError
from bundler.events import ignore
from bundler.manifest import SLICE_BYTES
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.publish.upload import Upload
from bundler.reference import S3Prefix
from bundler.release import open_release
from bundler.split import split_release
from bundler.verify import Report, verify_path
from tests.conftest import missing
from tests.memory_store import MemoryStore
from tests.volume_sets import (
    BUNDLE,
    FILES,
    KEY,
    KEYS,
    NOW,
    SHARDED,
    TINY,
    cut,
    make_signed,
    small_files,
    volumes_of,
)

COMMAND = [sys.executable, "-m", "bundler"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_signed(tmp_path_factory.mktemp("made") / "release")


@pytest.fixture(params=["plain", "zstd"])
def media(request: pytest.FixtureRequest, release: Path, tmp_path: Path) -> Path:
    return cut(release, tmp_path / "media", compress=request.param == "zstd")


@pytest.fixture
def plain(release: Path, tmp_path: Path) -> Path:
    return cut(release, tmp_path / "media")


@pytest.fixture
def site(release: Path, tmp_path: Path) -> Path:
    return small_files(release, tmp_path / "site")


def verify(path: Path, *elsewhere: Path, only: str | None = None, quick: bool = False) -> Report:
    return verify_path(path, KEYS, now=NOW, elsewhere=elsewhere, only=only, quick=quick)


def lines(report: Report) -> list[str]:
    return [str(fault) for fault in report.faults]


@pytest.fixture
def mounted(media: Path, tmp_path: Path) -> Iterator[list[Path]]:
    """Every volume on a read-only medium of its own."""
    if os.geteuid() != 0:
        missing("root, to mount read-only media")
    points = []
    for path in volumes_of(media, TINY):
        disk = tmp_path / f"disk-{path.name}"
        disk.mkdir()
        path.rename(disk / path.name)
        subprocess.run(["mount", "--bind", disk, disk], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)
        points.append(disk)
    yield points
    for point in points:
        subprocess.run(["umount", "--lazy", point], check=True)


def test_each_volume_on_a_read_only_medium_of_its_own(site: Path, mounted: list[Path]) -> None:
    report = verify(site, *mounted, only=TINY)
    assert report
    assert [item.name for item in report.checked] == [TINY]
    volume = next(mounted[0].iterdir())
    assert verify_path(
        volume, KEYS, now=NOW, release_dir=site, elsewhere=mounted[1:], only="tiny_2026.10"
    )


def test_a_directory_of_volumes_is_a_release(media: Path, site: Path) -> None:
    report = verify_path(media, KEYS, now=NOW, release_dir=site, only=TINY, strict=True)
    assert report
    assert report.kind == "release"


def test_every_flipped_byte_is_found_and_its_volume_named(media: Path, site: Path) -> None:
    for path in volumes_of(media, TINY):
        content = path.read_bytes()
        for place in range(0, len(content), 3001):
            changed = bytearray(content)
            changed[place] ^= 0x40
            path.write_bytes(changed)
            report = verify(site, media, only=TINY)
            told = [fault for fault in report.faults if path.name in (fault.volume or "")]
            assert told, (path, place)
        path.write_bytes(content)
    assert verify(site, media, only=TINY)


def test_swapped_volumes_are_named_with_whose_bytes_they_hold(plain: Path, site: Path) -> None:
    paths = volumes_of(plain, TINY)
    # The files inside a volume tell; the large ones here span several of them.
    first, last = paths[0], paths[-2]
    first_bytes, last_bytes = first.read_bytes(), last.read_bytes()
    first.write_bytes(last_bytes)
    last.write_bytes(first_bytes)
    report = verify(site, plain, only=TINY)
    named = {fault.volume for fault in report.faults if fault.volume}
    assert any(first.name in name for name in named)
    assert any(last.name in name for name in named)
    assert (
        f"{TINY}, in {first.name}: expected the archive's bytes from offset 0 on, got "
        in "\n".join(lines(report))
    )


def test_two_volumes_in_each_others_place_are_called_swapped_and_a_copy_is_not(
    media: Path, site: Path
) -> None:
    first, second = _of_one_length(media)
    first_bytes, second_bytes = first.read_bytes(), second.read_bytes()
    second.write_bytes(first_bytes)
    assert "swapped" not in "\n".join(lines(verify(site, media, only=TINY)))
    first.write_bytes(second_bytes)
    told = [line for line in lines(verify(site, media, only=TINY)) if "are swapped" in line]
    assert len(told) == 2
    assert first.name in told[0]
    assert second.name in told[1]


def _of_one_length(media: Path) -> tuple[Path, Path]:
    """Give two volumes; plain ones have files in them that tell them apart."""
    paths = volumes_of(media, TINY)
    return paths[0], paths[1] if paths[0].suffix == ".zst" else paths[-2]


def test_a_flipped_byte_is_one_fault_though_its_part_is_the_only_one_in_the_volume(
    plain: Path, site: Path
) -> None:
    volume = next(
        path for path in volumes_of(plain, TINY) if FILES["vocab.txt"] in path.read_bytes()
    )
    content = volume.read_bytes()
    volume.write_bytes(content.replace(b"a b c", b"a b d", 1))
    [line] = lines(verify(site, plain, only=TINY))
    assert line.startswith(f"{TINY}: vocab.txt, part 1, from offset ")
    assert f"in {volume.name}: expected sha256:" in line


def test_a_volume_of_another_archive_is_told_as_such(
    release: Path, site: Path, tmp_path: Path
) -> None:
    (tmp_path / "large").mkdir()
    split_release(release, volume_bytes=40_000, out=tmp_path / "large")
    volume = volumes_of(tmp_path / "large", TINY)[0]
    volume.write_bytes(bytes(volume.stat().st_size))
    report = verify(site, tmp_path / "large", only=TINY)
    assert (
        f"{TINY}, in {volume.name}: expected the archive's bytes from offset 0 on, got none of "
        "the 2 parts in it as signed; another archive's volume, perhaps"
    ) in lines(report)


def test_all_that_is_wrong_is_told_at_once(plain: Path, site: Path, tmp_path: Path) -> None:
    paths = volumes_of(plain, TINY)
    paths[1].unlink()
    os.truncate(paths[3], 100)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / paths[5].name).write_bytes(paths[5].read_bytes())
    (plain / f"{TINY}.001-of-002").write_bytes(b"foreign")
    content = bytearray(paths[-1].read_bytes())
    paths[0].write_bytes(bytes(len(paths[0].read_bytes())))
    paths[-1].write_bytes(content)
    report = verify(site, plain, tmp_path / "more", only=TINY)
    told = "\n".join(lines(report))
    for name in (paths[0], paths[1], paths[3], paths[5], plain / f"{TINY}.001-of-002"):
        assert f"in {name.name}: " in told
    assert "config.json, part 1, from offset" in told


def test_damage_between_files_is_told_though_a_volume_is_missing(plain: Path, site: Path) -> None:
    paths = volumes_of(plain, TINY)
    content = bytearray(paths[0].read_bytes())
    content[1] ^= 1
    paths[0].write_bytes(content)
    paths[2].unlink()
    first = lines(verify(site, plain, only=TINY, quick=True))[1]
    assert first.startswith(f"{TINY}: config.json, at offset 1, in {paths[0].name}: expected ")


def test_a_missing_volume_is_no_absent_archive(plain: Path, site: Path) -> None:
    for path in volumes_of(plain, TINY)[1:]:
        path.unlink()
    report = verify(site, plain, only=TINY)
    assert not report
    assert report.absent == ()


def test_a_bundle_in_volumes_is_compared_as_far_as_it_is_there(plain: Path, site: Path) -> None:
    assert verify(site, plain, only=BUNDLE)
    volumes_of(plain, BUNDLE)[1].unlink()
    [line] = lines(verify(site, plain, only=BUNDLE))
    assert "002-of" in line
    assert SLICE_BYTES > 1 << 20  # the one slice of this bundle cannot be told without it


def test_quick_says_what_it_did_not_check(media: Path, site: Path) -> None:
    report = verify(site, media, only=TINY, quick=True)
    assert report
    assert report.checked == ()
    assert [item.name for item in report.unread] == [TINY]
    assert report.notes[0].startswith("NOT CHECKED: ")
    assert report.to_dict()["checked"] == []


def test_quick_reads_no_content_but_all_structure(release: Path, site: Path) -> None:
    with open_release(release, KEYS).directory.joinpath(TINY).open("rb") as file:
        content = bytearray(file.read())
    checkpoint = open_release(release, KEYS).manifest.checkpoint("tiny_2026.10")
    place = next(file.offset for file in checkpoint.files if file.path == "one.bin")
    content[place] ^= 1
    (site / TINY).write_bytes(content)
    assert verify(site, only=TINY, quick=True)
    assert not verify(site, only=TINY)
    content[place - 512] ^= 1
    (site / TINY).write_bytes(content)
    assert not verify(site, only=TINY, quick=True)


@pytest.mark.parametrize("name", ["tiny_2026.10", TINY])
def test_one_file_of_an_archive(release: Path, site: Path, name: str) -> None:
    content = bytearray((release / TINY).read_bytes())
    checkpoint = open_release(release, KEYS).manifest.checkpoint("tiny_2026.10")
    place = next(file.offset for file in checkpoint.files if file.path == "one.bin")
    content[place] ^= 1
    (site / TINY).write_bytes(content)
    report = verify(site, only=f"{name}/vocab.txt")
    assert report
    assert report.notes[0] == f"only {TINY}/vocab.txt was checked"
    assert [item.size for item in report.checked] == [len(FILES["vocab.txt"])]
    assert not verify(site, only=f"{name}/one.bin")
    for wrong in ("other", f"{name}/none", "tiny_2026.10/"):
        with pytest.raises(MalformedError):
            verify(site, only=wrong)


def test_one_file_of_the_bundle(release: Path, plain: Path, site: Path) -> None:
    report = verify(site, plain, only=f"{BUNDLE}/README.md")
    assert report
    [volume, *_] = volumes_of(plain, BUNDLE)
    content = volume.read_bytes()
    place = content.index(b"A release for tests")
    volume.write_bytes(content[:place] + b"X" + content[place + 1 :])
    [line] = lines(verify(site, plain, only=f"{BUNDLE}/README.md"))
    assert f"README.md, at offset {place - 27}" in line or "README.md, at offset" in line
    assert volume.name in line


def test_a_selection_of_something_else_is_refused(release: Path, site: Path) -> None:
    with pytest.raises(MalformedError, match="expected a part of"):
        verify_path(release / TINY, KEYS, now=NOW, only=SHARDED)
    [line] = lines(verify(site, only=SHARDED))
    assert "expected a file of" in line


def pipe(content: bytes, *options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, "verify", "-", "--json", *map(str, options)],
        input=content,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "release.pub"
    path.write_bytes(KEY.public.pem)
    return path


@pytest.mark.parametrize("name", [TINY, BUNDLE])
def test_from_a_pipe(release: Path, site: Path, key_file: Path, name: str) -> None:
    content = (release / name).read_bytes()
    options = ("--release", site, "--only", name, "--key", key_file)
    done = pipe(content, *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checked"] == [{"name": name, "size": len(content)}]
    for wrong in (
        content[:-1],
        content + b"x",
        b"",
        content[:700] + bytes([content[700] ^ 1]) + content[701:],
        content[:-512] + b"x" + content[-511:],
    ):
        done = pipe(wrong, *options)
        assert done.returncode == ContentError.exit_status
        assert json.loads(done.stdout)["faults"]
    assert pipe(content, "--release", site, "--key", key_file).returncode == 2
    assert pipe(content, *options, "--quick").returncode == 2
    assert pipe(content, *options[:4]).returncode == UntrustedError.exit_status


def test_inspect_shows_volumes_and_what_is_wrong_with_them(media: Path, site: Path) -> None:
    volumes_of(media, TINY)[-1].unlink()
    description = describe_path(site, elsewhere=[media])
    rows = {row[0]: row[-1] for row in description.sections()[1].rows}
    count = len(volumes_of(media, TINY))
    assert rows[TINY] == f"{count} volumes, 1 missing or wrong"
    told = description.to_dict()["volumes"]
    assert isinstance(told, dict)
    assert len(told[TINY]["files"]) == count
    assert describe_path(volumes_of(media, TINY)[0], release_dir=site).archive == TINY


def send(site: Path, media: Path) -> MemoryStore:
    trusted = open_release(site, KEYS, elsewhere=[media])
    checkpoint = trusted.manifest.checkpoint("tiny_2026.10")
    place = S3Prefix("bucket", "llm/tiny")
    steps = tuple(
        Step(kind=Kind.CHECKPOINT_FILE, name=place.key(file.path), state=State.TO_DO)
        for file in checkpoint.files
    )
    store = MemoryStore()
    upload = Upload(
        store=store,
        place=trusted.require_place,
        checks_content=True,
        stop=threading.Event(),
        emit=ignore,
    )
    plan = Plan(release="demo", manifest=checkpoint.digest, steps=steps)
    upload.send(plan, [(checkpoint, place)])
    return store


def test_upload_reads_volumes_where_they_lie(site: Path, media: Path) -> None:
    before = sorted(media.iterdir())
    store = send(site, media)
    for path, content in FILES.items():
        key = f"llm/tiny/{path}"
        assert b"".join(store.read(key, 0, len(content))) == content
    assert sorted(media.iterdir()) == before


def test_upload_of_a_set_that_is_not_whole_sends_nothing(site: Path, media: Path) -> None:
    volumes_of(media, TINY)[1].unlink()
    with pytest.raises(ContentError, match="002-of"):
        send(site, media)


def test_a_bundle_in_volumes_is_read_as_the_bundle(release: Path, plain: Path, site: Path) -> None:
    bundle = open_release(site, KEYS).manifest.bundle
    with open_bundle_files(site, bundle, [plain]) as files:
        files.check_structure()
        readme = bundle.file("README.md")
        assert b"release for tests" in files.read(readme, limit=1000)
