"""A whole release in a few kilobytes, made by the real writers from generated inputs.

The same bytes at any time, so that ``scripts/make-test-release`` can be run again and compared.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler.archive import oci, tar
from bundler.archive.bundle import Entry, write_bundle
from bundler.archive.checkpoint import SourceFile, write_checkpoint
from bundler.digest import Digest, tree_digest
from bundler.events import ignore
from bundler.manifest import (
    MANIFEST_NAME,
    Bundle,
    Chart,
    Checkpoint,
    Image,
    Manifest,
    Model,
    Release,
)
from bundler.manifest_codec import encode_manifest
from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from bundler.reference import ImageTag
from bundler.release import signature_name
from bundler.signing.keys import PrivateKey, PublicKey, read_public_key
from bundler.sums import SUMS_NAME, write_sums

DATA = Path(__file__).parent / "data"
RELEASE = Release(
    name="tiny-inference",
    version="2026.11.0",
    sequence=1,
    created="2026-11-01T00:00:00Z",
    expires="2099-01-01T00:00:00Z",
)
MTIME = 1793491200
IMAGE = ImageTag("atlas", "1.0.0")
_CHART_PATH = "charts/inference"
_CHART = {
    "Chart.yaml": "apiVersion: v2\nname: inference\nversion: 2026.11.0\n",
    "values.yaml": "image:\n  name: atlas\n  tag: 1.0.0\n",
    "templates/service.yaml": "apiVersion: v1\nkind: Service\nmetadata:\n  name: inference\n",
}
_SCRIPT = "#!/bin/bash\n# A stand-in for the script of a real bundle.\n"
_README = "# tiny-inference\n\nA release for tests: its model is noise and its image is empty.\n"


def data_key(directory: Path) -> PublicKey:
    """Read the key that vouches for a release in ``tests/data``."""
    return read_public_key((directory / "release.pub").read_bytes(), name="release.pub")


def make_release(directory: Path) -> Manifest:
    """Write an unsigned release into a new directory."""
    directory.mkdir(parents=True)
    with TemporaryDirectory() as scratch:
        bundle, images = _make_bundle(directory, Path(scratch))
        checkpoints = (
            make_checkpoint(directory, Path(scratch), "sharded_2026.10", "sharded", _sharded()),
            make_checkpoint(directory, Path(scratch), "tiny_2026.10", "tiny", _tiny()),
        )
    manifest = Manifest(
        release=RELEASE,
        bundle=bundle,
        images=images,
        charts=(
            Chart(
                name="inference", version=RELEASE.version, path=_CHART_PATH, digest=_chart_digest()
            ),
        ),
        checkpoints=checkpoints,
        models=(
            _model("sharded", "sharded_2026.10", "Sharded", gpus=2),
            _model("tiny", "tiny_2026.10", "Tiny", gpus=1),
        ),
    )
    write_small_files(directory, manifest)
    return manifest


def write_small_files(directory: Path, manifest: Manifest) -> None:
    """Write the MANIFEST.json and the SHA256SUMS of a manifest."""
    content = encode_manifest(manifest)
    sums = {name: digest for name, (_, digest) in manifest.archives.items()}
    (directory / MANIFEST_NAME).write_bytes(content)
    (directory / SUMS_NAME).write_bytes(write_sums(sums | {MANIFEST_NAME: Digest.of(content)}))


def replace_checkpoint(manifest: Manifest, checkpoint: Checkpoint) -> Manifest:
    """Give the manifest with another checkpoint in the place of the one of that name."""
    checkpoints = tuple(
        checkpoint if item.name == checkpoint.name else item for item in manifest.checkpoints
    )
    return replace(manifest, checkpoints=checkpoints)


def sign_anything(directory: Path, key: PrivateKey) -> None:
    """Sign whatever SHA256SUMS holds, so that a test reaches what comes behind the signature."""
    signature = key.sign((directory / SUMS_NAME).read_bytes())
    (directory / signature_name(key.public.key8)).write_bytes(signature)


def sign_manifest_bytes(directory: Path, content: bytes, key: PrivateKey) -> None:
    """Put these bytes in the place of MANIFEST.json, and sign a SHA256SUMS that names them."""
    lines = (directory / SUMS_NAME).read_text().splitlines()
    sums = {line[66:]: Digest(line[:64]) for line in lines}
    (directory / MANIFEST_NAME).write_bytes(content)
    (directory / SUMS_NAME).write_bytes(write_sums(sums | {MANIFEST_NAME: Digest.of(content)}))
    sign_anything(directory, key)


def make_checkpoint(
    directory: Path, scratch: Path, name: str, root: str, files: dict[str, bytes]
) -> Checkpoint:
    """Write a checkpoint archive of these files."""
    sources = []
    for path, content in files.items():
        real = scratch / name / path
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes(content)
        sources.append(SourceFile(path, real))
    return write_checkpoint(
        directory / f"{name}.tar",
        name=name,
        root=root,
        sources=sources,
        mtime=MTIME,
        expected=None,
        emit=ignore,
    )


def noise(length: int, seed: int) -> bytes:
    """Give bytes that look like weights, the same ones at any time."""
    blocks = (Digest.of(b"%d %d" % (seed, n)).raw for n in range(-(-length // 32)))
    return b"".join(blocks)[:length]


@dataclass(frozen=True)
class _Tensor:
    name: str
    values: int


def safetensors(tensors: Iterable[_Tensor], seed: int) -> bytes:
    """Give a safetensors file of F32 tensors with noise in them."""
    table: dict[str, object] = {}
    end = 0
    for tensor in tensors:
        begin, end = end, end + 4 * tensor.values
        offsets = [begin, end]
        table[tensor.name] = {"dtype": "F32", "shape": [tensor.values], "data_offsets": offsets}
    head = json.dumps(table, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + noise(end, seed)


def _tiny() -> dict[str, bytes]:
    return {
        "config.json": b'{"model_type": "bert"}\n',
        "model.safetensors": safetensors([_Tensor("embed", 600), _Tensor("head", 40)], 1),
        "tokenizer/added_tokens.txt": b"",
        "tokenizer/vocab.txt": b"[PAD]\n[UNK]\n",
        "tokenizer/w\u00f6rter.txt": "gr\u00fc\u00df\n".encode(),
    }


def _sharded() -> dict[str, bytes]:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"metadata": {}, "weight_map": {"first": shards[0], "second": shards[1]}}
    return {
        "config.json": b'{"model_type": "llama"}\n',
        shards[0]: safetensors([_Tensor("first", 300)], 2),
        shards[1]: safetensors([_Tensor("second", 300)], 3),
        "model.safetensors.index.json": json.dumps(index, sort_keys=True).encode() + b"\n",
    }


def _make_bundle(directory: Path, scratch: Path) -> tuple[Bundle, tuple[Image, ...]]:
    image, archive = _make_image(scratch)
    chart = {f"{_CHART_PATH}/{path}": text for path, text in _CHART.items()}
    texts = chart | {"README.md": _README, "models/tiny.json": '{"gpus": 1}\n'}
    entries = [Entry(path, text.encode(), executable=False) for path, text in texts.items()]
    entries.append(Entry("scripts/upload_images.sh", _SCRIPT.encode(), executable=True))
    entries.append(Entry(IMAGE.archive_path, archive, executable=False))
    bundle = write_bundle(
        directory / f"{RELEASE.directory}.tar.gz",
        root=RELEASE.directory,
        entries=sorted(entries, key=lambda entry: entry.path),
        mtime=MTIME,
        emit=ignore,
    )
    return bundle, (image,)


def _make_image(scratch: Path) -> tuple[Image, Path]:
    layer = tar.header("hello", size=6, mtime=MTIME) + b"hello\n" + tar.padding(6) + tar.END
    layout_dir = scratch / "layout"
    (layout_dir / "blobs/sha256").mkdir(parents=True)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _blob(layout_dir, json.dumps(config).encode(), OCI_CONFIG),
        "layers": [_blob(layout_dir, layer, "application/vnd.oci.image.layer.v1.tar")],
    }
    top = _blob(layout_dir, json.dumps(manifest).encode(), OCI_MANIFEST)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [top]}
    (layout_dir / "index.json").write_text(json.dumps(index))
    (layout_dir / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    layout = oci.read_layout(layout_dir)
    archive = scratch / "image.tar"
    oci.write_oci_archive(layout_dir, layout, IMAGE, archive, mtime=MTIME)
    return (
        Image(
            tag=IMAGE,
            digest=layout.digest,
            source="docker://registry.example.com/atlas:1.0.0",
            source_digest=layout.digest,
            platforms=layout.platforms,
            blobs=layout.blobs,
        ),
        archive,
    )


def _blob(layout_dir: Path, content: bytes, media_type: str) -> dict[str, object]:
    digest = Digest.of(content)
    (layout_dir / "blobs/sha256" / digest.hex).write_bytes(content)
    return {"mediaType": media_type, "digest": str(digest), "size": len(content)}


def _chart_digest() -> Digest:
    return tree_digest(
        (path, len(text.encode()), Digest.of(text.encode())) for path, text in _CHART.items()
    )


def _model(key: str, checkpoint: str, name: str, *, gpus: int) -> Model:
    return Model(
        key=key, checkpoint=checkpoint, model_name=name, model_type="completion", gpus=gpus
    )
