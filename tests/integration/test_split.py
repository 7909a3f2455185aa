"""Cutting releases into volumes: whole or not at all, proven, resumed; stock tools join them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.archive.files import RandomReader
from bundler.archive.zstd_cutting import cut_compressed, require_fit_compressed
from bundler.errors import ConflictError, ContentError, MalformedError, UntrustedError, WorldError
from bundler.events import Event, Noted, ignore
from bundler.release import open_release
from bundler.sign import sign_release
from bundler.signing.keys import new_key_pair, read_private_key
from bundler.sizes import size_text
from bundler.split import MEDIA, split_release
from bundler.trust import NOBODY, Trust
from bundler.verify import verify_path
from tests.conftest import missing
from tests.small_release import make_checkpoint, make_release, noise
from tests.volume_sets import (
    BUNDLE,
    COMPRESSED_BYTES,
    FILES,
    KEY,
    KEYS,
    NOW,
    SHARDED,
    TINY,
    VOLUME_BYTES,
    cut,
    make_signed,
    small_files,
    volumes_of,
)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_signed(tmp_path / "release")


def digests(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def damage(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_what_is_to_be_written_and_what_is_free_is_told_first(
    release: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    out = tmp_path / "out"
    cuts = split_release(release, volume_bytes=VOLUME_BYTES, out=out, emit=events.append)
    size = size_text(sum(item.stored for item in cuts if item.volumes))
    assert isinstance(events[0], Noted)
    assert events[0].text.startswith(f"{out}: {size} to write, ")
    assert " free" in events[0].text
    events.clear()
    split_release(release, volume_bytes=VOLUME_BYTES, out=out, emit=events.append)
    assert not [event for event in events if isinstance(event, Noted)]


@pytest.mark.parametrize("compress", [False, True])
def test_volumes_fit_and_are_as_signed(release: Path, tmp_path: Path, compress: bool) -> None:
    before = digests(release)
    out = cut(release, tmp_path / "out", compress=compress)
    assert digests(release) == before
    limit = COMPRESSED_BYTES if compress else VOLUME_BYTES
    assert all(path.stat().st_size <= limit for path in out.iterdir())
    assert len(volumes_of(out, TINY)) > 2
    small_files(release, out)
    large = [TINY] if compress else [BUNDLE, TINY]
    for name in {BUNDLE, SHARDED} - set(large):
        (release / name).rename(out / name)
    assert verify_path(out, KEYS, now=NOW, strict=True, require_all=True)
    hint = json.loads((out / "VOLUMES.json").read_text())
    assert [item["archive"] for item in hint["archives"]] == large
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("compress", [False, True])
def test_by_hand_with_stock_tools(
    release: Path, tmp_path: Path, compress: bool, need: Callable[[str], str]
) -> None:
    for tool in ("bash", "cat", "zstd", "tar", "sha256sum"):
        need(tool)
    out = cut(release, tmp_path / "out", compress=compress)
    join = f"cat {TINY}.*.zst | zstd -dc" if compress else f"cat {TINY}.*-of-*"
    script = f"{join} | sha256sum; {join} | tar -x --strip-components=1 -C {tmp_path / 'x'}"
    (tmp_path / "x").mkdir()
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=out,
        capture_output=True,
        text=True,
        check=True,
    )
    signed = open_release(release, KEYS).manifest.checkpoint(TINY.removesuffix(".tar"))
    assert done.stdout.split()[0] == signed.digest.hex
    for path, content in FILES.items():
        assert (tmp_path / "x" / path).read_bytes() == content


def test_a_release_can_be_cut_before_it_is_signed(release: Path, tmp_path: Path) -> None:
    for path in release.glob("*.sig"):
        path.unlink()
    split_release(release, volume_bytes=VOLUME_BYTES, remove_original=True)
    assert not (release / TINY).exists()
    sign_release(release, KEY)
    assert verify_path(release, KEYS, now=NOW, strict=True, require_all=True)


def test_with_a_key_only_a_signed_release_is_cut(release: Path, tmp_path: Path) -> None:
    other = read_private_key(new_key_pair(None)[0], None, name="another")
    trust = Trust.of_keys([other.public])
    with pytest.raises(UntrustedError):
        split_release(release, volume_bytes=VOLUME_BYTES, out=tmp_path, trust=trust)


def test_what_fits_is_left_as_it_is(release: Path) -> None:
    before = digests(release)
    cuts = split_release(release, volume_bytes=MEDIA["dvd"], remove_original=True)
    assert [item.volumes for item in cuts] == [(), (), ()]
    assert digests(release) == before


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("offset", [3, 1030, 40_000, -1])
def test_a_damaged_archive_is_never_cut(
    release: Path, tmp_path: Path, compress: bool, offset: int
) -> None:
    damage(release / TINY, offset)
    with pytest.raises(ContentError, match=TINY):
        cut(release, tmp_path / "out", compress=compress)
    assert not volumes_of(tmp_path / "out", TINY)


@pytest.mark.parametrize("compress", [False, True])
def test_a_second_run_finds_all_done(release: Path, tmp_path: Path, compress: bool) -> None:
    out = cut(release, tmp_path / "out", compress=compress)
    before = {path: path.stat().st_ino for path in out.iterdir() if path.suffix != ".json"}
    cut(release, out, compress=compress)
    assert {p: p.stat().st_ino for p in out.iterdir() if p.suffix != ".json"} == before


def test_volumes_of_another_split_are_never_mixed_with_ours(release: Path, tmp_path: Path) -> None:
    out = cut(release, tmp_path / "out")
    before = digests(out)
    for limit, compress in ((4096, False), (COMPRESSED_BYTES, True)):
        with pytest.raises(ConflictError, match="another split"):
            split_release(release, volume_bytes=limit, out=out, compress=compress)
    volumes_of(out, TINY)[1].unlink()
    with pytest.raises(ConflictError, match="not all of one"):
        cut(release, out)
    assert digests(out).items() <= before.items()


@pytest.mark.parametrize("compress", [False, True])
def test_an_earlier_runs_volumes_are_kept_only_where_they_are_right(
    release: Path, tmp_path: Path, compress: bool
) -> None:
    out = cut(release, tmp_path / "out", compress=compress)
    whole = digests(out)
    work = out / f".{TINY}.split"
    work.mkdir()
    paths = volumes_of(out, TINY)
    kept, damaged, *others = paths
    inode = kept.stat().st_ino  # killed while it named them: one is named, and one is not
    damage(damaged, 4000)
    damaged.rename(work / "002")
    others[0].unlink()
    (work / ".003.abc.partial").write_bytes(b"killed while it wrote")
    (work / "050").write_bytes(b"of another split")
    cut(release, out, compress=compress)
    assert digests(out) == whole
    assert kept.stat().st_ino == inode
    assert not work.exists()


@pytest.mark.parametrize("compress", [False, True])
def test_the_original_goes_only_when_its_volumes_are_proven(
    release: Path, tmp_path: Path, compress: bool
) -> None:
    out = cut(release, tmp_path / "out", compress=compress)
    limit = COMPRESSED_BYTES if compress else VOLUME_BYTES
    damage(volumes_of(out, TINY)[1], 500)

    def remove(emit: Callable[[Event], None] = lambda _: None) -> None:
        split_release(
            release,
            volume_bytes=limit,
            out=out,
            compress=compress,
            remove_original=True,
            emit=emit,
        )

    with pytest.raises(ContentError, match="002-of"):
        remove()
    assert (release / TINY).exists()
    for path in volumes_of(out, TINY):
        path.unlink()
    told: list[Event] = []
    remove(told.append)
    assert not (release / TINY).exists()
    assert any(isinstance(event, Noted) and TINY in event.text for event in told)
    assert verify_path(release, KEYS, now=NOW, elsewhere=[out], require_all=True)
    remove()  # and once more, with nothing left to remove


def test_all_archives_are_judged_before_the_first_byte_is_written(release: Path) -> None:
    # The bundle, which comes first, could be cut so, and an archive behind it could not.
    bundle, checkpoint = ((release / name).stat().st_size for name in (BUNDLE, TINY))
    limit = checkpoint // 1000
    assert bundle // limit < 900
    with pytest.raises(MalformedError, match=f"{TINY}: expected at most 999 volumes"):
        split_release(release, volume_bytes=limit)
    assert not [*release.glob(".*"), *release.glob("*-of-*")]
    (release / TINY).write_bytes((release / TINY).read_bytes()[:-1])
    before = digests(release)
    with pytest.raises(ContentError, match=f"{TINY}: expected {checkpoint} bytes"):
        split_release(release, volume_bytes=VOLUME_BYTES)
    assert digests(release) == before
    assert not list(release.glob(".*"))


def test_compressed_volumes_are_refused_where_one_might_be_too_small(release: Path) -> None:
    before = digests(release)
    with pytest.raises(MalformedError, match="expected volumes of at least 50"):
        split_release(release, volume_bytes=50_000, compress=True)
    assert digests(release) == before
    assert not list(release.glob(".*"))


def test_compressed_volumes_are_refused_where_there_might_be_too_many(tmp_path: Path) -> None:
    files = {f"{number}.bin": noise(900, number) for number in range(1100)}
    checkpoint = make_checkpoint(tmp_path, tmp_path / "files", "many", "many", files)
    with pytest.raises(MalformedError, match=r"expected at most 999 volumes, got 1\d\d\d"):
        require_fit_compressed(checkpoint, 2000)
    require_fit_compressed(checkpoint, 20_000)


@pytest.mark.parametrize("compress", [False, True])
def test_a_run_that_fails_leaves_nothing_of_its_own(release: Path, compress: bool) -> None:
    damage(release / TINY, -1)
    before = digests(release)
    limit = COMPRESSED_BYTES if compress else VOLUME_BYTES
    with pytest.raises(ContentError, match=TINY):
        split_release(release, volume_bytes=limit, compress=compress)
    assert not list(release.glob(".*"))
    assert not volumes_of(release, TINY)
    (release / f".{TINY}.split").mkdir()
    (release / f".{TINY}.split" / "001").write_bytes(b"of a run that was stopped")
    with pytest.raises(ContentError, match=TINY):
        split_release(release, volume_bytes=limit, compress=compress)
    assert list((release / f".{TINY}.split").iterdir())  # what we did not make is not ours to lose
    split_release(release, volume_bytes=MEDIA["dvd"])
    assert not list(release.glob(".*"))
    assert digests(release).items() >= before.items()


def test_a_place_for_volumes_is_made(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "not" / "there"
    split_release(release, volume_bytes=VOLUME_BYTES, out=out)
    assert volumes_of(out, TINY)
    command = [sys.executable, "-m", "bundler", "split", release, "--media", "dvd", "-o"]
    subprocess.run([*map(str, command), str(tmp_path / "new")], check=True)
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize(
    ("trust", "told"), [(KEYS, "as signed"), (NOBODY, "as MANIFEST.json says")]
)
def test_what_a_removed_original_was_compared_with_is_told(
    release: Path, trust: Trust, told: str
) -> None:
    events: list[Event] = []
    split_release(
        release, volume_bytes=VOLUME_BYTES, remove_original=True, trust=trust, emit=events.append
    )
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert f"{TINY}: removed; its volumes were read again and are {told}" in notes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        missing("root, to mount a small file system")
    point = tmp_path / "small-disk"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", point], check=True)
    yield point
    subprocess.run(["umount", "--lazy", point], check=True)


def test_too_little_room_is_an_error_at_the_start(release: Path, small_disk: Path) -> None:
    with pytest.raises(WorldError, match="still to come") as caught:
        cut(release, small_disk)
    assert caught.value.hint
    assert "-o DIR" in caught.value.hint
    assert not list(small_disk.iterdir())


@pytest.fixture
def exfat(
    tmp_path: Path, need: Callable[[str], str], request: pytest.FixtureRequest
) -> Callable[[str], Path]:
    """Mount an exFAT file system, by FUSE since few kernels of test machines know it."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        missing("root and FUSE, to mount an exFAT file system")
    image, point = tmp_path / "disk.img", tmp_path / "disk"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run([need("mkfs.exfat"), image], check=True, capture_output=True)

    def mount(options: str) -> Path:
        if point.is_mount():
            subprocess.run(["umount", point], check=True)
        need("mount.exfat-fuse")
        command = ["mount", "-t", "exfat-fuse", "-o", f"loop,{options}", str(image), str(point)]
        subprocess.run(command, check=True, capture_output=True)
        request.addfinalizer(lambda: subprocess.run(["umount", "-ql", point], check=False))
        return point

    return mount


@pytest.mark.parametrize("compress", [False, True])
def test_onto_exfat_and_read_from_there_read_only(
    release: Path, tmp_path: Path, exfat: Callable[[str], Path], compress: bool
) -> None:
    cut(release, exfat("rw"), compress=compress)
    site = small_files(release, tmp_path / "site")
    if compress:
        (release / BUNDLE).rename(site / BUNDLE)
    assert verify_path(site, KEYS, now=NOW, elsewhere=[exfat("ro")])


@pytest.mark.parametrize("compress", [False, True])
def test_killed_at_any_moment_and_run_again(tmp_path: Path, compress: bool) -> None:
    release = make_signed(tmp_path / "release")
    whole = digests(cut(release, tmp_path / "whole", compress=compress))
    expected = {Path(path).name: digest for path, digest in whole.items()}
    out = tmp_path / "out"
    out.mkdir()
    script = (
        "import sys, os\nfrom pathlib import Path\nfrom tests.volume_sets import cut\n"
        "count = [0]\nlimit = int(sys.argv[3])\n"
        "def hook(event, args):\n"
        "    if event in {'open', 'os.rename', 'os.remove', 'os.mkdir', 'os.rmdir'}:\n"
        "        count[0] += str(sys.argv[2]) in str(args)\n"
        "        if count[0] == limit: os.kill(os.getpid(), 9)\n"
        "sys.addaudithook(hook)\n"
        "cut(Path(sys.argv[1]), Path(sys.argv[2]), compress=bool(int(sys.argv[4])))\n"
    )
    killed = 0
    for limit in (2, 5, 9, 14, 20, 27, 35, 44, 54, 65, 77):
        command = [sys.executable, "-c", script, release, out, str(limit), str(int(compress))]
        status = subprocess.run(list(map(str, command)), check=False).returncode
        assert status in {0, -signal.SIGKILL}
        killed += status != 0
        for path, got in digests(out).items():  # under a final name all is whole
            name = Path(path).name
            assert got == expected.get(name, got)
        if status == 0:
            break
    assert killed >= 4
    cut(release, out, compress=compress)
    assert {Path(path).name: digest for path, digest in digests(out).items()} == expected
    assert not list(out.glob(".*"))


def test_two_at_once_do_not_meddle_with_each_other(tmp_path: Path) -> None:
    release = make_signed(tmp_path / "release")
    out = tmp_path / "out"
    work = out / f".{BUNDLE}.split"
    work.mkdir(parents=True)
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom bundler.fetch.locks import alone\n"
        "with alone(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, work], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(WorldError, match="another bundle split is at work there"):
            cut(release, out)
        assert time.monotonic() - began < 10
        holder.kill()
    cut(release, out)
    assert volumes_of(out, BUNDLE)


def test_compressed_volumes_of_the_bundle(tmp_path: Path) -> None:
    # By hand: nobody splits a bundle that a volume holds, and another is too large for a test.
    release = tmp_path / "release"
    manifest = make_release(release)
    sign_release(release, KEY)
    out = tmp_path / "out"
    out.mkdir()
    with RandomReader(release / BUNDLE) as source:
        [path] = cut_compressed(source, manifest.bundle, out, volume_bytes=15_000, emit=ignore)
    path.rename(out / f"{BUNDLE}.001-of-001.zst")
    (release / BUNDLE).unlink()
    assert verify_path(release, KEYS, now=NOW, elsewhere=[out])
