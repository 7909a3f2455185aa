"""Headers of safetensors files, and the index of a model that has several: read strictly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from bundler.errors import MalformedError, printable
from bundler.jsontext import read_json
from bundler.reference import relative_path

# Source: safetensors, "Format": 8 bytes of length, little-endian, a JSON header, then the data.
LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
MAX_INDEX_BYTES = 100_000_000
_METADATA = "__metadata__"
# Source: safetensors 0.8, src/tensor.rs, Dtype::bitsize.
_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
_MAX_DIMENSIONS = 64


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; its bytes are ``begin`` to ``end``, counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """What one file holds: tensors by their place in it, and the sum of their bytes."""

    tensors: tuple[Tensor, ...]
    total_bytes: int


def header_length(first8: bytes, *, file_size: int, name: str) -> int:
    """Read how many bytes of header follow the first eight.

    Raises:
        MalformedError: There are fewer than eight, or the header is too long or leaves the file.
    """
    if len(first8) != LENGTH_BYTES or file_size < LENGTH_BYTES:
        _refuse(name, f"expected {LENGTH_BYTES} bytes or more, got {file_size}")
    length = int.from_bytes(first8, "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, file_size - LENGTH_BYTES):
        _refuse(
            name,
            f"expected a header of 2 to {MAX_HEADER_BYTES} bytes within the file's {file_size}, "
            f"got {length}",
        )
    return length


def read_header(header: bytes, *, file_size: int, name: str) -> TensorFile:
    """Read a header, and hold it to the size of its file.

    Args:
        header: The bytes that ``header_length`` counted.
        file_size: Bytes of the whole file.
        name: What to call it in an error.

    Raises:
        MalformedError: It is not JSON that starts with ``{``, a tensor's bytes do not make its
            shape and type, or the tensors do not cover the data one after the other.
    """
    if not header.startswith(b"{"):
        _refuse(name, f"expected a header that starts with '{{', got {header[:8]!r}")
    entries = read_json(header, name=name, limit=MAX_HEADER_BYTES).value
    if not isinstance(entries, dict):
        _refuse(name, "expected a header that is a mapping")
    try:
        _check_metadata(entries.get(_METADATA))
        tensors = [_tensor(key, value) for key, value in entries.items() if key != _METADATA]
        tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
        total = _cover(tensors)
    except ValueError as error:
        _refuse(name, str(error))
    data_bytes = file_size - LENGTH_BYTES - len(header)
    if total != data_bytes:
        _refuse(name, f"expected {total} bytes of tensors, got {data_bytes}")
    return TensorFile(tuple(tensors), total)


def check_index(index: bytes, shards: Mapping[str, TensorFile], *, name: str) -> None:
    """Hold ``model.safetensors.index.json`` to the files that it names.

    Args:
        index: Its bytes.
        shards: What each file beside it holds, by file name.
        name: What to call the index in an error.

    Raises:
        MalformedError: It names a file that is not there or would leave the directory, a tensor
            that its file lacks, not all tensors of a file, or sums that do not add up.
    """
    table = read_json(index, name=name, limit=MAX_INDEX_BYTES).table()
    named: dict[str, set[str]] = {}
    for tensor, shard in table.plain("weight_map").items():
        if not isinstance(shard, str):
            _refuse(name, f"tensor {tensor!r}: expected the name of a file")
        named.setdefault(shard, set()).add(tensor)
    if not named:
        _refuse(name, "weight_map: expected a tensor, got none")
    for shard, tensors in sorted(named.items()):
        _check_shard(shard, tensors, shards, name)
    total = table.plain("metadata").get("total_size")
    actual = sum(shards[shard].total_bytes for shard in named)
    if total is not None and total != actual:
        _refuse(name, f"metadata.total_size: expected {actual}, got {total!r}")


def _check_shard(
    shard: str, tensors: set[str], shards: Mapping[str, TensorFile], name: str
) -> None:
    try:
        relative_path(shard)
    except ValueError as error:
        _refuse(name, str(error))
    if shard not in shards:
        _refuse(name, f"names {shard!r}, which is not there")
    held = {tensor.name for tensor in shards[shard].tensors}
    for tensor in sorted(tensors - held):
        _refuse(name, f"expected tensor {tensor!r} in {shard}, got none")
    for tensor in sorted(held - tensors):
        _refuse(name, f"{shard} holds tensor {tensor!r}, which the index does not place there")


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError(f"{_METADATA}: expected a mapping of texts")


def _tensor(name: str, entry: object) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r}: expected dtype, shape and data_offsets")
    dtype, offsets = entry["dtype"], _integers(name, "data_offsets", entry["data_offsets"])
    shape = _integers(name, "shape", entry["shape"])
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name!r}: dtype {str(dtype)[:20]!r} is none that we know")
    if len(offsets) != 2 or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(
            f"tensor {name!r}: expected two data_offsets, {_MAX_DIMENSIONS} dimensions"
        )
    bits = math.prod(shape) * _BITS[dtype]
    begin, end = offsets
    if bits != (end - begin) * 8:
        raise ValueError(
            f"tensor {name!r}: expected {bits // 8} bytes for {dtype} {list(shape)[:8]}, "
            f"got {end - begin}"
        )
    return Tensor(name, dtype, shape, begin, end)


def _integers(name: str, field: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
        raise ValueError(f"tensor {name!r}: {field}: expected integers from 0 on")
    return tuple(value)


def _cover(tensors: list[Tensor]) -> int:
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            raise ValueError(
                f"tensor {tensor.name!r}: expected to begin at {end}, not {tensor.begin}"
            )
        end = tensor.end
    return end


def _refuse(name: str, problem: str) -> NoReturn:
    raise MalformedError(f"{printable(name)}: {printable(problem)}")
