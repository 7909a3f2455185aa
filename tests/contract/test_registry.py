"""What a Registry must do, held against a real one: plain, with TLS, with a login."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ContentError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.reference import ImageTag
from bundler.stores.base import Registry
from bundler.stores.login import Login, find_login
from bundler.stores.opening import open_registry
from bundler.tools.skopeo import Skopeo
from tests.rehearsal import registry as rehearsal
from tests.rehearsal.certificates import Authority

IMAGE = ImageTag("atlas", "1.0.0")
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Archive:
    """A tiny OCI archive, and what its tag names."""

    path: Path
    digest: Digest


def write_archive(path: Path, text: str) -> Archive:
    """Write an OCI archive of one image without layers; ``text`` makes it another image."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"text": text}},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
    ).encode()
    described = {"digest": _digest(config), "size": len(config)}
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **described},
            "layers": [],
        }
    ).encode()
    index = {"mediaType": MANIFEST_TYPE, "digest": _digest(manifest), "size": len(manifest)}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [index]}).encode(),
        _blob(config): config,
        _blob(manifest): manifest,
    }
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return Archive(path, Digest.of(manifest))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(content: bytes) -> str:
    return f"blobs/{_digest(content).replace(':', '/')}"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return write_archive(tmp_path / "atlas__1.0.0.tar", str(tmp_path))


def opened(server: rehearsal.Registry, scratch: Path, *, path: str = "") -> Registry:
    """Open a rehearsal's registry as the command does, with skopeo to push."""
    certificates = None
    if server.ca_file is not None:
        certificates = scratch / "certificates"
        certificates.mkdir(exist_ok=True)
        certificates.joinpath("ca.crt").write_bytes(server.ca_file.read_bytes())

    def push(archive: Path, destination: str) -> Digest:
        return Skopeo().push(
            archive,
            destination,
            plain_http=server.ca_file is None,
            authfile=server.authfile,
            cert_dir=certificates,
            scratch=scratch,
        )

    return open_registry(
        server.address + path,
        push=push,
        plain_http=server.ca_file is None,
        ca=server.ca_file,
        authfile=server.authfile,
    )


class RegistryContract:
    """Subclass it and give a fixture ``server``."""

    def test_a_tag_that_is_not_there_has_no_digest(
        self, server: rehearsal.Registry, tmp_path: Path
    ) -> None:
        assert opened(server, tmp_path).digest(ImageTag("nowhere", "1")) is None

    @pytest.mark.parametrize("path", ["", "/team/models"])
    def test_an_image_keeps_its_digest(
        self, server: rehearsal.Registry, archive: Archive, tmp_path: Path, path: str
    ) -> None:
        registry = opened(server, tmp_path, path=path)
        assert registry.push(archive.path, IMAGE) == archive.digest
        assert registry.digest(IMAGE) == archive.digest
        assert registry.digest(ImageTag(IMAGE.name, "another")) is None

    def test_a_tag_names_what_was_pushed_last(
        self, server: rehearsal.Registry, tmp_path: Path
    ) -> None:
        registry = opened(server, tmp_path)
        for text in ("one", "two"):
            archive = write_archive(tmp_path / "image.tar", text)
            registry.push(archive.path, ImageTag("moving", "1"))
            assert registry.digest(ImageTag("moving", "1")) == archive.digest


class TestPlainRegistry(RegistryContract):
    @pytest.fixture
    def server(self, registry: rehearsal.Registry) -> rehearsal.Registry:
        return registry


@pytest.fixture(scope="module")
def tls_registry(need: Callable[[str], str]) -> Iterator[rehearsal.Registry]:
    need("docker-registry")
    with rehearsal.registry(tls=True) as server:
        yield server


class TestRegistryWithTls(RegistryContract):
    @pytest.fixture
    def server(self, tls_registry: rehearsal.Registry) -> rehearsal.Registry:
        return tls_registry

    def test_a_private_authority_must_be_named(self, server: rehearsal.Registry) -> None:
        with pytest.raises(WorldError, match="certificate is not trusted") as caught:
            open_registry(server.address, push=no_push).digest(IMAGE)
        assert "registry.ca" in told(caught.value)

    def test_a_certificate_of_another_host_is_told_apart(self, server: rehearsal.Registry) -> None:
        other = server.address.replace(server.host, "localhost")
        with pytest.raises(WorldError, match="certificate is of another host") as caught:
            open_registry(other, push=no_push, ca=server.ca_file).digest(IMAGE)
        assert "use the name that the certificate has" in told(caught.value)
        assert "plainHttp" not in told(caught.value)

    def test_plain_http_is_spoken_only_when_told(self, server: rehearsal.Registry) -> None:
        with pytest.raises(WorldError, match="answered 400") as caught:
            open_registry(server.address, push=no_push, plain_http=True).digest(IMAGE)
        assert "plainHttp" in told(caught.value)


@pytest.fixture(scope="module")
def login_registry(need: Callable[[str], str]) -> Iterator[rehearsal.Registry]:
    need("docker-registry")
    with rehearsal.registry(tls=True, auth=True) as server:
        yield server


class TestRegistryWithLogin(RegistryContract):
    @pytest.fixture
    def server(self, login_registry: rehearsal.Registry) -> rehearsal.Registry:
        return login_registry

    def test_nobody_in_particular_is_refused(self, server: rehearsal.Registry) -> None:
        with pytest.raises(DeniedError, match="refused anybody without a login") as caught:
            open_registry(server.address, push=no_push, ca=server.ca_file).digest(IMAGE)
        assert f"skopeo login {server.address}" in told(caught.value)

    def test_a_wrong_password_is_refused_and_not_shown(
        self, server: rehearsal.Registry, tmp_path: Path
    ) -> None:
        authfile = write_login(tmp_path, server.address, "rehearsal", "not-the-password")
        with pytest.raises(DeniedError, match="refused the login that we have") as caught:
            open_registry(
                server.address, push=no_push, ca=server.ca_file, authfile=authfile
            ).digest(IMAGE)
        assert "not-the-password" not in told(caught.value)
        assert f"skopeo login --authfile {authfile} {server.address}" in told(caught.value)

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
        self, server: rehearsal.Registry, tmp_path: Path, variable: str, file: str
    ) -> None:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(server.authfile.read_bytes())
        value = path if variable == "REGISTRY_AUTH_FILE" else tmp_path
        registry = open_registry(
            server.address, push=no_push, ca=server.ca_file, environment={variable: str(value)}
        )
        assert registry.digest(ImageTag("nowhere", "1")) is None


def no_push(archive: Path, destination: str) -> Digest:
    raise AssertionError(f"{archive} must not go to {destination}")


def told(error: BundleError) -> str:
    """Give all that a person would see of an error."""
    text = f"{error} ({error.hint})"
    assert "\n" not in text
    assert error.hint
    return text


def write_login(directory: Path, name: str, user: str, password: str) -> Path:
    path = directory / "login.json"
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {name: {"auth": token}}}))
    return path


@dataclass
class Scripted:
    """A registry that answers as a test says.

    Attributes:
        address: Its ``host:port``.
        reply: From method, path and Authorization header to status, headers and body.
        seen: Every request: method, path, Authorization header.
    """

    address: str
    reply: Callable[[str, str, str], tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def open(self, authfile: Path | None = None) -> Registry:
        return open_registry(self.address, push=no_push, plain_http=True, authfile=authfile)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    script: Scripted


class _Handler(BaseHTTPRequestHandler):
    server: _Listener

    def answer(self) -> None:
        request = (self.command, self.path, self.headers.get("Authorization", ""))
        self.server.script.seen.append(request)
        status, headers, body = self.server.script.reply(*request)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(tls: Path | None = None) -> Iterator[Scripted]:
    """Run a scripted registry; with TLS under an authority whose files go to ``tls``."""
    with _Listener(("127.0.0.1", 0), _Handler) as listener:
        if tls is not None:
            tls.mkdir()
            pair = Authority(tls, "ca").issue("server", subject="registry", names=["127.0.0.1"])
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
        address = f"127.0.0.1:{listener.server_address[1]}"
        listener.script = Scripted(address, lambda *_: (404, {}, b""))
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield listener.script
        finally:
            listener.shutdown()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with serving() as server:
        yield server


class TestDigests:
    MANIFEST = b'{"schemaVersion":2}'

    def test_where_none_is_announced_the_bytes_decide(self, scripted: Scripted) -> None:
        scripted.reply = lambda *_: (200, {}, self.MANIFEST)
        assert scripted.open().digest(IMAGE) == Digest.of(self.MANIFEST)
        assert [method for method, _, _ in scripted.seen] == ["HEAD", "GET"]

    def test_one_of_another_algorithm_is_no_answer(self, scripted: Scripted) -> None:
        header = {"Docker-Content-Digest": f"sha512:{'0' * 128}"}
        scripted.reply = lambda *_: (200, header, self.MANIFEST)
        assert scripted.open().digest(IMAGE) == Digest.of(self.MANIFEST)

    def test_a_registry_that_contradicts_itself_is_not_believed(self, scripted: Scripted) -> None:
        def reply(method: str, path: str, login: str) -> tuple[int, dict[str, str], bytes]:
            lie = {"Docker-Content-Digest": str(Digest.of(b"other"))}
            return 200, lie if method == "GET" else {}, self.MANIFEST

        scripted.reply = reply
        with pytest.raises(ContentError, match=f"sends {Digest.of(self.MANIFEST)}"):
            scripted.open().digest(IMAGE)

    def test_a_manifest_without_end_is_not_read(self, scripted: Scripted) -> None:
        scripted.reply = lambda *_: (200, {}, b" " * ((4 << 20) + 1))
        with pytest.raises(WorldError, match="manifest of over 4194304 bytes"):
            scripted.open().digest(IMAGE)

    def test_a_push_that_left_nothing_is_an_error(self, scripted: Scripted, tmp_path: Path) -> None:
        registry = open_registry(scripted.address, push=lambda *_: Digest.of(b""), plain_http=True)
        with pytest.raises(WorldError, match="pushed, but not there"):
            registry.push(tmp_path, IMAGE)


class TestFailures:
    def test_nobody_listens(self) -> None:
        with pytest.raises(
            WorldError, match=r"127\.0\.0\.1:9/atlas:1\.0\.0: cannot reach"
        ) as error:
            open_registry("127.0.0.1:9", push=no_push).digest(IMAGE)
        assert "Connection refused" in told(error.value)

    def test_a_host_that_has_no_address(self) -> None:
        with pytest.raises(WorldError, match="cannot reach the registry") as error:
            open_registry("registry.invalid", push=no_push).digest(IMAGE)
        assert "registry.host" in told(error.value)

    def test_tls_to_a_server_without_it(self, scripted: Scripted) -> None:
        with pytest.raises(WorldError, match="does not speak TLS") as error:
            open_registry(scripted.address, push=no_push).digest(IMAGE)
        assert "plainHttp" in told(error.value)

    def test_a_registry_that_is_busy_for_a_while_is_asked_again(self, scripted: Scripted) -> None:
        def reply(method: str, path: str, login: str) -> tuple[int, dict[str, str], bytes]:
            if len(scripted.seen) < 3:
                return 429, {"Retry-After": "0"}, b""
            return 200, {"Docker-Content-Digest": str(Digest.of(b"x"))}, b""

        scripted.reply = reply
        assert scripted.open().digest(IMAGE) == Digest.of(b"x")

    def test_a_registry_that_stays_busy_is_given_up(self, scripted: Scripted) -> None:
        scripted.reply = lambda *_: (503, {"Retry-After": "0"}, b"")
        with pytest.raises(WorldError, match="answered 503"):
            scripted.open().digest(IMAGE)
        assert len(scripted.seen) == 4

    @pytest.mark.timeout(30)  # left to itself, oras repeats this for two minutes
    def test_a_refused_token_is_said_once_and_by_us(
        self, scripted: Scripted, caplog: pytest.LogCaptureFixture
    ) -> None:
        scripted.reply = lambda *_: (401, {"WWW-Authenticate": _bearer(scripted)}, b"")
        with pytest.raises(DeniedError, match="token service refused us"):
            scripted.open().digest(IMAGE)
        assert [record for record in caplog.records if record.name.startswith("oras")] == []

    def test_an_authority_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match=r"ca\.crt: no such file"):
            open_registry("registry.example.com", push=no_push, ca=tmp_path / "ca.crt")


def _bearer(scripted: Scripted, realm: str = "") -> str:
    realm = realm or f"http://{scripted.address}/token"
    return f'Bearer realm="{realm}",service="registry",scope="repository:atlas:pull"'


class TestTokens:
    def test_a_token_is_asked_for_with_our_login_and_used(
        self, scripted: Scripted, tmp_path: Path
    ) -> None:
        def reply(method: str, path: str, login: str) -> tuple[int, dict[str, str], bytes]:
            if path.startswith("/token"):
                return (
                    (200, {}, b'{"token":"t1"}') if login.startswith("Basic ") else (401, {}, b"")
                )
            if login == "Bearer t1":
                return 200, {"Docker-Content-Digest": str(Digest.of(b"x"))}, b""
            return 401, {"WWW-Authenticate": _bearer(scripted)}, b""

        scripted.reply = reply
        authfile = write_login(tmp_path, scripted.address, "me", "password")
        assert scripted.open(authfile).digest(IMAGE) == Digest.of(b"x")
        asked = next(path for _, path, _ in scripted.seen if path.startswith("/token"))
        assert "scope=repository%3Aatlas%3Apull" in asked

    def test_a_token_for_anybody_will_do(self, scripted: Scripted) -> None:
        def reply(method: str, path: str, login: str) -> tuple[int, dict[str, str], bytes]:
            if path.startswith("/token"):
                return 200, {}, b'{"access_token":"t2"}'
            if login == "Bearer t2":
                return 404, {}, b""
            return 401, {"WWW-Authenticate": _bearer(scripted)}, b""

        scripted.reply = reply
        assert scripted.open().digest(IMAGE) is None

    def test_no_password_goes_to_a_token_service_without_tls(self, tmp_path: Path) -> None:
        with serving(tmp_path / "tls") as server:
            server.reply = lambda *_: (401, {"WWW-Authenticate": _bearer(server)}, b"")
            registry = open_registry(
                server.address,
                push=no_push,
                ca=tmp_path / "tls" / "ca.crt",
                authfile=write_login(tmp_path, server.address, "me", "password"),
            )
            with pytest.raises(DeniedError, match="sends us for a token to http://"):
                registry.digest(IMAGE)
            assert {login for _, _, login in server.seen} == {""}

    def test_a_challenge_of_an_unknown_kind_is_refused(
        self, scripted: Scripted, tmp_path: Path
    ) -> None:
        scripted.reply = lambda *_: (401, {"WWW-Authenticate": "Negotiate"}, b"")
        authfile = write_login(tmp_path, scripted.address, "me", "password")
        with pytest.raises(DeniedError, match="refused"):
            scripted.open(authfile).digest(IMAGE)
        assert {login for _, _, login in scripted.seen} == {""}


class TestLogins:
    @pytest.mark.parametrize("name", ["{host}", "https://{host}", "https://{host}/v1/", "{host}/a"])
    def test_docker_writes_the_host_in_several_ways(
        self, scripted: Scripted, tmp_path: Path, name: str
    ) -> None:
        def reply(method: str, path: str, login: str) -> tuple[int, dict[str, str], bytes]:
            if login:
                return 404, {}, b""
            return 401, {"WWW-Authenticate": 'Basic realm="r"'}, b""

        scripted.reply = reply
        authfile = write_login(tmp_path, name.format(host=scripted.address), "me", "pass:word")
        registry = open_registry(
            f"{scripted.address}/a/b", push=no_push, plain_http=True, authfile=authfile
        )
        assert registry.digest(IMAGE) is None
        assert scripted.seen[-1][2] == f"Basic {base64.b64encode(b'me:pass:word').decode()}"

    def test_the_narrowest_login_is_taken(self, scripted: Scripted, tmp_path: Path) -> None:
        logins = {
            scripted.address: base64.b64encode(b"wide:1").decode(),
            f"{scripted.address}/a": base64.b64encode(b"narrow:1").decode(),
        }
        authfile = tmp_path / "auth.json"
        authfile.write_text(json.dumps({"auths": {k: {"auth": v} for k, v in logins.items()}}))
        found = find_login(f"{scripted.address}/a", authfile=authfile, environment={})
        assert found is not None
        assert found.user == "narrow"

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("{", "not JSON"),
            ('{"auths": {"127.0.0.1:9": {"auth": "***"}}}', "base64 of USER:PASSWORD"),
            ('{"auths": {"127.0.0.1:9": {"auth": "c2VjcmV0"}}}', "base64 of USER:PASSWORD"),
            ('{"auths": []}', "expected a mapping"),
        ],
    )
    def test_a_malformed_file_is_named_and_its_secrets_are_not(
        self, tmp_path: Path, content: str, expected: str
    ) -> None:
        authfile = tmp_path / "auth.json"
        authfile.write_text(content)
        with pytest.raises(MalformedError, match=expected) as caught:
            open_registry("127.0.0.1:9", push=no_push, authfile=authfile)
        assert str(authfile) in str(caught.value)
        assert "c2VjcmV0" not in str(caught.value)

    def test_a_login_file_that_was_named_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match=r"none\.json: no such file"):
            open_registry("127.0.0.1:9", push=no_push, authfile=tmp_path / "none.json")

    @pytest.mark.parametrize("field", ["credsStore", "credHelpers"])
    def test_a_credential_helper_is_asked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
    ) -> None:
        helper = tmp_path / "docker-credential-fake"
        helper.write_text(
            '#!/bin/sh\nread host\necho "{\\"Username\\":\\"$host\\",\\"Secret\\":\\"s\\"}"\n'
        )
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        authfile = tmp_path / "config.json"
        value: object = "fake" if field == "credsStore" else {"127.0.0.1:9": "fake"}
        authfile.write_text(json.dumps({field: value}))
        assert find_login("127.0.0.1:9/p", authfile=authfile, environment={}) == Login(
            "127.0.0.1:9", "s"
        )
