"""A forward proxy that lets nothing through is named, with what helps, and without its login."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import BundleError, WorldError
from bundler.stores.artifacts import open_artifacts
from bundler.stores.ecr import open_ecr
from bundler.stores.login import GivenLogin
from bundler.stores.opening import open_bucket, open_registry
from tests.contract.registry_contract import blob_of
from tests.contract.scripted_registry import serving, told
from tests.rehearsal.aws import CREDENTIALS
from tests.rehearsal.forward_proxy import ForwardProxy, proxy

WRONG = "bundle:never-to-be-told"
# Names of hosts that there are none of: nothing would be reached if a proxy let it through.
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForwardProxy]:
    with proxy() as running:
        address = running.url.replace("http://", f"http://{WRONG}@")
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        for name in ("HTTPS_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yield running


def ask_registry() -> object:
    return open_registry("registry.example.com", logins=GivenLogin()).manifest("atlas", "1")


def ask_bucket() -> object:
    store = open_bucket("models", endpoint="https://s3.example.com", region="eu-central-1")
    return store.head("key")


def ask_ecr() -> object:
    return open_ecr(ECR, None).logins.current()


def ask_artifacts() -> object:
    with open_artifacts("registry.example.com/team/atlas", False) as there:
        return there.referrers(Digest.of(b"subject"))


@pytest.mark.parametrize("ask", [ask_registry, ask_bucket, ask_ecr, ask_artifacts])
@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_makes_no_tunnel_is_the_cause_that_is_named(
    between: ForwardProxy, ask: Callable[[], object], status: int
) -> None:
    between.login, between.closed = "bundle:other" if status == 407 else None, True
    with pytest.raises(WorldError) as caught:
        ask()
    text = str(caught.value)
    assert "does not let us through" in text
    assert f": {status} " in text
    hint = str(caught.value.hint)
    assert ("USER:PASSWORD@HOST" in hint) == (status == 407)
    assert ("NO_PROXY" in hint) == (status == 403)
    assert between.requests == []
    require_untold(caught.value)


@pytest.mark.parametrize("ask", [ask_registry, ask_bucket, ask_ecr])
def test_the_proxy_is_named_by_its_address(
    between: ForwardProxy, ask: Callable[[], object]
) -> None:
    between.closed = True
    with pytest.raises(WorldError, match=f"the proxy {between.url} does not let us through"):
        ask()


def test_a_proxy_that_wants_a_login_for_plain_http_is_no_failure_of_s3(
    between: ForwardProxy,
) -> None:
    between.login = "bundle:other"
    store = open_bucket("models", endpoint="http://s3.example.com", region="eu-central-1")
    with pytest.raises(WorldError, match="a proxy on the way let nothing through") as caught:
        store.head("key")
    assert "USER:PASSWORD@HOST" in str(caught.value.hint)
    require_untold(caught.value)


def test_a_proxy_that_is_not_there_is_told_of_and_not_s3(
    between: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{WRONG}@127.0.0.1:9")
    with pytest.raises(
        WorldError, match=r"cannot reach the proxy http://127\.0\.0\.1:9$"
    ) as caught:
        ask_bucket()
    require_untold(caught.value)


def test_with_its_login_a_proxy_lets_us_through(between: ForwardProxy, tmp_path: Path) -> None:
    between.login = WRONG
    with serving(tmp_path / "tls", names=("127.1",)) as server:
        host = server.address.replace("127.0.0.1", "127.1")
        registry = open_registry(host, logins=GivenLogin(), ca=tmp_path / "tls/ca.crt")
        registry.upload("atlas", blob_of(b"content"), advance=lambda _: None)
    assert list(server.blobs.values()) == [b"content"]
    assert set(between.requests) == {f"CONNECT {host}"}


def require_untold(error: BundleError) -> None:
    cause: BaseException | None = error
    while cause is not None:
        assert "never-to-be-told" not in str(cause)
        cause = cause.__cause__
    assert "never-to-be-told" not in told(error)
