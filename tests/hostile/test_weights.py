"""Groups 58 to 61: what a checkpoint's directory may hold."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.limited import Case, Place, require_clean, require_refused
from tests.hostile.sources import MODEL, Change, lock_of, spoiled
from tests.integration.release_inputs import safetensors

WEIGHTS = "model.safetensors"
DEEP = b'{"a":' * 100_000


def packed(header: bytes | object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Give a safetensors file of any header; ``length`` is what it says in the place of its own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: object = "U8", shape: object = (4,), offsets: object = (0, 4)) -> object:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def one(**changes: object) -> bytes:
    """Give a file of one tensor that is described otherwise."""
    return packed({"a": tensor(**changes)}, b"1234")


def file(content: bytes, name: str = WEIGHTS) -> Change:
    """Put a file into the checkpoint."""

    def change(directory: Path) -> None:
        path = directory / MODEL / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    return change


def index(edit: Callable[[dict[str, object]], object]) -> Change:
    """Change the index of the checkpoint that has several shards."""

    def change(directory: Path) -> None:
        path = directory / "models/three/model.safetensors.index.json"
        table = json.loads(path.read_bytes())
        edit(table)
        path.write_text(json.dumps(table))

    return change


def placed(tensor: str, shard: object) -> Change:
    def edit(table: dict[str, object]) -> None:
        weights = table["weight_map"]
        assert isinstance(weights, dict)
        weights[tensor] = shard

    return index(edit)


class Runs:
    """Unpickled, it would leave a file where a sentinel stands."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("evil", "w")


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return out.getvalue()


PICKLE = pickle.dumps(Runs())
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63)
# Group, what it is, what becomes of good sources, what is said of it.
WEIGHT_FILES: list[tuple[int, str, Change, str]] = [
    (58, "seven bytes", file(b"1234567"), "expected 8 bytes or more"),
    (58, "length of 8 EiB", file(packed(b"{}", length=1 << 63)), "expected a header of 2 to"),
    (58, "length over the limit", file(packed(b"{}", length=100_000_001)), "a header of 2 to"),
    (58, "length over the file", file(packed(b"{}", length=3)), "a header of 2 to"),
    (
        58,
        "header of 90 MB",
        file(packed(b'{"a":"' + b"x" * 90_000_000 + b'"}')),
        "expected dtype|mem",
    ),
    (58, "list", file(packed(b"[]")), "starts with '{'"),
    (58, "no text", file(packed(b'{"\xff": 1}')), "not JSON"),
    (58, "hole", file(one(offsets=(1, 5))), "expected to begin at 0"),
    (
        58,
        "overlap",
        file(packed({"a": tensor(), "b": tensor(offsets=(2, 6))}, b"123456")),
        "expected to begin at 4",
    ),
    (58, "data behind", file(packed({"a": tensor()}, b"12345")), "expected 4 bytes of tensors"),
    (58, "cut short", file(packed({"a": tensor()}, b"123")), "expected 4 bytes of tensors, got 3"),
    (58, "other shape", file(one(shape=(5,))), "expected 5 bytes for U8"),
    (58, "shape without end", file(one(shape=[2**53 - 1] * 64)), "expected [0-9]+ bytes for U8"),
    (58, "negative shape", file(one(shape=(-4,))), "integers from 0 on"),
    (58, "shape with a point", file(one(shape=(4.0,))), "not an integer"),
    (58, "unknown type", file(one(dtype="PYTHON")), "is none that we know"),
    (58, "end before its begin", file(one(offsets=(4, 0))), "got -4"),
    (58, "metadata of numbers", file(packed({"__metadata__": {"a": 1}})), "mapping of texts"),
    (58, "nested metadata", file(packed({"__metadata__": {"a": {}}})), "mapping of texts"),
    (58, "depth", file(packed(DEEP)), "nested too deep"),
    (58, "NaN", file(packed(b'{"a": NaN}')), "not an integer: NaN"),
    (59, "duplicate tensor", file(packed(b'{"a": {}, "a": {}}')), "stands there twice"),
    (59, "space in front", file(packed(b' {"a": {}}')), "starts with '{'"),
    (60, "shard outside", placed("layer.0", "../../evil"), "climbs"),
    (60, "shard that is absolute", placed("layer.0", "/etc/passwd"), "absolute"),
    (60, "shard that is not there", placed("layer.0", "x.safetensors"), "which is not there"),
    (
        60,
        "tensor in another shard",
        placed("layer.0", "model-00002-of-00003.safetensors"),
        "expected tensor 'layer.0'",
    ),
    (60, "shard that is no name", placed("layer.0", {"a": 1}), "the name of a file"),
    (61, "pickle named as weights", file(PICKLE), "a header of 2 to|8 bytes or more"),
    (61, "pickle named as JSON", file(PICKLE, "tokenizer/extra.json"), "expected no pickle"),
    (61, "pickle", file(PICKLE, "pytorch_model.bin"), "expected no pickle"),
    (61, "zip with a pickle", file(zipped(PICKLE), "model.pt"), "expected no pickle"),
    (61, "zip named as text", file(zipped(PICKLE), "notes.txt"), "expected no zip"),
    (61, "7z", file(b"7z\xbc\xaf\x27\x1c" + PICKLE, "weights.txt"), "expected no archive"),
    (61, "npz", file(zipped(b"\x93NUMPY"), "arrays.npz"), "expected no pickle"),
    (61, "numpy named as text", file(b"\x93NUMPY\x01\x00", "arrays.txt"), "expected no pickle"),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "says"),
    WEIGHT_FILES,
    ids=[f"{group}-{what}" for group, what, *_ in WEIGHT_FILES],
)
def test_a_hostile_file_of_a_checkpoint_is_refused(
    place: Place, group: int, what: str, change: Change, says: str
) -> None:
    require_refused(Case(group, what, spoiled(change, "lock"), 3, says), place)


def tolerated(directory: Path) -> None:
    """Write what the format lets pass, and a file of a kind that no server of ours loads."""
    names = {"../../evil": b"12", "a\0b\x1b[2J": b"", "empty": b"", "scalar": b"x"}
    content = safetensors(names)
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length] + b" " * 8
    (directory / MODEL / WEIGHTS).write_bytes(packed(header, content[8 + length :]))
    (directory / MODEL / "model.gguf").write_bytes(GGUF)


def test_59_and_61_what_is_odd_and_does_no_harm_is_taken_and_the_unknown_is_told(
    place: Place,
) -> None:
    """Names of tensors never become paths; of GGUF, which we do not read, people are told."""
    argv = spoiled(tolerated, "lock")(place)
    before = place.snapshot()
    done = place.run(*argv)
    assert done.status == 0, done.stderr
    assert "files that a model server may not know: model.gguf" in done.stderr
    require_clean(done, place, {**before, **lock_of(place)})
