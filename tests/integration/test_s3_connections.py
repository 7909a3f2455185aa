"""Connections to S3 while a body is on its way: servers that pause, and servers that refuse it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bundler.archive.files import RandomReader
from bundler.errors import DeniedError, WorldError
from bundler.parts import SMALLEST_PART
from bundler.publish.rate_limit import RateLimit
from bundler.publish.upload import UploadOptions
from bundler.stores.opening import open_bucket
from bundler.stores.retry import Patience, Timeouts
from tests.integration import test_s3_faults as faults
from tests.integration import test_s3_uploads as uploads
from tests.integration.s3_proxy import Answer, Call, Proxy, refusal
from tests.integration.test_s3_faults import PARTS, SIZE, impatient
from tests.integration.test_s3_uploads import Bucket
from tests.integration.uploading import Cargo, upload
from tests.rehearsal.certificates import Authority
from tests.rehearsal.s3 import S3

credentials, between, large = faults.credentials, faults.between, faults.large
minio, of_minio, cargo = uploads.minio, uploads.of_minio, uploads.cargo

_KEY = "checkpoints/m/model.safetensors"
_PAUSE = 2.5  # seconds; longer than the test lets a connection take
_OTHER_REGION = Answer(307, {"x-amz-bucket-region": "eu-west-1"}, refusal(307, "Moved").body)


class Pausing:
    """A server that takes the head of a request, and its body only some seconds later.

    Attributes:
        connections: How many it took.
    """

    def __init__(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        self.connections = 0
        self._listener = listener
        self._context = context

    def run(self) -> None:
        """Answer one connection after another, until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with contextlib.suppress(OSError), connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rwb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n")).lower()
            stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            stream.flush()
            time.sleep(_PAUSE)
            stream.read(int(head.partition(b"content-length: ")[2].split()[0]))
            stream.write(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n')


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.usefixtures("credentials")
def test_a_server_that_pauses_while_a_body_is_sent_is_waited_for(tls: bool, tmp_path: Path) -> None:
    context, ca = None, None
    if tls:
        authority = Authority(tmp_path, "ca")
        pair = authority.issue("server", subject="s3", names=["127.0.0.1"])
        context, ca = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), authority.file
        context.load_cert_chain(pair.certificate, pair.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Pausing(listener, context)
        threading.Thread(target=server.run, daemon=True).start()
        store = open_bucket(
            "models",
            endpoint=f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}",
            region="us-east-1",
            ca=ca,
            timeouts=Timeouts(connect=1, idle=20),
        )
        store.replace("a", bytes(32 << 20))
        assert server.connections == 1


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("credentials")
def test_a_server_that_takes_no_connection_is_given_up_before_one_that_takes_no_bytes() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # until no more find a place in the queue
            each.setblocking(False)
            each.connect_ex(address)
        store = open_bucket(
            "models",
            endpoint=f"http://127.0.0.1:{address[1]}",
            region="us-east-1",
            patience=Patience(sleep=lambda _: None, tries=1),
            timeouts=Timeouts(connect=0.5, idle=50),
        )
        begun = time.monotonic()
        with pytest.raises(WorldError, match="cannot reach"):
            store.replace("a", b"1")
        assert time.monotonic() - begun < 20
        for each in waiting:
            each.close()


@pytest.mark.parametrize("answer", [refusal(503, "SlowDown"), _OTHER_REGION])
def test_of_a_part_that_is_refused_unseen_nothing_is_read(
    between: Proxy, s3: S3, s3_bucket: str, large: Path, answer: Answer
) -> None:
    refusals = iter([answer])
    read: list[int] = []

    def refuse(call: Call) -> Answer | None:
        return next(refusals, None) if call.operation == "UploadPart" else None

    between.early = refuse
    store = impatient(between, s3, s3_bucket)
    incoming = store.begin(_KEY, size=SIZE, parts=PARTS)
    told: list[int] = []
    with RandomReader(large) as reader:

        def pieces(offset: int, length: int) -> Iterator[memoryview]:
            for piece in reader.pieces(offset, length):
                read.append(len(piece))
                yield piece

        for span in incoming.missing:
            incoming.send(span, partial(pieces, span.offset, span.length), told.append)
    incoming.complete()
    assert next(refusals, None) is None
    assert sum(told) == sum(read) == SIZE
    assert between.operations().count("UploadPart") == len(PARTS) + 1


def test_a_session_that_expired_is_told_at_once_however_slowly_parts_are_sent(
    of_minio: Bucket, cargo: Cargo
) -> None:
    of_minio.between.early = lambda call: (
        refusal(400, "ExpiredToken") if call.operation == "UploadPart" else None
    )
    options = UploadOptions(parallel=1, limit=RateLimit(SMALLEST_PART // 64))
    begun = time.monotonic()
    with pytest.raises(DeniedError, match="ExpiredToken"):
        upload(cargo, of_minio.open(), of_minio.place, options=options)
    assert time.monotonic() - begun < 5
