"""Uploads of checkpoints to real servers: whoever else is there, and whatever came before."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from bundler.errors import WorldError
from bundler.events import Event, Noted, Started
from bundler.object_settings import ObjectSettings
from bundler.parts import SMALLEST_PART, s3_checksum
from bundler.publish.plan import State
from bundler.publish.upload import UploadOptions
from bundler.reference import S3Prefix
from bundler.stores.base import Incoming, ObjectStore
from bundler.stores.opening import open_bucket
from bundler.stores.retry import Patience
from tests.integration.s3_proxy import Answer, Call, Pass, Proxy, proxy
from tests.integration.uploading import PARTS, Cargo, make_cargo, upload, upload_elsewhere
from tests.rehearsal.fixtures import need
from tests.rehearsal.minio import KMS_KEY
from tests.rehearsal.s3 import S3, program
from tests.rehearsal.s3 import s3 as start_s3

_MB = 1_000_000
_RATE = 30 * _MB  # so that each large part takes some seconds


@pytest.fixture(scope="module")
def cargo(tmp_path_factory: pytest.TempPathFactory) -> Cargo:
    return make_cargo(tmp_path_factory.mktemp("cargo"))


@pytest.fixture(scope="module")
def minio() -> Iterator[S3]:
    need(lambda: program("minio"))
    with start_s3("minio") as server:
        yield server


@pytest.fixture(params=["seaweedfs", "minio"])
def server(request: pytest.FixtureRequest) -> S3:
    """Give a server that lists no checksums of parts, and one that does."""
    found: S3 = request.getfixturevalue("s3" if request.param == "seaweedfs" else "minio")
    return found


@dataclass
class Bucket:
    """A new bucket behind a proxy that counts."""

    server: S3
    between: Proxy
    place: S3Prefix
    events: list[Event] = field(default_factory=list)

    def open(
        self, settings: ObjectSettings | None = None, patience: Patience | None = None
    ) -> ObjectStore:
        return open_bucket(
            self.place.bucket,
            endpoint=self.between.url,
            region=self.server.region,
            objects=settings,
            patience=patience,
        )

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Noted)]

    def unfinished(self) -> list[str]:
        found = self.client().list_multipart_uploads(
            Bucket=self.place.bucket, Prefix=self.place.key("model.safetensors")
        )
        return [upload["UploadId"] for upload in found.get("Uploads", ())]

    def parts_there(self) -> int:
        """Count the parts of unfinished uploads."""
        there = 0
        for upload_id in self.unfinished():
            found = self.client().list_parts(
                Bucket=self.place.bucket,
                Key=self.place.key("model.safetensors"),
                UploadId=upload_id,
            )
            there += len(found.get("Parts", ()))
        return there

    def client(self) -> Any:
        """Ask the server itself, past the proxy."""
        return boto3.Session().client(
            "s3", endpoint_url=self.server.url, region_name=self.server.region
        )

    def parts_sent(self) -> int:
        return self.between.operations().count("UploadPart")


def _bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.credentials.secret_key)
    name = f"test-{uuid.uuid4().hex[:12]}"
    server.create_bucket(name)
    with proxy(server) as between:
        yield Bucket(server, between, S3Prefix(name, "llm/checkpoints/point"))


@pytest.fixture
def bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    yield from _bucket(server, monkeypatch)


@pytest.fixture
def of_minio(minio: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    yield from _bucket(minio, monkeypatch)


def require_whole(bucket: Bucket, cargo: Cargo) -> None:
    """Hold what is there against what was signed."""
    store = bucket.open()
    for file in cargo.checkpoint.files:
        found = store.head(bucket.place.key(file.path))
        assert found is not None
        assert (found.size, found.checksum) == (file.size, s3_checksum(file.parts))
    assert bucket.unfinished() == []


def begin(cargo: Cargo, bucket: Bucket, store: ObjectStore, notes: list[str]) -> Incoming:
    """Begin to bring the large file."""
    [file] = [file for file in cargo.checkpoint.files if len(file.parts) == PARTS]
    return store.begin(
        bucket.place.key(file.path), size=file.size, parts=file.parts, note=notes.append
    )


def bring(cargo: Cargo, incoming: Incoming, *numbers: int) -> None:
    """Send some parts of the large file."""
    contents = [b"\x01" * SMALLEST_PART, b"\x02" * SMALLEST_PART, b"tail"]
    for span in incoming.missing:
        if span.number in numbers:
            part = contents[span.number - 1]
            incoming.send(span, partial(iter, (part,)), lambda step: None)


def test_a_checkpoint_is_sent_once_and_then_never_again(bucket: Bucket, cargo: Cargo) -> None:
    upload(cargo, bucket.open(), bucket.place, emit=bucket.events.append)
    require_whole(bucket, cargo)
    assert bucket.parts_sent() == PARTS
    assert "point_1.tar is not needed here any more" in bucket.notes[-1]
    bucket.between.calls.clear()
    plan = upload(cargo, bucket.open(), bucket.place)
    assert {step.state for step in plan.steps} == {State.PRESENT}
    assert set(bucket.between.operations()) <= {"ListObjectsV2", "HeadObject"}


@pytest.mark.parametrize("rehash", [False, True])
def test_a_run_that_was_killed_is_finished_by_the_next(
    bucket: Bucket, cargo: Cargo, rehash: bool
) -> None:
    running = upload_elsewhere(
        cargo, bucket.between.url, bucket.server.region, bucket.place, rate=_RATE
    )
    while not bucket.parts_there():
        time.sleep(0.05)
        assert running.process.is_alive()
    running.process.kill()
    running.process.join()
    bucket.between.calls.clear()
    upload(
        cargo,
        bucket.open(),
        bucket.place,
        options=UploadOptions(rehash=rehash),
        emit=bucket.events.append,
    )
    require_whole(bucket, cargo)
    assert bucket.parts_sent() <= 2
    assert "goes on with an upload that was begun at" in bucket.notes[0]
    [sent] = [
        event.total
        for event in bucket.events
        if isinstance(event, Started) and "model.safetensors" in event.item
    ]
    assert sent is not None


def test_two_publishers_at_once_both_finish_and_know_of_each_other(
    bucket: Bucket, cargo: Cargo
) -> None:
    both = [
        upload_elsewhere(cargo, bucket.between.url, bucket.server.region, bucket.place, rate=_RATE)
        for _ in range(2)
    ]
    notes = [text for publisher in both for text in publisher.end()]
    require_whole(bucket, cargo)
    assert [text for text in notes if re.search("another publisher|goes on with", text)]
    assert len([text for text in notes if "is not needed here any more" in text]) == 2


def test_an_upload_that_somebody_completes_while_we_send_is_a_success(
    bucket: Bucket, cargo: Cargo
) -> None:
    notes: list[str] = []
    ours = begin(cargo, bucket, bucket.open(), notes)
    theirs = begin(cargo, bucket, bucket.open(), [])
    bring(cargo, theirs, 1, 2, 3)
    theirs.complete()
    bring(cargo, ours, 1, 2, 3)
    ours.complete()
    assert [text for text in notes if "another publisher sends it too, and has completed" in text]
    found = bucket.open().head(bucket.place.key("model.safetensors"))
    assert found is not None
    assert found.checksum == s3_checksum(cargo.checkpoint.files[1].parts)
    assert bucket.unfinished() == []


def test_parts_that_another_publisher_brings_are_not_sent_by_us(
    of_minio: Bucket, cargo: Cargo
) -> None:
    times = iter(range(0, 10_000, 60))
    notes: list[str] = []
    hasty = of_minio.open(patience=Patience(clock=lambda: next(times)))
    ours = begin(cargo, of_minio, hasty, notes)
    theirs = begin(cargo, of_minio, of_minio.open(), [])
    bring(cargo, theirs, 2)
    of_minio.between.calls.clear()
    bring(cargo, ours, 1, 2, 3)
    ours.complete()
    assert of_minio.parts_sent() == PARTS - 1
    assert [text for text in notes if "1 parts came from elsewhere" in text]


SETTINGS = ObjectSettings(
    kms_key=KMS_KEY, storage_class="REDUCED_REDUNDANCY", tags={"team": "llm + co/a=b", "empty": ""}
)


def test_every_object_is_made_as_the_target_says(of_minio: Bucket, cargo: Cargo) -> None:
    store = of_minio.open(SETTINGS)
    upload(cargo, store, of_minio.place)
    store.put("small", b"1")
    store.replace("pointer", b"1")
    client = of_minio.client()
    keys = [item.key for item in store.list("")]
    assert len(keys) == 5
    for key in keys:
        found = client.head_object(Bucket=of_minio.place.bucket, Key=key)
        assert found["SSEKMSKeyId"].endswith(KMS_KEY)
        assert found["StorageClass"] == "REDUCED_REDUNDANCY"
        tags = client.get_object_tagging(Bucket=of_minio.place.bucket, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == dict(SETTINGS.tags)
    making = {"PutObject", "CreateMultipartUpload"}
    for call in of_minio.between.calls:
        sent = {name.lower() for name in call.headers}
        assert ("x-amz-server-side-encryption-bucket-key-enabled" in sent) == (
            call.operation in making
        )
        assert not {name for name in sent if "acl" in name or "grant" in name}


@pytest.mark.parametrize("large", [False, True])
def test_a_server_that_does_not_encrypt_as_it_was_told_is_refused(
    of_minio: Bucket, cargo: Cargo, large: bool
) -> None:
    def forget(call: Call, ask: Pass) -> Answer:
        answer = ask()
        kept = {k: v for k, v in answer.headers.items() if "encryption" not in k.lower()}
        return Answer(answer.status, kept, answer.body)

    of_minio.between.fault = forget
    store = of_minio.open(SETTINGS)

    def make() -> None:
        if large:
            bring(cargo, begin(cargo, of_minio, store, []), 1)
        else:
            store.put("small", b"1")

    with pytest.raises(WorldError, match=f"to encrypt it with the KMS key {KMS_KEY}, got nothing"):
        make()
    assert of_minio.parts_sent() == large


def test_with_a_kms_key_no_etag_is_taken_for_an_md5(of_minio: Bucket, cargo: Cargo) -> None:
    def hide(call: Call, ask: Pass) -> Answer:
        answer = ask()
        body = re.sub(b"<ChecksumSHA256>.*?</ChecksumSHA256>", b"", answer.body)
        return Answer(answer.status, answer.headers, body)

    of_minio.between.fault = hide
    bring(cargo, begin(cargo, of_minio, of_minio.open(SETTINGS), []), 1)
    of_minio.between.calls.clear()
    ours = begin(cargo, of_minio, of_minio.open(SETTINGS), [])
    bring(cargo, ours, 1, 2, 3)
    ours.complete()
    assert of_minio.parts_sent() == PARTS


def test_a_wrong_part_is_named_with_its_archive_and_offset_and_nothing_is_completed(
    bucket: Bucket, cargo: Cargo, tmp_path: Path
) -> None:
    broken = Cargo(cargo.checkpoint, tmp_path / "point_1.tar")
    broken.archive.write_bytes(cargo.archive.read_bytes())
    file = cargo.checkpoint.files[1]
    with broken.archive.open("r+b") as archive:
        archive.seek(file.offset + SMALLEST_PART + 5)
        archive.write(b"\xff")
    with pytest.raises(Exception, match=r"point_1\.tar.*model\.safetensors.*part 2") as caught:
        upload(broken, bucket.open(), bucket.place)
    assert str(file.offset + SMALLEST_PART) in str(caught.value)
    assert list(bucket.open().list("")) == []
    assert bucket.parts_sent() <= PARTS  # and none was tried again
    upload(cargo, bucket.open(), bucket.place)
    require_whole(bucket, cargo)
