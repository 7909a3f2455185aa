"""What is decided about registries without asking one: challenges, URLs, proxies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import MalformedError, WorldError
from bundler.stores.registry_challenge import Challenge, parse_challenges
from bundler.stores.registry_proxy import proxy_for
from bundler.stores.registry_url import Origin, resolve, with_query

PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Negotiate", [Challenge("negotiate")]),
        ('Basic realm="a b"', [Challenge("basic", {"realm": "a b"})]),
        ("Basic realm=plain", [Challenge("basic", {"realm": "plain"})]),
        (r'Basic realm="a \"b\", c"', [Challenge("basic", {"realm": 'a "b", c'})]),
        (
            'Bearer realm="https://h/t?a=b",service="",Scope="repository:a:pull,push"',
            [
                Challenge(
                    "bearer",
                    {"realm": "https://h/t?a=b", "service": "", "scope": "repository:a:pull,push"},
                )
            ],
        ),
        (
            'Basic realm="x", Bearer realm = "https://h/t" , service=s',
            [
                Challenge("basic", {"realm": "x"}),
                Challenge("bearer", {"realm": "https://h/t", "service": "s"}),
            ],
        ),
        ('realm="nobody"', []),
        ('Bearer realm="one",realm="two"', [Challenge("bearer", {"realm": "one"})]),
    ],
)
def test_challenges_are_read(header: str, expected: list[Challenge]) -> None:
    assert parse_challenges(header) == expected


@given(st.text())
def test_any_challenge_is_read_without_failing(text: str) -> None:
    assert all(each.scheme == each.scheme.lower() for each in parse_challenges(text))


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/a?x=%2F", "https://h:5/v2/a?x=%2F"),
        ("b", "https://h:5/v2/b"),
        ("https://other/x", "https://other/x"),
        ("//other/x", "https://other/x"),
        ("?state=1", "https://h:5/v2/start?state=1"),
    ],
)
def test_a_location_may_be_relative(location: str, expected: str) -> None:
    assert resolve("https://h:5/v2/start", location, place="p") == expected


@pytest.mark.parametrize("location", ["http://h:5/v2/b", "http://other/", "HTTP://other/"])
def test_a_location_never_leads_out_of_tls(location: str) -> None:
    with pytest.raises(WorldError, match="p: the registry sends us from https to http://"):
        resolve("https://h:5/v2/a", location, place="p")


@pytest.mark.parametrize("location", [None, "", "file:///etc/passwd", "https://me@h/"])
def test_a_location_must_be_one(location: str | None) -> None:
    with pytest.raises(WorldError, match="p: the registry"):
        resolve("https://h:5/v2/a", location, place="p")


def test_origins_are_the_same_however_they_are_written() -> None:
    assert Origin.of("https://H.example.com/a") == Origin.of("HTTPS://h.example.com:443")
    assert Origin.of("https://h") != Origin.of("http://h")
    assert Origin.of("https://h") != Origin.of("https://h:5000")
    assert str(Origin.of("https://h:443/x")) == "https://h"
    assert str(Origin.of("http://h:443/x")) == "http://h:443"


def test_a_query_is_added_to_what_is_there() -> None:
    assert with_query("http://h/a", digest="sha256:0") == "http://h/a?digest=sha256%3A0"
    assert with_query("http://h/a?s=%2F", digest="x") == "http://h/a?s=%2F&digest=x"


class TestProxies:
    @pytest.mark.parametrize(
        ("scheme", "environment", "expected"),
        [
            ("https", {}, None),
            ("https", {"HTTPS_PROXY": PROXY}, PROXY),
            ("https", {"https_proxy": PROXY}, PROXY),
            ("https", {"HTTP_PROXY": PROXY}, None),
            ("http", {"HTTP_PROXY": PROXY}, PROXY),
            ("http", {"HTTPS_PROXY": PROXY}, None),
            (
                "https",
                {"HTTPS_PROXY": "proxy:1", "https_proxy": "http://other:2"},
                "http://proxy:1",
            ),
            ("https", {"HTTPS_PROXY": ""}, None),
            ("https", {"ALL_PROXY": PROXY}, None),
        ],
    )
    def test_the_scheme_says_which(
        self, scheme: str, environment: dict[str, str], expected: str | None
    ) -> None:
        assert proxy_for(scheme, "registry.example.com", 443, environment) == expected

    @pytest.mark.parametrize(
        "exceptions",
        [
            "*",
            "registry.example.com",
            "example.com",
            ".example.com",
            "*.example.com",
            " other.com , REGISTRY.example.com",
            "registry.example.com:5000",
            "example.com:5000",
        ],
    )
    def test_exceptions_name_hosts(self, exceptions: str) -> None:
        environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}
        assert proxy_for("https", "registry.example.com", 5000, environment) is None

    @pytest.mark.parametrize(
        "exceptions",
        ["", ",", "ample.com", "registry.example.com:443", "10.0.0.0/8", ".com.au", ":"],
    )
    def test_and_no_others(self, exceptions: str) -> None:
        environment = {"HTTPS_PROXY": PROXY, "no_proxy": exceptions}
        assert proxy_for("https", "registry.example.com", 5000, environment) == PROXY

    @pytest.mark.parametrize(
        "exceptions", ["10.1.2.3", "10.0.0.0/8", "10.1.2.3:5000", "x,10.1.2.3/32"]
    )
    def test_exceptions_may_be_networks(self, exceptions: str) -> None:
        environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}
        assert proxy_for("https", "10.1.2.3", 5000, environment) is None
        assert proxy_for("https", "11.1.2.3", 5000, environment) == PROXY

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
    def test_loopback_is_reached_without(self, host: str) -> None:
        assert proxy_for("https", host, 5000, {"HTTPS_PROXY": PROXY}) is None

    @pytest.mark.parametrize(
        "proxy", ["socks5://h:1", "http://", "http://me:secret@h:port", "http://["]
    )
    def test_what_we_cannot_speak_to_is_refused_without_its_password(self, proxy: str) -> None:
        with pytest.raises(
            MalformedError, match="HTTPS_PROXY: expected http://HOST:PORT"
        ) as caught:
            proxy_for("https", "registry.example.com", 443, {"https_proxy": proxy})
        assert "secret" not in str(caught.value)

    @given(st.text(max_size=60), st.sampled_from(["h", "10.0.0.1", "::1"]))
    def test_any_exceptions_are_read_without_failing(self, exceptions: str, host: str) -> None:
        proxy_for("https", host, 1, {"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions})
