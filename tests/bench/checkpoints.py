"""Checkpoints to measure with: files that nothing can compress, and the archive of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.checkpoint import SourceFile, write_checkpoint
from bundler.digest import Digest
from bundler.manifest import MANIFEST_NAME, Bundle, Checkpoint, Manifest, Release
from bundler.manifest_codec import decode_manifest, encode_manifest
from tests import own_chart

MEGA = 1_000_000
NAME = "bench"
ARCHIVE = f"{NAME}.tar"
MTIME = 1793491200
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checkpoint as files and as an archive.

    Attributes:
        source: Directory of its files.
        release: Directory with MANIFEST.json and the archive.
        size: Bytes of all files.
        count: How many files it has.
    """

    source: Path
    release: Path
    size: int
    count: int

    @property
    def files(self) -> list[Path]:
        """Give its files."""
        return sorted(path for path in self.source.rglob("*") if path.is_file())

    @property
    def archive(self) -> Path:
        """Give its archive."""
        return self.release / ARCHIVE


def shards(count: int, size: int) -> dict[str, int]:
    """Name files as model hubs do, with their sizes in bytes, and a small one beside them."""
    names = (f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1))
    return {"config.json": 700} | dict.fromkeys(names, max(1, size))


def write_files(directory: Path, sizes: Mapping[str, int]) -> None:
    """Write files of noise into a new directory, older than whatever is made of them."""
    directory.mkdir(parents=True)
    for name, size in sizes.items():
        path = directory / name
        with path.open("wb") as file:
            for begin in range(0, size, _PIECE):
                file.write(os.urandom(min(_PIECE, size - begin)))
        os.utime(path, (MTIME, MTIME))


def prepare(directory: Path, sizes: Mapping[str, int], *, archive: bool = True) -> Prepared:
    """Write a checkpoint of these files into a new directory, and its archive if need be."""
    source, release = directory / NAME, directory / "release"
    write_files(source, sizes)
    release.mkdir()
    if archive:
        build(source, release)
    return Prepared(source, release, sum(sizes.values()), len(sizes))


def build(source: Path, release: Path) -> Manifest:
    """Write the archive of a directory's files, and a manifest that nobody signed, and flush it."""
    checkpoint = write_checkpoint(
        release / ARCHIVE,
        name=NAME,
        root=NAME,
        sources=[SourceFile(path.name, path) for path in sorted(source.iterdir())],
        mtime=MTIME,
    )
    manifest = manifest_of(checkpoint)
    (release / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return manifest


def read(release: Path) -> Manifest:
    """Read the manifest that ``build`` wrote."""
    return decode_manifest((release / MANIFEST_NAME).read_bytes())


def manifest_of(checkpoint: Checkpoint) -> Manifest:
    """Make the manifest of a release with one checkpoint, and a bundle that is nowhere."""
    bundle = Bundle(
        archive="bench-1.tar.gz",
        root="bench-1",
        size=1,
        digest=Digest.of(b""),
        block_bytes=65_024,
        slices=(Digest.of(b""),),
        files=(own_chart.FILE,),
    )
    return Manifest(
        release=Release(name="bench", version="1", sequence=1, created="2026-11-01T00:00:00Z"),
        bundle=bundle,
        images=(),
        charts=(own_chart.CHART,),
        checkpoints=(checkpoint,),
        models=(),
    )
