"""Loading of a checkpoint: every byte of every tensor of every safetensors file is read."""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.safetensors import CheckpointError, Tensor, read_tensors

__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint"]

_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What loading found out.

    Attributes:
        digest: 32 bytes that depend on name, dtype, shape and content of every tensor, and on
            nothing else: not on how the tensors are spread over files.
        tensors: How many tensors there are.
        size: Bytes of their data.
        max_positions: Longest context by ``config.json``, in tokens; None where it does not say.
    """

    digest: bytes
    tensors: int
    size: int
    max_positions: int | None


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read the weights in a directory, as a model server would find them.

    Raises:
        CheckpointError: There are none, one is malformed, or the index names what is not there.
    """
    started = time.monotonic()
    names = sorted(path.name for path in directory.glob("*.safetensors"))
    if not names:
        raise CheckpointError(f"{directory}: no *.safetensors file")
    found: dict[str, tuple[str, bytes]] = {}
    size = 0
    for name in names:
        loaded = _load_file(directory / name)
        size += sum(tensor.end - tensor.start for tensor, _ in loaded)
        for tensor, digest in loaded:
            if tensor.name in found:
                raise CheckpointError(
                    f"{name}: tensor {tensor.name!r} is in {found[tensor.name][0]} too"
                )
            found[tensor.name] = (name, digest)
    _check_index(directory, {tensor: file for tensor, (file, _) in found.items()})
    seconds = time.monotonic() - started
    _logger.info(
        "%d tensors, %d bytes, %d files read in %.1f s", len(found), size, len(names), seconds
    )
    digest = hashlib.sha256(b"".join(found[name][1] for name in sorted(found))).digest()
    return Checkpoint(
        digest=digest, tensors=len(found), size=size, max_positions=_max_positions(directory)
    )


def _load_file(path: Path) -> list[tuple[Tensor, bytes]]:
    with _mapped(path) as content, ThreadPoolExecutor(os.cpu_count()) as pool:
        tensors = read_tensors(path.name, content)
        digests = pool.map(lambda tensor: _tensor_digest(tensor, content), tensors)
        return list(zip(tensors, digests, strict=True))


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise CheckpointError(f"{path.name}: an empty file")
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with mapping, memoryview(mapping) as content:
            yield content


def _tensor_digest(tensor: Tensor, content: memoryview) -> bytes:
    head = json.dumps([tensor.name, tensor.dtype, tensor.shape]).encode()
    digest = hashlib.sha256(len(head).to_bytes(8, "little") + head)
    with content[tensor.start : tensor.end] as data:
        digest.update(data)
    return digest.digest()


def _check_index(directory: Path, files: dict[str, str]) -> None:
    """Hold the index, if there is one, against the files in which the tensors were found."""
    index = _read_json(directory / _INDEX)
    if index is None:
        return
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{_INDEX}: no weight_map")
    for tensor, file in weight_map.items():
        if files.get(tensor) != file:
            raise CheckpointError(
                f"{_INDEX}: tensor {tensor!r} should be in {file}, "
                f"it is in {files.get(tensor, 'no file')}"
            )
    if extra := sorted(files.keys() - weight_map.keys()):
        raise CheckpointError(f"{_INDEX}: does not name tensor {extra[0]!r} of {files[extra[0]]}")


def _max_positions(directory: Path) -> int | None:
    config = _read_json(directory / _CONFIG) or {}
    positions = config.get("max_position_embeddings")
    return positions if type(positions) is int and positions > 0 else None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path.name}: not a JSON object")
    return document
