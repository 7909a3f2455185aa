"""What every Upkeep must do, held against each one that we ship, at real servers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bundler.errors import DeniedError, WorldError
from bundler.stores.base import ObjectStore
from bundler.stores.opening import open_bucket, open_upkeep
from bundler.stores.s3 import connect
from bundler.stores.upkeep import UnfinishedUpload, Upkeep
from tests.memory_store import MemoryStore
from tests.memory_upkeep import MemoryUpkeep
from tests.rehearsal.fixtures import need
from tests.rehearsal.s3 import S3, program
from tests.rehearsal.s3 import s3 as start_s3

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# How far a server's clock may be from ours: it is on this machine.
_SECONDS = 60
_PART = b"\x01" * (5 << 20)


class UpkeepContract:
    """Subclass it and give fixtures ``store`` and ``upkeep`` of one empty bucket."""

    def test_objects_are_listed_by_prefix_with_size_and_time(
        self, store: ObjectStore, upkeep: Upkeep
    ) -> None:
        for key in ("m/b", "m/a/c", "n"):
            store.put(key, key.encode())
        found = list(upkeep.objects("m/"))
        assert [(item.key, item.size) for item in found] == [("m/a/c", 5), ("m/b", 3)]
        assert all(abs(item.modified - time.time()) < _SECONDS for item in found)
        assert list(upkeep.objects("none/")) == []

    def test_what_was_removed_is_gone_and_frees_its_bytes(
        self, store: ObjectStore, upkeep: Upkeep
    ) -> None:
        store.put("a", b"a")
        assert not upkeep.remove("a")
        assert not upkeep.remove("a")
        assert store.head("a") is None

    def test_there_are_no_uploads_at_first(self, upkeep: Upkeep) -> None:
        assert list(upkeep.uploads("")) == []


class TestMemoryUpkeep(UpkeepContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def upkeep(self, store: MemoryStore) -> MemoryUpkeep:
        return MemoryUpkeep(store, now=int(time.time()))


@dataclass
class Bucket:
    """One bucket of a real server, and boto3's own client for it."""

    name: str
    client: S3Client

    def begin(self, key: str, parts: int = 1) -> str:
        """Leave a multipart upload unfinished."""
        begun = self.client.create_multipart_upload(Bucket=self.name, Key=key)
        for number in range(1, parts + 1):
            self.client.upload_part(
                Bucket=self.name,
                Key=key,
                UploadId=begun["UploadId"],
                PartNumber=number,
                Body=_PART,
            )
        return begun["UploadId"]


class S3UpkeepContract(UpkeepContract):
    """Subclass it and give a fixture ``server``."""

    @pytest.fixture
    def bucket(self, server: S3, login: None) -> Bucket:
        name = f"upkeep-{uuid.uuid4().hex[:12]}"
        server.create_bucket(name)
        return Bucket(name, connect(endpoint=server.url, region=server.region))

    @pytest.fixture(autouse=True)
    def login(self, server: S3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.credentials.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.credentials.secret_key)

    @pytest.fixture
    def store(self, server: S3, bucket: Bucket, login: None) -> ObjectStore:
        return open_bucket(bucket.name, endpoint=server.url, region=server.region)

    @pytest.fixture
    def upkeep(self, server: S3, bucket: Bucket, login: None) -> Upkeep:
        return open_upkeep(bucket.name, endpoint=server.url, region=server.region)

    def test_uploads_are_told_with_their_parts_and_times(
        self, upkeep: Upkeep, bucket: Bucket
    ) -> None:
        ids = {key: bucket.begin(key, parts) for key, parts in (("m/a", 2), ("m/b", 0), ("n", 1))}
        found = list(upkeep.uploads("m/"))
        assert [(item.key, item.upload_id, item.parts, item.size) for item in found] == [
            ("m/a", ids["m/a"], 2, 2 * len(_PART)),
            ("m/b", ids["m/b"], 0, 0),
        ]
        for item in found:
            assert abs(item.begun - time.time()) < _SECONDS
            assert item.begun <= item.touched < time.time() + _SECONDS

    def test_two_uploads_of_one_key_are_two(self, upkeep: Upkeep, bucket: Bucket) -> None:
        ids = {bucket.begin("m/a", 0), bucket.begin("m/a", 1)}
        assert {item.upload_id for item in upkeep.uploads("m/")} == ids

    def test_an_upload_that_was_ended_is_gone_and_its_neighbour_stays(
        self, upkeep: Upkeep, bucket: Bucket
    ) -> None:
        bucket.begin("m/a")
        kept = bucket.begin("m/b")
        first, second = upkeep.uploads("m/")
        assert upkeep.end(first)
        assert upkeep.end(first)
        assert [item.upload_id for item in upkeep.uploads("m/")] == [kept] == [second.upload_id]

    def test_ending_an_upload_that_was_completed_meanwhile_is_success(
        self, upkeep: Upkeep, bucket: Bucket, store: ObjectStore
    ) -> None:
        bucket.begin("m/a")
        (upload,) = upkeep.uploads("m/")
        (part,) = bucket.client.list_parts(
            Bucket=bucket.name, Key="m/a", UploadId=upload.upload_id
        )["Parts"]
        bucket.client.complete_multipart_upload(
            Bucket=bucket.name,
            Key="m/a",
            UploadId=upload.upload_id,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )
        assert upkeep.end(upload)
        found = store.head("m/a")
        assert found is not None
        assert found.size == len(_PART)

    def test_in_a_bucket_with_versions_removed_objects_are_only_hidden(
        self, upkeep: Upkeep, bucket: Bucket, store: ObjectStore
    ) -> None:
        bucket.client.put_bucket_versioning(
            Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
        store.put("a", b"a")
        assert upkeep.remove("a")
        assert store.head("a") is None
        versions = bucket.client.list_object_versions(Bucket=bucket.name, Prefix="a")
        assert len(versions["Versions"]) == 1

    def test_a_bucket_that_is_not_there_is_told(self, server: S3, login: None) -> None:
        upkeep = open_upkeep("absent-bucket", endpoint=server.url, region=server.region)
        for look in (upkeep.objects, upkeep.uploads):
            with pytest.raises(WorldError, match="no such bucket"):
                list(look("a"))

    def test_whoever_may_not_is_told(
        self, server: S3, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        upkeep = open_upkeep(bucket.name, endpoint=server.url, region=server.region)
        upload = UnfinishedUpload(key="a", upload_id="u", begun=0, touched=0, parts=0, size=0)
        calls: list[Callable[[], object]] = [
            lambda: list(upkeep.objects("")),
            lambda: list(upkeep.uploads("")),
            lambda: upkeep.end(upload),
            lambda: upkeep.remove("a"),
        ]
        for call in calls:
            with pytest.raises(DeniedError):
                call()


class TestSeaweedFs(S3UpkeepContract):
    @pytest.fixture
    def server(self, s3: S3) -> S3:
        return s3


@pytest.fixture(scope="module")
def minio() -> Iterator[S3]:
    need(lambda: program("minio"))
    with start_s3("minio") as server:
        yield server


class TestMinio(S3UpkeepContract):
    @pytest.fixture
    def server(self, minio: S3) -> S3:
        return minio

    def test_a_locked_object_is_hidden_and_that_is_said(self, server: S3, login: None) -> None:
        client = connect(endpoint=server.url, region=server.region)
        client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        store = open_bucket("locked", endpoint=server.url, region=server.region)
        upkeep = open_upkeep("locked", endpoint=server.url, region=server.region)
        store.put("a", b"a")
        client.put_object_legal_hold(Bucket="locked", Key="a", LegalHold={"Status": "ON"})
        assert upkeep.remove("a")
        assert store.head("a") is None
