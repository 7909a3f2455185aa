"""Small, real inputs of a release: image layouts, checkpoints, chart, spec."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from bundler.digest import Digest
from bundler.spec import Spec, read_spec
from bundler.yamltext import read_yaml

ROOT = Path(__file__).parents[2]
IMAGES = ("atlas", "model-downloader", "public-docs")
_OCI = "application/vnd.oci.image"


class _Layout:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs" / "sha256").mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def add(self, content: bytes, media_type: str) -> dict[str, object]:
        digest = Digest.of(content)
        (self.directory / "blobs" / "sha256" / digest.hex).write_bytes(content)
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    def image(self, text: str, architecture: str, *, compressed: bool) -> dict[str, object]:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            member = tarfile.TarInfo("hello")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        layer = gzip.compress(plain.getvalue(), mtime=0) if compressed else plain.getvalue()
        config = {
            "os": "linux",
            "architecture": architecture,
            "config": {"User": "10003"},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(plain.getvalue()).hexdigest()}"],
            },
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": self.add(json.dumps(config).encode(), f"{_OCI}.config.v1+json"),
            "layers": [self.add(layer, f"{_OCI}.layer.v1.tar{'+gzip' if compressed else ''}")],
        }
        return self.add(json.dumps(manifest).encode(), f"{_OCI}.manifest.v1+json")

    def finish(self, descriptor: dict[str, object], tag: str) -> Digest:
        named = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
        index = {"schemaVersion": 2, "manifests": [named]}
        (self.directory / "index.json").write_text(json.dumps(index))
        return Digest.parse(str(descriptor["digest"]))


def write_layout(directory: Path, *, text: str, tag: str = "1.0.0") -> Digest:
    """Write an OCI layout with one image, and give the digest of its manifest.

    Its layer is not compressed: programs like to do that on the way, which changes digests.
    """
    layout = _Layout(directory)
    return layout.finish(layout.image(text, "amd64", compressed=False), tag)


def write_index_layout(directory: Path, *, text: str, tag: str = "1.0.0") -> Digest:
    """Write an OCI layout with one image for two platforms, and give the digest of its index."""
    layout = _Layout(directory)
    manifests = [
        {
            **layout.image(text + kind, kind, compressed=True),
            "platform": {"os": "linux", "architecture": kind},
        }
        for kind in ("amd64", "arm64")
    ]
    media_type = f"{_OCI}.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
    return layout.finish(layout.add(json.dumps(index).encode(), media_type), tag)


def safetensors(tensors: Mapping[str, bytes]) -> bytes:
    """Give a safetensors file of one-dimensional byte tensors."""
    header, at = {}, 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(tensors.values())


def write_model(directory: Path, *, shards: int = 1, size: int = 5000) -> Path:
    """Write a checkpoint with configuration and a tokenizer directory."""
    (directory / "tokenizer").mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "test"}')
    (directory / "tokenizer" / "tokenizer.json").write_text('{"version": "1.0"}')
    tensors = {f"layer.{n}": bytes([n % 251]) * (size // shards) for n in range(shards)}
    if shards == 1:
        (directory / "model.safetensors").write_bytes(safetensors(tensors))
        return directory
    weight_map = {}
    for number, (name, data) in enumerate(tensors.items(), 1):
        shard = f"model-{number:05}-of-{shards:05}.safetensors"
        (directory / shard).write_bytes(safetensors({name: data}))
        weight_map[name] = shard
    index = {
        "metadata": {"total_size": sum(map(len, tensors.values()))},
        "weight_map": weight_map,
    }
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def write_inputs(directory: Path) -> Path:
    """Write all inputs of a small release, and give the path of its spec."""
    shutil.copytree(ROOT / "charts" / "inference", directory / "chart")
    for name in IMAGES:
        write_layout(directory / "images" / name, text=f"this is {name}")
    write_model(directory / "models" / "one")
    write_model(directory / "models" / "three", shards=3)
    (directory / "hello.sh").write_text("#!/bin/sh\necho hello\n")
    spec = {
        "formatVersion": 1,
        "release": {
            "name": "test-release",
            "version": "2026.11.0",
            "sequence": 3,
            "created": "2026-11-01T00:00:00Z",
        },
        "images": [{"name": name, "source": f"oci:images/{name}:1.0.0"} for name in IMAGES],
        "chart": {"path": "chart"},
        "scripts": ["hello.sh"],
        "checkpoints": [
            {"name": "one_1", "root": "one", "source": "models/one"},
            {"name": "three_1", "source": "models/three"},
        ],
        "models": {
            "one": {"checkpoint": "one_1", "modelName": "One", "modelType": "agent", "gpus": 1},
            "three": {
                "checkpoint": "three_1",
                "modelName": "Three",
                "modelType": "completion",
                "gpus": 2,
            },
        },
    }
    path = directory / "release.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def load_spec(path: Path) -> Spec:
    return read_spec(read_yaml(path.read_bytes(), name=path.name))


def edit_spec(path: Path, old: str, new: str) -> Spec:
    """Change one place of a spec."""
    text = path.read_text()
    assert text.count(old) == 1, text
    path.write_text(text.replace(old, new))
    return load_spec(path)
