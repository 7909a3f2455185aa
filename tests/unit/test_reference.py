from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import printable
from bundler.image_reference import parse_reference
from bundler.reference import (
    ImageTag,
    S3Prefix,
    file_name,
    folded,
    hostname,
    image_name,
    image_tag,
    model_key,
    namespace,
    registry_host,
    relative_path,
    without_login,
)
from bundler.source import parse_source

GOOD: list[tuple[Callable[[str], str], list[str]]] = [
    (image_name, ["atlas", "model-downloader", "a.b", "a_b", "a--b", "x1", "a" * 128]),
    (image_tag, ["1.0.0", "latest", "_x", "A-b_c.d", "x" * 128]),
    (model_key, ["a", "laguna-m", "0", "a" * 50]),
    (namespace, ["poolside-models", "a" * 63]),
    (hostname, ["a", "laguna.models.example.com", "x-1.y", ".".join(["a" * 63] * 3)]),
    (file_name, ["laguna_m_2026.10", "A+b", "1", "a" * 128]),
    (
        registry_host,
        [
            "registry.example.com",
            "127.0.0.1:5055",
            "registry.example.com:443/some/path",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "localhost",
        ],
    ),
    (
        relative_path,
        [
            "a",
            "a/b.c",
            ".hidden",
            "a..b",
            "...",
            "é",
            "a b",
            "日本語",
            "w\u00f6rter \U0001f600",
            "n" * 512,
            "-rf",
        ],
    ),
]

BAD: list[tuple[Callable[[str], str], list[str]]] = [
    (
        image_name,
        ["", "a", "A", "a/b", "a__b", "-a", "a-", "a..b", "a.-b", "a b", "a" * 129, "é1", "ab\n"],
    ),
    (image_tag, ["", ".a", "-a", "a/b", "a:b", "a__b", "x" * 129, "a b", "é", "a\n"]),
    (model_key, ["", "A", "a_b", "-a", "a-", "a.b", "a" * 51, "é", "a\n"]),
    (namespace, ["", "A", "a.b", "a" * 64, "-a", "a\n"]),
    (
        hostname,
        ["", "A.com", "a..b", ".a", "a.", "*.a", "a_b", "a" * 64, ".".join(["a" * 60] * 5), "a\n"],
    ),
    (file_name, ["", ".", "..", ".a", "-a", "_a", "a/b", "a__b", "a b", "é", "a" * 129, "a\n"]),
    (
        registry_host,
        [
            "",
            "https://a",
            "user@a",
            "a:b",
            "a:123456",
            "-a",
            "a/B",
            "a/",
            "/a",
            "a b",
            "a?x",
            "a\n",
        ],
    ),
    (
        relative_path,
        [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/./b",
            "a/../b",
            "../a",
            "a\\b",
            "C:\\a",
            "a\0b",
            "a\nb",
            "a\x1bb",
            "a\x7fb",
            "a\u202eb",
            "a\u200bb",
            "a\u2028b",
            "a\u2029b",
            "\ufeffa",
            "a\u00a0b",
            "a\u3000b",
            "a\u0085b",
            "a\ud800b",
            "a\ue000b",
            "e\u0301",
            "n" * 513,
            "é" * 257,
        ],
    ),
]


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in GOOD for text in texts])
def test_a_good_name_is_given_back(rule: Callable[[str], str], text: str) -> None:
    assert rule(text) == text


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in BAD for text in texts])
def test_a_bad_name_is_refused_in_one_line(rule: Callable[[str], str], text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        rule(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_name_that_the_by_hand_script_cannot_split_says_so() -> None:
    with pytest.raises(ValueError, match=r"which <image>__<tag>\.tar cannot carry"):
        image_name("a__b")


@given(st.text(max_size=40))
def test_a_path_that_is_taken_stays_below_its_root(text: str) -> None:
    try:
        path = relative_path(text)
    except ValueError:
        return
    pure = PurePosixPath(path)
    assert not pure.is_absolute()
    assert ".." not in pure.parts
    assert str(pure) == path
    assert path.splitlines() == [path]
    assert printable(path) == path
    assert unicodedata.is_normalized("NFC", path)
    assert relative_path(f"root/{path}") == f"root/{path}"


@pytest.mark.parametrize(
    ("one", "two"), [("README", "readme"), ("Straße", "STRASSE"), ("É", "é"), ("ﬁ", "fi")]
)
def test_paths_that_a_file_system_may_take_for_one_fold_to_one(one: str, two: str) -> None:
    assert folded(one) == folded(two)
    assert folded(folded(one)) == folded(one)


def test_other_paths_stay_apart() -> None:
    assert len({folded(path) for path in ("a", "b", "a/b", "a-b", "é", "e")}) == 6


def test_an_image_lies_under_its_name_and_tag() -> None:
    tag = ImageTag("atlas", "1.0.0")
    assert str(tag) == "atlas:1.0.0"
    assert tag.archive_path == "containers/atlas__1.0.0.tar"
    for name, bad in (("a/b", "1"), ("atlas", "a:b")):
        with pytest.raises(ValueError, match="image"):
            ImageTag(name, bad)


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://models", "models", ""),
        ("s3://models/", "models", ""),
        ("s3://models/a/b", "models", "a/b"),
        ("s3://models/a/b/", "models", "a/b"),
        ("s3://my.models-1/x", "my.models-1", "x"),
    ],
)
def test_an_s3_address_is_read(text: str, bucket: str, prefix: str) -> None:
    found = S3Prefix.parse(text)
    assert (found.bucket, found.prefix) == (bucket, prefix)
    assert S3Prefix.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models/a",
        "https://models/a",
        "S3://models",
        "s3://",
        "s3://ab",
        "s3://Models/a",
        "s3://-models/a",
        "s3://models/../a",
        "s3://models//a",
        "s3://models/a\nb",
        "s3://" + "m" * 64,
    ],
)
def test_what_is_no_s3_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an S3 address|not a bucket name|path"):
        S3Prefix.parse(text)


def test_keys_are_made_below_a_prefix() -> None:
    assert S3Prefix("models", "").key("a", "b") == "a/b"
    assert S3Prefix("models", "p/q").key("a") == "p/q/a"
    assert str(S3Prefix("models", "p") / "q") == "s3://models/p/q"
    assert str(S3Prefix("models", "") / "q/r") == "s3://models/q/r"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("user:pass@host/image", "...@host/image"),
        ("docker://user:p@ss/w@host/a:1", "...@host/a:1"),
        ("docker://user:pass@host/a@sha256:00", "...@host/a@sha256:00"),
        ("host/a@sha256:00", "host/a@sha256:00"),
        ("host/a:1", "host/a:1"),
    ],
)
def test_a_login_is_not_shown(text: str, shown: str) -> None:
    assert without_login(text) == shown


@pytest.mark.parametrize("rule", [registry_host, parse_source, parse_reference])
def test_a_login_in_an_address_is_not_repeated(rule: Callable[[str], object]) -> None:
    for text in ("user:canary@host", "docker://user:canary@host/a:1", "x" * 600 + "canary@host"):
        with pytest.raises(ValueError, match="not a") as caught:
            rule(text)
        assert "canary" not in str(caught.value)
