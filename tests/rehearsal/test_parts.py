"""The rehearsal's own small servers: how they read requests and rules."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.rehearsal import dns, go_build, ingress_routes, programs
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.go_programs import CRANE
from tests.rehearsal.ingress_routes import Cluster, Endpoint
from tests.rehearsal.kube_api import Object

_A, _AAAA = 1, 28


def query(name: str, kind: int = _A) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def resolve(name: str) -> list[str] | None:
    return {"one.test": ["10.0.0.1"], "none.test": []}.get(name)


def test_a_name_is_answered_with_its_address_whatever_its_case() -> None:
    reply = dns.answer(query("ONE.test"), resolve)
    assert struct.unpack_from("!4H", reply) == (7, 0x8580, 1, 1)
    assert reply.endswith(bytes([10, 0, 0, 1]))


@pytest.mark.parametrize(
    ("name", "kind", "flags"),
    [("one.test", _AAAA, 0x8580), ("none.test", _A, 0x8580), ("absent.test", _A, 0x8583)],
)
def test_no_address_is_no_error_and_no_name_is_one(name: str, kind: int, flags: int) -> None:
    reply = dns.answer(query(name, kind), resolve)
    assert struct.unpack_from("!4H", reply) == (7, flags, 1, 0)


@pytest.mark.parametrize("end", range(len(query("one.test"))))
def test_a_request_that_is_cut_off_is_dropped(end: int) -> None:
    with pytest.raises(ValueError, match=r"expected|cut off"):
        dns.answer(query("one.test")[:end], resolve)


@pytest.mark.parametrize(
    ("kind", "rule", "path", "matches"),
    [
        ("Prefix", "/v1", "/v1", True),
        ("Prefix", "/v1", "/v1/models", True),
        ("Prefix", "/v1/", "/v1", True),
        ("Prefix", "/v1", "/v10", False),
        ("Prefix", "/", "/anything", True),
        ("Exact", "/v1", "/v1/", False),
        ("ImplementationSpecific", "/v1/*", "/v1/models", True),
        ("ImplementationSpecific", "/v1", "/v1/models", False),
    ],
)
def test_a_path_rule_is_for(kind: str, rule: str, path: str, *, matches: bool) -> None:
    assert ingress_routes.matches({"pathType": kind, "path": rule}, path) is matches


def ingress(host: str, path: str, service: str) -> Object:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": backend}]
    return {
        "metadata": {"namespace": "here", "name": service},
        "spec": {"rules": [{"host": host, "http": {"paths": paths}}]},
    }


def service(name: str) -> Object:
    ports = [{"name": "other", "port": 81}, {"name": "http", "port": 80}]
    return {"metadata": {"namespace": "here", "name": name}, "spec": {"ports": ports}}


def endpoint_slice(service: str, address: str, *, ready: bool, namespace: str = "here") -> Object:
    return {
        "metadata": {"namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "other", "port": 1}, {"name": "http", "port": 8000}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
    }


_CLUSTER = Cluster(
    ingresses=[ingress("a.test", "/", "all"), ingress("a.test", "/v1", "one")],
    services=[service("all"), service("one")],
    slices=[
        endpoint_slice("one", "10.0.0.1", ready=True),
        endpoint_slice("one", "10.0.0.2", ready=False),
        endpoint_slice("one", "10.0.0.3", ready=True, namespace="elsewhere"),
        endpoint_slice("all", "10.0.0.4", ready=False),
    ],
)


def test_the_longest_rule_decides_and_only_ready_pods_are_asked() -> None:
    assert _CLUSTER.route("A.test", "/v1/models") == [Endpoint("10.0.0.1", 8000)]
    assert _CLUSTER.route("a.test", "/v2") == []
    assert _CLUSTER.route("b.test", "/v1") is None


def test_missing_programs_are_told_with_the_packages_that_bring_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(programs, "SYSTEM_PATH", "")
    with pytest.raises(RehearsalError, match=r"apt-get install containerd( \S+)* iptables$"):
        programs.require(["ctr", "iptables", "containerd"])


def test_a_program_that_was_not_compiled_yet_is_told_with_what_compiles_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(
        RehearsalError, match=r"^crane [0-9.]+: .* python -m tests.rehearsal build$"
    ):
        go_build.find(CRANE)


def test_every_package_that_is_asked_for_gets_installed() -> None:
    text = (programs.ROOT / "tests/rehearsal/packages.txt").read_text()
    listed = {line.partition("#")[0].strip() for line in text.splitlines()}
    assert set(programs.PACKAGES.values()) <= listed
