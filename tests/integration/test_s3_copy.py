"""From bucket to bucket: the server takes parts out of the archive, and proves each of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bundler.errors import ContentError, WorldError
from bundler.events import Event, Noted
from bundler.manifest import Checkpoint, CheckpointFile
from bundler.parts import MIB, s3_checksum
from bundler.publish.objects import plan_checkpoint
from bundler.publish.plan import Plan
from bundler.publish.upload import Upload, UploadOptions
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease, open_release
from bundler.remote_object import RemoteObject
from bundler.stores.base import ObjectStore
from bundler.stores.opening import open_bucket
from tests.integration.released_in_s3 import Copied, copy_to, s3_client
from tests.integration.s3_proxy import Answer, Call, Pass, Proxy, proxy, refusal
from tests.publishable import Recipe, make_publishable
from tests.rehearsal.fixtures import need
from tests.rehearsal.s3 import S3, program
from tests.rehearsal.s3 import s3 as start_s3
from tests.small_release import noise

SMALL = {"config.json": b"{}\n", "empty.txt": b""}
RECIPE = Recipe(
    checkpoints={"big_1": {**SMALL, "model.safetensors": noise(MIB, 3) * 66}},
    models={"big": "big_1"},
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    """Give a release with a file of two parts, an empty one and a small one."""
    return make_publishable(tmp_path_factory.mktemp("release") / "demo", RECIPE)


@pytest.fixture(scope="module")
def original(s3: S3, release: TrustedRelease) -> Copied:
    """Give the release in a bucket of SeaweedFS; tests change copies of it."""
    return copy_to(s3, release.directory)


@pytest.fixture(scope="module")
def original_at_minio(release: TrustedRelease) -> Iterator[Copied]:
    """Give the release in a bucket of MinIO."""
    need(lambda: program("minio"))
    with start_s3("minio") as server:
        yield copy_to(server, release.directory)


@dataclass
class Transfer:
    """A release in one bucket, and the bucket that its checkpoint goes to, behind a proxy.

    Attributes:
        copied: The release.
        release: The same, opened through the proxy.
        between: The proxy.
        store: The destination, through the proxy.
        received: Bytes of the bodies that the client got.
    """

    copied: Copied
    release: TrustedRelease
    between: Proxy
    store: ObjectStore
    events: list[Event] = field(default_factory=list)
    received: int = 0

    @property
    def checkpoint(self) -> Checkpoint:
        [found] = self.release.manifest.checkpoints
        return found

    @property
    def weights(self) -> CheckpointFile:
        [found] = [file for file in self.checkpoint.files if len(file.parts) > 1]
        return found

    @property
    def place(self) -> S3Prefix:
        return S3Prefix(self.copied.where.bucket, "llm/big")

    @property
    def said(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Noted))

    @property
    def sent(self) -> int:
        return sum(int(call.headers.get("Content-Length", 0)) for call in self.between.calls)

    def send(self, **options: Any) -> None:
        """Bring the checkpoint to its place."""
        self.between.calls.clear()
        self.received = 0
        steps = plan_checkpoint(self.store, self.checkpoint, self.place, self.events.append)
        plan = Plan(release="demo", manifest=self.checkpoint.digest, steps=tuple(steps))
        upload = Upload(
            store=self.store,
            place=self.release.require_place,
            checks_content=True,
            stop=threading.Event(),
            emit=self.events.append,
            options=UploadOptions(**options),
        )
        upload.send(plan, [(self.checkpoint, self.place)])

    def fail(self, fault: Callable[[Call, Pass], Answer | None]) -> None:
        """Let the proxy do something else; what the client gets is counted all the same."""

        def counted(call: Call, ask: Pass) -> Answer | None:
            answer = fault(call, ask)
            self.received += len(answer.body) if answer else 0
            return answer

        self.between.fault = counted

    def copies(self) -> list[Call]:
        """Give the requests that copied a part, by its number."""
        found = [call for call in self.between.calls if is_copy(call)]
        return sorted(found, key=lambda call: int(call.query["partNumber"]))

    def parts_sent(self) -> list[str]:
        """Give the numbers of the parts that the client sent."""
        return sorted(
            call.query["partNumber"]
            for call in self.between.calls
            if call.operation == "UploadPart" and not is_copy(call)
        )

    def stored(self) -> dict[str, tuple[int, str | None]]:
        """Give size and checksum of each object at the place, by its path below it."""
        found = {}
        for item in list(self.store.list(f"{self.place.prefix}/")):
            head = self.store.head(item.key)
            assert head is not None
            found[item.key.removeprefix(f"{self.place.prefix}/")] = (head.size, head.checksum)
        return found

    def as_signed(self) -> dict[str, tuple[int, str | None]]:
        """Give what ``stored`` must be when all is there."""
        return {file.path: (file.size, s3_checksum(file.parts)) for file in self.checkpoint.files}


def is_copy(call: Call) -> bool:
    return any(name.lower() == "x-amz-copy-source" for name in call.headers)


@pytest.fixture
def transfer(
    request: pytest.FixtureRequest, release: TrustedRelease, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Transfer]:
    """Give a transfer within one server: SeaweedFS, or the one that the test names."""
    original: Copied = request.getfixturevalue(getattr(request, "param", "original"))
    server = original.server
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.credentials.secret_key)
    copied = original.again()
    with proxy(server) as between:
        found = Transfer(
            copied=copied,
            release=open_release(copied.files(between.url), release.trust),
            between=between,
            store=open_bucket(copied.where.bucket, endpoint=between.url, region=server.region),
        )
        found.fail(lambda _, ask: ask())
        yield found


def test_parts_are_copied_by_the_server_and_no_byte_of_them_comes_here(transfer: Transfer) -> None:
    transfer.send()
    assert transfer.stored() == transfer.as_signed()
    copies = transfer.copies()
    assert [call.query["partNumber"] for call in copies] == ["1", "2"]
    archive, offset = transfer.release.require_place("big_1.tar"), transfer.weights.offset
    assert isinstance(archive, RemoteObject)
    ranges = [call.headers["x-amz-copy-source-range"] for call in copies]
    assert ranges == [
        f"bytes={offset}-{offset + 64 * MIB - 1}",
        f"bytes={offset + 64 * MIB}-{offset + 66 * MIB - 1}",
    ]
    assert {call.headers["x-amz-copy-source-if-match"] for call in copies} == {archive.etag}
    assert transfer.parts_sent() == []
    # Listings, answers, the small files, and the pages that hold their part of the archive.
    assert transfer.received < 100_000
    assert transfer.sent < 10_000
    assert transfer.said.count("S3 itself copies 2 parts: no byte comes here") == 1
    transfer.send()
    assert not transfer.copies()


def test_wrong_bytes_in_the_archive_are_named_and_nothing_is_completed(
    transfer: Transfer, release: TrustedRelease
) -> None:
    transfer.copied.flip("big_1.tar", transfer.weights.offset + 65 * MIB)
    files = transfer.copied.files(transfer.between.url)
    transfer.release = open_release(files, release.trust)
    with pytest.raises(ContentError) as caught:
        transfer.send()
    text = str(caught.value)
    assert text.startswith("big_1.tar: model.safetensors, part 2, from offset ")
    assert f"offset {transfer.weights.offset + 64 * MIB}" in text
    assert str(transfer.weights.parts[1]) in text
    assert transfer.stored() == {}


def test_an_archive_that_is_replaced_is_never_copied_from(transfer: Transfer) -> None:
    """The bytes that are signed are the same: what was listed is what counts."""

    def replace_first(call: Call, ask: Pass) -> Answer:
        if is_copy(call) and call.query["partNumber"] == "2":
            whole = (transfer.copied.directory / "big_1.tar").read_bytes()
            transfer.copied.put("big_1.tar", whole + b"more")
        return ask()

    transfer.fail(replace_first)
    with pytest.raises(WorldError, match=r"big_1\.tar: changed while it was read"):
        transfer.send(parallel=1)
    assert transfer.stored() == {}


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (501, "NotImplemented"), (400, "InvalidRequest"), (404, "NoSuchKey")],
)
def test_a_server_that_does_not_copy_is_asked_once_and_told_of(
    transfer: Transfer, status: int, code: str
) -> None:
    transfer.fail(lambda call, ask: refusal(status, code) if is_copy(call) else ask())
    transfer.send(parallel=1)
    assert len(transfer.copies()) == 1
    assert transfer.parts_sent() == ["1", "2"]
    assert transfer.stored() == transfer.as_signed()
    assert transfer.said.count("parts go through this machine: ") == 1
    assert f"does not copy them ({code})\n" in f"{transfer.said}\n"
    assert "S3 itself copies" not in transfer.said


@pytest.mark.parametrize(
    ("checksum", "said"),
    [
        ("", "tells no SHA-256 of what it copied"),
        ("<ChecksumSHA256>AAAA</ChecksumSHA256>", "tells another SHA-256 than was signed"),
    ],
)
def test_a_copy_that_the_server_does_not_prove_is_sent_instead(
    transfer: Transfer, checksum: str, said: str
) -> None:
    def unproven(call: Call, ask: Pass) -> Answer:
        answer = ask()
        if not is_copy(call):
            return answer
        body = re.sub(rb"<ChecksumSHA256>.*</ChecksumSHA256>", checksum.encode(), answer.body)
        assert body != answer.body
        return replace(answer, body=body)

    transfer.fail(unproven)
    transfer.send(parallel=1)
    assert len(transfer.copies()) == 1
    assert transfer.parts_sent() == ["1", "2"]
    assert transfer.stored() == transfer.as_signed()
    assert said in transfer.said


def test_a_checksum_that_only_the_listing_of_parts_tells_is_proof(transfer: Transfer) -> None:
    told: dict[str, str] = {}

    def in_listing(call: Call, ask: Pass) -> Answer:
        answer = ask()
        if is_copy(call):
            found = re.search(rb"<ChecksumSHA256>(.*)</ChecksumSHA256>", answer.body)
            assert found is not None
            told[call.query["partNumber"]] = found[1].decode()
            return replace(answer, body=answer.body.replace(found[0], b""))
        if call.operation == "ListParts" and call.query.get("max-parts") == "1":
            number = str(int(call.query["part-number-marker"]) + 1)
            part = f"<Part><PartNumber>{number}</PartNumber>"
            part += f"<ChecksumSHA256>{told[number]}</ChecksumSHA256></Part>"
            body = f"<ListPartsResult>{part}</ListPartsResult>".encode()
            return Answer(200, {"Content-Type": "application/xml"}, body)
        return answer

    transfer.fail(in_listing)
    transfer.send(parallel=1)
    assert len(transfer.copies()) == 2
    assert transfer.parts_sent() == []
    assert transfer.stored() == transfer.as_signed()


def test_what_fails_for_a_moment_is_copied_in_the_end(transfer: Transfer) -> None:
    """An answer of 200 may hold an error too."""
    failures = [refusal(200, "InternalError"), refusal(503, "SlowDown")]

    def failing(call: Call, ask: Pass) -> Answer:
        return failures.pop() if is_copy(call) and failures else ask()

    transfer.fail(failing)
    transfer.send()
    assert transfer.parts_sent() == []
    assert transfer.stored() == transfer.as_signed()


def test_a_transfer_that_was_cut_off_is_gone_on_with(transfer: Transfer) -> None:
    """The first run ends after one part; the second uses its upload, and leaves none behind."""
    transfer.fail(
        lambda call, ask: (
            refusal(403, "InvalidAccessKeyId")
            if is_copy(call) and call.query["partNumber"] == "2"
            else ask()
        )
    )
    with pytest.raises(WorldError):
        transfer.send(parallel=1)
    assert transfer.stored() == {}
    transfer.fail(lambda _, ask: ask())
    transfer.send()
    assert "2" in [call.query["partNumber"] for call in transfer.copies()]
    assert transfer.stored() == transfer.as_signed()
    uploads = s3_client(transfer.copied.server).list_multipart_uploads(
        Bucket=transfer.copied.where.bucket
    )
    assert not uploads.get("Uploads")


def test_the_careful_read_every_part_themselves(transfer: Transfer) -> None:
    transfer.send(rehash=True)
    assert not transfer.copies()
    assert transfer.parts_sent() == ["1", "2"]
    assert transfer.stored() == transfer.as_signed()


def test_from_another_server_parts_go_through_this_machine(
    transfer: Transfer, release: TrustedRelease
) -> None:
    with proxy(transfer.copied.server) as elsewhere:
        transfer.release = open_release(transfer.copied.files(elsewhere.url), release.trust)
        transfer.send()
    assert not transfer.copies()
    assert transfer.parts_sent() == ["1", "2"]
    assert transfer.stored() == transfer.as_signed()
    assert "parts go through this machine: the release lies on another server" in transfer.said


@pytest.mark.parametrize("transfer", ["original_at_minio"], indirect=True)
def test_minio_does_not_copy_such_parts_and_all_arrives_yet(transfer: Transfer) -> None:
    transfer.send()
    assert transfer.parts_sent() == ["1", "2"]
    assert transfer.stored() == transfer.as_signed()
    assert "does not copy them" in transfer.said
