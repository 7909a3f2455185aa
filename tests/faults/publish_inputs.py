"""A small signed release for publishing: images that share a layer, a file of three parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler import parts
from bundler.archive.bundle import Entry
from bundler.digest import Digest, tree_digest
from bundler.manifest import Chart, Checkpoint, Manifest, Model, Release
from bundler.signing.keys import new_key_pair, read_private_key
from tests.pushable import ROOT, make_pushable
from tests.small_release import RELEASE, make_checkpoint, noise, sign_anything, write_small_files

_SHARED = noise(300_000, 1)
_IMAGES = {"one:1.0": [_SHARED, noise(200_000, 2), noise(500, 3)], "two:1.0": [_SHARED]}


def make_publishable(place: Path) -> None:
    """Write ``release`` with a signed release, and ``key.pub``."""
    directory = place / "release"
    chart = Entry("charts/inference/Chart.yaml", b"name: inference\nversion: 1.0.0\n")
    pushable = make_pushable(directory, _IMAGES, signed="one:1.0", more=[chart])
    name, _, version = ROOT.rpartition("-")
    with TemporaryDirectory() as scratch:
        checkpoints = tuple(
            make_checkpoint(directory, Path(scratch), name, "files", dict(files))
            for name, files in sorted(_checkpoints().items())
        )
    manifest = Manifest(
        release=Release(
            name=name, version=version, sequence=1, created=RELEASE.created, expires=None
        ),
        bundle=pushable.bundle,
        images=pushable.images,
        charts=(_chart(chart),),
        checkpoints=checkpoints,
        models=tuple(map(_model, checkpoints)),
    )
    write_small_files(directory, manifest)
    private, public = new_key_pair(None)
    sign_anything(directory, read_private_key(private, None, name="key"))
    (place / "key.pub").write_bytes(public)


def _chart(entry: Entry) -> Chart:
    directory, _, name = entry.path.rpartition("/")
    assert isinstance(entry.content, bytes)
    digest = tree_digest([(name, len(entry.content), Digest.of(entry.content))])
    return Chart(name="inference", version="1.0.0", path=directory, digest=digest)


def _model(checkpoint: Checkpoint) -> Model:
    key = checkpoint.name.partition("_")[0]
    return Model(
        key=key, checkpoint=checkpoint.name, model_name=key, model_type="completion", gpus=1
    )


def _checkpoints() -> Mapping[str, Mapping[str, bytes]]:
    large = b"".join(bytes([n]) * parts.SMALLEST_PART for n in (1, 2)) + b"tail"
    return {
        "large_1": {"config.json": b"{}\n", "empty.txt": b"", "model.safetensors": large},
        "small_1": {"config.json": b"{}\n", "model.safetensors": noise(3000, 4)},
    }
