"""What every ObjectStore must do, held against each one that we ship."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from bundler.archive.files import FileSlice
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
from bundler.stores.base import ObjectStore, Staged, StoredObject
from bundler.stores.opening import open_bucket
from tests.memory_store import MemoryStore
from tests.rehearsal.s3 import S3

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

    def open_part(self, span: Span) -> BinaryIO:
        return cast("BinaryIO", FileSlice(self.path, span.offset, span.length))

    def send(
        self,
        store: ObjectStore,
        key: str,
        *,
        parts: tuple[Digest, ...] = (),
        advance: Callable[[int], None] = unwatched,
    ) -> None:
        self.stage(store, key, parts=parts, advance=advance).complete()

    def stage(
        self,
        store: ObjectStore,
        key: str,
        *,
        parts: tuple[Digest, ...] = (),
        advance: Callable[[int], None] = unwatched,
    ) -> Staged:
        return store.stage(
            key,
            size=self.size,
            parts=parts or self.parts,
            open_part=self.open_part,
            advance=advance,
        )


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
        staged = [blob.stage(store, blob.path.name) for blob in (small, large)]
        assert list(store.list("")) == []
        for item in staged:
            item.complete()
        assert len(list(store.list(""))) == 2

    def test_what_is_discarded_never_appears(
        self, store: ObjectStore, small: Blob, large: Blob
    ) -> None:
        for blob in (small, large):
            blob.stage(store, blob.path.name).discard()
        assert list(store.list("")) == []

    def test_discarding_what_was_completed_changes_nothing(
        self, store: ObjectStore, large: Blob
    ) -> None:
        staged = large.stage(store, "large")
        staged.complete()
        staged.discard()
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

    def test_a_stream_that_fails_fails_the_upload(self, store: ObjectStore, small: Blob) -> None:
        class Torn(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise WorldError("release/model.tar at offset 7: input/output error")

        with pytest.raises(BundleError, match=r"model\.tar at offset 7"):
            store.stage(
                "torn",
                size=small.size,
                parts=small.parts,
                open_part=lambda span: Torn(CONTENT),
                advance=unwatched,
            ).complete()
        assert store.head("torn") is None


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestS3Store(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3: S3, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials.secret_key)
        return open_bucket(s3_bucket, endpoint=s3.url, region=s3.region)
