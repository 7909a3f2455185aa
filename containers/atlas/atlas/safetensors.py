"""Reading of one safetensors file, with every rule that its header must keep."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


class CheckpointError(Exception):
    """A checkpoint cannot be served; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a file: the half-open range of its bytes counts from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_tensors(file: str, content: memoryview) -> list[Tensor]:
    """List a file's tensors in the order of their data.

    Args:
        file: Its name, for messages.
        content: All of its bytes.

    Raises:
        CheckpointError: The header is not well formed, or its sizes do not add up to the file's.

    Source:
        The safetensors format, README of its repository, section "Format".
    """
    header_size = int.from_bytes(content[:_LENGTH_BYTES], "little")
    data_start = _LENGTH_BYTES + header_size
    if len(content) < _LENGTH_BYTES or data_start > len(content):
        raise CheckpointError(f"{file}: {len(content)} bytes, too short for its header")
    if header_size > _MAX_HEADER_BYTES:
        raise CheckpointError(f"{file}: a header of {header_size} bytes, over the format's limit")
    header = _parse_header(file, bytes(content[_LENGTH_BYTES:data_start]))
    header.pop("__metadata__", None)
    tensors = [_parse_tensor(file, name, entry, data_start) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    _check_coverage(file, tensors, data_start, len(content))
    return tensors


def _parse_header(file: str, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: the header is not a JSON object")
    return header


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _parse_tensor(file: str, name: str, entry: object, data_start: int) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise CheckpointError(
                f"{file}: tensor {name!r}: dtype, shape or data_offsets are wrong"
            )
    if dtype not in _BITS:
        raise CheckpointError(f"{file}: tensor {name!r}: unknown dtype {dtype!r}")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise CheckpointError(f"{file}: tensor {name!r}: shape {shape} is not one of lengths")
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or end - begin != bits // 8 or begin < 0:
        raise CheckpointError(
            f"{file}: tensor {name!r}: {dtype} {shape} takes {bits} bits, "
            f"its offsets [{begin}, {end}] give {end - begin} bytes"
        )
    return Tensor(
        name=name,
        dtype=dtype,
        shape=tuple(shape),
        start=data_start + begin,
        end=data_start + end,
    )


def _check_coverage(file: str, tensors: list[Tensor], data_start: int, file_size: int) -> None:
    edges = [data_start, *(edge for t in tensors for edge in (t.start, t.end)), file_size]
    for before, after in list(pairwise(edges))[::2]:
        if before != after:
            raise CheckpointError(
                f"{file}: tensors must cover the data without gap or overlap: "
                f"one ends at byte {before}, what follows starts at byte {after}"
            )
