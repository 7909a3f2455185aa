"""What every ObjectStore must do, held against each one that we ship."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.archive.files import RandomReader
from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ConflictError,
    ContentError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.parts import SMALLEST_PART, Span, part_size, s3_checksum, spans
from bundler.stores.base import Incoming, ObjectStore, Pieces, StoredObject
from bundler.stores.opening import open_bucket
from tests.memory_store import MemoryStore
from tests.rehearsal.fixtures import need
from tests.rehearsal.s3 import S3, program
from tests.rehearsal.s3 import s3 as start_s3

CONTENT = b"weights"


def unwatched(step: int) -> None:
    """Watch nothing."""


@dataclass(frozen=True)
class Blob:
    """A file that is cut into parts as a checkpoint's file is."""

    path: Path
    size: int
    parts: tuple[Digest, ...]

    @classmethod
    def of(cls, path: Path) -> Blob:
        size = path.stat().st_size
        with path.open("rb") as file:
            cut = [Digest.of(file.read(span.length)) for span in spans(size, part_size(size))]
        return cls(path, size, tuple(cut))

    def pieces(self, span: Span) -> Pieces:
        def read() -> Iterator[memoryview]:
            with RandomReader(self.path) as reader:
                yield from reader.pieces(span.offset, span.length)

        return read

    def send(
        self,
        store: ObjectStore,
        key: str,
        *,
        parts: tuple[Digest, ...] = (),
        advance: Callable[[int], None] = unwatched,
    ) -> None:
        incoming = self.begin(store, key, parts=parts)
        for span in incoming.missing:
            if not incoming.holds(span, self.pieces(span)):
                incoming.send(span, self.pieces(span), advance)
        incoming.complete()

    def begin(self, store: ObjectStore, key: str, *, parts: tuple[Digest, ...] = ()) -> Incoming:
        return store.begin(key, size=self.size, parts=parts or self.parts)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Blob:
    """Give a file of two parts, of which the second is short."""
    path = tmp_path_factory.mktemp("blobs") / "large"
    path.write_bytes(b"\x01" * SMALLEST_PART + b"tail")
    return Blob.of(path)


@pytest.fixture
def small(tmp_path: Path) -> Blob:
    path = tmp_path / "small"
    path.write_bytes(CONTENT)
    return Blob.of(path)


class ObjectStoreContract:
    """Subclass it and give a fixture ``store``, empty."""

    def test_what_was_put_can_be_looked_up_and_read(self, store: ObjectStore) -> None:
        assert store.put("a/b", CONTENT)
        assert store.head("a/b") == StoredObject("a/b", len(CONTENT), Digest.of(CONTENT).base64)
        assert store.get("a/b", limit=len(CONTENT)) == CONTENT

    def test_a_second_put_of_the_same_sends_nothing(self, store: ObjectStore) -> None:
        assert store.put("a", CONTENT)
        assert not store.put("a", CONTENT)

    def test_other_content_is_never_overwritten(self, store: ObjectStore) -> None:
        store.put("a", CONTENT)
        with pytest.raises(ConflictError, match="a: expected"):
            store.put("a", b"another")
        assert store.get("a", limit=99) == CONTENT

    def test_of_many_writers_of_one_key_one_wins(self, store: ObjectStore) -> None:
        contents = [bytes([number]) * 9 for number in range(8)]

        def write(content: bytes) -> bytes | None:
            try:
                return content if store.put("contended", content) else None
            except ConflictError:
                return None

        with ThreadPoolExecutor(len(contents)) as threads:
            winners = [content for content in threads.map(write, contents) if content]
        assert winners == [store.get("contended", limit=9)]

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        assert store.put("empty", b"")
        assert store.get("empty", limit=0) == b""
        assert store.head("empty") == StoredObject("empty", 0, Digest.of(b"").base64)
        assert not store.put("empty", b"")

    def test_a_key_that_is_not_there(self, store: ObjectStore) -> None:
        assert store.head("nowhere") is None
        with pytest.raises(NotFoundError, match="nowhere"):
            store.get("nowhere", limit=1)
        with pytest.raises(NotFoundError, match="nowhere"):
            list(store.read("nowhere", 0, 1))
        with pytest.raises(NotFoundError, match="nowhere"):
            list(store.read("nowhere", 0, 0))

    def test_more_than_the_limit_is_refused(self, store: ObjectStore) -> None:
        store.put("a", CONTENT)
        with pytest.raises(MalformedError, match=f"at most {len(CONTENT) - 1} bytes"):
            store.get("a", limit=len(CONTENT) - 1)

    def test_a_range_is_read(self, store: ObjectStore) -> None:
        store.put("a", b"0123456789")
        assert b"".join(store.read("a", 3, 4)) == b"3456"
        assert b"".join(store.read("a", 9, 1)) == b"9"
        assert b"".join(store.read("a", 0, 0)) == b""

    @pytest.mark.parametrize(("offset", "length"), [(0, 11), (8, 3), (10, 1), (99, 1)])
    def test_a_range_beyond_the_end_is_an_error(
        self, store: ObjectStore, offset: int, length: int
    ) -> None:
        store.put("a", b"0123456789")
        with pytest.raises(WorldError, match="a: "):
            list(store.read("a", offset, length))

    def test_a_list_is_by_prefix_and_sorted_by_the_bytes_of_the_key(
        self, store: ObjectStore
    ) -> None:
        for key in ("m/ü b", "m/b", "m/B+&?", "n", "ma", "m/a/c"):
            store.put(key, key.encode())
        assert [(item.key, item.size) for item in store.list("m/")] == [
            (key, len(key.encode())) for key in ("m/B+&?", "m/a/c", "m/b", "m/ü b")
        ]
        assert [item.key for item in store.list("none/")] == []
        assert store.get("m/B+&?", limit=99) == b"m/B+&?"

    def test_a_pointer_is_replaced(self, store: ObjectStore) -> None:
        for content in (CONTENT, b"another"):
            store.replace("current", content)
            assert store.get("current", limit=99) == content
            found = store.head("current")
            assert found is not None
            assert found.checksum == Digest.of(content).base64

    def test_what_was_deleted_is_gone(self, store: ObjectStore) -> None:
        store.put("a", CONTENT)
        store.delete("a")
        store.delete("a")
        assert store.head("a") is None

    def test_a_file_of_one_part_is_stored_under_its_digest(
        self, store: ObjectStore, small: Blob
    ) -> None:
        small.send(store, "small")
        assert store.head("small") == StoredObject("small", small.size, s3_checksum(small.parts))
        assert store.get("small", limit=99) == CONTENT

    def test_an_empty_file_is_uploaded(self, store: ObjectStore, tmp_path: Path) -> None:
        tmp_path.joinpath("empty").touch()
        Blob.of(tmp_path / "empty").send(store, "empty")
        assert store.head("empty") == StoredObject("empty", 0, Digest.of(b"").base64)

    def test_a_file_of_several_parts_is_stored_under_their_composite(
        self, store: ObjectStore, large: Blob
    ) -> None:
        large.send(store, "large")
        assert store.head("large") == StoredObject("large", large.size, s3_checksum(large.parts))
        assert b"".join(store.read("large", SMALLEST_PART - 2, 6)) == b"\x01\x01tail"

    def test_progress_adds_up_to_the_size(
        self, store: ObjectStore, small: Blob, large: Blob
    ) -> None:
        for blob in (small, large):
            steps: list[int] = []
            blob.send(store, blob.path.name, advance=steps.append)
            assert sum(steps) == blob.size

    def test_a_file_that_is_there_is_not_sent_again(
        self, store: ObjectStore, small: Blob, large: Blob
    ) -> None:
        for blob in (small, large):
            blob.send(store, blob.path.name)
            steps: list[int] = []
            blob.send(store, blob.path.name, advance=steps.append)
            assert steps == []

    def test_an_upload_never_overwrites(self, store: ObjectStore, small: Blob, large: Blob) -> None:
        for blob in (small, large):
            store.put(blob.path.name, b"another")
            with pytest.raises(ConflictError, match=f"{blob.path.name}: expected"):
                blob.send(store, blob.path.name)
            assert store.get(blob.path.name, limit=99) == b"another"

    def test_nobody_sees_an_object_before_it_is_completed(
        self, store: ObjectStore, small: Blob, large: Blob
    ) -> None:
        begun = [blob.begin(store, blob.path.name) for blob in (small, large)]
        for span in begun[1].missing:
            begun[1].send(span, large.pieces(span), unwatched)
        assert list(store.list("")) == []
        begun[1].complete()
        assert [item.key for item in store.list("")] == ["large"]

    def test_what_arrived_of_an_object_is_not_sent_again(
        self, store: ObjectStore, large: Blob
    ) -> None:
        left = large.begin(store, "large")
        left.send(left.missing[0], large.pieces(left.missing[0]), unwatched)
        steps: list[int] = []
        large.send(store, "large", advance=steps.append)
        assert sum(steps) == len(b"tail")
        assert store.head("large") == StoredObject("large", large.size, s3_checksum(large.parts))

    def test_two_who_bring_the_same_object_both_succeed(
        self, store: ObjectStore, small: Blob, large: Blob
    ) -> None:
        for blob in (small, large):
            both = [blob.begin(store, blob.path.name) for _ in range(2)]
            for incoming in both:
                for span in incoming.missing:
                    incoming.send(span, blob.pieces(span), unwatched)
            for incoming in both:
                incoming.complete()
            found = store.head(blob.path.name)
            assert found is not None
            assert found.checksum == s3_checksum(blob.parts)

    def test_completing_twice_changes_nothing(self, store: ObjectStore, large: Blob) -> None:
        incoming = large.begin(store, "large")
        for span in incoming.missing:
            incoming.send(span, large.pieces(span), unwatched)
        incoming.complete()
        incoming.complete()
        assert store.head("large") is not None

    def test_wrong_bytes_are_refused_and_nothing_is_stored(
        self, store: ObjectStore, small: Blob, large: Blob
    ) -> None:
        wrong = Digest.of(b"other bytes")
        for blob, parts, number in (
            (small, (wrong,), 1),
            (large, (wrong, large.parts[1]), 1),
            (large, (large.parts[0], wrong), 2),
        ):
            name = f"part {number} of {len(parts)}, expected {wrong}"
            with pytest.raises(ContentError, match=f"wrong: {name}"):
                blob.send(store, "wrong", parts=parts)
            assert store.head("wrong") is None
        large.send(store, "wrong")

    def test_wrong_bytes_are_refused_by_the_store_itself(self, store: ObjectStore) -> None:
        assert store.checks_content("some/prefix")
        assert store.checks_content("")
        assert list(store.list("")) == []

    def test_a_source_that_fails_fails_the_upload(self, store: ObjectStore, small: Blob) -> None:
        def torn() -> Iterator[bytes]:
            yield b"w"
            raise WorldError("release/model.tar at offset 7: input/output error")

        incoming = small.begin(store, "torn")
        with pytest.raises(BundleError, match=r"model\.tar at offset 7"):
            incoming.send(incoming.missing[0], torn, unwatched)
        assert store.head("torn") is None


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


@pytest.fixture(scope="module")
def minio() -> Iterator[S3]:
    need(lambda: program("minio"))
    with start_s3("minio") as server:
        yield server


def new_bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Open a new, empty bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.credentials.secret_key)
    name = f"test-{uuid.uuid4().hex[:12]}"
    server.create_bucket(name)
    return open_bucket(name, endpoint=server.url, region=server.region)


class TestS3Store(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        return new_bucket(s3, monkeypatch)


class TestS3StoreOnMinio(ObjectStoreContract):
    """MinIO lists the checksums of parts, and knows of an upload's algorithm."""

    @pytest.fixture
    def store(self, minio: S3, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        return new_bucket(minio, monkeypatch)
