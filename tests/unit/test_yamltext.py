from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import MalformedError
from bundler.yamltext import MAX_YAML_BYTES, read_list, read_objects, read_yaml, write_yaml

GOOD = b"""\
# comment
name: demo
version: "2026.11"
quoted: 'no'
number: 17
zero: 0
minus: -5
yes-and-no: true
nothing: ~
empty:
list:
  - a
  - {key: value}
text: |
  two
  lines
"""
TEXT = st.text(
    st.characters(
        exclude_categories=["Cc", "Cs", "Co", "Cn"], exclude_characters="\u2028\u2029\ufeff"
    ),
    max_size=12,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def test_values_have_the_types_that_they_seem_to_have() -> None:
    assert read_yaml(GOOD, name="x").value == {
        "name": "demo",
        "version": "2026.11",
        "quoted": "no",
        "number": 17,
        "zero": 0,
        "minus": -5,
        "yes-and-no": True,
        "nothing": None,
        "empty": None,
        "list": ["a", {"key": "value"}],
        "text": "two\nlines\n",
    }


def test_an_empty_document_is_an_empty_mapping() -> None:
    assert read_yaml(b"", name="x").value == {}
    assert read_yaml(b"# nothing\n", name="x").value == {}


def test_every_value_has_its_line_and_column() -> None:
    positions = read_yaml(GOOD, name="x").positions
    assert positions[("name",)] == (2, 1)
    assert positions[("list", 1)] == (13, 5)
    assert positions[("list", 1, "key")] == (13, 6)
    assert set(positions) >= {("list",), ("list", 0), ("text",)}


def test_a_field_of_the_wrong_type_is_told_with_its_line() -> None:
    with pytest.raises(MalformedError, match=r"^x\.yaml:5:1: number: expected a text"):
        read_yaml(GOOD, name="x.yaml").table().text("number")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a: 1\na: 2\n", r"x:2:1: .*key 'a' stands there twice"),
        (b"a: {b: 1, b: 2}\n", r"x:1:11: .*key 'b' stands there twice"),
        (b"a: &x 1\nb: *x\n", "anchors and aliases"),
        (b"a: &x 1\n", "anchors and aliases"),
        (b"&a [*a]\n", "anchors and aliases"),
        (b"<<: {a: 1}\n", "quote it"),
        (b"a: yes\n", "'yes' is read in more than one way"),
        (b"a: No\n", "'No' is read in more than one way"),
        (b"a: on\n", "'on' is read in more than one way"),
        (b"a: y\n", "'y' is read in more than one way"),
        (b"y: a\n", "'y' is read in more than one way"),
        (b"a: True\n", "'True' is read in more than one way"),
        (b"a: NULL\n", "'NULL' is read in more than one way"),
        (b"a: 012\n", "'012' is read in more than one way"),
        (b"a: 0x1f\n", "'0x1f' is read in more than one way"),
        (b"a: 0b1\n", "'0b1' is read in more than one way"),
        (b"a: 1_000\n", "'1_000' is read in more than one way"),
        (b"a: 1:30\n", "'1:30' is read in more than one way"),
        (b"a: +1\n", "more than one way"),
        (b"a: -0\n", "more than one way"),
        (b"a: 1.10\n", r"'1\.10' is read in more than one way"),
        (b"a: .inf\n", "more than one way"),
        (b"a: 2026-11-01\n", "'2026-11-01' is read in more than one way"),
        (b"a: 2026-13-45\n", "more than one way"),
        (b"a: " + b"9" * 5000, "more than one way"),
        (b"a: !!binary aGk=\n", "more than one way"),
        (b"a: !!python/object/apply:os.system [id]\n", "tag .* is not taken"),
        (b"a: !!set {b}\n", "tag .* is not taken"),
        (b"a: !local x\n", "more than one way"),
        (b"1: a\n", "expected text as a key, got 1"),
        (b"true: a\n", "expected text as a key, got True"),
        (b"~: a\n", "expected text as a key, got None"),
        (b"? [1]\n: a\n", "expected a plain key"),
        (b"---\na: 1\n---\nb: 2\n", "not YAML as we read it"),
        (b"a: [1\n", "not YAML as we read it"),
        (b"a:\n\t- b\n", "not YAML as we read it"),
        (b"%YAML 9.9\n---\na: 1\n", "not YAML as we read it"),
        (b"a: b\xe2\x80\xa8c: d\n", "YAML readers take in two ways"),
        (b"a: b\xc2\x85c: d\n", "YAML readers take in two ways"),
        (b"\xef\xbb\xbfa: 1\n", "YAML readers take in two ways"),
        ("a: 1".encode("utf-16"), "not YAML as we read it"),
        (b"a: \xff\n", "not YAML as we read it"),
        (b"a: \x00\n", "not YAML as we read it"),
        (b"[" * 40 + b"]" * 40, "nested more than 32 deep"),
        (b"[" * 1_000_000, "nested more than 32 deep"),
        (
            b"".join(b" " * n + b"a:\n" for n in range(40)),
            "nested more than 32 deep",
        ),
        (b"a: " + b"x" * MAX_YAML_BYTES, "expected at most"),
        (b"[" + b"[]," * 30_000 + b"]", "more than 50000 keys and values"),
    ],
)
def test_what_readers_take_in_two_ways_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint) as caught:
        read_yaml(content, name="x")
    assert str(caught.value).startswith("x:")
    assert "\n" not in str(caught.value)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_written_is_read_back(value: dict[str, object]) -> None:
    assert read_yaml(write_yaml(value), name="x").value == value


def test_keys_keep_their_order_below_a_comment() -> None:
    assert write_yaml({"b": 1, "a": ["x"]}, header="made by us\n\nfor you") == (
        b"# made by us\n#\n# for you\nb: 1\na:\n- x\n"
    )


@pytest.mark.parametrize("text", ["no", "y", "1.10", "2026-11-01", "0x1f", "1:30", "1e3", "~", ""])
def test_text_that_could_be_read_otherwise_is_quoted(text: str) -> None:
    content = write_yaml({"a": text})
    assert content in {f'a: "{text}"\n'.encode(), f"a: '{text}'\n".encode()}


def test_objects_of_a_stream_are_read() -> None:
    text = "---\n# Source: a.yaml\nkind: A\n---\n---\nkind: B\nport: 8000\n"
    assert read_objects(text, name="x") == [{"kind": "A"}, {"kind": "B", "port": 8000}]
    assert read_objects("", name="x") == []


@pytest.mark.parametrize(
    "text", ["- a\n", "text\n", "a: [\n", "a: !!python/name:os.system\n", "a: " + "[" * 5_000]
)
def test_a_stream_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match=r"^x: "):
        read_objects(text, name="x")


def test_what_yaml_alone_reads_otherwise_is_text_to_kubernetes() -> None:
    assert read_objects("a: [=, 2026-11-01, 2026-13-45]", name="x") == [
        {"a": ["=", "2026-11-01", "2026-13-45"]}
    ]


def test_a_list_inside_another_file_is_read() -> None:
    assert read_list("- image: a\n- b\n", name="x") == [{"image": "a"}, "b"]


@pytest.mark.parametrize("text", ["", "a: 1", "- a\n---\n- b", "[", "text"])
def test_no_list_inside_another_file_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match=r"^x: "):
        read_list(text, name="x")


def merging(levels: int) -> str:
    """Give mappings of which each merges the one before nine times."""
    text = "m0: &m0 {a: 1}\n"
    for n in range(1, levels):
        text += f"m{n}: &m{n} {{<<: [{f'*m{n - 1}, ' * 9}]}}\n"
    return text


def test_what_charts_merge_is_read_and_merges_without_end_are_not() -> None:
    [found] = read_objects("a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\n" + merging(3), name="x")
    assert found["d"] == {"b": 1, "c": 3}
    with pytest.raises(MalformedError, match="x: not YAML: more than 200000 pairs are merged"):
        read_objects(merging(12), name="x")
    with pytest.raises(MalformedError, match="x: not YAML"):
        read_objects("a: &a {<<: *a}\n", name="x")
