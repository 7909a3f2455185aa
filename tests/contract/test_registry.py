"""The contract of a Registry, held against real ones: plain, with TLS, with logins, by a proxy."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization

from bundler.digest import Digest
from bundler.errors import DeniedError, MalformedError, NotFoundError, WorldError
from bundler.stores.base import Registry
from bundler.stores.login import GivenLogin, Login
from bundler.stores.opening import open_logins, open_registry
from tests.contract.registry_contract import NOWHERE, RegistryContract, Server, blob_of, push_image
from tests.contract.scripted_registry import BRIEFLY, serving, told
from tests.rehearsal import go_build
from tests.rehearsal import registry as rehearsal
from tests.rehearsal.faults import Action, Call, Cut, Fault
from tests.rehearsal.faulty_proxy import faulty_proxy
from tests.rehearsal.fixtures import need
from tests.rehearsal.go_programs import REFERRERS
from tests.rehearsal.referrers_registry import referrers_registry
from tests.rehearsal.registry import write_identity_token


def opened(server: rehearsal.Registry, path: str = "", **other: Any) -> Registry:
    """Open a rehearsal's registry with all that it wants; ``other`` replaces some of it."""
    known: dict[str, Any] = {
        "logins": open_logins(server.address, authfile=server.authfile),
        "plain_http": server.ca_file is None,
        "ca": server.ca_file,
        "client_certificate": server.client and server.client.certificate,
        "client_key": server.client and server.client.key,
        "token_server": server.tokens and server.tokens.origin,
        "environment": {},
        "patience": BRIEFLY,
    }
    address = other.pop("address", server.address)
    return open_registry(address + path, **known | other)


def cut_once(*, after: int) -> Fault:
    """Break the first upload off when that many of its bytes went over."""
    broken: list[Call] = []

    def fault(call: Call) -> Action:
        if call.operation != "PutBlob" or broken:
            return None
        broken.append(call)
        return Cut(after=after)

    return fault


@pytest.fixture(scope="class")
def real(request: pytest.FixtureRequest) -> Iterator[rehearsal.Registry]:
    """Run the registry that a class of tests describes."""
    wanted: type[_Real] = request.cls
    need(lambda: rehearsal.program(wanted.kind))
    with rehearsal.registry(wanted.kind, **wanted.how) as server:
        yield server


@pytest.fixture(scope="class")
def proxy() -> Iterator[rehearsal.ForwardProxy]:
    with rehearsal.proxy() as server:
        yield server


class _Real(RegistryContract):
    """Subclass it and say which registry it is."""

    kind: ClassVar[rehearsal.Kind]
    how: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def server(self, real: rehearsal.Registry) -> Server:
        return Server(open=lambda path: opened(real, path))


class TestDebian(_Real):
    kind = "debian"


class TestDistribution3(_Real):
    kind = "distribution"

    def test_a_layer_that_broke_off_is_gone_on_with(
        self, real: rehearsal.Registry, name: str
    ) -> None:
        content = os.urandom(40 << 20)
        with faulty_proxy(real) as between:
            between.fault = cut_once(after=32 << 20)
            opened(real, address=between.address).upload(
                name, blob_of(content), advance=lambda _: None
            )
            brought = sum(call.forwarded for call in between.calls)
        assert opened(real).blob_size(name, Digest.of(content)) == len(content)
        assert brought < 1.2 * len(content)


class TestCrane(_Real):
    kind = "crane"


@pytest.fixture(scope="class")
def address() -> Iterator[str]:
    """Run crane's registry with the referrers API."""
    need(lambda: str(go_build.find(REFERRERS)))
    with referrers_registry() as server:
        yield server


class TestCraneWithReferrers(RegistryContract):
    """Crane's registry once more, with the referrers API that it has only when told so."""

    @pytest.fixture
    def server(self, address: str) -> Server:
        def at(path: str) -> Registry:
            return open_registry(
                address + path, logins=GivenLogin(), plain_http=True, environment={}
            )

        return Server(open=at)

    def test_what_has_a_subject_is_listed_as_about_it(
        self, address: str, registry: Registry, name: str
    ) -> None:
        image = push_image(registry, name, b"layer")
        about = push_image(registry, name, b"{}", subject=image)
        url = f"http://{address}/v2/{name}/referrers/{Digest.of(image)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            listed = json.load(answer)["manifests"]
        assert [each["digest"] for each in listed] == [str(Digest.of(about))]


class TestTlsAndPassword(_Real):
    kind = "debian"
    how: ClassVar[dict[str, Any]] = {"tls": True, "auth": "basic"}

    def test_a_private_authority_must_be_named(self, real: rehearsal.Registry) -> None:
        named = f"^{re.escape(real.address)}: its certificate is not trusted"
        with pytest.raises(WorldError, match=named) as caught:
            opened(real, ca=None).manifest("atlas", "1.0.0")
        assert "registry.ca" in told(caught.value)

    def test_a_certificate_of_another_host_is_told_apart(self, real: rehearsal.Registry) -> None:
        other = real.address.replace(real.host, "localhost")
        registry = open_registry(other, logins=GivenLogin(), ca=real.ca_file, environment={})
        with pytest.raises(WorldError, match="certificate is of another host") as caught:
            registry.manifest("atlas", "1.0.0")
        assert "use the name that the certificate has" in told(caught.value)
        assert "plainHttp" not in told(caught.value)

    def test_plain_http_is_spoken_only_when_told(self, real: rehearsal.Registry) -> None:
        with pytest.raises(WorldError, match="answered 400") as caught:
            opened(real, plain_http=True).manifest("atlas", "1.0.0")
        assert "plainHttp" in told(caught.value)

    def test_nobody_in_particular_is_refused(self, real: rehearsal.Registry) -> None:
        named = f"^{re.escape(real.address)}: the registry refused anybody without a login"
        with pytest.raises(DeniedError, match=named):
            opened(real, logins=GivenLogin()).manifest("atlas", "1.0.0")

    def test_a_wrong_password_is_refused_and_not_shown(self, real: rehearsal.Registry) -> None:
        wrong = GivenLogin(Login(real.username, "not-the-password"))
        with pytest.raises(DeniedError, match="refused the login ") as caught:
            opened(real, logins=wrong).manifest("atlas", "1.0.0")
        assert f"; login: user {real.username!r} of --registry-user" in str(caught.value)
        assert "check the password" in str(caught.value.hint)
        assert "--registry-user NAME" not in str(caught.value.hint)
        assert "not-the-password" not in told(caught.value)
        assert "not-the-password" not in repr(wrong)

    @pytest.mark.parametrize(
        ("variable", "file"),
        [
            ("REGISTRY_AUTH_FILE", "auth.json"),
            ("XDG_RUNTIME_DIR", "containers/auth.json"),
            ("XDG_CONFIG_HOME", "containers/auth.json"),
            ("DOCKER_CONFIG", "config.json"),
            ("HOME", ".docker/config.json"),
            ("HOME", ".config/containers/auth.json"),
        ],
    )
    def test_a_login_is_found_where_docker_and_skopeo_write_it(
        self, real: rehearsal.Registry, tmp_path: Path, variable: str, file: str
    ) -> None:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(real.authfile.read_bytes())
        value = path if variable == "REGISTRY_AUTH_FILE" else tmp_path
        logins = open_logins(real.address, environment={variable: str(value)})
        assert opened(real, logins=logins).blob_size("nowhere", NOWHERE) is None


class TestTlsOnBothSides(_Real):
    kind = "distribution"
    how: ClassVar[dict[str, Any]] = {"client_tls": True}

    def test_who_shows_no_certificate_is_told_what_is_missing(
        self, real: rehearsal.Registry
    ) -> None:
        registry = opened(real, client_certificate=None, client_key=None)
        with pytest.raises(WorldError, match="it wants a client certificate") as caught:
            registry.manifest("atlas", "1.0.0")
        assert "registry.clientCertificate" in told(caught.value)

    def test_certificate_and_key_must_belong_together(self, real: rehearsal.Registry) -> None:
        assert real.client is not None
        with pytest.raises(MalformedError, match="expected a certificate and its private key"):
            opened(real, client_key=real.client.certificate)
        with pytest.raises(NotFoundError, match=r"none\.key: no such file"):
            opened(real, client_key=real.client.key.with_name("none.key"))

    def test_nobody_is_asked_for_the_password_of_a_key(
        self, real: rehearsal.Registry, tmp_path: Path
    ) -> None:
        assert real.client is not None
        key = serialization.load_pem_private_key(real.client.key.read_bytes(), None)
        encrypted = tmp_path / "client.key"
        encrypted.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        with pytest.raises(MalformedError, match="not encrypted"):
            opened(real, client_key=encrypted)


class TestTokens(_Real):
    kind = "distribution"
    how: ClassVar[dict[str, Any]] = {"tls": True, "auth": "token"}

    def test_a_token_server_on_another_origin_must_be_named(self, real: rehearsal.Registry) -> None:
        assert real.tokens is not None
        asked = len(real.tokens.requests)
        with pytest.raises(DeniedError, match="sends us for a token to") as caught:
            opened(real, token_server=None).manifest("atlas", "1.0.0")
        assert f"registry.tokenServer: {real.tokens.origin}" in told(caught.value)
        assert len(real.tokens.requests) == asked

    def test_one_token_serves_all_that_is_done_in_a_repository(
        self, real: rehearsal.Registry
    ) -> None:
        assert real.tokens is not None
        asked = len(real.tokens.requests)
        registry = opened(real)
        for _ in range(5):
            assert registry.manifest("one-token", "1.0.0") is None
        assert [each.scopes for each in real.tokens.requests[asked:]] == [
            ("repository:one-token:pull,push",)
        ]

    def test_a_repository_that_we_may_not_write_to_is_named(self, real: rehearsal.Registry) -> None:
        assert real.tokens is not None
        real.tokens.refused.add("forbidden")
        with pytest.raises(DeniedError, match=r"/forbidden:1\.0\.0: the registry refused"):
            opened(real).manifest("forbidden", "1.0.0")


class TestIdentityToken(_Real):
    kind = "debian"
    how: ClassVar[dict[str, Any]] = {"tls": True, "auth": "token"}

    @pytest.fixture
    def server(self, real: rehearsal.Registry, tmp_path: Path) -> Server:
        authfile = write_identity_token(tmp_path / "docker", real) / "config.json"
        logins = open_logins(real.address, authfile=authfile)
        return Server(open=lambda path: opened(real, path, logins=logins))

    def test_it_goes_as_oauth_says(self, real: rehearsal.Registry, server: Server) -> None:
        assert real.tokens is not None
        assert server.open("").blob_size("atlas", NOWHERE) is None
        asked = real.tokens.requests[-1]
        assert (asked.method, asked.grant, asked.status) == ("POST", "refresh_token", 200)


class TestProxy(_Real):
    """Loopback is never reached by a proxy, as in Go; but nobody knows 127.1 for loopback."""

    kind = "distribution"

    @pytest.fixture
    def server(self, real: rehearsal.Registry, proxy: rehearsal.ForwardProxy) -> Server:
        environment = {"HTTP_PROXY": proxy.url}

        def behind(path: str) -> Registry:
            host = f"127.1:{real.port}{path}"
            return open_registry(
                host, logins=GivenLogin(), plain_http=True, environment=environment
            )

        return Server(open=behind)

    def test_requests_take_it(self, server: Server, proxy: rehearsal.ForwardProxy) -> None:
        before = len(proxy.requests)
        assert server.open("").blob_size("atlas", NOWHERE) is None
        assert len(proxy.requests) == before + 1

    def test_no_proxy_is_heeded(
        self, real: rehearsal.Registry, proxy: rehearsal.ForwardProxy
    ) -> None:
        before = len(proxy.requests)
        registry = open_registry(
            f"127.1:{real.port}",
            logins=GivenLogin(),
            plain_http=True,
            environment={"HTTP_PROXY": proxy.url, "NO_PROXY": "example.com, 127.1"},
        )
        assert registry.blob_size("atlas", NOWHERE) is None
        assert len(proxy.requests) == before


def test_tls_goes_through_a_tunnel(tmp_path: Path, proxy: rehearsal.ForwardProxy) -> None:
    with serving(tmp_path / "tls", names=("127.1",)) as server:
        host = server.address.replace("127.0.0.1", "127.1")
        registry = open_registry(
            host,
            logins=GivenLogin(),
            ca=tmp_path / "tls/ca.crt",
            environment={"HTTPS_PROXY": proxy.url},
        )
        registry.upload("atlas", blob_of(b"content"), advance=lambda _: None)
    assert list(server.blobs.values()) == [b"content"]
    assert set(proxy.requests) == {f"CONNECT {host}"}
