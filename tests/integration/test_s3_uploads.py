"""Uploads of checkpoints to real servers: whoever else is there, and whatever came before."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from bundler.digest import Digest
from bundler.errors import ConflictError, ContentError, WorldError
from bundler.events import Advanced, Event, Noted, Started
from bundler.object_settings import ObjectSettings
from bundler.parts import SMALLEST_PART, s3_checksum
from bundler.publish.plan import State
from bundler.publish.rate_limit import RateLimit
from bundler.publish.status import Standing
from bundler.publish.status_checkpoints import judge_object
from bundler.publish.upload import UploadOptions
from bundler.reference import S3Prefix
from bundler.stores.base import Incoming, ObjectStore
from bundler.stores.opening import open_bucket
from bundler.stores.retry import Patience
from tests.integration.s3_proxy import Answer, Call, Fault, Pass, Proxy, proxy, refusal
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


def require_whole(bucket: Bucket, cargo: Cargo, *names: str) -> None:
    """Hold what is there, all or these files, against what was signed."""
    store = bucket.open()
    for file in (file for file in cargo.checkpoint.files if not names or file.path in names):
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
    unproven = bucket.server.kind == "seaweedfs"
    told = "tells no SHA-256: they are compared by MD5, or come again" in bucket.notes[0]
    assert told is unproven
    [sent] = [
        event.total
        for event in bucket.events
        if isinstance(event, Started) and "model.safetensors" in event.item
    ]
    assert sent is not None


def test_two_publishers_at_once_both_finish_and_know_of_each_other(
    bucket: Bucket, cargo: Cargo
) -> None:
    slow, fast = _RATE // 2, 2 * _RATE
    url, region = bucket.between.url, bucket.server.region
    first = upload_elsewhere(cargo, url, region, bucket.place, rate=slow)
    while not bucket.unfinished():
        time.sleep(0.05)
        assert first.process.is_alive()
    second = upload_elsewhere(cargo, url, region, bucket.place, rate=fast)
    notes = {"second": second.end(), "first": first.end()}
    require_whole(bucket, cargo)
    assert [text for text in notes["second"] if "goes on with an upload that was begun" in text]
    assert [text for text in notes["first"] if "another publisher sends it too" in text]
    for each in notes.values():
        assert len([text for text in each if "is not needed here any more" in text]) == 1


def test_who_began_an_upload_and_finishes_first_says_that_another_sends_it_too(
    bucket: Bucket, cargo: Cargo
) -> None:
    notes: list[str] = []
    ours = begin(cargo, bucket, bucket.open(), notes)
    theirs = begin(cargo, bucket, bucket.open(), [])
    bring(cargo, ours, 1, 2, 3)
    time.sleep(1.1)  # servers tell the time in seconds
    bring(cargo, theirs, 1)
    ours.complete()
    assert [text for text in notes if "another publisher sends it too" in text]
    require_whole(bucket, cargo, "model.safetensors")


def test_two_that_began_an_upload_each_both_say_that_another_sends_it_too(
    bucket: Bucket, cargo: Cargo
) -> None:
    notes: list[list[str]] = [[], []]
    bucket.between.fault = _list_no_uploads
    both = [begin(cargo, bucket, bucket.open(), heard) for heard in notes]
    bucket.between.fault = lambda _, ask: ask()
    for incoming in both:
        bring(cargo, incoming, 1, 2, 3)
    for incoming in both:
        incoming.complete()
    assert ["another publisher sends it too" in " ".join(heard) for heard in notes] == [True, True]
    require_whole(bucket, cargo, "model.safetensors")


def _list_no_uploads(call: Call, ask: Pass) -> Answer:
    if call.operation != "ListMultipartUploads":
        return ask()
    empty = b"<ListMultipartUploadsResult></ListMultipartUploadsResult>"
    return Answer(200, {"Content-Type": "application/xml"}, empty)


def test_who_is_alone_hears_of_nobody_and_looks_once(bucket: Bucket, cargo: Cargo) -> None:
    notes: list[str] = []
    ours = begin(cargo, bucket, bucket.open(), notes)
    bring(cargo, ours, 1)
    again = begin(cargo, bucket, bucket.open(), notes)
    bring(cargo, again, 1, 2, 3)
    bucket.between.calls.clear()
    again.complete()
    assert bucket.between.operations().count("ListParts") == 1
    assert bucket.between.operations().count("ListMultipartUploads") == 0
    assert len(notes) == 1
    assert "goes on with" in notes[0]


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
    assert [text for text in notes if "1 part came from elsewhere" in text]


def test_an_answer_to_the_begin_that_is_lost_leaves_no_upload(bucket: Bucket, cargo: Cargo) -> None:
    lost: list[Call] = []

    def lose(call: Call, ask: Pass) -> Answer | None:
        answer = ask()
        if call.operation != "CreateMultipartUpload" or lost:
            return answer
        lost.append(call)
        return None

    bucket.between.fault = lose
    incoming = begin(cargo, bucket, bucket.open(), [])
    assert lost
    bring(cargo, incoming, 1, 2, 3)
    incoming.complete()
    require_whole(bucket, cargo, "model.safetensors")


ENCRYPTED = ObjectSettings(kms_key=KMS_KEY)
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
            bring(cargo, begin(cargo, of_minio, store, []), 1, 2, 3)
        else:
            store.put("small", b"1")

    for _ in range(2):  # what the first left is not there, nor taken for right
        with pytest.raises(WorldError, match=f"with the KMS key {KMS_KEY}, got nothing"):
            make()
        assert list(store.list("")) == []
    assert of_minio.parts_sent() == 2 * large


@pytest.mark.parametrize("large", [False, True])
def test_a_server_that_encrypts_with_another_key_is_refused(
    of_minio: Bucket, cargo: Cargo, large: bool
) -> None:
    def other(call: Call, ask: Pass) -> Answer:
        answer = ask()
        key = "arn:aws:kms:us-east-1:1:key/another"
        headers = {k: key if "kms-key-id" in k.lower() else v for k, v in answer.headers.items()}
        return Answer(answer.status, headers, answer.body)

    of_minio.between.fault = other
    store = of_minio.open(SETTINGS)
    send: Callable[[], object] = partial(store.put, "small", b"1")
    if large:
        send = partial(bring, cargo, begin(cargo, of_minio, store, []), 1)
    with pytest.raises(WorldError, match="got aws:kms arn:aws:kms:us-east-1:1:key/another"):
        send()
    assert list(store.list("")) == []


def test_an_upload_that_was_begun_without_the_key_is_not_completed(
    of_minio: Bucket, cargo: Cargo
) -> None:
    bring(cargo, begin(cargo, of_minio, of_minio.open(), []), 1, 2, 3)
    times = iter(range(0, 10_000, 60))
    notes: list[str] = []
    hasty = of_minio.open(ENCRYPTED, patience=Patience(clock=lambda: next(times)))
    ours = begin(cargo, of_minio, hasty, notes)
    with pytest.raises(WorldError, match="got nothing"):
        bring(cargo, ours, 1, 2, 3)
    assert not [text for text in notes if "another publisher" in text]
    assert list(of_minio.open().list("")) == []


def test_two_publishers_with_a_key_may_send_the_same_parts(of_minio: Bucket, cargo: Cargo) -> None:
    ours, theirs = (begin(cargo, of_minio, of_minio.open(ENCRYPTED), []) for _ in range(2))
    for number, first, last in [(1, ours, theirs), (2, theirs, ours), (3, ours, theirs)]:
        bring(cargo, first, number)
        bring(cargo, last, number)
    assert of_minio.parts_sent() == 2 * PARTS
    ours.complete()
    theirs.complete()
    require_whole(of_minio, cargo, "model.safetensors")


def _as_aws(upload_id: str) -> Fault:
    """Tell of no algorithm where there is none, and take no checksums for such an upload."""

    def answer(call: Call, ask: Pass) -> Answer:
        if call.operation == "UploadPart" and call.query["uploadId"] == upload_id:
            return refusal(400, "InvalidRequest", "expected checksum Type: null, actual: sha256")
        given = ask()
        body = re.sub(rb"<(Checksum(?:Algorithm|Type))></\1>", b"", given.body)
        return Answer(given.status, given.headers, body)

    return answer


def test_an_upload_that_was_begun_without_checksums_is_left_alone(
    of_minio: Bucket, cargo: Cargo
) -> None:
    key = of_minio.place.key("model.safetensors")
    where = {"Bucket": of_minio.place.bucket, "Key": key}
    theirs = of_minio.client().create_multipart_upload(**where)["UploadId"]
    of_minio.client().upload_part(
        **where, UploadId=theirs, PartNumber=1, Body=b"\x01" * SMALLEST_PART
    )
    of_minio.between.fault = _as_aws(theirs)
    ours = begin(cargo, of_minio, of_minio.open(), [])
    bring(cargo, ours, 1, 2, 3)
    ours.complete()
    assert of_minio.unfinished() == [theirs]
    assert [item.key for item in of_minio.open().list("")] == [key]


def test_an_upload_of_another_storage_class_is_left_alone(of_minio: Bucket, cargo: Cargo) -> None:
    of_minio.between.fault = _listing_classes(of_minio)
    one = begin(cargo, of_minio, of_minio.open(), [])
    bring(cargo, one, 1, 2)
    rare = ObjectSettings(storage_class="REDUCED_REDUNDANCY")
    notes: list[str] = []
    two = begin(cargo, of_minio, of_minio.open(rare), notes)
    assert (len(one.missing), len(two.missing), notes) == (1, PARTS, [])
    bring(cargo, two, 1)
    assert len(begin(cargo, of_minio, of_minio.open(rare), notes).missing) == PARTS - 1


def _listing_classes(bucket: Bucket) -> Fault:
    """List what each upload was begun with, as AWS does; this server names one class for all."""
    classes: dict[str, bytes] = {}

    def answer(call: Call, ask: Pass) -> Answer:
        given = ask()
        if call.operation == "CreateMultipartUpload":
            [upload_id] = re.findall(rb"<UploadId>(.*?)</UploadId>", given.body)
            asked = {name.lower(): value for name, value in call.headers.items()}
            classes[upload_id.decode()] = asked.get("x-amz-storage-class", "STANDARD").encode()
        if call.operation != "ListParts":
            return given
        shown = b"<StorageClass>" + classes[call.query["uploadId"]] + b"<"
        body = re.sub(b"<StorageClass>[^<]*<", shown, given.body)
        return Answer(given.status, given.headers, body)

    return answer


def test_it_is_told_that_an_older_upload_keeps_its_tags_and_class(
    of_minio: Bucket, cargo: Cargo
) -> None:
    bring(cargo, begin(cargo, of_minio, of_minio.open(), []), 1)
    notes: list[str] = []
    asked = ObjectSettings(storage_class="REDUCED_REDUNDANCY", tags={"team": "llm"})
    begin(cargo, of_minio, of_minio.open(asked), notes)
    assert "keeps the tags and storage class it was begun with" in notes[0]
    assert len(of_minio.unfinished()) == 1


def test_with_a_kms_key_no_etag_is_taken_for_an_md5(of_minio: Bucket, cargo: Cargo) -> None:
    of_minio.between.fault = _hide_checksums
    bring(cargo, begin(cargo, of_minio, of_minio.open(SETTINGS), []), 1)
    of_minio.between.calls.clear()
    ours = begin(cargo, of_minio, of_minio.open(SETTINGS), [])
    bring(cargo, ours, 1, 2, 3)
    ours.complete()
    assert of_minio.parts_sent() == PARTS


def test_the_same_bytes_that_somebody_cut_elsewhere_are_present(
    of_minio: Bucket, cargo: Cargo
) -> None:
    """As many parts as ours, and yet another checksum."""
    [file] = [file for file in cargo.checkpoint.files if len(file.parts) == PARTS]
    where = {"Bucket": of_minio.place.bucket, "Key": of_minio.place.key(file.path)}
    content = b"\x01" * SMALLEST_PART + b"\x02" * SMALLEST_PART + b"tail"
    _put_in_parts(of_minio, where, content, size=60 << 20)
    store = of_minio.open()
    found = store.head(where["Key"])
    assert found is not None
    assert found.checksum != s3_checksum(file.parts)
    assert str(found.checksum).endswith(f"-{PARTS}")
    assert judge_object("k", file, found, group="g").standing is Standing.DIFFERENT
    plan = upload(cargo, store, of_minio.place)
    [step] = [step for step in plan.steps if step.name == where["Key"]]
    assert step.state is State.PRESENT
    assert begin(cargo, of_minio, store, []).missing == ()
    other = (*file.parts[:-1], Digest.of(b"liat"))
    with pytest.raises(ConflictError):
        store.begin(where["Key"], size=file.size, parts=other)


def _put_in_parts(bucket: Bucket, where: dict[str, str], content: bytes, *, size: int) -> None:
    client = bucket.client()
    upload_id = client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
    parts = []
    for number, offset in enumerate(range(0, len(content), size), 1):
        part = content[offset : offset + size]
        sent = {"PartNumber": number, "ChecksumSHA256": Digest.of(part).base64}
        done = client.upload_part(**where, UploadId=upload_id, Body=part, **sent)
        parts.append({**sent, "ETag": done["ETag"]})
    client.complete_multipart_upload(**where, UploadId=upload_id, MultipartUpload={"Parts": parts})


def _hide_checksums(call: Call, ask: Pass) -> Answer:
    answer = ask()
    body = re.sub(b"<ChecksumSHA256>.*?</ChecksumSHA256>", b"", answer.body)
    return Answer(answer.status, answer.headers, body)


def test_what_is_proved_by_md5_is_not_held_to_the_rate(of_minio: Bucket, cargo: Cargo) -> None:
    class Watched(RateLimit):
        def paced(self, piece: memoryview) -> Iterator[memoryview]:
            paced.append(len(piece))
            return iter((piece,))

    paced: list[int] = []
    of_minio.between.fault = _hide_checksums
    bring(cargo, begin(cargo, of_minio, of_minio.open(), []), 1, 2)
    options = UploadOptions(limit=Watched(1))
    upload(cargo, of_minio.open(), of_minio.place, options=options, emit=of_minio.events.append)
    assert of_minio.parts_sent() == PARTS
    assert 0 < sum(paced) < SMALLEST_PART
    told = [event.step for event in of_minio.events if isinstance(event, Advanced)]
    assert sum(told) == sum(file.size for file in cargo.checkpoint.files)


@pytest.mark.parametrize("rehash", [False, True])
def test_a_wrong_part_is_named_with_its_archive_and_offset_and_nothing_is_completed(
    bucket: Bucket, cargo: Cargo, tmp_path: Path, rehash: bool
) -> None:
    broken = Cargo(cargo.checkpoint, tmp_path / "point_1.tar")
    broken.archive.write_bytes(cargo.archive.read_bytes())
    file = cargo.checkpoint.files[1]
    with broken.archive.open("r+b") as archive:
        archive.seek(file.offset + SMALLEST_PART + 5)
        archive.write(b"\xff")
    with pytest.raises(Exception, match=r"point_1\.tar.*model\.safetensors.*part 2") as caught:
        upload(broken, bucket.open(), bucket.place, options=UploadOptions(rehash=rehash))
    assert str(file.offset + SMALLEST_PART) in str(caught.value)
    assert isinstance(caught.value, ContentError)
    assert ("the S3 server refused these bytes" in str(caught.value.hint)) is not rehash
    assert list(bucket.open().list("")) == []
    assert bucket.parts_sent() <= PARTS  # and none was tried again
    upload(cargo, bucket.open(), bucket.place)
    require_whole(bucket, cargo)
