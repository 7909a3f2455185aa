"""Logins, authorities and mirrors are found where skopeo finds them, by both who ask."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from bundler.digest import Digest
from bundler.errors import BundleError, ContentError, DeniedError, MalformedError, WorldError
from bundler.source import Platform, RegistrySource
from bundler.stores import referrers
from bundler.stores.artifacts import open_artifacts
from bundler.stores.certificates import registry_context
from bundler.stores.oras_client import OrasClient
from bundler.tools.skopeo import Skopeo
from tests.conftest import missing
from tests.integration.release_inputs import write_layout
from tests.rehearsal.registry import Auth, Registry, registry

SKOPEO = Skopeo()
TAG = "1.0.0"
AMD64 = Platform("linux", "amd64")


@pytest.fixture(scope="module", params=["basic", "token"])
def guarded(request: pytest.FixtureRequest, need: Callable[[str], str]) -> Iterator[Registry]:
    """A registry with TLS and logins; its token server is at another origin."""
    need("skopeo")
    need("docker-registry")
    auth: Auth = request.param
    with registry(tls=True, auth=auth) as server:
        yield server


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without anything, in whose home skopeo looks too."""
    place = tmp_path / "user"
    place.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return place


@pytest.fixture
def image(guarded: Registry, home: Path, tmp_path: Path) -> tuple[str, Digest]:
    """An image in the registry, whose authority the user trusts."""
    trust(guarded, home / ".config" / "containers" / "certs.d")
    digest = write_layout(tmp_path / "pushed", text="behind a login")
    place = f"{guarded.address}/vendor/atlas"
    subprocess.run(
        [
            *("skopeo", "copy", "--quiet", "--preserve-digests"),
            f"--dest-authfile={guarded.authfile}",
            *(f"oci:{tmp_path / 'pushed'}:{TAG}", f"docker://{place}:{TAG}"),
        ],
        check=True,
    )
    return place, digest


def trust(server: Registry, certs: Path) -> None:
    assert server.ca_file is not None
    directory = certs / server.address
    directory.mkdir(parents=True)
    shutil.copy(server.ca_file, directory / "ca.crt")


def by_skopeo(place: str) -> Digest:
    return SKOPEO.resolve(RegistrySource(place, TAG), platform=AMD64).digest


def by_oras(place: str) -> Digest:
    with open_artifacts(place, False) as there:
        found = there.manifest(TAG)
        assert found is not None
        assert there.manifest("none") is None
        assert there.referrers(found.digest) == ()
    return found.digest


READERS = pytest.mark.parametrize("read", [by_skopeo, by_oras])
Read = Callable[[str], Digest]


def write_auth(path: Path, server: Registry, place: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    token = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
    path.write_text(json.dumps({"auths": {place: {"auth": token}}}))


def registry_auth_file(server: Registry, home: Path, patch: pytest.MonkeyPatch) -> None:
    write_auth(home / "logins.json", server, server.address)
    patch.setenv("REGISTRY_AUTH_FILE", str(home / "logins.json"))


def runtime_directory(server: Registry, home: Path, patch: pytest.MonkeyPatch) -> None:
    write_auth(Path(os.environ["XDG_RUNTIME_DIR"], "containers/auth.json"), server, server.address)


def docker_config(server: Registry, home: Path, patch: pytest.MonkeyPatch) -> None:
    write_auth(home / ".docker" / "config.json", server, server.address)


def one_namespace(server: Registry, home: Path, patch: pytest.MonkeyPatch) -> None:
    write_auth(home / ".docker" / "config.json", server, f"{server.address}/vendor")


def credential_helper(server: Registry, home: Path, patch: pytest.MonkeyPatch) -> None:
    programs = home / "bin"
    programs.mkdir()
    answer = json.dumps({"Username": server.username, "Secret": server.password})
    helper = programs / "docker-credential-ours"
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
    helper.chmod(0o755)
    patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    config = home / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"credHelpers": {server.address: "ours"}}))


@READERS
@pytest.mark.parametrize(
    "log_in",
    [registry_auth_file, runtime_directory, docker_config, one_namespace, credential_helper],
)
def test_a_login_is_found_where_the_ecosystem_keeps_it(
    log_in: Callable[[Registry, Path, pytest.MonkeyPatch], None],
    read: Read,
    guarded: Registry,
    image: tuple[str, Digest],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log_in(guarded, home, monkeypatch)
    place, digest = image
    if guarded.tokens is not None and read is by_oras:
        # The token server is at another origin, which nobody said may have the password.
        with pytest.raises(DeniedError, match="which is not given the login of") as found:
            read(place)
        assert guarded.password not in str(found.value)
        return
    assert read(place) == digest


@READERS
def test_who_is_not_logged_in_is_told_so(read: Read, image: tuple[str, Digest]) -> None:
    with pytest.raises(DeniedError) as found:
        read(image[0])
    for way in ("skopeo login", "docker login", "REGISTRY_AUTH_FILE", "credential helpers"):
        assert way in (found.value.hint or "")
    assert "\n" not in str(found.value)


@READERS
def test_an_authority_of_the_machine_is_trusted_for_its_registry_alone(
    read: Read, guarded: Registry, image: tuple[str, Digest], home: Path
) -> None:
    docker = home / ".docker" / "config.json"
    write_auth(docker, guarded, guarded.address)
    shutil.rmtree(home / ".config")
    with pytest.raises(WorldError, match="TLS failed") as found:
        read(image[0])
    assert "certs.d" in (found.value.hint or "")
    system = Path("/etc/containers/certs.d")
    if not os.access(system.parent, os.W_OK):
        missing("the right to write to /etc/containers")
    trust(guarded, system)
    try:
        if guarded.tokens is None or read is by_skopeo:
            assert read(image[0]) == image[1]
    finally:
        shutil.rmtree(system / guarded.address)


def test_a_client_certificate_is_shown_where_one_lies(
    need: Callable[[str], str], home: Path, tmp_path: Path
) -> None:
    need("docker-registry")
    digest = write_layout(tmp_path / "pushed", text="for those with a certificate")
    with registry(client_tls=True) as server:
        place = f"{server.address}/vendor/atlas"
        certs = home / ".config" / "containers" / "certs.d"
        trust(server, certs)
        for read in (by_skopeo, by_oras):
            with pytest.raises(WorldError):
                read(place)
        assert server.client is not None
        shutil.copy(server.client.certificate, certs / server.address / "client.cert")
        shutil.copy(server.client.key, certs / server.address / "client.key")
        argv = ["skopeo", "copy", "--quiet", "--preserve-digests"]
        subprocess.run(
            [*argv, f"oci:{tmp_path / 'pushed'}:{TAG}", f"docker://{place}:{TAG}"], check=True
        )
        assert by_skopeo(place) == by_oras(place) == digest
        (certs / server.address / "client.key").unlink()
        with pytest.raises(WorldError, match="expected its key beside it"):
            by_oras(place)


def test_skopeo_takes_an_image_from_a_mirror(
    need: Callable[[str], str], home: Path, tmp_path: Path
) -> None:
    need("docker-registry")
    digest = write_layout(tmp_path / "pushed", text="mirrored")
    with registry() as server:
        target = f"docker://{server.address}/vendor/atlas:{TAG}"
        argv = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
        subprocess.run([*argv, f"oci:{tmp_path / 'pushed'}:{TAG}", target], check=True)
        conf = home / ".config" / "containers" / "registries.conf"
        conf.parent.mkdir(parents=True)
        conf.write_text(
            '[[registry]]\nlocation = "registry.invalid"\n'
            f'[[registry.mirror]]\nlocation = "{server.address}"\ninsecure = true\n'
        )
        source = RegistrySource("registry.invalid/vendor/atlas", TAG)
        resolved = SKOPEO.resolve(source, platform=AMD64)
        assert resolved.digest == digest
        fetched = SKOPEO.fetch(source.at(digest), tmp_path / "out", taken=resolved.taken)
        assert fetched.digest == digest


class Scripted(BaseHTTPRequestHandler):
    """A registry, or what it sends us to: answers as a test says, keeps what it was sent."""

    answers: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {}
    seen: ClassVar[list[tuple[str, str | None]]] = []
    forms: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        type(self).seen.append((path, self.headers.get("Authorization")))
        status, headers, body = self.answers.get(path, (404, {}, b""))
        asks = "WWW-Authenticate" in headers and status < 400
        if asks and not self.headers.get("Authorization"):
            status = 401
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Keep the form, and answer."""
        length = int(self.headers.get("Content-Length") or 0)
        type(self).forms.append(self.rfile.read(length).decode())
        self.do_GET()

    def log_message(self, *args: object) -> None:
        """Stay silent."""


Start = Callable[[dict[str, tuple[int, dict[str, str], bytes]]], tuple[str, type[Scripted]]]


@pytest.fixture
def scripted() -> Iterator[Start]:
    servers = []

    def start(
        answers: dict[str, tuple[int, dict[str, str], bytes]],
    ) -> tuple[str, type[Scripted]]:
        handler = type("Handler", (Scripted,), {"answers": answers, "seen": [], "forms": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"127.0.0.1:{server.server_port}", handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def log_in(home: Path, address: str, field: str = "auth") -> None:
    config = home / ".docker" / "config.json"
    config.parent.mkdir(exist_ok=True)
    login = base64.b64encode(b"user:s3cr3t").decode() if field == "auth" else "s3cr3t"
    config.write_text(json.dumps({"auths": {address: {field: login}}}))


def test_a_registry_behind_tls_sends_nobody_away_from_it(
    guarded: Registry, image: tuple[str, Digest], scripted: Start
) -> None:
    address, asked = scripted({})
    client = OrasClient(
        host=guarded.address,
        path="x",
        login=None,
        token_host=None,
        context=registry_context(guarded.address, environment=os.environ),
    )
    with (
        contextlib.closing(client),
        pytest.raises(WorldError, match="sent from https to http://"),
        client.asked(f"http://{address}/v2/", {}, "a place"),
    ):
        pass
    assert asked.seen == []


def test_the_password_goes_to_the_registry_alone(scripted: Start, home: Path) -> None:
    elsewhere, thief = scripted({"/token": (200, {}, b'{"token": "abc"}')})
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{elsewhere}/token",service="x"'}
    address, _ = scripted({"/v2/x/manifests/1": (401, challenge, b"")})
    log_in(home, address)
    with open_artifacts(f"{address}/x", True) as there, pytest.raises(DeniedError):
        there.manifest("1")
    assert thief.seen == [("/token", None)]


def test_a_token_of_the_registry_itself_is_asked_for_with_the_password(
    scripted: Start, home: Path
) -> None:
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {
        "/token": (200, {}, b'{"token": "abc"}')
    }
    address, asked = scripted(answers)
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{address}/token",service="x"'}
    answers["/v2/x/manifests/1"] = (401, challenge, b"")
    log_in(home, address)
    with open_artifacts(f"{address}/x", True) as there, pytest.raises(DeniedError):
        there.manifest("1")
    basic = f"Basic {base64.b64encode(b'user:s3cr3t').decode()}"
    assert ("/token", basic) in asked.seen
    assert ("/v2/x/manifests/1", "Bearer abc") in asked.seen


def test_an_identity_token_is_exchanged_for_a_token(scripted: Start, home: Path) -> None:
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {
        "/token": (200, {}, b'{"access_token": "abc"}')
    }
    address, asked = scripted(answers)
    realm = f'Bearer realm="http://{address}/token",service="x",scope="repository:x:pull"'
    answers["/v2/x/manifests/1"] = (200, {"WWW-Authenticate": realm}, b"{}")
    log_in(home, address, "identitytoken")
    with open_artifacts(f"{address}/x", True) as there:
        assert there.manifest("1") is not None
        answers["/token"] = (401, {}, b"")
        answers["/v2/x/manifests/1"] = (401, {"WWW-Authenticate": realm}, b"{}")
        with pytest.raises(DeniedError) as found:
            there.manifest("1")
    assert "s3cr3t" not in str(found.value)
    assert "grant_type=refresh_token" in asked.forms[0]
    assert "refresh_token=s3cr3t" in asked.forms[0]
    assert "scope=repository%3Ax%3Apull" in asked.forms[0]
    assert ("/v2/x/manifests/1", "Bearer abc") in asked.seen


def test_a_redirect_takes_no_login_along(scripted: Start, home: Path, tmp_path: Path) -> None:
    blob = b"a blob"
    digest = Digest.of(blob)
    elsewhere, storage = scripted({"/blob": (200, {}, blob)})
    redirect = {
        "Location": f"http://localhost:{elsewhere.rpartition(':')[2]}/blob",
        "WWW-Authenticate": 'Basic realm="x"',
    }
    address, asked = scripted({f"/v2/x/blobs/{digest}": (307, redirect, b"")})
    log_in(home, address)
    with open_artifacts(f"{address}/x", True) as there:
        there.fetch(digest, len(blob), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == blob
    assert asked.seen[-1][1] is not None
    assert storage.seen == [("/blob", None)]


@pytest.mark.parametrize("field", ["auth", "identitytoken"])
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("logged_in", [False, True])
def test_a_challenge_of_where_we_are_sent_is_not_answered(
    scripted: Start, home: Path, tmp_path: Path, field: str, status: int, logged_in: bool
) -> None:
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {
        "/token": (200, {}, b'{"token": "abc", "access_token": "abc"}')
    }
    elsewhere, storage = scripted(answers)
    place = f"http://localhost:{elsewhere.rpartition(':')[2]}"
    answers["/blob"] = (status, {"WWW-Authenticate": f'Bearer realm="{place}/token"'}, b"")
    own = {"/token": answers["/token"]}
    address, asked = scripted(own)
    digest = Digest.of(b"a blob")
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{address}/token"'} if logged_in else {}
    own[f"/v2/x/blobs/{digest}"] = (307, {"Location": f"{place}/blob"} | challenge, b"")
    log_in(home, address, field)
    with (
        open_artifacts(f"{address}/x", True) as there,
        pytest.raises(DeniedError, match=f"sends us on to {place}, which refuses us") as found,
    ):
        there.fetch(digest, 6, tmp_path / "blob")
    assert set(storage.seen) == {("/blob", None)}
    assert storage.forms == []
    assert ("/token" in {path for path, _ in asked.seen}) == logged_in
    assert "attached: false" in (found.value.hint or "")


def test_a_realm_of_later_takes_no_login_along(scripted: Start, home: Path) -> None:
    """oras answers the challenge that comes last, and not the one that we looked at."""
    elsewhere, thief = scripted({"/token": (200, {}, b'{"token": "abc"}')})
    realms = [f"http://{elsewhere}/token"]

    class Changing(dict[str, tuple[int, dict[str, str], bytes]]):
        def get(self, *_: object) -> Any:
            realm = realms.pop(0) if len(realms) > 1 else realms[0]
            return 401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}, b""

    address, asked = scripted(Changing())
    realms.insert(0, f"http://{address}/token")
    log_in(home, address)
    with open_artifacts(f"{address}/x", True) as there, pytest.raises(DeniedError):
        there.manifest("1")
    assert len(asked.seen) > 1
    assert set(thief.seen) == {("/token", None)}


def test_the_next_page_of_where_we_were_sent_takes_no_login_along(
    scripted: Start, home: Path
) -> None:
    subject = Digest.of(b"x")
    page = (200, {"Link": '</more>; rel="next"'}, b'{"manifests": []}')
    elsewhere, other = scripted({"/list": page, "/more": (200, {}, b'{"manifests": []}')})
    path = f"/v2/x/referrers/{subject}"
    to_list = {"Location": f"http://localhost:{elsewhere.rpartition(':')[2]}/list"}
    address, _ = scripted({path: (307, to_list | {"WWW-Authenticate": 'Basic realm="x"'}, b"")})
    log_in(home, address)
    with open_artifacts(f"{address}/x", True) as there:
        assert there.referrers(subject) == ()
    assert other.seen == [("/list", None), ("/more", None)]


def test_what_a_redirect_says_has_a_limit(scripted: Start, home: Path) -> None:
    path = "/v2/x/manifests/1"
    address, _ = scripted({path: (307, {"Location": "/there"}, b"x" * ((1 << 20) + 1))})
    with (
        open_artifacts(f"{address}/x", True) as there,
        pytest.raises(WorldError, match="redirect of over 1 MiB"),
    ):
        there.manifest("1")


@pytest.mark.parametrize("token", [b"[]", b"{}", b"7", b"none"])
def test_a_token_server_that_gives_none_is_told(scripted: Start, home: Path, token: bytes) -> None:
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {"/token": (200, {}, token)}
    address, _ = scripted(answers)
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{address}/token"'}
    answers["/v2/x/manifests/1"] = (200, challenge, b"{}")
    with open_artifacts(f"{address}/x", True) as there, pytest.raises(WorldError):
        there.manifest("1")


@pytest.mark.parametrize(
    ("answer", "kind", "problem"),
    [
        ((200, {}, b"x" * (4 << 20) + b"x"), MalformedError, "at most 4194304 bytes"),
        ((500, {}, b""), WorldError, "answered 500"),
        ((200, {}, b"[]"), MalformedError, "expected a mapping"),
        ((200, {}, b'{"layers": []}'), MalformedError, "expected an index"),
        ((200, {}, b'{"manifests": [{"digest": "md5:x"}]}'), MalformedError, "not a sha256"),
        (
            (200, {"Link": '<http://other.invalid/v2/>; rel="next"'}, b'{"manifests": []}'),
            MalformedError,
            "another host",
        ),
        (
            (200, {"Link": '</v2/x/referrers/SUBJECT?n=1>; rel="next"'}, b'{"manifests": []}'),
            MalformedError,
            "more than 20 pages",
        ),
    ],
)
def test_a_registry_that_answers_nonsense_is_named(
    answer: tuple[int, dict[str, str], bytes],
    kind: type[BundleError],
    problem: str,
    scripted: Start,
    home: Path,
) -> None:
    subject = Digest.of(b"x")
    status, headers, body = answer
    headers = {name: value.replace("SUBJECT", str(subject)) for name, value in headers.items()}
    address, _ = scripted({f"/v2/x/referrers/{subject}": (status, headers, body)})
    with open_artifacts(f"{address}/x", True) as there, pytest.raises(kind, match=problem) as found:
        there.referrers(subject)
    assert f"{address}/x" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_page_of_too_many_referrers_is_refused(
    scripted: Start, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Digest.of(b"x")
    named = [{"digest": str(Digest.of(b"%d" % n))} for n in range(4)]
    body = json.dumps({"manifests": named}).encode()
    address, _ = scripted({f"/v2/x/referrers/{subject}": (200, {}, body)})
    with open_artifacts(f"{address}/x", True) as there:
        monkeypatch.setattr(referrers, "_MAX_REFERRERS", 4)
        assert len(there.referrers(subject)) == 4
        monkeypatch.setattr(referrers, "_MAX_REFERRERS", 3)
        with pytest.raises(MalformedError, match=rf"{address}/x: .*more than 3"):
            there.referrers(subject)


def test_pages_of_referrers_are_followed(scripted: Start, home: Path) -> None:
    subject, one, two = (Digest.of(text) for text in (b"x", b"1", b"2"))
    path = f"/v2/x/referrers/{subject}"

    def page(digest: Digest) -> bytes:
        return json.dumps({"manifests": [{"digest": str(digest)}]}).encode()

    address, _ = scripted(
        {
            path: (200, {"Link": f'<{path}/more>; rel="next"'}, page(two)),
            f"{path}/more": (200, {}, page(one)),
        }
    )
    with open_artifacts(f"{address}/x", True) as there:
        assert there.referrers(subject) == tuple(sorted((one, two)))


@pytest.mark.parametrize("body", [b"other bytes", b"a blo", b"a blob and more"])
def test_a_blob_that_is_not_what_its_digest_says_is_refused(
    body: bytes, scripted: Start, home: Path, tmp_path: Path
) -> None:
    digest = Digest.of(b"a blob")
    address, _ = scripted({f"/v2/x/blobs/{digest}": (200, {}, body)})
    with open_artifacts(f"{address}/x", True) as there, pytest.raises(ContentError):
        there.fetch(digest, 6, tmp_path / "blob")


def test_a_manifest_under_another_digest_is_refused(scripted: Start, home: Path) -> None:
    digest = Digest.of(b"{}")
    address, _ = scripted({f"/v2/x/manifests/{digest}": (200, {}, b"{} ")})
    with open_artifacts(f"{address}/x", True) as there, pytest.raises(ContentError):
        there.manifest(str(digest))
