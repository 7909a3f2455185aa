from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import MalformedError
from bundler.safetensors import Tensor, TensorFile, check_index, header_length, read_header

WIDTHS = {"BOOL": 1, "U8": 1, "F8_E4M3": 1, "BF16": 2, "F16": 2, "F32": 4, "I64": 8, "C64": 8}


def described(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def packed(entries: object) -> bytes:
    return json.dumps(entries).encode()


def read(header: bytes, data_bytes: int) -> TensorFile:
    return read_header(header, file_size=8 + len(header) + data_bytes, name="w.safetensors")


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
            lambda name: name != "__metadata__"
        ),
        st.tuples(st.sampled_from(sorted(WIDTHS)), st.lists(st.integers(0, 5), max_size=4)),
        max_size=6,
    )
)
def test_tensors_one_after_the_other_are_read(shapes: dict[str, tuple[str, list[int]]]) -> None:
    entries, end = {}, 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + math.prod(shape) * WIDTHS[dtype]
        entries[name] = described(dtype, shape, begin, end)
    found = read(packed(entries), end)
    assert found.total_bytes == end
    assert {tensor.name: (tensor.dtype, list(tensor.shape)) for tensor in found.tensors} == shapes
    assert [tensor.begin for tensor in found.tensors] == sorted(t.begin for t in found.tensors)


def test_metadata_spaces_behind_and_small_types_are_taken() -> None:
    entries = {"__metadata__": {"format": "pt"}, "a": described("F4", [4], 0, 2)}
    found = read(packed(entries) + b"   ", 2)
    assert found == TensorFile((Tensor("a", "F4", (4,), 0, 2),), 2)
    assert read(b"{}", 0) == TensorFile((), 0)


ONE = {"a": described("F32", [2], 0, 8)}


@pytest.mark.parametrize(
    ("header", "data_bytes", "complaint"),
    [
        (b" " + packed(ONE), 8, "starts with '{'"),
        (b"[]", 0, "starts with '{'"),
        (b"\xef\xbb\xbf{}", 0, "starts with '{'"),
        (b"{", 0, "not JSON"),
        (b"{}\0", 0, "not JSON"),
        (b'{"a\xff": 1}', 0, "not JSON"),
        (b'{"a": {}, "a": {}}', 0, "stands there twice"),
        (packed({"a": []}), 0, "expected dtype, shape and data_offsets"),
        (packed({"a": {"dtype": "F32", "shape": [2]}}), 8, "expected dtype, shape"),
        (packed({"a": {**ONE["a"], "more": 1}}), 8, "expected dtype, shape"),
        (packed({"a": described("F31", [2], 0, 8)}), 8, "dtype 'F31' is none"),
        (packed({"a": {**ONE["a"], "dtype": 5}}), 8, "dtype '5' is none"),
        (packed({"a": described("F32", [3], 0, 8)}), 8, "expected 12 bytes for F32"),
        (packed({"a": described("F4", [3], 0, 2)}), 2, "expected 1 bytes for F4"),
        (packed({"a": described("F32", [2**53 - 1] * 60, 0, 8)}), 8, "'a': expected [0-9]{100,}"),
        (packed({"a": described("F32", [1] * 65, 0, 4)}), 4, "64 dimensions"),
        (packed({"a": described("F32", [-2], 0, 8)}), 8, "shape: expected integers"),
        (packed({"a": described("F32", [2], -8, 0)}), 8, "data_offsets: expected integers"),
        (packed({"a": described("F32", [2], 8, 0)}), 8, "got -8"),
        (packed({"a": {**ONE["a"], "data_offsets": [0, 8, 8]}}), 8, "two data_offsets"),
        (packed({"a": {**ONE["a"], "data_offsets": [False, 8]}}), 8, "expected integers"),
        (packed({"a": {**ONE["a"], "shape": [2.0]}}), 8, "not an integer"),
        (packed({"a": {**ONE["a"], "shape": "2"}}), 8, "shape: expected integers"),
        (packed(ONE), 9, "expected 8 bytes of tensors, got 9"),
        (packed(ONE), 7, "expected 8 bytes of tensors, got 7"),
        (packed({"a": described("F32", [2], 1, 9)}), 9, "expected to begin at 0"),
        (packed({**ONE, "b": described("U8", [1], 9, 10)}), 10, "expected to begin at 8"),
        (packed({**ONE, "b": described("U8", [1], 7, 8)}), 8, "expected to begin at 8"),
        (packed({**ONE, "b": described("F32", [2], 0, 8)}), 8, "expected to begin at 8"),
        (packed({"__metadata__": {"a": 1}}), 0, "__metadata__: expected a mapping of texts"),
        (packed({"__metadata__": "x"}), 0, "__metadata__: expected a mapping of texts"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, 0, "not JSON"),
    ],
)
def test_a_header_that_breaks_a_rule_is_refused(
    header: bytes, data_bytes: int, complaint: str
) -> None:
    with pytest.raises(MalformedError, match=complaint) as caught:
        read(header, data_bytes)
    assert str(caught.value).startswith("w.safetensors: ")
    assert "\n" not in str(caught.value)


def test_names_cannot_break_the_line() -> None:
    with pytest.raises(MalformedError, match=r"tensor '\\x1b\[2J\\n'"):
        read(packed({"\x1b[2J\n": []}), 0)


@pytest.mark.parametrize(
    ("first", "file_size", "expected"),
    [
        ((2).to_bytes(8, "little"), 10, 2),
        ((100_000_000).to_bytes(8, "little"), 1 << 30, 100_000_000),
    ],
)
def test_the_length_of_a_header_is_read(first: bytes, file_size: int, expected: int) -> None:
    assert header_length(first, file_size=file_size, name="w") == expected


@pytest.mark.parametrize(
    ("first", "file_size"),
    [
        (b"", 0),
        (bytes(7), 7),
        (bytes(8), 8),
        ((3).to_bytes(8, "little"), 10),
        ((100_000_001).to_bytes(8, "little"), 1 << 30),
        ((1 << 63).to_bytes(8, "little"), 1 << 30),
    ],
)
def test_a_length_that_leaves_the_file_is_refused(first: bytes, file_size: int) -> None:
    with pytest.raises(MalformedError, match=r"^w: expected"):
        header_length(first, file_size=file_size, name="w")


SHARDS = {
    "a.safetensors": TensorFile((Tensor("x", "U8", (3,), 0, 3), Tensor("y", "U8", (1,), 3, 4)), 4),
    "b.safetensors": TensorFile((Tensor("z", "U8", (5,), 0, 5),), 5),
    "consolidated.safetensors": TensorFile((Tensor("all", "U8", (9,), 0, 9),), 9),
}
MAP = {"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"}


@pytest.mark.parametrize("metadata", [None, {}, {"total_size": 9}, {"total_parameters": 9}])
def test_an_index_that_names_every_tensor_is_taken(metadata: object) -> None:
    check_index(packed({"metadata": metadata, "weight_map": MAP}), SHARDS, name="i")


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ({}, "weight_map: expected a tensor, got none"),
        ({"weight_map": {}}, "weight_map: expected a tensor, got none"),
        ({"weight_map": []}, "expected a mapping"),
        ({"weight_map": {"x": 5}}, "expected the name of a file"),
        ({"weight_map": {**MAP, "x": "../a.safetensors"}}, "climbs"),
        ({"weight_map": {**MAP, "x": "/etc/passwd"}}, "path is absolute"),
        ({"weight_map": {**MAP, "x": ""}}, "path is empty"),
        (
            {"weight_map": {**MAP, "q": "c.safetensors"}},
            "names 'c.safetensors', which is not there",
        ),
        ({"weight_map": {**MAP, "q": "a.safetensors"}}, "expected tensor 'q' in a.safetensors"),
        ({"weight_map": {**MAP, "z": "a.safetensors"}}, "expected tensor 'z' in a.safetensors"),
        ({"weight_map": {"x": "a.safetensors"}}, "a.safetensors holds tensor 'y'"),
        ({"weight_map": MAP, "metadata": {"total_size": 8}}, "total_size: expected 9, got 8"),
        ({"weight_map": MAP, "metadata": {"total_size": "9"}}, "total_size: expected 9, got '9'"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(index: object, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint) as caught:
        check_index(packed(index), SHARDS, name="i.json")
    assert str(caught.value).startswith("i.json: ")


@given(st.binary(max_size=200))
def test_noise_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        read(b"{" + content + b"!", 0)
    with pytest.raises(MalformedError):
        check_index(content + b"!", SHARDS, name="i")
