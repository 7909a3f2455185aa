"""A stand-in for the AWS Load Balancer Controller and the load balancer that it makes.

Run as ``python -m tests.rehearsal.load_balancer PKI CERTIFICATE KEY``. It serves every Ingress of
the cluster by HTTPS on the node's address, writes that address into their status, and sends each
request to a ready pod: 404 where no rule is for it, 503 where no pod is ready.

Of the controller's annotations it knows none. Whether a pod is ready is Kubernetes' own answer;
ALB asks pods itself (``healthcheck-path``), which matters only where the two disagree. There is
one load balancer, whatever ``scheme`` and ``group.name`` say, and one certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.rehearsal import addresses
from tests.rehearsal.ingress_routes import Cluster, Endpoint, choose
from tests.rehearsal.kube_api import ApiError, Informer, KubeApi

PORT = 443
_HEAD_LIMIT = 64 * 1024
_CHUNK = 64 * 1024
_CONNECT_SECONDS = 5
_END = b"\r\n\r\n"
_REASONS = {400: "Bad Request", 404: "Not Found", 502: "Bad Gateway", 503: "Service Unavailable"}
_STATUS = {"loadBalancer": {"ingress": [{"ip": addresses.NODE}]}}

# Gives the cluster as it is now.
Look = Callable[[], Cluster]


class RefusedError(Exception):
    """The load balancer answers by itself, with a status."""

    def __init__(self, status: int) -> None:
        """Take the HTTP status."""
        super().__init__(_REASONS[status])
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """First line and header lines of a request or a response."""

    first: str
    lines: tuple[str, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Split what ends with an empty line."""
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        return cls(first, tuple(lines))

    def value(self, name: str) -> str:
        """Give the first value of a header; empty without one."""
        for line in self.lines:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return ""

    def encode(self, *added: str) -> bytes:
        """Give the bytes for a connection that carries this one exchange only."""
        kept = [line for line in self.lines if line.partition(":")[0].lower() != "connection"]
        return ("\r\n".join([self.first, *kept, *added, "Connection: close"])).encode(
            "latin-1"
        ) + _END


async def exchange(look: Look, client: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass one request to a pod, and its response back, as they stream."""
    request = Head.parse(await client.readuntil(_END))
    endpoint = _find(look(), request)
    try:
        connecting = asyncio.open_connection(endpoint.address, endpoint.port, limit=_HEAD_LIMIT)
        pod, pod_writer = await asyncio.wait_for(connecting, _CONNECT_SECONDS)
    except (OSError, TimeoutError):
        raise RefusedError(502) from None
    async with _closing(pod_writer):
        forwarded = f"X-Forwarded-For: {writer.get_extra_info('peername')[0]}"
        pod_writer.write(request.encode(forwarded, "X-Forwarded-Proto: https"))
        # Whoever ends first ends the exchange: the pod when it has answered, or the client.
        await _first_of(_copy(client, pod_writer), _respond(pod, writer))


def _find(cluster: Cluster, request: Head) -> Endpoint:
    parts = request.first.split(" ")
    if len(parts) != 3:
        raise RefusedError(400)
    host = request.value("host").partition(":")[0]
    endpoints = cluster.route(host, urlsplit(parts[1]).path)
    if endpoints is None:
        raise RefusedError(404)
    if not endpoints:
        raise RefusedError(503)
    return choose(endpoints)


async def _respond(pod: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = Head.parse(await pod.readuntil(_END))
    while head.first.split(" ")[1].startswith("1"):  # 100: the pod wants the body
        writer.write(("\r\n".join([head.first, *head.lines])).encode("latin-1") + _END)
        head = Head.parse(await pod.readuntil(_END))
    writer.write(head.encode())
    await _copy(pod, writer)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK):
        target.write(chunk)
        await target.drain()


async def _first_of(*works: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def _serve(look: Look, context: ssl.SSLContext) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closing(writer):
            try:
                await exchange(look, reader, writer)
            except RefusedError as error:
                writer.write(_page(error.status))
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                writer.write(_page(400))
            except OSError:
                return

    server = await asyncio.start_server(
        connected, addresses.NODE, PORT, ssl=context, limit=_HEAD_LIMIT
    )
    async with server:
        await server.serve_forever()


def _page(status: int) -> bytes:
    text = f"{status} {_REASONS[status]}"
    body = f"{text} (the rehearsal's load balancer)\n"
    return (
        f"HTTP/1.1 {text}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}"
    ).encode()


def announce(api: KubeApi, ingresses: Informer) -> None:
    """Write our address into the status of every ingress, for ever."""
    while True:
        ingresses.changed.wait()
        ingresses.changed.clear()
        for ingress in ingresses.objects():
            if ingress.get("status") == _STATUS:
                continue
            metadata = ingress["metadata"]
            collection = f"/apis/networking.k8s.io/v1/namespaces/{metadata['namespace']}/ingresses"
            # Gone meanwhile, or the server is away: the next change comes by here again.
            with contextlib.suppress(ApiError, OSError):
                api.patch(f"{collection}/{metadata['name']}/status", {"status": _STATUS})


def main() -> None:
    """Follow the cluster and serve."""
    pki, certificate, key = sys.argv[1:]
    api = KubeApi(Path(pki))
    ingresses = Informer(api, "/apis/networking.k8s.io/v1/ingresses")
    services = Informer(api, "/api/v1/services")
    slices = Informer(api, "/apis/discovery.k8s.io/v1/endpointslices")
    threading.Thread(target=announce, args=(api, ingresses), daemon=True).start()

    def look() -> Cluster:
        return Cluster(
            ingresses=ingresses.objects(), services=services.objects(), slices=slices.objects()
        )

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    asyncio.run(_serve(look, context))


if __name__ == "__main__":
    main()
