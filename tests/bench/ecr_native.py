"""ECR's own layer API beside a plain upload: what each costs the client for the same bytes.

Amazon ECR takes a layer in two ways: by the distribution protocol, as one PUT of the bytes, and by
its API: InitiateLayerUpload, UploadLayerPart for each part, CompleteLayerUpload. The API tells the
last valid byte that it has, so that an upload could go on inside a layer. Its parts are JSON: the
bytes stand there as base64, and the whole is hashed for the signature. Both go to one sink here
that takes everything and keeps nothing.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.rehearsal.serving import LOOPBACK

# What ECR's API answers as partSize; the most that its shape allows is 20 MiB.
# Source: Amazon ECR API reference, InitiateLayerUpload and UploadLayerPart.
PART_BYTES = (10 << 20, 20_971_520)
_PIECE = 1 << 20
_MEGABYTE, _GIGABYTE = 10**6, 10**9
_PART = {
    "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.UploadLayerPart",
    "Content-Type": "application/x-amz-json-1.1",
}
_UPLOAD = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One upload of a layer: what it took of this process, and what went over the wire."""

    name: str
    wall_seconds: float
    cpu_seconds: float
    wire_bytes: int


def main(arguments: Sequence[str] = ()) -> int:
    """Measure both ways and print a table and, with ``--json``, the figures."""
    parser = argparse.ArgumentParser(prog="ecr-native", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=400, help="size of the layer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    size = asked.megabytes * _MEGABYTE
    with sink() as address:
        # Taken in turns, so that a noisy neighbour meets both.
        found = [run for _ in range(asked.rounds) for run in measure(address, size)]
    rows = [_median(name, found) for name in dict.fromkeys(run.name for run in found)]
    if asked.json:
        json.dump([_figures(row, size) for row in rows], sys.stdout, indent=1)
        print()
    else:
        _table(rows, size)
    return 0


def measure(address: tuple[str, int], size: int) -> Iterator[Run]:
    """Upload ``size`` bytes once in each way."""
    piece = memoryview(os.urandom(_PIECE))
    yield _measured("PUT", address, functools.partial(put, address, size, piece))
    for part in PART_BYTES:
        name = f"UploadLayerPart {part / (1 << 20):.0f} MiB"
        yield _measured(name, address, functools.partial(upload_parts, address, size, part))
        work = functools.partial(upload_parts_by_hand, address, size, part)
        yield _measured(f"{name}, by hand", address, work)


def put(address: tuple[str, int], size: int, piece: memoryview) -> None:
    """Send a layer as one PUT of its bytes."""
    connection = HTTPConnection(*address)
    connection.putrequest("PUT", "/v2/atlas/blobs/uploads/1")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    for start in range(0, size, len(piece)):
        connection.send(piece[: size - start])
    connection.getresponse().read()
    connection.close()


def upload_parts(address: tuple[str, int], size: int, part: int) -> None:
    """Send a layer through the API, one part after the other."""
    client = boto3.client(
        "ecr",
        region_name="us-east-1",
        endpoint_url=f"http://{address[0]}:{address[1]}",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    content = os.urandom(min(part, size))
    client.initiate_layer_upload(repositoryName="atlas")
    for start in range(0, size, part):
        body = content[: size - start]
        client.upload_layer_part(
            repositoryName="atlas",
            uploadId=_UPLOAD,
            partFirstByte=start,
            partLastByte=start + len(body) - 1,
            layerPartBlob=body,
        )
    digest = f"sha256:{'0' * 64}"
    client.complete_layer_upload(repositoryName="atlas", uploadId=_UPLOAD, layerDigests=[digest])


def upload_parts_by_hand(address: tuple[str, int], size: int, part: int) -> None:
    """Send the parts as cheaply as Python can: base64 and the signature's hash, and no more."""
    content = os.urandom(min(part, size))
    signer = SigV4Auth(Credentials("x", "x"), "ecr", "us-east-1")
    connection = HTTPConnection(*address)
    for start in range(0, size, part):
        piece = memoryview(content)[: size - start]
        about = {
            "repositoryName": "atlas",
            "uploadId": _UPLOAD,
            "partFirstByte": start,
            "partLastByte": start + len(piece) - 1,
        }
        head = json.dumps(about).encode()[:-1]
        body = b'%b, "layerPartBlob": "%b"}' % (head, base64.b64encode(piece))
        request = AWSRequest("POST", f"http://{address[0]}:{address[1]}/", _PART, body)
        signer.add_auth(request)
        connection.request("POST", "/", body, dict(request.headers.items()))
        connection.getresponse().read()
    connection.close()


@contextlib.contextmanager
def sink() -> Iterator[tuple[str, int]]:
    """Run a server in another process that takes every request and counts its bytes."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    taken = 0

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        _Sink.taken += left
        buffer = memoryview(bytearray(min(left, _PIECE) or 1))
        while left:
            left -= self.rfile.readinto(buffer[: min(left, _PIECE)])
        self.reply(201, b"{}")

    do_POST = do_PUT  # noqa: N815

    def do_GET(self) -> None:
        taken, _Sink.taken = _Sink.taken, 0
        self.reply(200, str(taken).encode())

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _serve(pipe: Connection) -> None:
    server = ThreadingHTTPServer((LOOPBACK, 0), _Sink)
    pipe.send((LOOPBACK, server.server_address[1]))
    server.serve_forever()


def _measured(name: str, address: tuple[str, int], work: Callable[[], None]) -> Run:
    _taken(address)
    wall, cpu = time.perf_counter(), _cpu()
    work()
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    return Run(name=name, wall_seconds=wall, cpu_seconds=cpu, wire_bytes=_taken(address))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _taken(address: tuple[str, int]) -> int:
    connection = HTTPConnection(*address)
    connection.request("GET", "/")
    count = int(connection.getresponse().read())
    connection.close()
    return count


def _median(name: str, runs: Sequence[Run]) -> Run:
    own = [run for run in runs if run.name == name]
    return Run(
        name=name,
        wall_seconds=statistics.median(run.wall_seconds for run in own),
        cpu_seconds=statistics.median(run.cpu_seconds for run in own),
        wire_bytes=own[0].wire_bytes,
    )


def _figures(run: Run, size: int) -> dict[str, object]:
    return {
        "name": run.name,
        "wallSeconds": round(run.wall_seconds, 3),
        "clientCpuSecondsPerGigabyte": round(run.cpu_seconds * _GIGABYTE / size, 3),
        "wireBytesPerByte": round(run.wire_bytes / size, 3),
    }


def _table(rows: Sequence[Run], size: int) -> None:
    print(
        f"{'a layer of ' + str(size // _MEGABYTE) + ' MB':34} {'wall s':>8} "
        f"{'client CPU-s/GB':>16} {'wire bytes/byte':>16}"
    )
    for row in rows:
        cpu, wire = row.cpu_seconds * _GIGABYTE / size, row.wire_bytes / size
        print(f"{row.name:34} {row.wall_seconds:8.2f} {cpu:16.2f} {wire:16.3f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
