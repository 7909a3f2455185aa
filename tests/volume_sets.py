"""Releases that were cut into volumes, for tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler.manifest import MANIFEST_NAME
from bundler.sign import sign_release
from bundler.signing.keys import PrivateKey, new_key_pair, read_private_key
from bundler.split import split_release
from bundler.sums import SUMS_NAME
from bundler.trust import Trust
from tests.small_release import (
    RELEASE,
    make_checkpoint,
    make_release,
    noise,
    replace_checkpoint,
    write_small_files,
)

KEY: PrivateKey = read_private_key(new_key_pair(None)[0], None, name="test key")
KEYS = Trust.of_keys([KEY.public])
NOW = "2026-11-02T00:00:00Z"
BUNDLE = f"{RELEASE.directory}.tar.gz"
TINY, SHARDED = "tiny_2026.10.tar", "sharded_2026.10.tar"
# Plain volumes cut every archive; compressed ones hold the largest file, did it not get smaller.
VOLUME_BYTES, COMPRESSED_BYTES = 8192, 51_000
FILES = {
    "config.json": b"{}",
    "empty": b"",
    "one.bin": noise(30_000, 1),
    "three/x.bin": noise(30_000, 3),
    "two/x.bin": bytes(50_000),
    "two/y.bin": noise(30_000, 2),
    "vocab.txt": b"a b c\n" * 20,
}


def make_signed(directory: Path) -> Path:
    """Write a small release whose checkpoint is larger than the volumes, signed."""
    manifest = make_release(directory)
    with TemporaryDirectory() as scratch:
        checkpoint = make_checkpoint(
            directory, Path(scratch), TINY.removesuffix(".tar"), "t", FILES
        )
    write_small_files(directory, replace_checkpoint(manifest, checkpoint))
    sign_release(directory, KEY)
    return directory


def small_files(release: Path, into: Path) -> Path:
    """Copy what vouches for a release, and nothing else."""
    into.mkdir(parents=True, exist_ok=True)
    for path in [*release.glob(f"{SUMS_NAME}*"), release / MANIFEST_NAME]:
        shutil.copy(path, into)
    return into


def cut(release: Path, out: Path, *, compress: bool = False) -> Path:
    """Cut a release into volumes in another directory."""
    out.mkdir(parents=True, exist_ok=True)
    limit = COMPRESSED_BYTES if compress else VOLUME_BYTES
    split_release(release, volume_bytes=limit, out=out, compress=compress)
    return out


def volumes_of(directory: Path, archive: str) -> list[Path]:
    """Give the volumes of an archive in the order of a shell's glob."""
    return sorted(directory.glob(f"{archive}.*-of-*"))
