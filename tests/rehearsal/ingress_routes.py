"""Where an HTTP request goes: from host and path through Ingress and Service to ready pods."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.rehearsal.kube_api import Object


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod's address and the port that it serves on."""

    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The objects that decide, as they were at one moment."""

    ingresses: Sequence[Object]
    services: Sequence[Object]
    slices: Sequence[Object]

    def route(self, host: str, path: str) -> list[Endpoint] | None:
        """Give the ready endpoints for a request; None when no rule is for it.

        Args:
            host: The request's host, without a port.
            path: Its path, without the query.
        """
        best: tuple[tuple[bool, int], Object, str] | None = None
        for ingress in self.ingresses:
            for rule in _paths(ingress, host):
                if not matches(rule, path):
                    continue
                rank = (rule.get("pathType") == "Exact", len(rule.get("path", "/")))
                if best is None or rank > best[0]:
                    best = rank, rule["backend"]["service"], ingress["metadata"]["namespace"]
        return None if best is None else self._endpoints(best[1], best[2])

    def _endpoints(self, backend: Object, namespace: str) -> list[Endpoint]:
        port_name = self._port_name(backend, namespace)
        return [
            Endpoint(address, port["port"])
            for each in self.slices
            if each["metadata"]["namespace"] == namespace
            and each["metadata"]["labels"].get("kubernetes.io/service-name") == backend["name"]
            for port in each.get("ports") or []
            if port.get("name", "") == port_name
            for endpoint in each.get("endpoints") or []
            if endpoint.get("conditions", {}).get("ready", True)
            for address in endpoint["addresses"]
        ]

    def _port_name(self, backend: Object, namespace: str) -> str | None:
        """Give the name of the service's port, by which its endpoints are found."""
        for service in self.services:
            metadata = service["metadata"]
            if (metadata["namespace"], metadata["name"]) != (namespace, backend["name"]):
                continue
            for port in service["spec"].get("ports") or []:
                name: str = port.get("name", "")
                wanted = backend["port"]
                if wanted.get("name", "") == name or wanted.get("number") == port["port"]:
                    return name
        return None


def _paths(ingress: Object, host: str) -> Iterable[Object]:
    for rule in ingress["spec"].get("rules") or []:
        if rule.get("host", host).lower() == host.lower():
            yield from (rule.get("http") or {}).get("paths") or []


def matches(rule: Object, path: str) -> bool:
    """Say whether a path rule is for a path: exactly, or by whole elements of it.

    ``ImplementationSpecific`` is ALB's own: exact, unless it ends in ``*``.
    """
    wanted: str = rule.get("path") or "/"
    match rule.get("pathType"):
        case "Prefix":
            return f"{path}/".startswith(f"{wanted.rstrip('/')}/")
        case "ImplementationSpecific" if wanted.endswith("*"):
            return path.startswith(wanted[:-1])
        case _:
            return path == wanted


def choose(endpoints: Sequence[Endpoint]) -> Endpoint:
    """Take one of several."""
    return random.choice(endpoints)
