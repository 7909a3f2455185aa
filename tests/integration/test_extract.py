"""Unpacking what is signed, and nothing else: resumed, never half a file under a name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.errors import (
    BundleError,
    ContentError,
    MalformedError,
    NotFoundError,
    StaleError,
    UntrustedError,
    WorldError,
)
from bundler.events import Advanced, Event, Finished, Noted, Started
from bundler.extract import Extracted, extract
from bundler.release import open_release
from bundler.signing.keys import new_key_pair, read_private_key
from bundler.trust import NOBODY, Trust
from bundler.verify import verify_path
from tests.conftest import missing
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


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_signed(tmp_path_factory.mktemp("made") / "release")


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "pvc" / "model"


def unpack(path: Path, destination: Path, *elsewhere: Path, only: str | None = None) -> Extracted:
    return extract(path, destination, KEYS, now=NOW, only=only, elsewhere=elsewhere)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_checkpoint_from_its_archive(release: Path, destination: Path) -> None:
    done = unpack(release / TINY, destination)
    assert contents(destination) == FILES
    size = sum(map(len, FILES.values()))
    assert (done.files, done.size, done.written) == (len(FILES), size, size)
    assert verify_path(destination, KEYS, now=NOW, release_dir=release)


def test_a_checkpoint_of_a_release(release: Path, destination: Path) -> None:
    assert unpack(release, destination, only="tiny_2026.10").archive == TINY
    assert contents(destination) == FILES


@pytest.mark.parametrize("compress", [False, True])
def test_from_volumes(release: Path, tmp_path: Path, destination: Path, compress: bool) -> None:
    media = cut(release, tmp_path / "media", compress=compress)
    site = small_files(release, tmp_path / "site")
    unpack(site, destination, media, only=TINY)
    assert contents(destination) == FILES
    other = tmp_path / "other"
    extract(volumes_of(media, TINY)[1], other, KEYS, now=NOW, release_dir=site)
    assert contents(other) == FILES


def test_the_bundle_as_tar_would(release: Path, tmp_path: Path, need: Callable[[str], str]) -> None:
    subprocess.run([need("tar"), "-xf", release / BUNDLE, "-C", tmp_path], check=True)
    [expected] = tmp_path.iterdir()
    done = unpack(release, tmp_path / "x" / expected.name, only=BUNDLE)
    ours = tmp_path / "x" / expected.name
    assert contents(ours) == contents(expected)
    for path in expected.rglob("*"):
        assert (ours / path.relative_to(expected)).stat().st_mode == path.stat().st_mode
    assert done.written == done.size
    assert verify_path(ours, KEYS, now=NOW, release_dir=release)
    assert unpack(release, ours, only=BUNDLE).written == 0


def test_what_is_right_is_kept_and_what_is_wrong_is_written_again(
    release: Path, destination: Path
) -> None:
    unpack(release / TINY, destination)
    inode = (destination / "two/x.bin").stat().st_ino
    (destination / "one.bin").write_bytes(b"x" * 30_000)
    (destination / "vocab.txt").unlink()
    done = unpack(release / TINY, destination)
    assert done.written == 30_000 + len(FILES["vocab.txt"])
    assert contents(destination) == FILES
    assert (destination / "two/x.bin").stat().st_ino == inode


def test_a_bundles_file_of_another_mode_or_content_is_written_again(
    release: Path, destination: Path
) -> None:
    unpack(release, destination, only=BUNDLE)
    script = destination / "scripts/upload_images.sh"
    script.chmod(0o644)
    (destination / "README.md").write_bytes(b"other")
    unpack(release, destination, only=BUNDLE)
    assert script.stat().st_mode & 0o777 == 0o755
    assert verify_path(destination, KEYS, now=NOW, release_dir=release)


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_that_is_wrong_never_appears_and_its_volume_is_named(
    release: Path, tmp_path: Path, destination: Path, compress: bool
) -> None:
    media = cut(release, tmp_path / "media", compress=compress)
    site = small_files(release, tmp_path / "site")
    volume = volumes_of(media, TINY)[0]
    content = bytearray(volume.read_bytes())
    content[6000] ^= 1
    volume.write_bytes(content)
    with pytest.raises(ContentError) as caught:
        unpack(site, destination, media, only=TINY)
    assert "one.bin, part 1, from offset" in str(caught.value)
    assert f"in {volume.name}" in str(caught.value)
    assert contents(destination) == {k: v for k, v in FILES.items() if k != "one.bin"}
    content[6000] ^= 1
    volume.write_bytes(content)
    assert unpack(site, destination, media, only=TINY).written == 30_000


def test_a_damaged_bundle_gives_no_damaged_file(
    release: Path, tmp_path: Path, destination: Path
) -> None:
    site = small_files(release, tmp_path / "site")
    content = bytearray((release / BUNDLE).read_bytes())
    content[content.index(b"A release for tests")] ^= 1
    (site / BUNDLE).write_bytes(content)
    with pytest.raises(ContentError, match=r"README\.md"):
        unpack(site, destination, only=BUNDLE)
    assert not (destination / "README.md").exists()


def test_what_is_not_signed_is_not_unpacked(
    release: Path, tmp_path: Path, destination: Path
) -> None:
    other = read_private_key(new_key_pair(None)[0], None, name="another")
    for trust in (NOBODY, Trust.of_keys([other.public])):
        with pytest.raises(UntrustedError):
            extract(release / TINY, destination, trust, now=NOW)
    with pytest.raises(StaleError):
        extract(release / TINY, destination, KEYS, now="2199-01-01T00:00:00Z")
    foreign = tmp_path / "foreign.tar"
    foreign.write_bytes(b"")
    with pytest.raises(ContentError, match="expected an archive of this release"):
        extract(foreign, destination, KEYS, now=NOW, release_dir=release)
    with pytest.raises(MalformedError, match="the name of one archive"):
        unpack(release, destination)
    site = small_files(release, tmp_path / "site")
    with pytest.raises(NotFoundError, match=SHARDED):
        unpack(site, destination, only=SHARDED)
    assert not destination.exists() or not list(destination.iterdir())


def link_directory(destination: Path, outside: Path) -> None:
    (destination / "three").symlink_to(outside)


def link_file(destination: Path, outside: Path) -> None:
    (destination / "one.bin").symlink_to(outside / "victim")


def link_partial(destination: Path, outside: Path) -> None:
    (destination / ".one.bin.partial").symlink_to(outside / "victim")


@pytest.mark.parametrize("plant", [link_directory, link_file, link_partial])
def test_links_in_the_destination_are_not_followed(
    release: Path, tmp_path: Path, destination: Path, plant: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"as it was")
    destination.mkdir(parents=True)
    plant(destination, outside)
    with pytest.raises(BundleError):
        unpack(release / TINY, destination)
    assert contents(outside) == {"victim": b"as it was"}


@pytest.mark.parametrize("moment", ["open", "os.mkdir", "os.rename"])
def test_a_directory_that_is_swapped_meanwhile_redirects_nothing(
    release: Path, tmp_path: Path, destination: Path, moment: str
) -> None:
    """Before every step into the destination, somebody puts a link in place of a directory."""
    outside, aside = tmp_path / "outside", tmp_path / "aside"
    outside.mkdir()
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom bundler.errors import BundleError\n"
        "from bundler.extract import extract\nfrom bundler.signing.keys import read_public_key\n"
        "from bundler.trust import Trust\n"
        "archive, place, outside, aside, key, now, moment = sys.argv[1:]\n"
        "key = read_public_key(Path(key).read_bytes(), name='key')\n"
        "busy = []\n"
        "def hook(event, args):\n"
        "    if event == moment and not busy and os.path.isdir(place + '/three'):\n"
        "        busy.append(1)\n"
        "        if not os.path.islink(place + '/three'):\n"
        "            os.rename(place + '/three', aside)\n"
        "            os.symlink(outside, place + '/three')\n"
        "        busy.clear()\n"
        "sys.addaudithook(hook)\n"
        "try:\n    extract(Path(archive), Path(place), Trust.of_keys([key]), now=now)\n"
        "except BundleError:\n    sys.exit(7)\n"
    )
    key = tmp_path / "release.pub"
    key.write_bytes(KEY.public.pem)
    arguments = [script, release / TINY, destination, outside, aside, key, NOW, moment]
    status = subprocess.run([sys.executable, "-c", *map(str, arguments)], check=False).returncode
    assert (destination / "three").is_symlink()
    assert status == 7
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["charts", "README.md", "charts/inference"])
def test_links_are_not_followed_for_a_bundle_either(
    release: Path, tmp_path: Path, destination: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (destination / name).parent.mkdir(parents=True)
    (destination / name).symlink_to(outside)
    with pytest.raises(MalformedError, match="symbolic link"):
        unpack(release, destination, only=BUNDLE)
    assert not list(outside.iterdir())


def test_what_may_not_be_looked_at_there_costs_no_more_than_a_note(
    release: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination.mkdir(parents=True)
    (destination / "lost+found").mkdir()
    monkeypatch.setattr("bundler.archive.extracted_tree._MAX_ENTRIES", 1)
    told: list[Event] = []
    extract(release / TINY, destination, KEYS, now=NOW, emit=told.append)
    assert contents(destination) == FILES
    notes = [event.text for event in told if isinstance(event, Noted)]
    assert sum("not searched for what else lies there" in text for text in notes) == 1


def test_others_files_are_left_alone_and_named(release: Path, destination: Path) -> None:
    destination.mkdir(parents=True)
    (destination / "mine.txt").write_bytes(b"mine")
    told: list[Event] = []
    extract(release / TINY, destination, KEYS, now=NOW, emit=told.append)
    assert (destination / "mine.txt").read_bytes() == b"mine"
    assert any(isinstance(event, Noted) and "mine.txt" in event.text for event in told)


def test_small_files_are_told_as_one_and_every_image_by_name(
    release: Path, destination: Path
) -> None:
    told: list[Event] = []
    extract(release, destination, KEYS, now=NOW, only=BUNDLE, emit=told.append)
    bundle = open_release(release, KEYS).manifest.bundle
    images = [file.path for file in bundle.files if file.path.endswith(".tar")]
    small = [file for file in bundle.files if file.path not in images]
    begun = {event.item: event.total for event in told if isinstance(event, Started)}
    assert images
    assert len(small) > 1
    summed = f"{len(small)} small files"
    assert begun.keys() == {*images, summed}
    assert begun[summed] == sum(file.size for file in small)
    done = [event.item for event in told if isinstance(event, Finished)]
    assert sorted(done) == sorted(begun)
    steps = Counter[str]()
    for event in told:
        if isinstance(event, Advanced):
            steps[event.item] += event.step
    assert steps == begun
    (destination / small[0].path).unlink()
    told.clear()
    extract(release, destination, KEYS, now=NOW, only=BUNDLE, emit=told.append)
    assert Finished(small[0].path) in told


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        missing("root, to mount a small file system")
    point = tmp_path / "small-disk"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", point], check=True)
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)


def test_too_little_room_is_an_error_before_anything_is_written(
    release: Path, small_disk: Path
) -> None:
    with pytest.raises(WorldError, match="still to come") as caught:
        unpack(release, small_disk, only=TINY)
    assert "nothing was written" in (caught.value.hint or "")
    assert not contents(small_disk)


def test_killed_at_any_moment_and_run_again(release: Path, tmp_path: Path) -> None:
    script = (
        "import sys, os\nfrom pathlib import Path\nfrom bundler.extract import extract\n"
        "from bundler.signing.keys import read_public_key\nfrom bundler.trust import Trust\n"
        "count, limit = [0], int(sys.argv[4])\n"
        "def hook(event, args):\n"
        "    if event in {'open', 'os.rename', 'os.truncate', 'os.mkdir'}:\n"
        "        count[0] += bool(count[0]) or sys.argv[2] in str(args)\n"
        "        if count[0] == limit: os.kill(os.getpid(), 9)\n"
        "key = read_public_key(Path(sys.argv[3]).read_bytes(), name='key')\n"
        "trust = Trust.of_keys([key])\n"
        "sys.addaudithook(hook)\n"
        "extract(Path(sys.argv[1]), Path(sys.argv[2]), trust, now=sys.argv[5])\n"
    )
    key, destination = tmp_path / "release.pub", tmp_path / "x"
    key.write_bytes(KEY.public.pem)
    killed = 0
    for limit in (1, 5, 20, 40, 60, 80, 100, 120, 140, 160):
        arguments = [script, release / TINY, destination, key, str(limit), NOW]
        command = [sys.executable, "-c", *map(str, arguments)]
        status = subprocess.run(command, check=False).returncode
        assert status in {0, -signal.SIGKILL}
        killed += status != 0
        for path, content in contents(destination).items() if destination.exists() else ():
            assert path.endswith(".partial") or content == FILES[path]
    assert killed >= 4
    unpack(release / TINY, destination)
    assert contents(destination) == FILES


def test_for_machines(release: Path, tmp_path: Path, destination: Path) -> None:
    key = tmp_path / "release.pub"
    key.write_bytes(KEY.public.pem)
    arguments = ["extract", release / TINY, destination, "--key", key, "--json"]
    command = [sys.executable, "-m", "bundler", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["archive"] == TINY
    assert told["writtenBytes"] == told["bytes"] == sum(map(len, FILES.values()))
    checkpoint = open_release(release, KEYS).manifest.checkpoint("tiny_2026.10")
    assert told["files"] == len(checkpoint.files)
