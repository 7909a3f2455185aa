from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.parts import (
    MAX_FILE_BYTES,
    MAX_PARTS,
    MIB,
    SMALLEST_PART,
    Span,
    part_size,
    s3_checksum,
    spans,
)

# Source: Amazon S3 user guide, "Amazon S3 multipart upload limits".
S3_SMALLEST_PART, S3_LARGEST_PART = 5 * MIB, 5 << 30


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 64 * MIB),
        (1, 64 * MIB),
        (64 * MIB + 1, 64 * MIB),
        (64 * MIB * MAX_PARTS, 64 * MIB),
        (64 * MIB * MAX_PARTS + 1, 65 * MIB),
        (65 * MIB * MAX_PARTS, 65 * MIB),
        (65 * MIB * MAX_PARTS + 1, 66 * MIB),
    ],
)
def test_a_part_is_64_mib_or_as_much_as_10000_parts_need(size: int, expected: int) -> None:
    assert part_size(size) == expected


@given(st.integers(0, MAX_FILE_BYTES))
def test_parts_are_what_s3_takes(size: int) -> None:
    part = part_size(size)
    assert part % MIB == 0
    assert S3_SMALLEST_PART < SMALLEST_PART <= part <= S3_LARGEST_PART
    assert -(-size // part) <= MAX_PARTS
    assert part == SMALLEST_PART or -(-size // (part - MIB)) > MAX_PARTS


@pytest.mark.parametrize("size", [-1, MAX_FILE_BYTES + 1])
def test_a_size_that_no_store_takes_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"file of {size} bytes"):
        part_size(size)


@given(st.integers(0, 5000), st.integers(1, 700))
def test_spans_cover_a_file_once(size: int, part: int) -> None:
    found = list(spans(size, part))
    assert [span.number for span in found] == list(range(1, len(found) + 1))
    assert [span.offset for span in found] == [n * part for n in range(len(found))]
    assert sum(span.length for span in found) == size
    assert all(span.length == part for span in found[:-1])
    assert size == 0 or 1 <= found[-1].length <= part


def test_an_empty_file_has_one_empty_part() -> None:
    assert list(spans(0, 5)) == [Span(1, 0, 0)]


def test_one_part_is_checked_by_its_own_digest() -> None:
    part = Digest.of(b"a")
    assert s3_checksum([part]) == base64.b64encode(hashlib.sha256(b"a").digest()).decode()


def test_several_parts_are_checked_by_the_digest_of_their_digests() -> None:
    parts = [Digest.of(b"a"), Digest.of(b"b"), Digest.of(b"c")]
    raw = b"".join(hashlib.sha256(piece).digest() for piece in (b"a", b"b", b"c"))
    expected = base64.b64encode(hashlib.sha256(raw).digest()).decode()
    assert s3_checksum(parts) == f"{expected}-3"
