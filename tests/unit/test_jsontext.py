from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import MalformedError
from bundler.jsontext import MAX_INTEGER, read_json, write_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back_and_written_the_same(value: object) -> None:
    content = write_json(value)
    assert read_json(content, name="x", limit=1 << 20).value == value
    assert write_json(json.loads(content)) == content
    assert content.endswith(b"\n")


def test_the_encoding_is_fixed() -> None:
    assert write_json({"b": [1, "é"], "a": None}) == (
        '{\n "a": null,\n "b": [\n  1,\n  "é"\n ]\n}\n'.encode()
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ("{}".encode("utf-16"), "not JSON"),
        (b'"\xff"', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b'{"a": 1, "a": 1}', "key 'a' stands there twice"),
        (b'{"x": {"a": 1, "b": 2, "a": 3}}', "key 'a' stands there twice"),
        (b"1.0", "number is not an integer: 1.0"),
        (b"1e3", "number is not an integer: 1e3"),
        (b"NaN", "number is not an integer: NaN"),
        (b"-Infinity", "number is not an integer: -Infinity"),
        (b"%d" % (MAX_INTEGER + 1), "integer beyond"),
        (b"-%d" % (MAX_INTEGER + 1), "integer beyond"),
        (b"9" * 5000, "integer beyond"),
        (b'"\\ud800"', "surrogates not allowed"),
        (b'{"\\udfff": 1}', "surrogates not allowed"),
        (b"[" * 33 + b"]" * 33, "nested more than 32 deep"),
        (b"[" * 40 + b"]" * 40, "nested more than 32 deep"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested more than 32 deep"),
    ],
)
def test_json_that_readers_take_in_two_ways_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint) as caught:
        read_json(content, name="x.json", limit=1 << 20)
    assert str(caught.value).startswith("x.json: ")
    assert "\n" not in str(caught.value)


def test_a_limit_is_the_most_that_is_parsed() -> None:
    assert read_json(b"[1]", name="x", limit=3).value == [1]
    with pytest.raises(MalformedError, match="x: expected at most 2 bytes, got 3"):
        read_json(b"[1]", name="x", limit=2)


def test_32_levels_are_read() -> None:
    read_json(b"[" * 32 + b"1" + b"]" * 32, name="x", limit=100)


def test_values_are_counted_before_they_take_memory() -> None:
    content = b"[" + b"[]," * 2_000_000 + b"[]]"
    with pytest.raises(MalformedError, match="x: expected at most 4000000 values, got more"):
        read_json(content, name="x", limit=64 << 20)


@pytest.mark.parametrize("value", [1.0, {"a": 2.5}, {1: "a"}, "\ud800", b"x", [{"a"}]])
def test_what_has_no_one_encoding_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected|surrogates"):
        write_json(value)


@given(st.binary(max_size=60))
def test_noise_is_refused_or_read_as_json_is(content: bytes) -> None:
    try:
        value = read_json(content, name="x", limit=100).value
    except MalformedError:
        return
    assert value == json.loads(content)
