"""The names inside a rehearsal: its servers, the cluster's services, the hosts of ingresses.

Run as ``python -m tests.rehearsal.dns PKI``. Answers A records over UDP on the node's address;
plays the site's own DNS and the cluster's CoreDNS at once. Any other name does not exist.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal import addresses
from tests.rehearsal.kube_api import Informer, KubeApi, Object

PORT = 53
_TTL_SECONDS = 5
_HEADER = struct.Struct("!6H")
_QUESTION_TAIL = struct.Struct("!2H")
_ANSWER = struct.Struct("!3HLH4s")
_POINTER_TO_NAME = 0xC00C
_TYPE_A, _CLASS_IN = 1, 1
_NO_ERROR, _NAME_ERROR = 0, 3
_RESPONSE, _RECURSION_WANTED = 0x8580, 0x0100
_LONGEST_LABEL = 63
_LONGEST_DATAGRAM = 512

# Addresses of a name; None when there is no such name.
Resolve = Callable[[str], list[str] | None]


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks: a lower-case name without its last dot, and a type."""

    name: str
    kind: int
    raw: bytes


def parse_question(packet: bytes) -> Question:
    """Read the one question of a request.

    Raises:
        ValueError: It is no such request.
    """
    if len(packet) < _HEADER.size or _HEADER.unpack_from(packet)[2] != 1:
        raise ValueError("expected a header and one question")
    labels = []
    position = _HEADER.size
    while position < len(packet) and (length := packet[position]):
        if length > _LONGEST_LABEL:
            raise ValueError("expected a plain label")
        labels.append(packet[position + 1 : position + 1 + length].decode("ascii"))
        position += 1 + length
    end = position + 1 + _QUESTION_TAIL.size
    if end > len(packet):
        raise ValueError("the question is cut off")
    kind, _ = _QUESTION_TAIL.unpack_from(packet, position + 1)
    return Question(".".join(labels).lower(), kind, packet[_HEADER.size : end])


def answer(packet: bytes, resolve: Resolve) -> bytes:
    """Give the reply to one request.

    Raises:
        ValueError: It is no request.
    """
    question = parse_question(packet)
    found = resolve(question.name)
    records = (found or []) if question.kind == _TYPE_A else []
    identity, flags, *_ = _HEADER.unpack_from(packet)
    flags = _RESPONSE | (flags & _RECURSION_WANTED)
    flags |= _NAME_ERROR if found is None else _NO_ERROR
    header = _HEADER.pack(identity, flags, 1, len(records), 0, 0)
    return header + question.raw + b"".join(_record(each) for each in records)


def _record(address: str) -> bytes:
    data = ipaddress.IPv4Address(address).packed
    return _ANSWER.pack(_POINTER_TO_NAME, _TYPE_A, _CLASS_IN, _TTL_SECONDS, len(data), data)


class Names:
    """Resolves what the site and the cluster have names for."""

    def __init__(self, services: Informer, slices: Informer, ingresses: Informer) -> None:
        """Take the collections that names come from."""
        self._services = services
        self._slices = slices
        self._ingresses = ingresses

    def resolve(self, name: str) -> list[str] | None:
        """Give the addresses of a name; None when there is no such name."""
        service, _, zone = name.partition(f".svc.{addresses.CLUSTER_DOMAIN}")
        if service != name and not zone:
            return self._service(service)
        fixed = (addresses.REGISTRY_NAME, addresses.S3_NAME, addresses.AWS_NAME)
        wildcards = (f".{addresses.MODELS_DOMAIN}", f".{addresses.S3_NAME}")
        if name in fixed or name.endswith(wildcards) or name in self._ingress_hosts():
            return [addresses.NODE]
        return None

    def _service(self, name: str) -> list[str] | None:
        service, _, namespace = name.partition(".")
        for each in self._services.objects():
            if each["metadata"]["name"] == service and each["metadata"]["namespace"] == namespace:
                address = each["spec"].get("clusterIP", "None")
                return [address] if address != "None" else self._endpoints(service, namespace)
        return None

    def _endpoints(self, service: str, namespace: str) -> list[str]:
        """Give the pods behind a headless service."""
        return [
            address
            for each in self._slices.objects()
            if each["metadata"]["namespace"] == namespace
            and each["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service
            for endpoint in each.get("endpoints") or []
            if endpoint.get("conditions", {}).get("ready", True)
            for address in endpoint["addresses"]
        ]

    def _ingress_hosts(self) -> set[str]:
        return set(ingress_hosts(self._ingresses.objects()))


def ingress_hosts(ingresses: Iterable[Object]) -> Iterable[str]:
    """Give the hosts that ingresses name; for each, a customer has made a DNS record."""
    for ingress in ingresses:
        for rule in ingress["spec"].get("rules") or []:
            if "host" in rule:
                yield rule["host"].lower()


def serve(names: Names) -> None:
    """Answer for ever. What is no request is dropped."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((addresses.NODE, PORT))
        while True:
            packet, client = server.recvfrom(_LONGEST_DATAGRAM)
            try:
                reply = answer(packet, names.resolve)
            except ValueError:
                continue
            server.sendto(reply, client)


def main() -> None:
    """Follow the cluster and answer."""
    api = KubeApi(Path(sys.argv[1]))
    serve(
        Names(
            services=Informer(api, "/api/v1/services"),
            slices=Informer(api, "/apis/discovery.k8s.io/v1/endpointslices"),
            ingresses=Informer(api, "/apis/networking.k8s.io/v1/ingresses"),
        )
    )


if __name__ == "__main__":
    main()
