"""A cache that the pods of one node share: fetched once, proven each time, never in the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bundler.errors import BundleError, ContentError, MalformedError, WorldError
from bundler.events import Advanced, Event, Noted
from bundler.fetch import Fetched, fetch_checkpoint
from bundler.fetch.cache import Way, others_hint
from bundler.parts import SMALLEST_PART
from bundler.reference import S3Prefix
from tests.conftest import missing
from tests.integration.fetching import (
    CHECKPOINT,
    FILES,
    LARGE,
    LARGE_BYTES,
    LARGE_FILES,
    WEIGHTS,
    Published,
    Recording,
    Stuck,
    first_part_is_in,
    held,
    refused,
    upload,
    wait_for,
    weight_bytes_asked,
)
from tests.integration.s3_proxy import Proxy
from tests.memory_store import MemoryStore

SOURCE = S3Prefix("models", "checkpoints/tiny/0123456789abcdef")
SIZE = sum(map(len, FILES.values()))
ENTRY = CHECKPOINT.identity.hex


@pytest.fixture
def store() -> MemoryStore:
    """Give a store that holds the checkpoint, and that tests may damage."""
    filled = MemoryStore()
    upload(filled, SOURCE)
    return filled


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Give a directory where tests may mount; everything in it is unmounted in the end."""
    if os.geteuid() != 0:
        missing("root, to mount file systems,")
    yield tmp_path
    for place in sorted(tmp_path.iterdir()):
        if place.is_mount():
            subprocess.run(["umount", "--lazy", place], check=True)


def mount(place: Path, *options: str | Path) -> Path:
    place.mkdir()
    subprocess.run(["mount", *options, place], check=True)
    return place


def fetch(
    store: MemoryStore | Recording,
    destination: Path,
    cache: Path,
    events: list[Event] | None = None,
) -> Fetched:
    return fetch_checkpoint(
        store,
        SOURCE,
        destination,
        checkpoint=CHECKPOINT,
        cache=cache,
        emit=(events if events is not None else []).append,
    )


def test_the_second_pod_takes_everything_from_the_cache(store: MemoryStore, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = fetch(store, tmp_path / "a", cache)
    events: list[Event] = []
    again = Recording(store)
    second = fetch(again, tmp_path / "b", cache, events)
    assert held(tmp_path / "a") == held(tmp_path / "b") == held(cache / ENTRY) == FILES
    assert again.read_bytes == 0
    assert first == Fetched(4, SIZE, kept=0, received=SIZE, way="link")
    assert second == Fetched(4, SIZE, kept=0, cached=SIZE, way="link")
    assert sum(event.step for event in events if isinstance(event, Advanced)) == SIZE  # compared
    told = [event.text for event in events if isinstance(event, Noted)]
    assert told == [f"{file.path}: comes from the cache {cache}" for file in CHECKPOINT.files]


def test_an_entry_that_somebody_removes_meanwhile_is_not_blamed_on_the_values(
    store: MemoryStore, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    events: list[Event] = []

    def remove(event: Event) -> None:
        events.append(event)
        if isinstance(event, Advanced):
            shutil.rmtree(cache, ignore_errors=True)

    with pytest.raises(BundleError) as caught:
        fetch_checkpoint(
            store, SOURCE, tmp_path / "a", checkpoint=CHECKPOINT, cache=cache, emit=remove
        )
    assert any(isinstance(event, Advanced) for event in events)
    assert "models.KEY" not in refused(caught.value)


def test_what_another_pod_does_in_its_own_entry_is_no_trouble(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    (cache / "other").mkdir(parents=True)
    (cache / "other" / ".config.json.partial").write_bytes(b"x")
    really = Path.lstat

    def vanished(path: Path) -> os.stat_result:
        if path.name == ".config.json.partial":
            raise FileNotFoundError(path)
        return really(path)

    monkeypatch.setattr(Path, "lstat", vanished)
    assert f"{cache / 'other'} (0 B)" in others_hint(cache, cache / ENTRY)
    asked: list[Path] = []
    monkeypatch.setattr("bundler.fetch.filling.others_hint", lambda cache, _: asked.append(cache))
    fetch(store, tmp_path / "a", cache)
    assert not asked  # there is room


def test_files_are_plain_and_share_their_bytes_within_a_mount(
    store: MemoryStore, tmp_path: Path
) -> None:
    fetch(store, tmp_path / "a", tmp_path / "cache")
    for path in FILES:
        assert not (tmp_path / "a" / path).is_symlink()
        assert (tmp_path / "a" / path).samefile(tmp_path / "cache" / ENTRY / path)


def test_an_entry_may_be_removed_while_its_files_are_in_use(
    store: MemoryStore, tmp_path: Path
) -> None:
    fetch(store, tmp_path / "a", tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / ENTRY)
    assert held(tmp_path / "a") == FILES
    again = Recording(store)
    assert fetch(again, tmp_path / "a", tmp_path / "cache").kept == SIZE
    assert again.read_bytes == 0


def test_a_destination_that_is_right_needs_no_cache(store: MemoryStore, tmp_path: Path) -> None:
    fetch(store, tmp_path / "a", tmp_path / "cache")
    fetch(store, tmp_path / "a", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_the_cache_holds_is_proven_before_it_is_given(
    store: MemoryStore, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    fetch(store, tmp_path / "a", cache)
    shutil.copytree(cache / ENTRY, tmp_path / "copy")
    shutil.rmtree(cache / ENTRY)
    shutil.copytree(tmp_path / "copy", cache / ENTRY)
    with (cache / ENTRY / WEIGHTS).open("r+b") as file:
        file.seek(SMALLEST_PART + 2)
        file.write(b"\xff")
    again = Recording(store)
    fetched = fetch(again, tmp_path / "b", cache)
    assert held(tmp_path / "b") == held(cache / ENTRY) == FILES
    assert again.read_bytes == fetched.received == len(FILES[WEIGHTS]) - SMALLEST_PART


def test_repair_never_writes_into_what_another_pod_was_given(
    store: MemoryStore, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    fetch(store, tmp_path / "a", cache)
    with (cache / ENTRY / WEIGHTS).open("r+b") as file:
        file.write(b"\xff")
    before = (tmp_path / "a" / WEIGHTS).stat()
    fetch(store, tmp_path / "b", cache)
    assert held(tmp_path / "b") == FILES
    after = (tmp_path / "a" / WEIGHTS).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (tmp_path / "a" / WEIGHTS).samefile(tmp_path / "b" / WEIGHTS)


def test_wrong_bytes_in_the_bucket_get_no_final_name_anywhere(
    store: MemoryStore, tmp_path: Path
) -> None:
    store.replace(SOURCE.key("config.json"), FILES["config.json"].swapcase())
    with pytest.raises(ContentError, match=r"config\.json: part 1 of 1") as caught:
        fetch(store, tmp_path / "a", tmp_path / "cache")
    refused(caught.value)
    assert held(tmp_path / "a") == {}
    assert "config.json" not in held(tmp_path / "cache" / ENTRY)


def test_a_wrong_file_of_the_pod_is_replaced_from_the_cache(
    store: MemoryStore, tmp_path: Path
) -> None:
    fetch(store, tmp_path / "a", tmp_path / "cache")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / WEIGHTS).write_bytes(b"of another release")
    again = Recording(store)
    fetch(again, tmp_path / "b", tmp_path / "cache")
    assert held(tmp_path / "b") == FILES
    assert again.read_bytes == 0


def test_two_checkpoints_lie_side_by_side(store: MemoryStore, tmp_path: Path) -> None:
    fetch(store, tmp_path / "a", tmp_path / "cache")
    other = S3Prefix("models", "other")
    upload(store, other, LARGE_FILES, LARGE)
    fetch_checkpoint(store, other, tmp_path / "b", checkpoint=LARGE, cache=tmp_path / "cache")
    assert held(tmp_path / "a") == FILES
    assert held(tmp_path / "b") == LARGE_FILES
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {ENTRY, LARGE.identity.hex}


@pytest.mark.parametrize(("inner", "outer"), [("a/cache", "a"), ("cache", "cache/a"), ("a", "a")])
def test_cache_and_destination_in_each_other_are_refused(
    store: MemoryStore, tmp_path: Path, inner: str, outer: str
) -> None:
    with pytest.raises(MalformedError, match="one not in the other"):
        fetch(store, tmp_path / outer, tmp_path / inner)


def test_an_entry_that_is_a_link_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ENTRY).symlink_to(elsewhere)
    with pytest.raises(MalformedError, match="expected a directory, got a symbolic link"):
        fetch(store, tmp_path / "a", tmp_path / "cache")
    assert held(elsewhere) == {}


class TestFileSystems:
    """How files come to a pod where its volume is not the cache's."""

    def test_two_mounts_of_a_file_system_that_clones(
        self, store: MemoryStore, mounted: Path
    ) -> None:
        image = mounted / "image"
        image.touch()
        os.truncate(image, 400 << 20)
        if shutil.which("mkfs.xfs") is None:
            missing("mkfs.xfs")
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
        disk = mount(mounted / "x-disk", "-o", "loop", image)
        (disk / "hostPath").mkdir()
        (disk / "emptyDir").mkdir()
        cache = mount(mounted / "cache", "--bind", disk / "hostPath")
        volume = mount(mounted / "volume", "--bind", disk / "emptyDir")
        fetched = fetch(store, volume / "a", cache)
        self.check(fetched, "clone", volume / "a", cache)
        before = os.statvfs(disk).f_bavail
        fetch(store, volume / "b", cache)
        assert (before - os.statvfs(disk).f_bavail) * 4096 < len(FILES[WEIGHTS]) // 4

    def test_two_file_systems(self, store: MemoryStore, mounted: Path) -> None:
        volume = mount(mounted / "volume", "-t", "tmpfs", "-o", "size=300m", "none")
        fetched = fetch(store, volume / "a", mounted / "cache")
        self.check(fetched, "copy", volume / "a", mounted / "cache")

    @staticmethod
    def check(fetched: Fetched, way: Way, destination: Path, cache: Path) -> None:
        assert fetched == Fetched(4, SIZE, kept=0, received=SIZE, way=way)
        assert held(destination) == held(cache / ENTRY) == FILES
        assert not (destination / WEIGHTS).samefile(cache / ENTRY / WEIGHTS)

    def test_a_copy_that_was_cut_off_is_gone_on_with(
        self, store: MemoryStore, mounted: Path
    ) -> None:
        volume = mount(mounted / "volume", "-t", "tmpfs", "-o", "size=300m", "none")
        cache = mounted / "cache"
        fetch(store, mounted / "first", cache)
        (volume / "a").mkdir()
        partial = volume / "a" / f".{WEIGHTS}.partial"
        partial.write_bytes(FILES[WEIGHTS][:SMALLEST_PART])
        events: list[Event] = []
        fetch(store, volume / "a", cache, events)
        assert held(volume / "a") == FILES
        moved = [event for event in events if isinstance(event, Advanced)]
        copied = sum(it.step for it in moved if not it.item.startswith("what is in "))
        assert copied == SIZE - SMALLEST_PART

    def test_room_for_the_copy_is_looked_for_before_anything_is_fetched(
        self, store: MemoryStore, mounted: Path
    ) -> None:
        volume = mount(mounted / "volume", "-t", "tmpfs", "-o", "size=16m", "none")
        again = Recording(store)
        with pytest.raises(WorldError, match=rf"^{volume}/a: 64\.0 MiB still to come, 16\.0 MiB"):
            fetch(again, volume / "a", mounted / "cache")
        assert again.read_bytes == 0
        assert held(volume / "a") == {}

    def test_too_small_a_cache_names_what_else_it_holds(
        self, store: MemoryStore, mounted: Path
    ) -> None:
        cache = mount(mounted / "cache", "-t", "tmpfs", "-o", "size=90m", "none")
        fetch(store, mounted / "a", cache)
        upload(store, S3Prefix("models", "other"), LARGE_FILES, LARGE)
        with pytest.raises(WorldError, match=r"192\.0 MiB still to come, 2\d\.\d MiB") as caught:
            fetch_checkpoint(
                store, S3Prefix("models", "other"), mounted / "b", checkpoint=LARGE, cache=cache
            )
        assert f"{cache / ENTRY} (64.0 MiB)" in refused(caught.value)


class TestProcesses:
    """Two pods of one node, on one cache."""

    def test_two_at_once_bring_each_byte_once(
        self, published: Published, between: Proxy, tmp_path: Path
    ) -> None:
        stuck = Stuck()
        between.fault = stuck
        pods = self.start_two(published, between, tmp_path)
        stuck.let_go()
        told = [pod.communicate(timeout=60) for pod in pods]
        assert [pod.returncode for pod in pods] == [0, 0], told
        assert held(tmp_path / "a") == held(tmp_path / "b") == LARGE_FILES
        assert weight_bytes_asked(between.calls) == len(LARGE_FILES[WEIGHTS])
        received = sorted(json.loads(out)["receivedBytes"] for out, _ in told)
        assert received == [0, LARGE_BYTES]

    def test_where_one_is_killed_the_other_goes_on(
        self, published: Published, between: Proxy, tmp_path: Path
    ) -> None:
        stuck = Stuck()
        between.fault = stuck
        killed, other = self.start_two(published, between, tmp_path)
        killed.kill()
        killed.communicate()
        between.calls.clear()
        stuck.let_go()
        out, told = other.communicate(timeout=60)
        assert other.returncode == 0, told
        assert held(tmp_path / "b") == LARGE_FILES
        assert WEIGHTS not in held(tmp_path / "a")
        assert weight_bytes_asked(between.calls) == len(LARGE_FILES[WEIGHTS]) - SMALLEST_PART
        assert json.loads(out)["cachedBytes"] >= SMALLEST_PART

    def test_one_that_waits_outlives_the_removal_of_the_entry(
        self, published: Published, between: Proxy, tmp_path: Path
    ) -> None:
        stuck = Stuck()
        between.fault = stuck
        killed, other = self.start_two(published, between, tmp_path)
        shutil.rmtree(tmp_path / "cache" / LARGE.identity.hex)
        killed.kill()
        killed.communicate()
        stuck.let_go()
        _, told = other.communicate(timeout=60)
        assert other.returncode == 0, told
        assert held(tmp_path / "b") == held(tmp_path / "cache" / LARGE.identity.hex) == LARGE_FILES

    @staticmethod
    def start_two(
        published: Published, between: Proxy, tmp_path: Path
    ) -> Sequence[subprocess.Popen[str]]:
        """Start a pod, and when it has brought a part, another, which then waits for it."""
        cache = tmp_path / "cache"
        one = published.start(between.url, tmp_path / "a", "--cache", str(cache))
        partial = cache / LARGE.identity.hex / f".{WEIGHTS}.partial"
        wait_for(lambda: first_part_is_in(partial))
        other = published.start(between.url, tmp_path / "b", "--cache", str(cache))
        assert other.stderr is not None
        for line in other.stderr:
            if "another bundle fetch is at work there; waiting" in line:
                return one, other
        raise AssertionError("the second did not wait")

    def test_without_a_manifest_there_is_no_cache(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "bundler", "fetch", "s3://models/x", str(tmp_path / "a")),
                *("--cache", str(tmp_path / "cache")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "--cache needs --manifest" in done.stderr
