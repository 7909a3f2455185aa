"""What S3 can do to us, done to us: by a real server, or by a proxy before it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import boto3
import pytest

from bundler.archive.files import RandomReader
from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ConflictError,
    ContentError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.parts import SMALLEST_PART, s3_checksum
from bundler.stores.base import Note, ObjectStore, unnoted
from bundler.stores.opening import open_bucket
from bundler.stores.retry import Patience, Timeouts
from tests.integration.s3_proxy import Answer, Call, Fault, Pass, Proxy, proxy, refusal
from tests.rehearsal.aws import aws
from tests.rehearsal.s3 import S3, s3

_KEY = "checkpoints/m/model.safetensors"


@pytest.fixture(autouse=True)
def credentials(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials.secret_key)


@pytest.fixture
def between(s3: S3) -> Iterator[Proxy]:
    with proxy(s3) as running:
        yield running


@pytest.fixture
def store(between: Proxy, s3: S3, s3_bucket: str) -> ObjectStore:
    return open_bucket(s3_bucket, endpoint=between.url, region=s3.region)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file of two parts, of which the last is short."""
    path = tmp_path_factory.mktemp("faults") / "large"
    path.write_bytes(b"\x01" * SMALLEST_PART + b"tail")
    return path


PARTS = (Digest.of(b"\x01" * SMALLEST_PART), Digest.of(b"tail"))
SIZE = SMALLEST_PART + 4


def send(
    store: ObjectStore, path: Path, *, parts: Sequence[Digest] = PARTS, note: Note = unnoted
) -> int:
    """Upload the large file, and give how many bytes progress told of."""
    steps: list[int] = []
    incoming = store.begin(_KEY, size=SIZE, parts=parts, note=note)
    with RandomReader(path) as reader:
        for span in incoming.missing:
            pieces = partial(reader.pieces, span.offset, span.length)
            if incoming.holds(span, pieces):
                steps.append(span.length)
            else:
                incoming.send(span, pieces, steps.append)
    incoming.complete()
    return sum(steps)


def impatient(
    between: Proxy,
    s3: S3,
    bucket: str,
    *,
    sleep: Callable[[float], None] = lambda seconds: None,
    budget: float = 300.0,
    draw: Callable[[], float] = lambda: 0.5,
    idle: float = 60.0,
) -> ObjectStore:
    """Open a store that waits as a test wants it to."""
    return open_bucket(
        bucket,
        endpoint=between.url,
        region=s3.region,
        patience=Patience(sleep=sleep, budget=budget, draw=draw),
        timeouts=Timeouts(idle=idle),
    )


def unwatched(step: int) -> None:
    """Let progress go by."""


def _credentials_by_a_program(
    s3: S3, directory: Path, monkeypatch: pytest.MonkeyPatch, *, seconds: int
) -> Path:
    """Have the AWS configuration name a program for credentials; gives where it notes each time."""
    asked, program, config = (directory / name for name in ("asked", "give", "config"))
    keys = f'"AccessKeyId": "{s3.credentials.access_key}", '
    keys += f'"SecretAccessKey": "{s3.credentials.secret_key}"'
    program.write_text(
        "#!/bin/sh\n"
        f"now=$(date +%s); echo $now >>{asked}\n"
        f"until=$(date -u -d @$((now + {seconds})) +%Y-%m-%dT%H:%M:%SZ)\n"
        f"""printf '{{"Version": 1, {keys}, "Expiration": "%s"}}' $until\n"""
    )
    program.chmod(0o700)
    config.write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(directory / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return asked


def _signed_at(call: Call) -> int:
    """Give when a request was signed, in seconds since 1970."""
    headers = {name.lower(): value for name, value in call.headers.items()}
    signed = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    return int(signed.replace(tzinfo=UTC).timestamp())


def failing(times: int) -> Fault:
    """Close the connection so often, and then go on as if nothing had been."""
    failures = iter([None] * times)
    return lambda _, ask: next(failures, ask())


def unfinished(s3: S3, bucket: str) -> list[str]:
    """List the uploads that the server still has open."""
    found = (
        boto3.Session()
        .client("s3", endpoint_url=s3.url, region_name=s3.region)
        .list_multipart_uploads(Bucket=bucket)
    )
    return [upload["UploadId"] for upload in found.get("Uploads", ())]


def refused(error: BundleError, s3: S3) -> str:
    """Give all that a person would see of an error; no secret may be in it."""
    text = f"{error} ({error.hint})"
    assert s3.credentials.secret_key not in text
    assert "\n" not in text
    assert error.hint
    return text


class TestEachRefusalIsOneClearLine:
    @pytest.mark.parametrize("port", ["9", "9x"])
    def test_an_endpoint_with_a_login_is_refused_and_not_repeated(
        self, port: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        endpoint = f"http://somebody:hidden@127.0.0.1:{port}/"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        for named in (endpoint, None):
            with pytest.raises(MalformedError, match="with a login in it") as caught:
                open_bucket("models", endpoint=named, region="us-east-1")
            assert not re.search("somebody|hidden", f"{caught.value} {caught.value.hint}")

    def test_nobody_listens(self, s3: S3) -> None:
        with pytest.raises(WorldError, match="s3://models/a: cannot reach http://127") as caught:
            open_bucket("models", endpoint="http://127.0.0.1:9", region=s3.region).head("a")
        assert "network" in refused(caught.value, s3)

    def test_a_host_that_has_no_address(self, s3: S3) -> None:
        with pytest.raises(WorldError, match=r"cannot reach http://s3\.invalid") as caught:
            open_bucket("models", endpoint="http://s3.invalid", region=s3.region).head("a")
        refused(caught.value, s3)

    def test_the_secret_key_is_wrong(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials.secret_key[:-1])
        store = open_bucket("models", endpoint=s3.url, region=s3.region)
        with pytest.raises(DeniedError, match="secret key does not belong") as caught:
            store.head("a")
        assert "AWS_SECRET_ACCESS_KEY" in refused(caught.value, s3)

    def test_the_access_key_is_unknown(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY")
        store = open_bucket("models", endpoint=s3.url, region=s3.region)
        with pytest.raises(DeniedError, match="access key is not known") as caught:
            list(store.list("a"))
        refused(caught.value, s3)

    def test_there_are_no_credentials(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        store = open_bucket("models", endpoint=s3.url, region=s3.region)
        with pytest.raises(DeniedError, match="s3://models/a: no AWS credentials") as caught:
            store.head("a")
        assert "AWS_PROFILE" in refused(caught.value, s3)

    def test_half_of_the_credentials_is_missing(
        self, s3: S3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(DeniedError, match="credentials are incomplete") as caught:
            open_bucket("models", endpoint=s3.url, region=s3.region).head("a")
        refused(caught.value, s3)

    def test_the_profile_is_not_there(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(WorldError, match=r"profile \(nobody\) could not be found") as caught:
            open_bucket("models", endpoint=s3.url, region=s3.region)
        assert "AWS_PROFILE" in refused(caught.value, s3)

    def test_the_endpoint_is_no_url(self) -> None:
        with pytest.raises(MalformedError, match="not the URL of an S3 server"):
            open_bucket("models", endpoint="s3.example.com")

    @pytest.mark.parametrize("call", ["head", "list", "get", "put", "checks_content"])
    def test_the_bucket_is_absent(self, s3: S3, call: str) -> None:
        store = open_bucket("no-such-bucket", endpoint=s3.url, region=s3.region)
        with pytest.raises(WorldError, match="no such bucket") as caught:
            _call(store, call)
        assert not isinstance(caught.value, NotFoundError)
        assert "make the bucket" in refused(caught.value, s3)

    @pytest.mark.parametrize(
        ("status", "code", "message", "expected"),
        [
            (400, "ExpiredToken", "The provided token has expired", "session has expired"),
            (403, "InvalidTokenId", "The token is invalid", "session token is not valid there"),
            (403, "RequestTimeTooSkewed", "too large", "clocks differ"),
            (403, "AccessDenied", "Access Denied", "access denied by S3: s3:GetObject"),
            (
                403,
                "AccessDenied",
                "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: kms:Decrypt "
                "on resource: arn:aws:kms:us-east-1:1:key/k because no identity-based policy "
                "allows the kms:Decrypt action",
                "access denied by KMS, not by S3: kms:Decrypt",
            ),
            (400, "KMS.DisabledException", "key is disabled", "KMS, not S3, refused"),
            (403, "InvalidObjectState", "archived", "archived"),
        ],
    )
    @pytest.mark.parametrize("call", ["head", "get", "read"])
    def test_a_refused_read_says_why_even_where_a_head_cannot(
        self,
        store: ObjectStore,
        between: Proxy,
        s3: S3,
        call: str,
        status: int,
        code: str,
        message: str,
        expected: str,
    ) -> None:
        between.fault = lambda call, ask: refusal(status, code, message)
        with pytest.raises(WorldError, match=expected) as caught:
            _call(store, call)
        assert f"{store_name(between)}/a" in refused(caught.value, s3)

    @pytest.mark.parametrize("late", [1, 2])
    def test_an_object_that_appears_between_a_head_and_a_get_is_looked_at_again(
        self, store: ObjectStore, between: Proxy, s3: S3, s3_bucket: str, late: int
    ) -> None:
        def hide(call: Call, ask: Pass) -> Answer:
            hidden = between.operations().count("HeadObject") <= late
            return Answer(404, {}, b"") if call.method == "HEAD" and hidden else ask()

        open_bucket(s3_bucket, endpoint=s3.url, region=s3.region).put("a", b"weights")
        between.fault = hide
        if late == 1:
            found = store.head("a")
            assert found is not None
            assert found.size == len(b"weights")
        else:
            with pytest.raises(WorldError, match="HEAD and GET disagree"):
                store.head("a")

    @pytest.mark.parametrize(
        ("operation", "action"),
        [
            ("ListObjectsV2", "s3:ListBucket"),
            ("PutObject", "s3:PutObject"),
            ("GetObject", "s3:GetObject"),
        ],
    )
    def test_a_bare_403_names_the_permission_that_the_call_needs(
        self, store: ObjectStore, between: Proxy, s3: S3, operation: str, action: str
    ) -> None:
        def deny(call: Call, ask: Pass) -> Answer:
            return refusal(403, "AccessDenied") if call.operation == operation else ask()

        between.fault = deny
        name = {"ListObjectsV2": "list", "PutObject": "put", "GetObject": "read"}[operation]
        with pytest.raises(DeniedError, match=f"by S3: {action}") as caught:
            _call(store, name)
        assert f"allow {action} on" in refused(caught.value, s3)


def store_name(between: Proxy) -> str:
    """Give the bucket's address as the last call had it."""
    return f"s3:/{'/'.join(between.calls[-1].path.split('/')[:2])}"


def _call(store: ObjectStore, name: str) -> object:
    calls: dict[str, Callable[[], object]] = {
        "head": lambda: store.head("a"),
        "list": lambda: list(store.list("a")),
        "get": lambda: store.get("a", limit=1),
        "read": lambda: list(store.read("a", 0, 1)),
        "put": lambda: store.put("a", b"1"),
        "checks_content": lambda: store.checks_content("a"),
    }
    return calls[name]()


class TestTls:
    def test_a_private_authority_must_be_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with s3(tls=True) as server:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.credentials.access_key)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.credentials.secret_key)
            assert server.ca_file is not None
            trusted = open_bucket(
                "models", endpoint=server.url, region=server.region, ca=server.ca_file
            )
            assert trusted.put("a", b"1")
            assert trusted.checks_content("b")
            with pytest.raises(WorldError, match="certificate is not trusted") as caught:
                open_bucket("models", endpoint=server.url, region=server.region).head("a")
            assert "s3.ca" in refused(caught.value, server)
            other = server.url.replace(server.host, "localhost")
            with pytest.raises(WorldError, match="certificate is of another host") as caught:
                open_bucket("models", endpoint=other, region=server.region, ca=server.ca_file).head(
                    "a"
                )
            assert "s3.endpoint" in str(caught.value.hint)
            monkeypatch.setenv("AWS_CA_BUNDLE", str(server.ca_file))
            assert open_bucket("models", endpoint=server.url, region=server.region).head("a")

    def test_tls_to_a_server_without_it(self, s3: S3) -> None:
        url = s3.url.replace("http:", "https:")
        with pytest.raises(WorldError, match="no TLS with https://") as caught:
            open_bucket("models", endpoint=url, region=s3.region).head("a")
        assert "http://" in refused(caught.value, s3)

    def test_an_authority_that_cannot_be_read(self, tmp_path: Path) -> None:
        bad = tmp_path / "ca.crt"
        with pytest.raises(NotFoundError, match=r"ca\.crt: no such file"):
            open_bucket("models", ca=bad)
        bad.write_text("not PEM")
        with pytest.raises(MalformedError, match=r"ca\.crt: expected certificates"):
            open_bucket("models", ca=bad)


class TestAddressing:
    def test_a_bucket_at_an_endpoint_from_the_environment_is_addressed_by_path(
        self, between: Proxy, s3: S3, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # To an IP address, the client library would not put a bucket's name anyway.
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", between.url.replace("127.0.0.1", "localhost"))
        assert open_bucket(s3_bucket, region=s3.region).put("a", b"1")
        assert between.calls[-1].path == f"/{s3_bucket}/a"

    @pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
    def test_the_region_comes_from_the_environment(
        self, between: Proxy, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        monkeypatch.setenv(variable, "eu-north-1")
        open_bucket(s3_bucket, endpoint=between.url).head("a")
        assert "/eu-north-1/s3/" in between.calls[-1].headers["Authorization"]

    def test_nothing_about_access_lists_is_sent(
        self, store: ObjectStore, between: Proxy, large: Path
    ) -> None:
        send(store, large)
        store.put("a", b"1")
        sent = {name.lower() for call in between.calls for name in call.headers}
        assert not {name for name in sent if "acl" in name or "grant" in name}

    def test_bodies_are_not_hashed_a_second_time_for_the_signature(
        self, store: ObjectStore, between: Proxy
    ) -> None:
        store.put("a", b"1")
        headers = {name.lower(): value for name, value in between.calls[-1].headers.items()}
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert headers["x-amz-checksum-sha256"] == Digest.of(b"1").base64
        assert "x-amz-checksum-sha256" in headers["authorization"]


class TestRetries:
    def test_a_server_that_is_busy_for_a_while_is_asked_again(
        self, store: ObjectStore, between: Proxy
    ) -> None:
        def busy(call: Call, ask: Pass) -> Answer:
            return refusal(503, "SlowDown") if len(between.calls) < 3 else ask()

        between.fault = busy
        assert store.head("a") is None

    def test_a_server_that_stays_busy_is_given_up(
        self, between: Proxy, s3: S3, s3_bucket: str
    ) -> None:
        slept: list[float] = []
        store = impatient(between, s3, s3_bucket, sleep=slept.append)
        between.fault = lambda call, ask: refusal(503, "SlowDown", "Please reduce your rate")
        with pytest.raises(WorldError, match="SlowDown"):
            store.replace("a", b"1")
        assert len(between.calls) == 10
        assert len(slept) == 9
        assert sum(slept) < 130

    def test_the_whole_budget_of_a_call_is_bounded(
        self, between: Proxy, s3: S3, s3_bucket: str
    ) -> None:
        slept: list[float] = []
        store = impatient(between, s3, s3_bucket, sleep=slept.append, budget=3.0, draw=lambda: 0.99)
        between.fault = lambda call, ask: refusal(500, "InternalError")
        with pytest.raises(WorldError, match="InternalError"):
            store.put("a", b"1")
        assert 0 < sum(slept) <= 3

    def test_a_server_that_says_when_to_come_again_is_heeded(
        self, between: Proxy, s3: S3, s3_bucket: str
    ) -> None:
        slept: list[float] = []
        store = impatient(between, s3, s3_bucket, sleep=slept.append)

        def busy(call: Call, ask: Pass) -> Answer:
            if len(between.calls) > 1:
                return ask()
            answer = refusal(503, "SlowDown")
            return dataclasses.replace(answer, headers={**answer.headers, "Retry-After": "41"})

        between.fault = busy
        assert store.head("a") is None
        assert 41 <= slept[0] < 42

    def test_an_error_in_the_body_of_a_completion_is_no_success(
        self, between: Proxy, s3: S3, s3_bucket: str, large: Path
    ) -> None:
        store = impatient(between, s3, s3_bucket)

        def fail(call: Call, ask: Pass) -> Answer:
            if between.operations().count("CompleteMultipartUpload") > 1 or (
                call.operation != "CompleteMultipartUpload"
            ):
                return ask()
            return dataclasses.replace(refusal(503, "InternalError"), status=200)

        between.fault = fail
        send(store, large)
        assert between.operations().count("CompleteMultipartUpload") == 2
        found = store.head(_KEY)
        assert found is not None
        assert found.checksum == s3_checksum(PARTS)

    def test_a_server_that_stops_answering_is_left_and_tried_again(
        self, between: Proxy, s3: S3, s3_bucket: str, large: Path
    ) -> None:
        release = threading.Event()
        store = impatient(between, s3, s3_bucket, idle=3)
        stalled: list[Call] = []

        def stall(call: Call, ask: Pass) -> Answer | None:
            if call.query.get("partNumber") != "2" or stalled:
                return ask()
            stalled.append(call)
            release.wait(60)
            return None

        between.fault = stall
        try:
            assert send(store, large) == SIZE
        finally:
            release.set()
        assert stalled
        found = store.head(_KEY)
        assert found is not None
        assert found.checksum == s3_checksum(PARTS)

    def test_a_session_that_expires_in_the_middle_says_how_to_go_on(
        self, store: ObjectStore, between: Proxy, s3: S3, large: Path
    ) -> None:
        def expire(call: Call, ask: Pass) -> Answer:
            over = call.query.get("partNumber") == "2"
            return refusal(400, "ExpiredToken", "The provided token has expired") if over else ask()

        between.fault = expire
        with pytest.raises(DeniedError, match="session has expired") as caught:
            send(store, large)
        assert "run the same command again: what has arrived stays" in refused(caught.value, s3)
        between.fault = lambda call, ask: ask()
        between.calls.clear()
        send(store, large)
        assert [call.query["partNumber"] for call in between.calls if _is_part(call)] == ["2"]

    def test_a_session_that_expires_in_the_middle_is_renewed_by_whom_the_credentials_come_from(
        self,
        between: Proxy,
        s3: S3,
        s3_bucket: str,
        large: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked = _credentials_by_a_program(s3, tmp_path, monkeypatch, seconds=2)

        def refuse_old(call: Call, ask: Pass) -> Answer:
            signed = _signed_at(call)
            given = max(at for at in map(int, asked.read_text().split()) if at <= signed)
            over = signed > given + 2
            return refusal(400, "ExpiredToken", "The provided token has expired") if over else ask()

        between.fault = refuse_old
        store = open_bucket(s3_bucket, endpoint=between.url, region=s3.region)
        incoming = store.begin(_KEY, size=SIZE, parts=PARTS)
        with RandomReader(large) as reader:
            for span in incoming.missing:
                time.sleep(3.1)  # longer than a session lives
                incoming.send(span, partial(reader.pieces, span.offset, span.length), unwatched)
        incoming.complete()
        found = store.head(_KEY)
        assert found is not None
        assert found.checksum == s3_checksum(PARTS)
        assert len(set(asked.read_text().split())) > len(PARTS)

    def test_clocks_that_differ_are_both_told(
        self, store: ObjectStore, between: Proxy, s3: S3
    ) -> None:
        times = "<RequestTime>20261121T120000Z</RequestTime><ServerTime>2026-11-21T13:00:00Z"

        def skewed(call: Call, ask: Pass) -> Answer:
            answer = refusal(403, "RequestTimeTooSkewed")
            body = answer.body.replace(b"</Error>", f"{times}</ServerTime></Error>".encode())
            return dataclasses.replace(answer, body=body)

        between.fault = skewed
        with pytest.raises(DeniedError, match="here 20261121T120000Z, there 2026-11-21T13:00:00Z"):
            list(store.list("a"))
        assert len(between.calls) == 1

    def test_clocks_that_differ_are_told_where_the_server_says_only_the_date(
        self, store: ObjectStore, between: Proxy, s3: S3
    ) -> None:
        between.fault = lambda call, ask: refusal(403, "RequestTimeTooSkewed")
        clocks = r"here \d{4}-\d\d-\d\dT\S+Z, there \w{3}, \d\d \w{3} \d{4} \S+ GMT"
        with pytest.raises(DeniedError, match=clocks) as caught:
            store.put("a", b"1")
        assert "clock" in refused(caught.value, s3)

    def test_a_write_of_the_same_key_that_is_on_its_way_is_waited_for(
        self, between: Proxy, s3: S3, s3_bucket: str
    ) -> None:
        store = impatient(between, s3, s3_bucket)

        def conflict(call: Call, ask: Pass) -> Answer:
            if between.operations().count("PutObject") == 1:
                return refusal(409, "ConditionalRequestConflict")
            return ask()

        between.fault = conflict
        assert store.put("a", b"1")

    @pytest.mark.timeout(60)
    def test_a_server_that_takes_no_bytes_is_given_up(self, s3: S3, s3_bucket: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            store = open_bucket(
                s3_bucket,
                endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}",
                region=s3.region,
                patience=Patience(sleep=lambda seconds: None),
                timeouts=Timeouts(connect=1, idle=1),
            )
            with pytest.raises(WorldError, match="broke") as caught:
                store.replace("a", bytes(32 << 20))
        assert "run again" in refused(caught.value, s3)

    def test_a_server_that_was_never_heard_of_is_given_up_soon(
        self, s3: S3, s3_bucket: str
    ) -> None:
        slept: list[float] = []
        patience = Patience(sleep=slept.append)
        store = open_bucket(
            s3_bucket, endpoint="http://127.0.0.1:9", region=s3.region, patience=patience
        )
        with pytest.raises(WorldError, match="cannot reach"):
            store.head("a")
        assert len(slept) == 2

    def test_a_server_that_answered_before_is_waited_for_as_long_as_the_budget_lasts(
        self, between: Proxy, s3: S3, s3_bucket: str
    ) -> None:
        slept: list[float] = []
        notes: list[str] = []
        store = open_bucket(
            s3_bucket,
            endpoint=between.url,
            region=s3.region,
            patience=Patience(sleep=slept.append, draw=lambda: 0.5),
            note=notes.append,
        )
        assert store.head("a") is None
        between.fault = lambda call, ask: None
        with pytest.raises(WorldError, match="broke"):
            store.replace("a", b"1")
        assert 270 < sum(slept) <= 300
        assert len(slept) > 10
        [note] = notes
        assert re.fullmatch(rf"waiting for {between.url}: .+; going on for 29\d s", note)

    def test_that_a_server_answers_again_is_told_and_a_new_wait_is_too(
        self, between: Proxy, s3: S3, s3_bucket: str
    ) -> None:
        notes: list[str] = []
        store = open_bucket(
            s3_bucket,
            endpoint=between.url,
            region=s3.region,
            patience=Patience(sleep=lambda _: None, draw=lambda: 0.99),
            note=notes.append,
        )
        assert store.head("a") is None
        for _ in range(2):
            between.fault = failing(6)
            assert store.head("a") is None
        kinds = [note.partition(" ")[0] for note in notes]
        assert kinds == ["waiting", between.url] * 2

    def test_a_refused_connection_is_told_in_its_own_words(self, s3: S3, s3_bucket: str) -> None:
        notes: list[str] = []
        with proxy(s3) as running:
            store = open_bucket(
                s3_bucket,
                endpoint=running.url,
                region=s3.region,
                patience=Patience(sleep=lambda _: None, draw=lambda: 0.99),
                note=notes.append,
            )
            assert store.head("a") is None
            running.fault = lambda call, ask: None
        with pytest.raises(WorldError, match="cannot reach"):
            store.head("a")
        assert "connection refused; going on for " in notes[0]

    def test_a_small_object_whose_answer_was_lost_is_ours_and_nobody_elses(
        self, between: Proxy, s3: S3, s3_bucket: str
    ) -> None:
        lost: set[str] = set()
        notes: list[str] = []

        def lose(call: Call, ask: Pass) -> Answer | None:
            answer = ask()
            if call.operation != "PutObject" or call.path in lost:
                return answer
            lost.add(call.path)
            return None

        between.fault = lose
        store = impatient(between, s3, s3_bucket)
        incoming = store.begin("small", size=4, parts=PARTS[1:], note=notes.append)
        incoming.send(incoming.missing[0], lambda: iter([b"tail"]), unwatched)
        assert store.get("small", limit=4) == b"tail"
        assert notes == []
        assert store.put("other", b"1")
        assert len(lost) == 2

    def test_progress_goes_back_when_a_part_is_sent_again(
        self, store: ObjectStore, between: Proxy, large: Path
    ) -> None:
        failed: set[str] = set()

        def lose(call: Call, ask: Pass) -> Answer | None:
            number = call.query.get("partNumber", "")
            if call.operation != "UploadPart" or number in failed:
                return ask()
            failed.add(number)
            return None

        between.fault = lose
        assert send(store, large) == SIZE
        assert failed == {"1", "2"}
        assert between.operations().count("UploadPart") == 4

    def test_wrong_bytes_are_never_sent_again(
        self, store: ObjectStore, between: Proxy, s3: S3, s3_bucket: str, large: Path
    ) -> None:
        wrong = Digest.of(b"other")
        with pytest.raises(ContentError, match=f"{_KEY}: part 2 of 2, expected {wrong}") as caught:
            send(store, large, parts=(PARTS[0], wrong))
        assert "bundle verify" in refused(caught.value, s3)
        assert [call.query["partNumber"] for call in between.calls if _is_part(call)].count(
            "2"
        ) == 1
        assert store.head(_KEY) is None
        assert send(store, large) == SIZE  # with the right bytes, the next run goes on with it
        assert unfinished(s3, s3_bucket) == []

    def test_a_disk_that_fails_while_it_is_read_is_named(
        self, store: ObjectStore, between: Proxy
    ) -> None:
        def torn() -> Iterator[bytes]:
            yield b"ta"
            raise WorldError("model.tar at offset 67108864: input/output error")

        incoming = store.begin(_KEY, size=SIZE, parts=PARTS)
        between.calls.clear()
        with pytest.raises(WorldError, match="offset 67108864"):
            incoming.send(incoming.missing[1], torn, lambda step: None)
        assert len(between.calls) <= 1  # what our own side cannot read is not tried again


def _is_part(call: Call) -> bool:
    return call.operation == "UploadPart"


class TestDownloads:
    CONTENT = bytes(range(256)) * 8192

    def test_a_broken_download_goes_on_where_it_broke(
        self, store: ObjectStore, between: Proxy
    ) -> None:
        store.put("a", self.CONTENT)

        def cut(call: Call, ask: Pass) -> Answer:
            half = None if "If-Match" in call.headers else len(self.CONTENT) // 2
            return dataclasses.replace(ask(), cut=half)

        between.fault = cut
        between.calls.clear()
        assert b"".join(store.read("a", 0, len(self.CONTENT))) == self.CONTENT
        starts = [re.findall(r"\d+", call.headers["Range"])[0] for call in between.calls]
        assert starts == ["0", str(len(self.CONTENT) // 2)]

    def test_an_object_that_changes_meanwhile_is_not_read_on(
        self, store: ObjectStore, between: Proxy
    ) -> None:
        store.put("a", self.CONTENT)

        def change(call: Call, ask: Pass) -> Answer:
            between.fault = lambda call, ask: ask()
            old = ask()
            store.replace("a", self.CONTENT[::-1])
            return dataclasses.replace(old, cut=10)

        between.fault = change
        with pytest.raises(WorldError, match="a: changed while it was read"):
            list(store.read("a", 0, len(self.CONTENT)))

    @pytest.mark.timeout(60)  # a byte a connection would take for ever
    @pytest.mark.parametrize("cut", [0, 1])
    def test_a_connection_that_breaks_every_time_is_given_up(
        self, store: ObjectStore, between: Proxy, cut: int
    ) -> None:
        store.put("a", self.CONTENT)
        between.fault = lambda call, ask: dataclasses.replace(ask(), cut=cut)
        between.calls.clear()
        with pytest.raises(WorldError, match=r"http://127.* ended the download early"):
            list(store.read("a", 0, len(self.CONTENT)))
        assert len(between.calls) == 5

    @pytest.mark.parametrize("times", [1, 1000])
    def test_an_answer_that_is_cut_where_an_object_is_not_there_is_asked_for_again(
        self, store: ObjectStore, between: Proxy, times: int
    ) -> None:
        def cut(call: Call, ask: Pass) -> Answer:
            begun = Answer(404, {"Transfer-Encoding": "chunked"}, b"50\r\n<Error>", cut=11)
            return begun if len(between.calls) <= times else refusal(404, "NoSuchKey")

        between.fault = cut
        between.calls.clear()
        with pytest.raises(WorldError) as caught:
            list(store.read("nothing", 0, 10))
        if times == 1:
            assert len(between.calls) == 2
            assert "no such object" in str(caught.value)
        else:
            assert len(between.calls) <= 5
            assert "an answer of http://127.0.0.1" in str(caught.value)

    def test_a_server_that_sends_nothing_of_a_range_is_given_up(
        self, store: ObjectStore, between: Proxy
    ) -> None:
        between.fault = lambda call, ask: Answer(
            206, {"ETag": '"x"', "Content-Range": "bytes 0-9/10"}, b""
        )
        with pytest.raises(WorldError, match=r"http://127.* ended the download early"):
            list(store.read("a", 0, 10))
        assert len(between.calls) == 5

    @pytest.mark.parametrize("objects", [0, 20_000])
    def test_a_listing_without_an_end_is_given_up(
        self, store: ObjectStore, between: Proxy, objects: int
    ) -> None:
        contents = "<Contents><Key>a</Key><Size>1</Size></Contents>" * objects

        def more(call: Call, ask: Pass) -> Answer:
            token = f"<NextContinuationToken>{len(between.calls)}</NextContinuationToken>"
            listed = f"<IsTruncated>true</IsTruncated>{token}{contents}"
            body = f"<ListBucketResult>{listed}</ListBucketResult>"
            return Answer(200, {"Content-Type": "application/xml"}, body.encode())

        between.fault = more
        match = f"the listing does not end: {objects * 51} objects so far"
        with pytest.raises(WorldError, match=match):
            deque(store.list("p"), maxlen=0)

    def test_a_server_that_ignores_ranges_is_noticed(
        self, store: ObjectStore, between: Proxy
    ) -> None:
        store.put("a", self.CONTENT)

        def whole(call: Call, ask: Pass) -> Answer:
            return Answer(200, {"ETag": '"x"'}, self.CONTENT)

        between.fault = whole
        with pytest.raises(WorldError, match="asked for bytes 5-9, got the whole object"):
            list(store.read("a", 5, 5))


class TestInterruptedUploads:
    def test_a_completed_upload_whose_answer_was_lost_is_success(
        self, store: ObjectStore, between: Proxy, large: Path
    ) -> None:
        def lose(call: Call, ask: Pass) -> Answer | None:
            if call.operation != "CompleteMultipartUpload":
                return ask()
            if between.operations().count("CompleteMultipartUpload") > 1:
                return refusal(404, "NoSuchUpload")
            ask()
            return None

        between.fault = lose
        send(store, large)
        found = store.head(_KEY)
        assert found is not None
        assert found.checksum == s3_checksum(PARTS)

    def test_an_upload_that_somebody_aborts_is_an_error_to_run_again(
        self, store: ObjectStore, between: Proxy, large: Path, s3: S3
    ) -> None:
        def gone(call: Call, ask: Pass) -> Answer:
            gone = call.operation == "CompleteMultipartUpload"
            return refusal(404, "NoSuchUpload") if gone else ask()

        between.fault = gone
        with pytest.raises(WorldError, match=_KEY) as caught:
            send(store, large)
        assert "run again" in refused(caught.value, s3)

    @pytest.mark.parametrize("same", [True, False])
    def test_another_writer_is_never_overwritten(
        self,
        store: ObjectStore,
        between: Proxy,
        s3: S3,
        s3_bucket: str,
        large: Path,
        same: bool,
    ) -> None:
        def come_between(call: Call, ask: Pass) -> Answer:
            if call.operation == "CompleteMultipartUpload":
                between.fault = lambda call, ask: ask()
                send(store, large) if same else store.put(_KEY, b"other")
            return ask()

        between.fault = come_between
        if same:
            send(store, large)
            assert unfinished(s3, s3_bucket) == []
        else:
            with pytest.raises(ConflictError, match="holds 5 bytes"):
                send(store, large)
            assert store.get(_KEY, limit=5) == b"other"

    def test_a_server_without_conditions_is_written_to_without_them(
        self, store: ObjectStore, between: Proxy, large: Path
    ) -> None:
        def unknown(call: Call, ask: Pass) -> Answer:
            return refusal(501, "NotImplemented") if "If-None-Match" in call.headers else ask()

        between.fault = unknown
        assert store.put("a", b"1")
        assert store.get("a", limit=1) == b"1"
        send(store, large)
        assert store.head(_KEY) is not None

    def test_a_failed_upload_stays_and_the_next_run_goes_on_with_it(
        self, store: ObjectStore, between: Proxy, s3: S3, s3_bucket: str, large: Path
    ) -> None:
        def deny(call: Call, ask: Pass) -> Answer:
            denied = call.query.get("partNumber") == "2"
            return refusal(403, "AccessDenied") if denied else ask()

        between.fault = deny
        with pytest.raises(DeniedError, match="s3:PutObject"):
            send(store, large)
        assert "AbortMultipartUpload" not in between.operations()
        assert len(unfinished(s3, s3_bucket)) == 1
        between.fault = lambda call, ask: ask()
        between.calls.clear()
        notes: list[str] = []
        send(store, large, note=notes.append)
        assert [call.query["partNumber"] for call in between.calls if _is_part(call)] == ["2"]
        assert re.search("goes on with an upload that was begun at .*: 1 of 2 parts", notes[0])
        assert unfinished(s3, s3_bucket) == []

    def test_an_upload_that_was_killed_before_its_first_part_is_gone_on_with(
        self, store: ObjectStore, between: Proxy, s3: S3, s3_bucket: str, large: Path
    ) -> None:
        left = _begin(s3, s3_bucket)
        assert send(store, large) == SIZE
        assert {call.query["uploadId"] for call in between.calls if _is_part(call)} == {left}
        assert unfinished(s3, s3_bucket) == []

    def test_an_upload_with_another_algorithm_is_left_alone(
        self, store: ObjectStore, between: Proxy, s3: S3, s3_bucket: str, large: Path
    ) -> None:
        left = _begin(s3, s3_bucket)

        def other(call: Call, ask: Pass) -> Answer:
            answer = ask()
            if call.operation != "ListMultipartUploads":
                return answer
            named = b"<ChecksumAlgorithm>CRC32</ChecksumAlgorithm></Upload>"
            body = re.sub(b"<ChecksumAlgorithm>.*?</ChecksumAlgorithm>", b"", answer.body)
            return dataclasses.replace(answer, body=body.replace(b"</Upload>", named))

        between.fault = other
        assert send(store, large) == SIZE
        assert unfinished(s3, s3_bucket) == [left]

    def test_an_upload_of_a_killed_run_is_joined_where_its_parts_are_proven(
        self, store: ObjectStore, between: Proxy, s3: S3, s3_bucket: str, large: Path
    ) -> None:
        left = _begin(s3, s3_bucket)
        _send_part(s3, s3_bucket, left, 1, b"\x01" * SMALLEST_PART)
        _send_part(s3, s3_bucket, left, 2, b"liat")
        between.fault = _with_checksums({1: PARTS[0], 2: Digest.of(b"liat")})
        assert send(store, large) == SIZE - SMALLEST_PART
        assert [call.query["partNumber"] for call in between.calls if _is_part(call)] == ["2"]
        assert "CreateMultipartUpload" not in between.operations()
        assert unfinished(s3, s3_bucket) == []
        found = store.head(_KEY)
        assert found is not None
        assert found.checksum == s3_checksum(PARTS)

    @pytest.mark.parametrize(("byte", "sent"), [(b"\x01", ["2"]), (b"\x02", ["1", "2"])])
    def test_a_part_without_a_checksum_is_proved_by_its_md5_or_sent_again(
        self,
        store: ObjectStore,
        between: Proxy,
        s3: S3,
        s3_bucket: str,
        large: Path,
        byte: bytes,
        sent: list[str],
    ) -> None:
        left = _begin(s3, s3_bucket)
        _send_part(s3, s3_bucket, left, 1, byte * SMALLEST_PART)
        assert send(store, large) == SIZE
        assert [call.query["partNumber"] for call in between.calls if _is_part(call)] == sent
        assert unfinished(s3, s3_bucket) == []
        found = store.head(_KEY)
        assert found is not None
        assert found.checksum == s3_checksum(PARTS)

    def test_a_broken_upload_is_kept_for_the_next_run_where_its_parts_are_proven(
        self, store: ObjectStore, between: Proxy, s3: S3, s3_bucket: str, large: Path
    ) -> None:
        proven = _with_checksums({1: PARTS[0]})

        def fail(call: Call, ask: Pass) -> Answer | None:
            broken = call.operation == "CompleteMultipartUpload"
            return refusal(400, "InvalidPart") if broken else proven(call, ask)

        between.fault = fail
        with pytest.raises(WorldError, match="InvalidPart"):
            send(store, large)
        assert len(unfinished(s3, s3_bucket)) == 1
        between.fault = proven
        assert send(store, large) == SIZE - SMALLEST_PART
        assert unfinished(s3, s3_bucket) == []

    def test_uploads_that_may_not_be_listed_are_no_obstacle(
        self, store: ObjectStore, between: Proxy, large: Path
    ) -> None:
        def deny(call: Call, ask: Pass) -> Answer:
            denied = call.operation == "ListMultipartUploads"
            return refusal(403, "AccessDenied") if denied else ask()

        between.fault = deny
        assert send(store, large) == SIZE


def _begin(s3: S3, bucket: str) -> str:
    """Leave an upload open, as a run that was killed does."""
    client = boto3.Session().client("s3", endpoint_url=s3.url, region_name=s3.region)
    begun = client.create_multipart_upload(Bucket=bucket, Key=_KEY, ChecksumAlgorithm="SHA256")
    return begun["UploadId"]


def _send_part(s3: S3, bucket: str, upload_id: str, number: int, content: bytes) -> None:
    boto3.Session().client("s3", endpoint_url=s3.url, region_name=s3.region).upload_part(
        Bucket=bucket,
        Key=_KEY,
        UploadId=upload_id,
        PartNumber=number,
        Body=content,
        ChecksumSHA256=Digest.of(content).base64,
    )


def _with_checksums(checksums: Mapping[int, Digest]) -> Fault:
    """List parts as AWS and MinIO do; this server leaves their checksums out."""

    def add(call: Call, ask: Pass) -> Answer:
        answer = ask()
        if call.operation != "ListParts":
            return answer
        text = answer.body.decode()
        for number, digest in checksums.items():
            text = re.sub(
                f"(<Part>(?:(?!</Part>).)*?<PartNumber>{number}</PartNumber>)",
                rf"\1<ChecksumSHA256>{digest.base64}</ChecksumSHA256>",
                text,
                flags=re.DOTALL,
            )
        return dataclasses.replace(answer, body=text.encode())

    return add


def test_what_is_there_is_judged_by_its_checksum_and_not_read(
    store: ObjectStore, between: Proxy
) -> None:
    store.put("a", b"1")
    between.calls.clear()
    assert not store.put("a", b"1")
    with pytest.raises(ConflictError):
        store.put("a", b"2")
    assert between.operations() == ["HeadObject", "HeadObject"]


def test_an_answer_that_drips_is_given_up() -> None:
    head = b"HTTP/1.1 206 OK\r\nETag: x\r\nContent-Range: bytes 0-99999/100000\r\n"

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(head + b"Content-Length: 100000\r\n\r\n")
            for _ in range(600):
                connection.sendall(b"x")
                time.sleep(0.05)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        timeouts = Timeouts(idle=2, answer=0.3)
        store = open_bucket("b", endpoint=endpoint, region="us-east-1", timeouts=timeouts)
        begun = time.monotonic()
        with pytest.raises(WorldError):
            list(store.read("k", 0, 100_000))
        assert time.monotonic() - begun < 20


class TestServersThatKeepNoChecksums:
    def test_one_that_takes_wrong_bytes_is_found_out_and_cleaned_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with aws() as careless:
            client = boto3.Session().client(
                "s3", endpoint_url=careless.url, region_name=careless.region
            )
            client.create_bucket(Bucket="models")
            store = open_bucket("models", endpoint=careless.url, region=careless.region)
            assert not store.checks_content("checkpoints")
            assert list(store.list("")) == []

    @pytest.mark.parametrize("shown", [None, "c29tZXRoaW5nIGVsc2U=-9"])
    def test_what_is_there_is_read_where_its_checksum_proves_nothing(
        self, store: ObjectStore, between: Proxy, large: Path, shown: str | None
    ) -> None:
        send(store, large)

        def other_checksum(call: Call, ask: Pass) -> Answer:
            answer = ask()
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() != "x-amz-checksum-sha256"
            }
            return dataclasses.replace(
                answer, headers=kept | ({"x-amz-checksum-sha256": shown} if shown else {})
            )

        between.fault = other_checksum
        assert send(store, large) == 0
        with pytest.raises(ConflictError):
            send(store, large, parts=(PARTS[0], Digest.of(b"liat")))
