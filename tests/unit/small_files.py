"""The small files of a release, with no archives beside them: enough for who reads those only."""

from __future__ import annotations

from pathlib import Path

from bundler.digest import Digest
from bundler.manifest import (
    MANIFEST_NAME,
    Bundle,
    BundleFile,
    Checkpoint,
    CheckpointFile,
    Manifest,
    Model,
    Release,
)
from bundler.manifest_codec import encode_manifest
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.sums import SUMS_NAME, write_sums
from tests import own_chart

SOME = Digest.of(b"some")


def new_key() -> PrivateKey:
    return read_private_key(new_key_pair(None)[0], None, name="test key")


def small_manifest(*, expires: str | None = None) -> Manifest:
    file = CheckpointFile(path="model.safetensors", offset=1024, size=4, digest=SOME, parts=(SOME,))
    return Manifest(
        release=Release(
            name="demo",
            version="1.0.0",
            sequence=3,
            created="2026-11-01T00:00:00Z",
            expires=expires,
        ),
        bundle=Bundle(
            archive="demo-1.0.0.tar.gz",
            root="demo-1.0.0",
            size=100,
            digest=SOME,
            block_bytes=512,
            slices=(SOME,),
            files=(
                BundleFile(path="README.md", offset=1024, size=4, digest=SOME),
                own_chart.FILE,
            ),
        ),
        images=(),
        charts=(own_chart.CHART,),
        checkpoints=(
            Checkpoint(
                name="tiny_1", root="tiny", size=4096, digest=SOME, frame_digest=SOME, files=(file,)
            ),
        ),
        models=(
            Model(
                key="tiny", checkpoint="tiny_1", model_name="Tiny", model_type="completion", gpus=1
            ),
        ),
    )


def write_small_files(
    directory: Path, manifest_bytes: bytes | None = None, sums: dict[str, Digest] | None = None
) -> Path:
    """Write MANIFEST.json and a SHA256SUMS that names it and the archives; sign nothing."""
    manifest = small_manifest()
    content = encode_manifest(manifest) if manifest_bytes is None else manifest_bytes
    if sums is None:
        sums = {name: digest for name, (_, digest) in manifest.archives.items()}
        sums[MANIFEST_NAME] = Digest.of(content)
    directory.mkdir(exist_ok=True)
    (directory / MANIFEST_NAME).write_bytes(content)
    (directory / SUMS_NAME).write_bytes(write_sums(sums))
    return directory
