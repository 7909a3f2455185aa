"""What the pod's init container does: a checkpoint from a real S3 server to a directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ContentError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.events import Advanced, Event, Finished, Noted, Started
from bundler.fetch import Fetched, fetch_checkpoint, fetch_manifest, fetch_plain
from bundler.manifest import Checkpoint, CheckpointFile
from bundler.manifest_codec import encode_manifest
from bundler.parts import MAX_FILE_BYTES, SMALLEST_PART, part_size, spans
from bundler.reference import S3Prefix
from bundler.sizes import size_text
from bundler.stores.base import ObjectStore, StoredObject
from bundler.stores.opening import open_bucket
from tests.integration.fetching import (
    CHECKPOINT,
    FILES,
    WEIGHTS,
    Recording,
    held,
    log_in,
    manifest_of,
    refused,
    upload,
)
from tests.integration.s3_proxy import Answer, Fault, proxy, refusal
from tests.memory_store import MemoryStore
from tests.rehearsal.s3 import S3

SIZE = sum(map(len, FILES.values()))


@pytest.fixture
def store(s3: S3, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Give an empty bucket."""
    log_in(s3, monkeypatch)
    return open_bucket(s3_bucket, endpoint=s3.url, region=s3.region)


@pytest.fixture(scope="module")
def source(s3: S3) -> S3Prefix:
    """Name a prefix in a bucket that the tests share."""
    s3.create_bucket("fetched")
    return S3Prefix("fetched", "checkpoints/tiny/0123456789abcdef")


@pytest.fixture(scope="module")
def published(s3: S3, source: S3Prefix) -> ObjectStore:
    """Give a bucket that holds the checkpoint as publish leaves it; no test changes it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        log_in(s3, monkeypatch)
        store = open_bucket(source.bucket, endpoint=s3.url, region=s3.region)
        upload(store, source)
        store.put(f"{source.prefix}-xs/config.json", b"another model")
    return store


@pytest.fixture
def changeable(source: S3Prefix) -> MemoryStore:
    """Give a store that holds the checkpoint, for tests that damage it there."""
    store = MemoryStore()
    upload(store, source)
    return store


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "checkpoint"


def _always(answer: Answer) -> Fault:
    return lambda call, ask: answer


class Silent(Recording):
    """A store that says the same of every object's checksum, or nothing."""

    def __init__(self, store: ObjectStore, checksum: str | None = None) -> None:
        super().__init__(store)
        self._checksum = checksum

    def head(self, key: str) -> StoredObject | None:
        found = self._store.head(key)
        return None if found is None else StoredObject(key, found.size, self._checksum)


def stamps(destination: Path) -> dict[Path, tuple[int, int]]:
    """Give what changes when a file is written or replaced."""
    found = {path: path.stat() for path in destination.rglob("*")}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


class TestCheckpoint:
    def test_every_file_arrives_and_progress_adds_up(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        events: list[Event] = []
        fetched = fetch_checkpoint(
            published, source, destination, checkpoint=CHECKPOINT, emit=events.append
        )
        assert fetched == Fetched(files=4, size=SIZE, kept=0, received=SIZE)
        assert held(destination) == FILES
        for file in CHECKPOINT.files:
            assert Started("fetch", file.path, file.size) in events
            assert Finished(file.path) in events
            steps = [e.step for e in events if isinstance(e, Advanced) and e.item == file.path]
            assert sum(steps) == file.size

    def test_what_is_right_already_is_kept(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)
        before = stamps(destination)
        again = Recording(published)
        events: list[Event] = []
        fetched = fetch_checkpoint(
            again, source, destination, checkpoint=CHECKPOINT, emit=events.append
        )
        assert again.read_bytes == 0
        assert fetched == Fetched(files=4, size=SIZE, kept=SIZE)
        assert stamps(destination) == before
        compared, *ends = [event for event in events if isinstance(event, Finished)]
        assert compared == Finished(f"what is in {destination}")
        assert ends == [Finished(file.path, skipped=True) for file in CHECKPOINT.files]
        assert sum(event.step for event in events if isinstance(event, Advanced)) == SIZE

    @pytest.mark.parametrize("at", [0, SMALLEST_PART - 1, SMALLEST_PART + 3])
    def test_a_wrong_byte_at_the_destination_is_repaired_by_its_part(
        self, published: ObjectStore, source: S3Prefix, destination: Path, at: int
    ) -> None:
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)
        with (destination / WEIGHTS).open("r+b") as file:
            file.seek(at)
            file.write(b"\xff")
        again = Recording(published)
        fetch_checkpoint(again, source, destination, checkpoint=CHECKPOINT)
        tail = len(FILES[WEIGHTS]) - SMALLEST_PART
        assert again.read_bytes == (SMALLEST_PART if at < SMALLEST_PART else tail)
        assert held(destination) == FILES

    def test_what_other_names_stand_for_is_not_repaired_but_replaced(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        destination.mkdir(parents=True)
        other = destination.parent / "of-another-model"
        other.write_bytes(b"\x02" * SMALLEST_PART + b"tail of the weights")
        (destination / WEIGHTS).hardlink_to(other)
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)
        assert held(destination) == FILES
        assert other.read_bytes()[:1] == b"\x02"

    def test_a_file_is_on_the_disk_before_it_has_its_name(
        self,
        published: ObjectStore,
        source: S3Prefix,
        destination: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        synced: list[tuple[int, bool]] = []  # what, and whether the name was there already
        fsync = os.fsync

        def watch(descriptor: int) -> None:
            status = os.fstat(descriptor)
            synced.append((status.st_ino, (destination / WEIGHTS).exists()))
            fsync(descriptor)

        destination.mkdir(parents=True)
        (destination / f".{WEIGHTS}.partial").write_bytes(FILES[WEIGHTS])  # of a run that died
        monkeypatch.setattr(os, "fsync", watch)
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)
        assert ((destination / WEIGHTS).stat().st_ino, False) in synced
        assert (destination.stat().st_ino, True) in synced  # and then the name itself

    @pytest.mark.parametrize("change", [b"longer", None])
    def test_a_file_of_another_length_is_repaired(
        self, published: ObjectStore, source: S3Prefix, destination: Path, change: bytes | None
    ) -> None:
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)
        path = destination / WEIGHTS
        if change is None:
            os.truncate(path, SMALLEST_PART)
        else:
            with path.open("ab") as file:
                file.write(change)
        again = Recording(published)
        fetch_checkpoint(again, source, destination, checkpoint=CHECKPOINT)
        assert again.read_bytes < SMALLEST_PART
        assert held(destination) == FILES

    @pytest.mark.parametrize(
        ("at", "part", "offset"),
        [(7, "part 1 of 2", 0), (SMALLEST_PART + 2, "part 2 of 2", SMALLEST_PART)],
    )
    def test_a_wrong_byte_in_the_bucket_leaves_no_file_and_is_named(
        self,
        changeable: MemoryStore,
        source: S3Prefix,
        destination: Path,
        at: int,
        part: str,
        offset: int,
    ) -> None:
        wrong = bytearray(FILES[WEIGHTS])
        wrong[at] ^= 1
        changeable.replace(source.key(WEIGHTS), bytes(wrong))
        with pytest.raises(ContentError, match=f"{WEIGHTS}: {part} at offset {offset}") as caught:
            fetch_checkpoint(changeable, source, destination, checkpoint=CHECKPOINT)
        assert "publish" in refused(caught.value)
        assert held(destination) == {k: v for k, v in FILES.items() if k != WEIGHTS}

    def test_every_file_that_is_wrong_is_named(
        self, changeable: MemoryStore, source: S3Prefix, destination: Path
    ) -> None:
        for path in ("config.json", "tokenizer/tokenizer.json"):
            changeable.replace(source.key(path), FILES[path].swapcase()[::-1])
        with pytest.raises(ContentError, match=r"config\.json: .*; tokenizer/tokenizer\.json: "):
            fetch_checkpoint(changeable, source, destination, checkpoint=CHECKPOINT)
        assert sorted(held(destination)) == [WEIGHTS, "tokenizer/merges.txt"]

    def test_a_shorter_object_is_never_padded(
        self, changeable: MemoryStore, source: S3Prefix, destination: Path
    ) -> None:
        changeable.replace(source.key("config.json"), FILES["config.json"][:-1])
        with pytest.raises(WorldError, match=r"config\.json: ended before byte 22"):
            fetch_checkpoint(changeable, source, destination, checkpoint=CHECKPOINT)
        assert "config.json" not in held(destination)

    def test_a_missing_object_is_named(
        self, changeable: MemoryStore, source: S3Prefix, destination: Path
    ) -> None:
        changeable.delete(source.key("config.json"))
        with pytest.raises(NotFoundError, match=r"config\.json: no such object") as caught:
            fetch_checkpoint(changeable, source, destination, checkpoint=CHECKPOINT)
        assert "models.KEY.model" in refused(caught.value)
        assert "config.json" not in held(destination)

    def test_a_missing_empty_object_is_named(
        self, changeable: MemoryStore, source: S3Prefix, destination: Path
    ) -> None:
        changeable.delete(source.key("tokenizer/merges.txt"))
        with pytest.raises(NotFoundError, match=r"merges\.txt: no such object"):
            fetch_checkpoint(changeable, source, destination, checkpoint=CHECKPOINT)

    def test_a_run_that_broke_is_gone_on_with(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        broken = Recording(published, fail_after=SMALLEST_PART // 2)
        with pytest.raises(WorldError, match="the connection broke"):
            fetch_checkpoint(broken, source, destination, checkpoint=CHECKPOINT)
        assert WEIGHTS not in held(destination)
        again = Recording(published)
        fetch_checkpoint(again, source, destination, checkpoint=CHECKPOINT)
        assert held(destination) == FILES

    def test_parts_that_a_killed_run_left_are_not_read_again(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        destination.mkdir(parents=True)
        partial = destination / f".{WEIGHTS}.partial"
        partial.write_bytes(FILES[WEIGHTS][:SMALLEST_PART] + b"\0" * 19)
        again = Recording(published)
        fetch_checkpoint(again, source, destination, checkpoint=CHECKPOINT)
        assert held(destination) == FILES
        assert again.read_bytes < SMALLEST_PART

    def test_what_is_to_come_and_what_is_free_is_told_before_the_first_byte(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        events: list[Event] = []
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT, emit=events.append)
        size = size_text(sum(map(len, FILES.values())))
        assert isinstance(events[0], Noted)
        assert events[0].text.startswith(f"{destination}: {size} to write, ")
        assert " free" in events[0].text
        events.clear()
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT, emit=events.append)
        assert not [event for event in events if isinstance(event, Noted)]

    def test_other_files_are_left_alone_and_named(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        (destination / "tokenizer").mkdir(parents=True)
        (destination / "tokenizer" / "mine.txt").write_bytes(b"mine")
        (destination / "link").symlink_to("nowhere")
        events: list[Event] = []
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT, emit=events.append)
        assert held(destination) == {**FILES, "tokenizer/mine.txt": b"mine"}
        named = [event.text for event in events if isinstance(event, Noted)]
        named = [text for text in named if "left alone" in text]
        assert [text.partition(": ")[2].split()[0] for text in named] == [
            "link",
            "tokenizer/mine.txt",
        ]

    @pytest.mark.parametrize("place", ["config.json", "tokenizer", f".{WEIGHTS}.partial"])
    def test_nothing_is_written_through_a_link(
        self, published: ObjectStore, source: S3Prefix, destination: Path, place: str
    ) -> None:
        elsewhere = destination.parent / "elsewhere"
        elsewhere.mkdir(parents=True)
        destination.mkdir()
        (elsewhere / "file").write_bytes(b"mine")
        target = elsewhere if place == "tokenizer" else elsewhere / "file"
        (destination / place).symlink_to(target)
        with pytest.raises(MalformedError, match="symbolic link"):
            fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)
        assert held(elsewhere) == {"file": b"mine"}

    def test_a_directory_in_the_place_of_a_file_is_named(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        (destination / "config.json").mkdir(parents=True)
        with pytest.raises(MalformedError, match=r"config\.json: expected a regular file"):
            fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)

    def test_too_small_a_disk_is_said_before_anything_is_fetched(self, destination: Path) -> None:
        size = MAX_FILE_BYTES
        parts = tuple(Digest.of(b"") for _ in spans(size, part_size(size)))
        huge = CheckpointFile(path="huge", offset=0, size=size, digest=Digest.of(b""), parts=parts)
        checkpoint = Checkpoint(
            name="huge",
            root="huge",
            size=size,
            digest=Digest.of(b""),
            frame_digest=Digest.of(b""),
            files=(huge,),
        )
        with pytest.raises(WorldError, match=r"48\.0 TiB still to come, .* free"):
            fetch_checkpoint(
                MemoryStore(), S3Prefix("models", "huge"), destination, checkpoint=checkpoint
            )
        assert list(destination.iterdir()) == []

    def test_two_runs_at_once_do_not_share_a_directory(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        destination.mkdir(parents=True)
        descriptor = os.open(destination, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(WorldError, match="another bundle fetch is at work"):
            fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)
        os.close(descriptor)
        fetch_checkpoint(published, source, destination, checkpoint=CHECKPOINT)

    def test_a_denied_read_tells_s3_from_kms(
        self, s3: S3, source: S3Prefix, destination: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_in(s3, monkeypatch)
        why = "User: u is not authorized to perform: kms:Decrypt on resource: k"
        with proxy(s3) as between:
            store = open_bucket(source.bucket, endpoint=between.url, region=s3.region)
            for message, expected in (("Access Denied", "by S3"), (why, "by KMS, not by S3")):
                between.fault = _always(refusal(403, "AccessDenied", message))
                with pytest.raises(DeniedError, match=f"denied {expected}") as caught:
                    fetch_checkpoint(store, source, destination, checkpoint=CHECKPOINT)
                assert "role of its service account" in refused(caught.value)


class TestManifest:
    def test_the_manifest_that_publish_meant_is_taken(
        self, store: ObjectStore, source: S3Prefix
    ) -> None:
        manifest = manifest_of(CHECKPOINT)
        content = encode_manifest(manifest)
        uri = source / "MANIFEST.json"
        store.put(uri.prefix, content)
        assert fetch_manifest(store, uri, Digest.of(content)) == manifest

    def test_any_other_is_refused_before_it_is_read(
        self, store: ObjectStore, source: S3Prefix
    ) -> None:
        uri = source / "MANIFEST.json"
        store.put(uri.prefix, b"not even JSON")
        with pytest.raises(ContentError, match=f"{uri}: expected sha256:") as caught:
            fetch_manifest(store, uri, Digest.of(b"{}"))
        assert "publish" in refused(caught.value)

    def test_one_that_is_not_there_is_named(self, store: ObjectStore, source: S3Prefix) -> None:
        with pytest.raises(NotFoundError, match=r"MANIFEST\.json: no such object"):
            fetch_manifest(store, source / "MANIFEST.json", Digest.of(b"{}"))


class TestPlain:
    def test_what_lies_below_the_prefix_arrives_and_nothing_else(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        fetch_plain(published, source, destination)
        assert held(destination) == FILES

    def test_a_whole_bucket_is_a_prefix_too(
        self, store: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        store.put("config.json", b"{}")
        store.put("tokenizer/a", b"1")
        fetch_plain(store, S3Prefix(source.bucket, ""), destination)
        assert held(destination) == {"config.json": b"{}", "tokenizer/a": b"1"}

    def test_a_second_run_keeps_what_has_the_checksum_that_s3_keeps(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        fetch_plain(published, source, destination)
        (destination / "config.json").write_bytes(FILES["config.json"].swapcase())
        os.truncate(destination / "tokenizer/tokenizer.json", 1)
        again = Recording(published)
        fetched = fetch_plain(again, source, destination)
        assert held(destination) == FILES
        assert again.read_bytes == len(FILES["config.json"]) + 2
        assert fetched.received == again.read_bytes

    def test_the_right_size_alone_proves_nothing(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        fetch_plain(published, source, destination)
        with (destination / WEIGHTS).open("r+b") as file:
            file.write(b"\xff")
        fetch_plain(published, source, destination)
        assert held(destination) == FILES

    def test_where_s3_keeps_no_checksum_everything_is_brought_again(
        self, changeable: MemoryStore, source: S3Prefix, destination: Path
    ) -> None:
        silent = Silent(changeable)
        fetch_plain(silent, source, destination)
        again = Recording(silent)
        fetch_plain(again, source, destination)
        assert again.read_bytes == SIZE
        assert held(destination) == FILES

    def test_parts_of_another_size_are_no_fault(
        self, changeable: MemoryStore, source: S3Prefix, destination: Path
    ) -> None:
        fetch_plain(Silent(changeable, "b3RoZXI=-2"), source, destination)
        assert held(destination) == FILES

    def test_bytes_that_are_not_of_the_checksum_that_s3_keeps_are_refused(
        self, changeable: MemoryStore, source: S3Prefix, destination: Path
    ) -> None:
        wrong = Silent(changeable, Digest.of(b"what was stored").base64)
        with pytest.raises(ContentError, match=r"config\.json: part 1 of 1"):
            fetch_plain(wrong, source, destination)
        assert "config.json" not in held(destination)

    def test_what_a_broken_run_left_is_not_believed(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        destination.mkdir(parents=True)
        (destination / ".config.json.partial").write_bytes(b"?" * len(FILES["config.json"]))
        fetch_plain(published, source, destination)
        assert held(destination) == FILES

    def test_an_empty_prefix_fails_loudly(
        self, published: ObjectStore, source: S3Prefix, destination: Path
    ) -> None:
        wrong = S3Prefix(source.bucket, "checkpoints/tyni")
        with pytest.raises(
            NotFoundError,
            match=f"bucket {source.bucket}: there is no object below checkpoints/tyni/",
        ) as caught:
            fetch_plain(published, wrong, destination)
        assert "models.KEY.model" in refused(caught.value)

    def test_directories_that_a_console_made_are_no_files(self, destination: Path) -> None:
        store = MemoryStore()
        for key in ("m/", "m/tokenizer/"):
            store.put(key, b"")
        with pytest.raises(NotFoundError, match="no object below m/"):
            fetch_plain(store, S3Prefix("models", "m"), destination)
        store.put("m/tokenizer/a", b"1")
        fetch_plain(store, S3Prefix("models", "m"), destination)
        assert held(destination) == {"tokenizer/a": b"1"}

    @pytest.mark.parametrize("prefix", ["checkpoints", "checkpoints/tiny_2026.10.tar"])
    def test_the_archive_instead_of_its_contents_fails_loudly(
        self, destination: Path, prefix: str
    ) -> None:
        store = MemoryStore()
        store.put("checkpoints/tiny_2026.10.tar", b"archive")
        with pytest.raises(BundleError, match=r"tiny_2026\.10\.tar") as caught:
            fetch_plain(store, S3Prefix("models", prefix), destination)
        assert "extract it" in refused(caught.value)
        assert not destination.exists()

    @pytest.mark.parametrize(
        "key", ["m/../../etc/passwd", "m//etc/passwd", "m/a/./b", "m/a\\b", "m/a\nb", "m/a/"]
    )
    def test_a_key_that_could_leave_the_directory_is_refused(
        self, destination: Path, key: str
    ) -> None:
        store = MemoryStore()
        store.put("m/config.json", b"{}")
        store.put(key, b"x")
        with pytest.raises(MalformedError, match="s3://models/m: object") as caught:
            fetch_plain(store, S3Prefix("models", "m"), destination)
        refused(caught.value)
        assert not destination.exists()

    @pytest.mark.parametrize("reader", [False, True])
    def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
        self, destination: Path, reader: bool
    ) -> None:
        store = MemoryStore()
        store.put("m/a", b"1")
        destination.mkdir(parents=True)
        pipe = destination / ".a.partial"
        os.mkfifo(pipe)
        other = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if reader else None
        with pytest.raises(BundleError, match=r"\.a\.partial"):
            fetch_plain(store, S3Prefix("models", "m"), destination)
        if other is not None:
            assert os.read(other, 1) == b""
            os.close(other)

    @pytest.mark.parametrize("other", ["m/a/b", "m/.a.partial"])
    def test_names_that_get_in_each_others_way_are_refused(
        self, destination: Path, other: str
    ) -> None:
        store = MemoryStore()
        store.put("m/a", b"1")
        store.put(other, b"2")
        with pytest.raises(MalformedError, match="cannot be a file as well"):
            fetch_plain(store, S3Prefix("models", "m"), destination)
