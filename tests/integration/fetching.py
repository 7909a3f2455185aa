"""A small checkpoint in a bucket, and ways to look at what fetch made of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bundler.digest import Digest
from bundler.errors import BundleError, WorldError
from bundler.manifest import Bundle, Checkpoint, CheckpointFile, Manifest, Release
from bundler.manifest_codec import encode_manifest
from bundler.parts import SMALLEST_PART, part_size, spans
from bundler.reference import S3Prefix
from bundler.stores.base import ObjectStore
from bundler.stores.opening import open_bucket
from tests import own_chart
from tests.integration.s3_proxy import Answer, Call, Pass
from tests.rehearsal.s3 import S3

WEIGHTS = "model-00001-of-00002.safetensors"
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    WEIGHTS: b"\x01" * SMALLEST_PART + b"tail of the weights",
    "tokenizer/merges.txt": b"",
    "tokenizer/tokenizer.json": b"{}",
}


def checkpoint_of(files: Mapping[str, bytes]) -> Checkpoint:
    """Describe files as the manifest does."""
    described, offset = [], 512
    for path, content in sorted(files.items()):
        cut = spans(len(content), part_size(len(content)))
        parts = tuple(Digest.of(content[s.offset : s.offset + s.length]) for s in cut)
        described.append(
            CheckpointFile(
                path=path,
                offset=offset,
                size=len(content),
                digest=Digest.of(content),
                parts=parts,
            )
        )
        offset += len(content)
    return Checkpoint(
        name="tiny",
        root="tiny",
        size=offset,
        digest=Digest.of(b"archive"),
        frame_digest=Digest.of(b"frame"),
        files=tuple(described),
    )


CHECKPOINT = checkpoint_of(FILES)

# Three parts, each of other bytes, and a file beside them.
LARGE_FILES = {
    "config.json": b"{}",
    WEIGHTS: b"".join(bytes([n]) * SMALLEST_PART for n in (1, 2, 3)) + b"the end",
}
LARGE = checkpoint_of(LARGE_FILES)
LARGE_BYTES = sum(map(len, LARGE_FILES.values()))


def manifest_of(checkpoint: Checkpoint) -> Manifest:
    """Make the manifest of a release with one checkpoint."""
    return Manifest(
        release=Release(name="demo", version="1", sequence=1, created="2026-11-01T00:00:00Z"),
        bundle=Bundle(
            archive="demo-1.tar.gz",
            root="demo-1",
            size=1,
            digest=Digest.of(b""),
            block_bytes=65_024,
            slices=(Digest.of(b""),),
            files=(own_chart.FILE,),
        ),
        images=(),
        charts=(own_chart.CHART,),
        checkpoints=(checkpoint,),
        models=(),
    )


@dataclass(frozen=True)
class Published:
    """A large checkpoint in a bucket of a real server.

    Attributes:
        s3: The server.
        source: The prefix that holds it.
        manifest: The address of the manifest.
        digest: The manifest's sha256.
    """

    s3: S3
    source: S3Prefix
    manifest: S3Prefix
    digest: Digest

    def store(self, url: str) -> ObjectStore:
        """Open the bucket by way of a proxy."""
        return open_bucket(self.source.bucket, endpoint=url, region=self.s3.region)

    def start(self, url: str, destination: Path, *more: str) -> subprocess.Popen[str]:
        """Run the command as a pod does, by way of a proxy."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "bundler", "fetch", str(self.source), str(destination)),
                *("--manifest", str(self.manifest), "--manifest-sha256", self.digest.hex),
                *("--checkpoint", LARGE.name, "--json", *more),
            ],
            env={**os.environ, "AWS_ENDPOINT_URL_S3": url, "AWS_REGION": self.s3.region},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def publish_large(s3: S3, bucket: str) -> Published:
    """Store the large checkpoint and a manifest that names it; logged in before."""
    source = S3Prefix(bucket, "checkpoints/tiny/0123456789abcdef")
    manifest = S3Prefix(bucket, "releases/demo-1/MANIFEST.json")
    store = open_bucket(bucket, endpoint=s3.url, region=s3.region)
    upload(store, source, LARGE_FILES, LARGE)
    content = encode_manifest(manifest_of(LARGE))
    store.put(manifest.prefix, content)
    return Published(s3, source, manifest, Digest.of(content))


def weight_bytes_asked(calls: Sequence[Call]) -> int:
    """Sum up the ranges of the weights that were asked for."""
    ranges = [
        re.fullmatch(r"bytes=(\d+)-(\d+)", call.headers["Range"])
        for call in calls
        if call.operation == "GetObject" and call.path.endswith(WEIGHTS)
    ]
    return sum(int(found[2]) - int(found[1]) + 1 for found in ranges if found)


def part_asked(call: Call) -> int | None:
    """Say which part of the weights a call asks for, from 1; None where it is for another thing."""
    if call.operation != "GetObject" or not call.path.endswith(WEIGHTS):
        return None
    found = re.match(r"bytes=(\d+)-", call.headers["Range"])
    return None if found is None else int(found[1]) // SMALLEST_PART + 1


class Stuck:
    """A fault: the first part of the weights comes, the others do not until they are let go."""

    def __init__(self) -> None:
        self._free = threading.Event()

    def __call__(self, call: Call, ask: Pass) -> Answer | None:
        part = part_asked(call)
        if part is None or part == 1 or self._free.wait(60):
            return ask()
        return None

    def let_go(self) -> None:
        """Answer whoever waits, and everybody from now on."""
        self._free.set()


def wait_for(what: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def first_part_is_in(partial: Path) -> bool:
    """Say whether all of the first part of the weights was written."""
    if not partial.exists():
        return False
    with partial.open("rb") as file:
        return file.read(SMALLEST_PART) == LARGE_FILES[WEIGHTS][:SMALLEST_PART]


class Recording:
    """A store that counts the bytes read through it, and can fail after some."""

    def __init__(self, store: ObjectStore, *, fail_after: int | None = None) -> None:
        self._store = store
        self._fail_after = fail_after
        self.read_bytes = 0

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        for chunk in self._store.read(key, offset, length):
            if self._fail_after is not None and self.read_bytes >= self._fail_after:
                raise WorldError(f"s3://models/{key}: the connection broke")
            self.read_bytes += len(chunk)
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def log_in(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment that the pod has."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials.secret_key)


def upload(
    store: ObjectStore,
    source: S3Prefix,
    files: Mapping[str, bytes] = FILES,
    checkpoint: Checkpoint = CHECKPOINT,
) -> None:
    """Store a checkpoint as publish does."""
    for file in checkpoint.files:
        content = files[file.path]

        incoming = store.begin(source.key(file.path), size=file.size, parts=file.parts)
        for span in incoming.missing:
            part = content[span.offset : span.offset + span.length]
            incoming.send(span, partial(iter, (part,)), lambda step: None)
        incoming.complete()


def held(destination: Path) -> dict[str, bytes]:
    """Read every file that is there."""
    files = (path for path in destination.rglob("*") if path.is_file())
    return {str(path.relative_to(destination)): path.read_bytes() for path in files}


def refused(error: BundleError) -> str:
    """Give all that a person would see in the pod's log."""
    text = f"{error} ({error.hint})"
    assert "\n" not in text
    return text
