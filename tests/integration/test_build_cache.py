"""What a build need not read again, and what it reads again although a cache knows it."""

from __future__ import annotations

import mmap
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundler.archive.leftovers import hold
from bundler.build import BuiltRelease, build_release, lock_release
from bundler.build.cache import BuildCache, Made, Record, State
from bundler.build.records import MAX_RECORDS
from bundler.digest import Digest
from bundler.errors import ContentError, NotFoundError
from bundler.events import Advanced, Event, Noted
from bundler.lockfile import Lock
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.integration.building import content, spec_path, tools
from tests.integration.release_inputs import edit_spec, load_spec
from tests.integration.test_build_sources import take_from

__all__ = ["spec_path", "tools"]

LONG_AGO = 1_700_000_000


@pytest.fixture(autouse=True)
def _old_sources(spec_path: Path) -> None:
    for path in (spec_path.parent / "models").rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


class Builder:
    """Builds with one cache, and says what was read of checkpoints."""

    def __init__(self, spec_path: Path, directory: Path) -> None:
        self.spec_path = spec_path
        self.directory = directory
        self.cache_dir = directory / "cache"
        self.events: list[Event] = []
        self.count = 0

    def cache(self) -> BuildCache:
        return BuildCache(self.cache_dir, emit=self.events.append)

    def build(self, lock: Lock | None = None) -> BuiltRelease:
        self.count += 1
        self.events.clear()
        return build_release(
            self.spec_path,
            load_spec(self.spec_path),
            lock,
            self.directory / f"out{self.count}",
            images=Skopeo(),
            charts=Helm(),
            lock_file=self.directory / f"{self.count}.lock.json",
            cache=self.cache(),
            emit=self.events.append,
        )

    def lock(self) -> Lock:
        self.events.clear()
        return lock_release(
            self.spec_path,
            load_spec(self.spec_path),
            images=Skopeo(),
            charts=Helm(),
            cache=self.cache(),
            emit=self.events.append,
        )

    @property
    def read(self) -> set[str]:
        """The checkpoints of which bytes were read."""
        items = {event.item for event in self.events if isinstance(event, Advanced)}
        return {item.removesuffix(".tar") for item in items} & {"one_1", "three_1"}

    @property
    def notes(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Noted))


@pytest.fixture
def builder(spec_path: Path, tmp_path: Path) -> Builder:
    return Builder(spec_path, tmp_path)


def weights(builder: Builder) -> Path:
    return builder.spec_path.parent / "models" / "one" / "model.safetensors"


def same_size(path: Path) -> None:
    """Change one byte, and set the time of change back, as some tools do."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_second_build_reads_no_weights_and_gives_the_same_bytes(builder: Builder) -> None:
    first = builder.build()
    assert builder.read == {"one_1", "three_1"}
    again = builder.build(first.lock)
    assert builder.read == set()
    assert content(again.directory) == content(first.directory)
    assert "made of the same files" in builder.notes
    assert "of disk to work in" in builder.notes
    assert "of hashing" not in builder.notes  # so little is not worth telling
    shutil.rmtree(first.directory)
    third = builder.build(first.lock)
    assert content(third.directory) == content(again.directory)


def test_only_a_changed_image_is_packed_again(builder: Builder) -> None:
    builder.build()
    edit_spec(builder.spec_path, "oci:images/atlas:1.0.0", "oci:images/public-docs:1.0.0")
    text = builder.spec_path.read_text()
    builder.spec_path.write_text(text.replace("name: atlas", "name: atlas\n  tag: 1.0.0"))
    builder.build()
    assert builder.read == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes()),
        same_size,
        lambda path: os.utime(path, (LONG_AGO + 1, LONG_AGO + 1)),
        lambda path: shutil.move(shutil.copy2(path, path.with_name("copy")), path),
    ],
)
def test_a_source_that_may_have_changed_is_read_again(
    change: Callable[[Path], object], builder: Builder
) -> None:
    builder.build()
    change(weights(builder))
    os.utime(weights(builder), (LONG_AGO, LONG_AGO))
    built = builder.build()
    assert builder.read == {"one_1"}
    files = {file.path: file.digest for file in built.manifest.checkpoint("one_1").files}
    assert files["model.safetensors"] == Digest.of(weights(builder).read_bytes())


def test_a_lock_after_a_build_reads_no_weights(builder: Builder) -> None:
    built = builder.build()
    assert builder.lock() == built.lock
    assert builder.read == set()


def test_a_second_lock_reads_no_weights(builder: Builder) -> None:
    lock = builder.lock()
    assert builder.read == {"one_1", "three_1"}
    assert builder.lock() == lock
    assert builder.read == set()
    assert builder.build(lock).lock == lock
    assert builder.read == {"one_1", "three_1"}


def test_an_archive_that_changed_since_is_not_taken_over(builder: Builder) -> None:
    first = builder.build()
    expected = content(first.directory)
    same_size(first.directory / "one_1.tar")
    again = builder.build(first.lock)
    assert builder.read == {"one_1"}
    assert content(again.directory) == expected


def test_an_archive_that_is_gone_is_written_again(builder: Builder) -> None:
    first = builder.build()
    (first.directory / "three_1.tar").unlink()
    builder.build(first.lock)
    assert builder.read == {"three_1"}


def test_another_time_of_the_release_is_another_archive(builder: Builder) -> None:
    builder.build()
    edit_spec(builder.spec_path, "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
    builder.build()
    assert builder.read == {"one_1", "three_1"}


def test_a_lock_that_says_otherwise_is_not_overruled(builder: Builder) -> None:
    first = builder.build()
    same_size(weights(builder))
    os.utime(weights(builder), (LONG_AGO, LONG_AGO))
    builder.build()
    with pytest.raises(ContentError, match=r"checkpoint one_1: model\.safetensors: expected"):
        builder.build(first.lock)


@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_an_archive_that_is_named_is_hashed_once(builder: Builder, mode: int) -> None:
    """Also one that has to be copied, as somebody may write to it and there are no clones."""
    first = builder.build()
    given = builder.spec_path.parent / "given.tar"
    shutil.copy(first.directory / "one_1.tar", given)
    os.utime(given, (LONG_AGO, LONG_AGO))
    given.chmod(mode)
    take_from(builder.spec_path, archive="given.tar")
    builder.build()
    assert builder.read == {"one_1"}
    lock = builder.lock()
    assert builder.read == set()
    assert content(builder.build(lock).directory) == content(first.directory)
    assert builder.read == set()


def test_a_file_that_was_just_written_is_not_remembered(builder: Builder) -> None:
    os.utime(weights(builder))
    builder.build()
    builder.build()
    assert builder.read == {"one_1"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"{"),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"files"', b'"filez"')),
        lambda path: os.truncate(path, 100 << 20),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"size": ', b'"size": 1', 1)),
        lambda path: (path.rename(path.with_suffix(".x")), path.symlink_to("/dev/zero")),
        lambda path: path.parent.chmod(0o777),
    ],
)
def test_a_damaged_cache_costs_time_and_nothing_else(
    damage: Callable[[Path], object], builder: Builder
) -> None:
    first = builder.build()
    for record in sorted(builder.cache_dir.rglob("*.json")):
        damage(record)
    again = builder.build(first.lock)
    assert content(again.directory) == content(first.directory)
    assert builder.read == {"one_1", "three_1"}
    assert "it is not used" in builder.notes


def test_a_cache_that_cannot_be_written_stops_no_build(builder: Builder) -> None:
    builder.cache_dir.write_text("a file")
    builder.build()
    assert "what was found out is not kept" in builder.notes


def test_two_builds_may_use_one_cache_at_once(builder: Builder, tmp_path: Path) -> None:
    first = builder.build()
    others = [Builder(builder.spec_path, tmp_path / name) for name in ("a", "b")]
    built: list[BuiltRelease] = []
    threads = []
    for one in others:
        one.directory.mkdir()
        one.cache_dir = builder.cache_dir
        threads.append(threading.Thread(target=lambda one=one: built.append(one.build(first.lock))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [content(one.directory) for one in built] == [content(first.directory)] * 2


def test_a_cache_is_bounded(builder: Builder) -> None:
    cache = builder.cache()
    for number in range(MAX_RECORDS + 5):
        cache.keep(State(content=(str(number),), changed=(), settled=True), Record(files=()))
    assert len(list(builder.cache_dir.rglob("*.json"))) == MAX_RECORDS
    newest = State(content=(str(MAX_RECORDS + 4),), changed=(), settled=True)
    assert cache.find(newest) == Record(files=())
    assert cache.find(State(content=("0",), changed=(), settled=True)) is None


def test_a_record_is_only_of_what_is_there(tmp_path: Path, builder: Builder) -> None:
    built = builder.build()
    checkpoint = built.manifest.checkpoints[0]
    archive = built.directory / checkpoint.archive
    made = Made.at(archive, 0, checkpoint)
    assert made.still_there()
    archive.rename(tmp_path / "kept")
    assert not made.still_there()
    shutil.copy2(tmp_path / "kept", archive)
    assert not made.still_there()
    assert not made.still_there(but_linked=True)
    with pytest.raises(NotFoundError):
        Made.at(tmp_path / "absent", 0, checkpoint)


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_what_somebody_may_still_write_to_is_read_again(how: str, builder: Builder) -> None:
    with mapped(weights(builder)) if how == "mapped" else weights(builder).open("r+b"):
        lock = builder.lock()
        assert builder.lock() == lock
        assert builder.read == {"one_1"}
        builder.build(lock)
        builder.build(lock)
        assert builder.read == {"one_1"}
    builder.lock()
    builder.lock()
    assert builder.read == set()
    with mapped(weights(builder)):
        builder.lock()
        assert builder.read == {"one_1"}


def test_a_store_through_a_map_is_never_missed(builder: Builder) -> None:
    path = weights(builder)
    with mapped(path) as content:
        content[-1] ^= 1
        os.utime(path, (LONG_AGO, LONG_AGO))
        builder.lock()
        content[-1] ^= 2
        [locked, _] = builder.lock().checkpoints
    [file] = [file for file in locked.files if file.path == path.name]
    assert file.digest == Digest.of(path.read_bytes())


def test_what_killed_writers_left_in_a_cache_is_removed(builder: Builder) -> None:
    builder.cache().keep(State(content=(), changed=(), settled=True), Record(files=()))
    [record] = builder.cache_dir.rglob("*.json")
    left, held = (record.with_name(f".{name * 40}.abcd1234.partial") for name in "ab")
    left.touch()
    with held.open("wb") as writer:
        hold(writer.fileno())
        builder.build()
        assert not left.exists()
        assert held.exists()


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("r+b") as file:
        content = mmap.mmap(file.fileno(), 0)
    try:
        yield content
    finally:
        content.close()
