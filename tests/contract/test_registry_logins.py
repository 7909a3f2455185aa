"""Logins and tokens: where they come from, who gets them, and what happens when they end."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from bundler.digest import Digest
from bundler.errors import DeniedError, MalformedError, NotFoundError, WorldError
from bundler.stores.login import Credential, GivenLogin, IdentityToken, Login
from bundler.stores.login_files import find_login
from bundler.stores.opening import open_logins
from tests.contract.registry_contract import blob_of
from tests.contract.scripted_registry import Reply, Scripted, Seen, serving, told

ME = Login("me", "pass:word")
BASIC = f"Basic {base64.b64encode(b'me:pass:word').decode()}"
MANIFEST = b'{"schemaVersion":2}'
CONTENT = bytes(3 << 20)
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Scripted]:
    """Give a server of another origin, which nobody told us of."""
    with serving() as server:
        yield server


@dataclass
class Renewable:
    """A login that is another one after each renewal."""

    password: int = 1
    renewals: int = 0
    last: int = 9
    source: str = "user 'me' of a test"

    def current(self) -> Credential:
        return Login("me", str(self.password))

    def renew(self) -> Credential:
        self.renewals += 1
        self.password = min(self.last, self.password + 1)
        return self.current()


@dataclass
class Meanwhile:
    """No login, until it is looked for again: somebody ran ``skopeo login``."""

    written: Credential
    found: Credential | None = None
    source: str = "of a test"

    def current(self) -> Credential | None:
        return self.found

    def renew(self) -> Credential | None:
        self.found = self.written
        return self.found


def asks_for_password(seen: Seen, good: Callable[[str], bool]) -> Reply | None:
    if good(seen.login):
        return None
    return Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})


@dataclass
class TokenService:
    """Makes a scripted registry ask for tokens, and gives them below ``/token``.

    Attributes:
        good: The tokens that the registry takes now; None for all that were given.
        fields: Further fields of an answer.
    """

    registry: Scripted
    realm: str = ""
    good: set[str] | None = None
    fields: dict[str, object] = field(default_factory=dict)
    given: int = 0

    def __call__(self, seen: Seen) -> Reply | None:
        if seen.path.startswith("/token"):
            self.given += 1
            answer: dict[str, object] = {"token": f"t{self.given}"} | self.fields
            return Reply(body=json.dumps(answer).encode())
        token = seen.login.removeprefix("Bearer ")
        if seen.login.startswith("Bearer ") and (self.good is None or token in self.good):
            return None
        return Reply(status=401, headers={"WWW-Authenticate": self.challenge()})

    def challenge(self) -> str:
        realm = self.realm or f"{self.registry.url}/token"
        return f'Bearer realm="{realm}",service="reg,1",scope="repository:atlas:pull"'

    @property
    def requests(self) -> list[Seen]:
        return [each for each in self.registry.seen if each.path.startswith("/token")]


class TestPasswords:
    def test_it_is_shown_only_when_asked_for(self, scripted: Scripted) -> None:
        assert scripted.open(GivenLogin(ME)).manifest("atlas", "1.0.0") is None
        assert [each.login for each in scripted.seen] == [""]

    def test_it_is_shown_at_once_from_then_on(self, scripted: Scripted) -> None:
        scripted.script = lambda seen: asks_for_password(seen, lambda login: login == BASIC)
        registry = scripted.open(GivenLogin(ME))
        for _ in range(2):
            assert registry.manifest("atlas", "1.0.0") is None
        assert [each.login for each in scripted.seen] == ["", BASIC, BASIC]

    def test_a_refused_one_is_looked_up_once_more(self, scripted: Scripted) -> None:
        logins = Renewable()
        wanted = f"Basic {base64.b64encode(b'me:2').decode()}"
        scripted.script = lambda seen: asks_for_password(seen, lambda login: login == wanted)
        assert scripted.open(logins).manifest("atlas", "1.0.0") is None
        assert logins.renewals == 1

    @pytest.mark.parametrize("logins", [GivenLogin(ME), Renewable(), Renewable(last=1)])
    def test_a_registry_that_refuses_all_is_asked_no_more(
        self, scripted: Scripted, logins: GivenLogin | Renewable
    ) -> None:
        scripted.script = lambda seen: asks_for_password(seen, lambda _: False)
        with pytest.raises(DeniedError, match=r"refused the login .*; login: user 'me' ") as caught:
            scripted.open(logins).manifest("atlas", "1.0.0")
        assert "pass:word" not in told(caught.value)
        assert len(scripted.seen) <= 3

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_what_ecr_says_of_an_old_one_renews_it(self, scripted: Scripted, method: str) -> None:
        """Amazon ECR answers 403, not 401, once a login is 12 hours old; HEAD has no words."""
        logins = Renewable()
        words = "Your authorization token has expired. Reauthenticate and try again."
        body = json.dumps({"errors": [{"code": "DENIED", "message": words}]}).encode()
        old = f"Basic {base64.b64encode(b'me:1').decode()}"

        def script(seen: Seen) -> Reply | None:
            if seen.login == old:
                return Reply(status=403, body=body)
            return asks_for_password(seen, bool)

        scripted.script = script
        registry = scripted.open(logins)
        if method == "GET":
            assert registry.manifest("atlas", "1.0.0") is None
        else:
            assert registry.blob_size("atlas", DIGEST) is None
        assert logins.renewals == 1

    @pytest.mark.parametrize("logins", [GivenLogin(ME), Renewable()])
    def test_who_may_not_look_is_told_so(
        self, scripted: Scripted, logins: GivenLogin | Renewable
    ) -> None:
        scripted.script = lambda seen: (
            Reply(status=403) if seen.login else asks_for_password(seen, bool)
        )
        with pytest.raises(DeniedError, match=r"refused the login .*; login: user 'me' "):
            scripted.open(logins).blob_size("atlas", DIGEST)
        assert len(scripted.seen) <= 3

    def test_threads_renew_it_once(self, scripted: Scripted) -> None:
        logins = Renewable()
        all_refused = threading.Barrier(8)

        def script(seen: Seen) -> Reply | None:
            if seen.login == f"Basic {base64.b64encode(b'me:1').decode()}":
                all_refused.wait(timeout=20)
                return asks_for_password(seen, lambda _: False)
            return asks_for_password(seen, bool)

        scripted.script = script
        registry = scripted.open(logins)
        threads = [
            threading.Thread(target=registry.manifest, args=("atlas", "1.0.0")) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert logins.renewals == 1

    def test_a_refusal_in_the_middle_of_an_upload_renews_it(self, scripted: Scripted) -> None:
        logins = Renewable()
        refused: list[Seen] = []

        def script(seen: Seen) -> Reply | None:
            if seen.method == "PUT" and not refused:
                refused.append(seen)
                return asks_for_password(seen, lambda _: False)
            return asks_for_password(seen, bool)

        scripted.script = script
        told_of: list[int] = []
        scripted.open(logins).upload("atlas", blob_of(CONTENT), advance=told_of.append)
        assert scripted.blobs == {str(DIGEST): CONTENT}
        assert sum(told_of) == len(CONTENT)
        assert logins.renewals == 1

    def test_a_registry_that_takes_no_login_for_uploads_is_asked_no_more(
        self, scripted: Scripted
    ) -> None:
        scripted.script = lambda seen: asks_for_password(
            seen, lambda login: bool(login) and seen.method != "PUT"
        )
        with pytest.raises(DeniedError):
            scripted.open(Renewable()).upload("atlas", blob_of(CONTENT), advance=lambda _: None)
        assert scripted.asked.count("PUT session") == 2

    @pytest.mark.parametrize("challenge", ["Negotiate", "", 'Digest realm="r", nonce="n"', ",=,"])
    def test_a_challenge_of_an_unknown_kind_is_refused(
        self, scripted: Scripted, challenge: str
    ) -> None:
        scripted.script = lambda _: Reply(status=401, headers={"WWW-Authenticate": challenge})
        with pytest.raises(DeniedError, match="refused"):
            scripted.open(GivenLogin(ME)).manifest("atlas", "1.0.0")
        assert {each.login for each in scripted.seen} == {""}


class TestTokens:
    def test_one_is_asked_for_with_our_login_and_used(self, scripted: Scripted) -> None:
        scripted.script = tokens = TokenService(scripted)
        scripted.manifests["1.0.0"] = MANIFEST
        registry = scripted.open(GivenLogin(ME))
        assert registry.manifest("atlas", "1.0.0") is not None
        assert registry.blob_size("atlas", DIGEST) is None
        [asked] = tokens.requests
        assert asked.login == BASIC
        assert asked.query == {
            "scope": "repository:atlas:pull,push",
            "service": "reg,1",
            "account": "me",
        }

    def test_each_repository_has_its_own(self, scripted: Scripted) -> None:
        scripted.script = tokens = TokenService(scripted)
        registry = scripted.open()
        registry.blob_size("atlas", DIGEST)
        registry.blob_size("other", DIGEST)
        registry.mount("atlas", DIGEST, source="other")
        assert [parse_qs(each.path.partition("?")[2])["scope"] for each in tokens.requests] == [
            ["repository:atlas:pull,push"],
            ["repository:other:pull,push"],
            ["repository:atlas:pull,push", "repository:other:pull"],
        ]

    def test_threads_share_one(self, scripted: Scripted) -> None:
        scripted.script = tokens = TokenService(scripted)
        registry = scripted.open()
        threads = [
            threading.Thread(target=registry.blob_size, args=("atlas", DIGEST)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert tokens.given == 1

    def test_an_old_one_is_replaced_before_it_is_shown(self, scripted: Scripted) -> None:
        scripted.script = tokens = TokenService(scripted, fields={"expires_in": 0})
        registry = scripted.open()
        for _ in range(3):
            registry.blob_size("atlas", DIGEST)
        assert tokens.given == 3
        assert [each.login for each in scripted.seen if "/blobs/" in each.path] == [
            "",
            "Bearer t1",
            "Bearer t2",
            "Bearer t3",
        ]

    def test_a_refused_one_is_replaced(self, scripted: Scripted) -> None:
        scripted.script = tokens = TokenService(scripted, good={"t1"})
        registry = scripted.open()
        registry.blob_size("atlas", DIGEST)
        tokens.good = {"t2"}
        assert registry.blob_size("atlas", DIGEST) is None

    def test_one_that_ends_in_the_middle_of_an_upload_is_replaced(self, scripted: Scripted) -> None:
        scripted.script = tokens = TokenService(scripted, good={"t1"})

        def script(seen: Seen) -> Reply | None:
            if seen.method == "PUT":
                tokens.good = {"t2"}
            return tokens(seen)

        scripted.script = script
        scripted.open().upload("atlas", blob_of(CONTENT), advance=lambda _: None)
        assert scripted.blobs == {str(DIGEST): CONTENT}
        assert tokens.given == 2

    def test_then_another_login_is_tried(self, scripted: Scripted) -> None:
        logins = Renewable()
        scripted.script = TokenService(scripted, good={"t3"})
        assert scripted.open(logins).manifest("atlas", "1.0.0") is None
        assert logins.renewals == 1

    def test_and_then_nothing(self, scripted: Scripted) -> None:
        scripted.script = tokens = TokenService(scripted, good=set())
        with pytest.raises(DeniedError, match="the registry refused"):
            scripted.open(Renewable()).manifest("atlas", "1.0.0")
        assert tokens.given == 3

    def test_an_identity_token_goes_as_oauth_says(self, scripted: Scripted) -> None:
        scripted.script = tokens = TokenService(scripted)
        registry = scripted.open(GivenLogin(IdentityToken("id&1")))
        assert registry.manifest("atlas", "1.0.0") is None
        [asked] = tokens.requests
        assert (asked.method, asked.login) == ("POST", "")
        assert parse_qs(asked.body.decode()) == {
            "grant_type": ["refresh_token"],
            "refresh_token": ["id&1"],
            "service": ["reg,1"],
            "scope": ["repository:atlas:pull,push"],
            "client_id": ["airgap-llm-bundle"],
        }
        assert "id&1" not in repr(IdentityToken("id&1"))

    def test_an_identity_token_is_no_password(self, scripted: Scripted) -> None:
        scripted.script = lambda seen: asks_for_password(seen, lambda _: False)
        with pytest.raises(DeniedError):
            scripted.open(GivenLogin(IdentityToken("id"))).manifest("atlas", "1.0.0")
        assert {each.login for each in scripted.seen} == {""}

    @pytest.mark.timeout(30)
    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_a_refused_login_is_said_by_us(self, scripted: Scripted, status: int) -> None:
        tokens = TokenService(scripted)
        scripted.script = lambda seen: (
            Reply(status=status) if seen.path.startswith("/token") else tokens(seen)
        )
        with pytest.raises(DeniedError, match=r"the token server http://.* refused the login"):
            scripted.open(GivenLogin(ME)).manifest("atlas", "1.0.0")
        assert len(tokens.requests) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            '{"token":"t","expires_in":300.0,"issued_at":1.5}',
            '{"token":"t","expires_in":1e999}',
            '{"token":"t","expires_in":NaN}',
            '{"token":"t","expires_in":-1}',
            '{"token":"t","expires_in":"soon"}',
            '\ufeff {"x":1,"x":2,"access_token":"t"}\n',
        ],
    )
    def test_what_we_do_not_use_of_an_answer_may_be_anything(
        self, scripted: Scripted, answer: str
    ) -> None:
        tokens = TokenService(scripted)
        scripted.script = lambda seen: (
            Reply(body=answer.encode()) if seen.path.startswith("/token") else tokens(seen)
        )
        assert scripted.open().manifest("atlas", "1.0.0") is None
        assert scripted.seen[-1].login == "Bearer t"

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(body=b"{}"),
            Reply(body=b"[" * 100_000),
            Reply(body=b"[]"),
            Reply(body=b"<html>"),
            Reply(body=b'{"token":7}'),
            Reply(body=b'{"token":"a\\r\\nX-Y: z"}'),
            Reply(body=b'{"token":"a"}' + b" " * (2 << 20)),
            Reply(endless=True),
            Reply(status=404),
            Reply(status=302, headers={"Location": "/elsewhere"}),
        ],
    )
    def test_what_is_no_token_is_not_used(self, scripted: Scripted, reply: Reply) -> None:
        tokens = TokenService(scripted)
        scripted.script = lambda seen: reply if seen.path.startswith("/token") else tokens(seen)
        with pytest.raises(WorldError):
            scripted.open().manifest("atlas", "1.0.0")
        assert {each.login for each in scripted.seen} == {""}

    def test_a_registry_may_have_scopes_of_its_own(self, scripted: Scripted) -> None:
        tokens = TokenService(scripted)
        header = f'Bearer realm="{scripted.url}/token",service="s",scope="aws"'
        scripted.script = lambda seen: (
            Reply(status=401, headers={"WWW-Authenticate": header})
            if not seen.login and "/v2/" in seen.path
            else tokens(seen)
        )
        assert scripted.open().manifest("atlas", "1.0.0") is None
        assert tokens.requests[0].query["scope"] == "aws"


class TestOtherOrigins:
    """Nobody but the registry learns who we are."""

    def ask_for_token(self, server: Scripted, **how: object) -> None:
        server.open(GivenLogin(ME), **how).manifest("atlas", "1.0.0")

    def test_a_token_server_elsewhere_gets_no_login(
        self, scripted: Scripted, other: Scripted
    ) -> None:
        scripted.script = TokenService(scripted, realm=f"{other.url}/token")
        with pytest.raises(DeniedError, match=f"sends us for a token to {other.url}") as caught:
            self.ask_for_token(scripted)
        assert other.seen == []
        assert "registry.tokenServer" in told(caught.value)

    def test_but_where_the_target_names_it(self, scripted: Scripted, other: Scripted) -> None:
        scripted.script = TokenService(scripted, realm=f"{other.url}/token")
        other.script = TokenService(other)
        self.ask_for_token(scripted, token_server=other.url)
        assert [each.login for each in other.seen] == [BASIC]

    def test_and_for_nobody_in_particular(self, scripted: Scripted, other: Scripted) -> None:
        scripted.script = TokenService(scripted, realm=f"{other.url}/token")
        other.script = TokenService(other)
        assert scripted.open().manifest("atlas", "1.0.0") is None
        assert [each.login for each in other.seen] == [""]

    @pytest.mark.parametrize("written", [ME, IdentityToken("id")])
    def test_a_login_of_meanwhile_stays_here_too(
        self, scripted: Scripted, other: Scripted, written: Credential
    ) -> None:
        scripted.script = TokenService(scripted, realm=f"{other.url}/token")
        other.script = lambda _: Reply(status=401)
        with pytest.raises(DeniedError, match=f"sends us for a token to {other.url}"):
            scripted.open(Meanwhile(written)).manifest("atlas", "1.0.0")
        assert [(each.method, each.login) for each in other.seen] == [("GET", "")]

    @pytest.mark.parametrize("logins", [GivenLogin(ME), GivenLogin()])
    def test_no_token_server_is_asked_without_tls(
        self, tmp_path: Path, logins: GivenLogin, other: Scripted
    ) -> None:
        with serving(tmp_path / "tls") as server:
            server.script = TokenService(server, realm=f"{other.url}/token")
            registry = server.open(
                logins, ca=tmp_path / "tls/ca.crt", token_server=other.url.replace("http", "https")
            )
            with pytest.raises(DeniedError, match="sends us for a token to http://"):
                registry.manifest("atlas", "1.0.0")
        assert other.seen == []

    @pytest.mark.parametrize("realm", ["", "token", "//[", "ftp://h/t", "http://u:p@h/t"])
    def test_a_realm_must_be_a_url(self, scripted: Scripted, realm: str) -> None:
        header = f'Bearer realm="{realm}"'
        scripted.script = lambda _: Reply(status=401, headers={"WWW-Authenticate": header})
        with pytest.raises(WorldError, match="is no URL"):
            self.ask_for_token(scripted)

    def test_a_session_elsewhere_gets_the_blob_and_no_login(
        self, scripted: Scripted, other: Scripted
    ) -> None:
        def script(seen: Seen) -> Reply | None:
            if seen.method == "POST" and seen.login == BASIC:
                other.sessions["s1"] = bytearray()
                place = f"{other.url}/v2/atlas/blobs/uploads/s1"
                return Reply(status=202, headers={"Location": place})
            return asks_for_password(seen, lambda login: login == BASIC)

        scripted.script = script
        scripted.blobs = other.blobs
        scripted.open(GivenLogin(ME)).upload("atlas", blob_of(CONTENT), advance=lambda _: None)
        assert [(each.method, each.login) for each in other.seen] == [("PUT", "")]

    def test_a_redirect_elsewhere_gets_no_login(self, scripted: Scripted, other: Scripted) -> None:
        other.blobs[str(DIGEST)] = CONTENT
        scripted.script = lambda seen: (
            asks_for_password(seen, lambda login: login == BASIC)
            or Reply(status=307, headers={"Location": f"{other.url}{seen.path}"})
        )
        registry = scripted.open(GivenLogin(ME))
        assert b"".join(registry.read_blob("atlas", DIGEST, len(CONTENT))) == CONTENT
        assert [each.login for each in other.seen] == [""]

    def test_a_certificate_of_ours_is_shown_to_the_registry_alone(self, tmp_path: Path) -> None:
        tls = tmp_path / "tls"
        with serving(tls) as server, serving(tmp_path / "other") as other:
            both = tmp_path / "both.crt"
            both.write_bytes(
                (tls / "ca.crt").read_bytes() + (tmp_path / "other/ca.crt").read_bytes()
            )
            server.script = lambda seen: Reply(status=307, headers={"Location": other.url})
            registry = server.open(
                ca=both, client_certificate=tls / "client.crt", client_key=tls / "client.key"
            )
            assert registry.blob_size("atlas", DIGEST) is None
        assert [each.client for each in server.seen] == ["client"]
        assert [each.client for each in other.seen] == [""]

    def test_a_challenge_elsewhere_is_not_answered(
        self, scripted: Scripted, other: Scripted
    ) -> None:
        other.script = lambda seen: asks_for_password(seen, lambda _: False)
        scripted.script = lambda seen: Reply(status=307, headers={"Location": f"{other.url}/x"})
        words = rf"sends us on to {other.url}, which refuses us \(401 .*no login of ours goes there"
        with pytest.raises(DeniedError, match=words) as caught:
            scripted.open(GivenLogin(ME)).blob_size("atlas", DIGEST)
        assert [each.login for each in other.seen] == [""]
        assert "must pass on Host with its port" in told(caught.value)

    def test_nor_is_one_of_where_an_upload_is_sent(
        self, scripted: Scripted, other: Scripted
    ) -> None:
        """As where a proxy leaves the port out of Host: the registry takes itself for another."""
        other.script = lambda seen: asks_for_password(seen, lambda _: False)
        place = {"Location": f"{other.url}/v2/atlas/blobs/uploads/s1"}
        scripted.script = lambda seen: (
            asks_for_password(seen, lambda login: login == BASIC)
            or Reply(status=202, headers=place)
        )
        with pytest.raises(DeniedError, match=f"sends us on to {other.url}, which") as caught:
            scripted.open(GivenLogin(ME)).upload("atlas", blob_of(b"x"), advance=lambda _: None)
        assert [each.login for each in other.seen] == [""]
        assert "X-Forwarded-Proto" in told(caught.value)

    def test_a_redirect_within_the_registry_keeps_the_login(self, scripted: Scripted) -> None:
        scripted.manifests["2"] = MANIFEST
        scripted.script = lambda seen: (
            asks_for_password(seen, lambda login: login == BASIC)
            or (Reply(status=301, headers={"Location": "2"}) if seen.path.endswith("1") else None)
        )
        found = scripted.open(GivenLogin(ME)).manifest("atlas", "1")
        assert found is not None
        assert found.content == MANIFEST

    def test_redirects_end(self, scripted: Scripted) -> None:
        scripted.script = lambda seen: Reply(status=307, headers={"Location": seen.path})
        with pytest.raises(WorldError, match="from one place to the next"):
            scripted.open().manifest("atlas", "1")

    def test_uploads_are_not_redirected(self, scripted: Scripted, other: Scripted) -> None:
        scripted.script = lambda _: Reply(status=307, headers={"Location": other.url})
        with pytest.raises(WorldError, match="answered 307"):
            scripted.open().upload("atlas", blob_of(b"x"), advance=lambda _: None)
        assert other.seen == []

    @pytest.mark.parametrize("status", [307, 202])
    def test_nobody_leads_us_from_tls_to_a_place_without(
        self, tmp_path: Path, other: Scripted, status: int
    ) -> None:
        with serving(tmp_path / "tls") as server:
            server.script = lambda seen: (
                None
                if seen.method == "HEAD"
                else Reply(status=status, headers={"Location": f"{other.url}/x"})
            )
            registry = server.open(ca=tmp_path / "tls/ca.crt")
            asked: dict[int, Callable[[], object]] = {
                307: lambda: registry.manifest("atlas", "1"),
                202: lambda: registry.upload("atlas", blob_of(b"x"), advance=lambda _: None),
            }
            with pytest.raises(WorldError, match="from https to http://") as caught:
                asked[status]()
        assert "X-Forwarded-Proto" in told(caught.value)
        assert other.seen == []


class TestFiles:
    @pytest.mark.parametrize("name", ["{host}", "https://{host}", "https://{host}/v1/", "{host}/a"])
    def test_docker_writes_the_host_in_several_ways(self, tmp_path: Path, name: str) -> None:
        authfile = write_login(tmp_path, name.format(host="h:1"), "me", "pass:word")
        assert open_logins("h:1/a/b", authfile=authfile).current() == ME

    def test_the_narrowest_login_is_taken(self, tmp_path: Path) -> None:
        logins = {
            "h:1": base64.b64encode(b"wide:1").decode(),
            "h:1/a": base64.b64encode(b"narrow:1").decode(),
        }
        authfile = tmp_path / "auth.json"
        authfile.write_text(json.dumps({"auths": {k: {"auth": v} for k, v in logins.items()}}))
        found = find_login("h:1/a", authfile=authfile, environment={})
        assert found == Login("narrow", "1")

    def test_docker_may_write_an_identity_token_beside_the_user(self, tmp_path: Path) -> None:
        authfile = tmp_path / "config.json"
        entry = {"auth": base64.b64encode(b"me:").decode(), "identitytoken": "x" * 9000}
        authfile.write_text(json.dumps({"auths": {"h:1": entry}}))
        assert open_logins("h:1", authfile=authfile).current() == IdentityToken("x" * 9000)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("{", "not JSON"),
            ('{"auths": {"127.0.0.1:9": {"auth": "***"}}}', "base64 of USER:PASSWORD"),
            ('{"auths": {"127.0.0.1:9": {"auth": "c2VjcmV0"}}}', "base64 of USER:PASSWORD"),
            ('{"auths": {"127.0.0.1:9": {"auth": ["c2VjcmV0"]}}}', "base64 of USER:PASSWORD"),
            ('{"auths": []}', "expected a mapping"),
        ],
    )
    def test_a_malformed_file_is_named_and_its_secrets_are_not(
        self, tmp_path: Path, content: str, expected: str
    ) -> None:
        authfile = tmp_path / "auth.json"
        authfile.write_text(content)
        with pytest.raises(MalformedError, match=expected) as caught:
            open_logins("127.0.0.1:9", authfile=authfile)
        assert str(authfile) in str(caught.value)
        assert "c2VjcmV0" not in str(caught.value)

    @pytest.mark.parametrize(
        "content", ["", " \n\t", "{}", '{"auths": null}', '{"credsStore": ""}']
    )
    def test_a_file_may_hold_no_login(self, tmp_path: Path, content: str) -> None:
        authfile = tmp_path / "config.json"
        authfile.write_text(content)
        assert open_logins("h:1", authfile=authfile).current() is None

    @pytest.mark.parametrize(
        "content",
        [
            '{"auths": {"h:1": {"auth": "%s"}}, "detachKeys": 1.5, "HttpHeaders": [1e400]}',
            '\ufeff{"auths": {"h:1": {"auth": "%s"}}}',
            ' \n{"psFormat": 1, "psFormat": 2, "auths": {"h:1": {"auth": "%s"}}}\n\n',
            '{"auths": {"h:2": 7, "h:1": {"auth": "%s", "email": null}}, "plugins": "\ud800"}',
            '{"auths": {"h:1": {"auth": "%s"}}, "x": 99999999999999999999}',
        ],
    )
    def test_what_we_do_not_use_of_a_file_may_be_anything(
        self, tmp_path: Path, content: str
    ) -> None:
        authfile = tmp_path / "config.json"
        text = content % base64.b64encode(b"me:pass:word").decode()
        authfile.write_bytes(text.encode("utf-8", "surrogatepass"))
        assert open_logins("h:1", authfile=authfile).current() == ME

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"[" * 100_000, "nested too deep"),
            (b'{"auths": {"h:1": {"auth": "\xff"}}}', "not JSON"),
            (b" " * (2 << 20), "at most 1048576 bytes"),
            (b'{"auths": {"h:1": {"identitytoken": "\\ud800"}}}', "identitytoken: a text"),
            (b'{"auths": {"h:1": "c2VjcmV0"}}', "h:1: expected a mapping"),
            (b'"c2VjcmV0"', "expected an object"),
            (b'{"auths": c2VjcmV0}', "not JSON"),
        ],
    )
    def test_a_file_has_its_limits(self, tmp_path: Path, content: bytes, expected: str) -> None:
        authfile = tmp_path / "config.json"
        authfile.write_bytes(content)
        with pytest.raises(MalformedError, match=expected) as caught:
            open_logins("h:1", authfile=authfile)
        assert "c2VjcmV0" not in str(caught.value)

    def test_a_usual_place_of_another_user_is_passed_over(self, shared: Path) -> None:
        """As after ``sudo`` or ``su``, which keep HOME or XDG_RUNTIME_DIR."""
        for name in ("runtime", "docker"):
            (shared / name / "containers").mkdir(parents=True)
        write_login(shared / "runtime/containers", "h:1", "other", "x").rename(
            shared / "runtime/containers/auth.json"
        )
        write_login(shared / "docker", "h:1", "me", "pass:word").rename(
            shared / "docker/config.json"
        )
        (shared / "runtime").chmod(0)
        environment = {
            "XDG_RUNTIME_DIR": str(shared / "runtime"),
            "HOME": "/nowhere",
            "DOCKER_CONFIG": str(shared / "docker"),
        }
        with nobody():
            assert open_logins("h:1", environment=environment).current() == ME

    @pytest.mark.parametrize("how", ["authfile", "environment"])
    @pytest.mark.parametrize("closed", [".", "login.json"])
    def test_a_file_that_was_named_must_be_readable(
        self, shared: Path, how: str, closed: str
    ) -> None:
        path = write_login(shared, "h:1", "me", "pass:word")
        (shared / closed).chmod(0)
        environment = {"REGISTRY_AUTH_FILE": str(path)} if how == "environment" else {}
        authfile = path if how == "authfile" else None
        with nobody(), pytest.raises(WorldError, match=f"{path}: Permission denied"):
            open_logins("h:1", authfile=authfile, environment=environment)

    def test_a_login_file_that_was_named_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match=r"none\.json: no such file"):
            open_logins("127.0.0.1:9", authfile=tmp_path / "none.json")

    def test_the_command_that_writes_a_login_is_told(
        self, scripted: Scripted, tmp_path: Path
    ) -> None:
        authfile = write_login(tmp_path, scripted.address, "me", "old")
        scripted.script = lambda seen: asks_for_password(seen, lambda _: False)
        with pytest.raises(DeniedError) as caught:
            scripted.open(open_logins(scripted.address, authfile=authfile)).manifest("atlas", "1")
        assert f"skopeo login --authfile {authfile} {scripted.address}" in told(caught.value)
        for way in ("--registry-user", "registry.authFile", "registry.ecr"):
            assert way in str(caught.value.hint)

    @pytest.mark.parametrize("by_helper", [False, True])
    def test_a_refused_login_is_named_with_its_user_and_where_it_came_from(
        self,
        scripted: Scripted,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        by_helper: bool,
    ) -> None:
        authfile = write_login(tmp_path, scripted.address, "me", "secret-word")
        source = f"user 'me' from {authfile}"
        if by_helper:
            helper = tmp_path / "docker-credential-ours"
            helper.write_text('#!/bin/sh\necho \'{"Username": "you", "Secret": "secret-word"}\'\n')
            helper.chmod(0o755)
            monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
            authfile.write_text(json.dumps({"credHelpers": {scripted.address: "ours"}}))
            source = f"user 'you' from docker-credential-ours, which {authfile} names"
        scripted.script = lambda seen: asks_for_password(seen, lambda _: False)
        with pytest.raises(DeniedError) as caught:
            scripted.open(open_logins(scripted.address, authfile=authfile)).manifest("atlas", "1")
        assert str(caught.value).endswith(f"; login: {source}")
        assert "secret-word" not in told(caught.value)

    def test_without_a_login_the_places_that_were_looked_at_are_named(
        self, scripted: Scripted, tmp_path: Path
    ) -> None:
        environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
        scripted.script = lambda seen: asks_for_password(seen, lambda _: False)
        logins = open_logins(scripted.address, environment=environment)
        with pytest.raises(DeniedError, match="refused anybody without a login") as caught:
            scripted.open(logins).manifest("atlas", "1")
        for place in ("run/containers/auth.json", ".config/containers/auth.json", ".docker/"):
            assert str(tmp_path / place) in str(caught.value)

    def test_who_logs_in_meanwhile_is_known(self, scripted: Scripted, tmp_path: Path) -> None:
        logins = open_logins(
            scripted.address, authfile=write_login(tmp_path, scripted.address, "me", "old")
        )
        write_login(tmp_path, scripted.address, "me", "pass:word")
        scripted.script = lambda seen: asks_for_password(seen, lambda login: login == BASIC)
        assert scripted.open(logins).manifest("atlas", "1") is None

    @pytest.mark.parametrize("field", ["credsStore", "credHelpers"])
    @pytest.mark.parametrize(
        ("user", "expected"), [("me", Login("me", "s1")), ("<token>", IdentityToken("s1"))]
    )
    def test_a_credential_helper_is_asked(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        field: str,
        user: str,
        expected: Credential,
    ) -> None:
        logins = open_logins("h:9/p", authfile=helper(tmp_path, monkeypatch, field, user))
        assert logins.current() == expected

    @pytest.mark.parametrize("name", ["h:9", "h:9/p"])
    def test_the_registrys_own_helper_comes_before_what_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        authfile = helper(tmp_path, monkeypatch, "credHelpers", "me")
        beside(authfile, name)
        assert open_logins("h:9/p", authfile=authfile).current() == Login("me", "s1")

    def test_which_counts_where_that_knows_no_login(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authfile = helper(tmp_path, monkeypatch, "credHelpers", "me")
        beside(authfile, "h:9")
        (tmp_path / "docker-credential-fake").write_text(
            "#!/bin/sh\ncat >/dev/null\necho credentials not found\nexit 1\n"
        )
        assert open_logins("h:9", authfile=authfile).current() == ME

    def test_and_no_store_is_asked_after_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authfile = helper(tmp_path, monkeypatch, "credHelpers", "me")
        authfile.write_text(json.dumps({"credHelpers": {"h:9": "fake"}, "credsStore": "missing"}))
        (tmp_path / "docker-credential-fake").write_text(
            "#!/bin/sh\ncat >/dev/null\necho credentials not found\nexit 1\n"
        )
        assert open_logins("h:9", authfile=authfile).current() is None

    def test_the_store_of_all_registries_comes_after_what_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authfile = helper(tmp_path, monkeypatch, "credsStore", "me")
        beside(authfile, "h:9")
        assert open_logins("h:9", authfile=authfile).current() == ME

    def test_it_is_asked_again_when_its_login_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logins = open_logins("h:9", authfile=helper(tmp_path, monkeypatch, "credsStore", "me"))
        assert [logins.current(), logins.current()] == [Login("me", "s1")] * 2
        assert [logins.renew(), logins.current()] == [Login("me", "s2")] * 2

    @pytest.mark.parametrize("stream", [1, 2])
    def test_a_helper_may_know_no_login(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: int
    ) -> None:
        authfile = helper(tmp_path, monkeypatch, "credsStore", "me")
        words = "credentials not found in native keychain"
        program = tmp_path / "docker-credential-fake"
        program.write_text(f"#!/bin/sh\ncat >/dev/null\necho {words} >&{stream}\nexit 1\n")
        assert open_logins("h:9", authfile=authfile).current() is None

    def test_a_helper_that_fails_is_quoted_but_never_an_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authfile = helper(tmp_path, monkeypatch, "credsStore", "me")
        program = tmp_path / "docker-credential-fake"
        for output, shown in (("the keychain is locked", True), ('{"Secret":"s1"}', False)):
            program.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{output}'\nexit 1\n")
            with pytest.raises(DeniedError, match="docker-credential-fake ended") as caught:
                open_logins("h:9", authfile=authfile)
            assert (output in told(caught.value)) == shown
            assert "s1" not in told(caught.value)

    @pytest.mark.parametrize("name", ["a/b", "../sh", "a\0b", "a b", "-x", ["a"], 7])
    def test_the_name_of_a_helper_is_no_path(self, tmp_path: Path, name: object) -> None:
        authfile = tmp_path / "config.json"
        for content in ({"credsStore": name}, {"credHelpers": {"h:9": name}}):
            authfile.write_text(json.dumps(content))
            with pytest.raises(MalformedError, match="expected the name of a credential helper"):
                open_logins("h:9", authfile=authfile)

    def test_an_answer_may_have_more_than_we_use(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authfile = helper(tmp_path, monkeypatch, "credsStore", "me")
        answer = '\ufeff{"Expires":1.5,"Username":"me","Secret":"s","Expires":2}'
        (tmp_path / "docker-credential-fake").write_text(
            f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n"
        )
        assert open_logins("h:9", authfile=authfile).current() == Login("me", "s")

    @pytest.mark.parametrize("answer", ["", "[]", "{}", '{"Username":"me","Secret":""}'])
    def test_a_helper_that_says_nothing_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
    ) -> None:
        authfile = helper(tmp_path, monkeypatch, "credsStore", "me")
        (tmp_path / "docker-credential-fake").write_text(f"#!/bin/sh\necho '{answer}'\n")
        with pytest.raises(MalformedError, match="docker-credential-fake"):
            open_logins("h:9", authfile=authfile)


@pytest.fixture
def shared() -> Iterator[Path]:
    """Give a directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Be a user to whom modes of files apply."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def write_login(directory: Path, name: str, user: str, password: str) -> Path:
    path = directory / "login.json"
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {name: {"auth": token}}}))
    return path


def beside(authfile: Path, name: str) -> None:
    """Write our login for ``name`` into a file that names a helper."""
    token = base64.b64encode(b"me:pass:word").decode()
    content = json.loads(authfile.read_text()) | {"auths": {name: {"auth": token}}}
    authfile.write_text(json.dumps(content))


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, field: str, user: str) -> Path:
    """Install a credential helper for h:9 that gives another secret each time."""
    program = directory / "docker-credential-fake"
    program.write_text(
        "#!/bin/sh\n"
        'read host; [ "$host" = h:9 ] || exit 1\n'
        f"echo x >> {directory}/times; n=$(wc -l < {directory}/times)\n"
        f'echo "{{\\"Username\\":\\"{user}\\",\\"Secret\\":\\"s$n\\"}}"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=":")
    authfile = directory / "config.json"
    value: object = "fake" if field == "credsStore" else {"h:9": "fake"}
    authfile.write_text(json.dumps({field: value}))
    return authfile
