"""A small release that can be published: with this project's own chart, and all its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive import tar
from bundler.archive.bundle import Entry, write_bundle
from bundler.build.presets import KeyPath, preset
from bundler.digest import Digest, tree_digest
from bundler.events import ignore
from bundler.manifest import Bundle, Chart, Image, Manifest, Model, Release
from bundler.reference import ImageTag
from bundler.release import TrustedRelease, open_release
from bundler.signing.keys import new_key_pair, read_private_key
from bundler.trust import Trust
from tests.layouts import LayoutMaker, pack
from tests.pushable import sign_image
from tests.small_release import MTIME, make_checkpoint, noise, sign_anything, write_small_files

CHART = Path(__file__).parents[1] / "charts" / "inference"
_CHART_PATH = "charts/inference"
_IMAGES: dict[KeyPath, str] = {
    ("image",): "atlas",
    ("downloader", "image"): "model-downloader",
    ("docs", "image"): "public-docs",
}
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

Files = Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What goes into a release.

    Attributes:
        sequence: Its sequence; the version follows from it.
        expires: UTC seconds, or None.
        image_seed: Another number gives other images under the same tags.
        more_images: Images that our chart does not name.
        shared: What a layer that all images have holds; empty for no such layer.
        signed: Whether something like a signature of the first image is with them.
        checkpoints: Files of each checkpoint, by its name.
        models: Checkpoint of each model, by its key.
    """

    sequence: int = 1
    expires: str | None = None
    image_seed: int = 0
    more_images: Sequence[str] = ()
    shared: bytes = b""
    signed: bool = False
    checkpoints: Mapping[str, Files]
    models: Mapping[str, str]

    @property
    def version(self) -> str:
        return f"2026.11.{self.sequence}"


SMALL = Recipe(
    checkpoints={
        "point_1": {
            "config.json": b"{}\n",
            "empty.txt": b"",
            "model.safetensors": noise(5000, 1),
            "tokenizer/w\u00f6rter.txt": b"a\nb\n",
        },
        "laguna_1": {"config.json": b"{}\n", "model.safetensors": noise(3000, 2)},
    },
    models={"point": "point_1", "laguna": "laguna_1", "laguna-two": "laguna_1"},
)


def make_publishable(directory: Path, recipe: Recipe = SMALL) -> TrustedRelease:
    """Write a release, sign it with a new key, and open it."""
    scratch = directory.with_name(f"{directory.name}.scratch")
    scratch.mkdir(parents=True)
    directory.mkdir()
    release = Release(
        name="demo",
        version=recipe.version,
        sequence=recipe.sequence,
        created="2026-11-01T00:00:00Z",
        expires=recipe.expires,
    )
    images = [_image(scratch, name, recipe) for name in (*_IMAGES.values(), *recipe.more_images)]
    if recipe.signed:
        images.insert(1, sign_image(scratch / "signature", images[0][0]))
    chart = _chart(recipe.version)
    manifest = Manifest(
        release=release,
        bundle=_bundle(directory, release, images, chart),
        images=tuple(image for image, _ in images),
        charts=(
            Chart(
                name="inference",
                version=recipe.version,
                path=_CHART_PATH,
                digest=tree_digest((p, len(c), Digest.of(c)) for p, c in chart.items()),
            ),
        ),
        checkpoints=tuple(
            make_checkpoint(directory, scratch, name, "files", dict(files))
            for name, files in sorted(recipe.checkpoints.items())
        ),
        models=tuple(
            Model(
                key=key,
                checkpoint=checkpoint,
                model_name=key.title(),
                model_type="completion",
                gpus=1,
            )
            for key, checkpoint in sorted(recipe.models.items())
        ),
    )
    write_small_files(directory, manifest)
    private = read_private_key(new_key_pair(None)[0], None, name="test key")
    sign_anything(directory, private)
    return open_release(directory, Trust.of_keys([private.public]))


def _chart(version: str) -> dict[str, bytes]:
    files = {
        str(path.relative_to(CHART)): path.read_bytes()
        for path in sorted(CHART.rglob("*"))
        if path.is_file()
    }
    names: dict[KeyPath, str] = {(*path, "name"): name for path, name in _IMAGES.items()}
    tags: dict[KeyPath, str] = {(*path, "tag"): "1.0.0" for path in _IMAGES}
    files["values.yaml"] = preset(files["values.yaml"], names | tags, name="values.yaml")
    versions: dict[KeyPath, str] = {("version",): version, ("appVersion",): version}
    files["Chart.yaml"] = preset(files["Chart.yaml"], versions, name="Chart.yaml")
    return files


def _bundle(
    directory: Path,
    release: Release,
    images: Sequence[tuple[Image, Path]],
    chart: Mapping[str, bytes],
) -> Bundle:
    entries = [Entry("README.md", b"# demo\n", executable=False)]
    entries += [Entry(f"{_CHART_PATH}/{p}", c, executable=False) for p, c in chart.items()]
    entries += [Entry(image.tag.archive_path, path, executable=False) for image, path in images]
    return write_bundle(
        directory / f"{release.directory}.tar.gz",
        root=release.directory,
        entries=sorted(entries, key=lambda entry: entry.path),
        mtime=MTIME,
        emit=ignore,
    )


def _image(scratch: Path, name: str, recipe: Recipe) -> tuple[Image, Path]:
    layers = [_layer(f"{name} {recipe.image_seed}\n".encode())]
    layers += [_layer(recipe.shared)] if recipe.shared else []
    maker, archive = LayoutMaker(scratch / name), scratch / f"{name}.tar"
    diffs = {"type": "layers", "diff_ids": [str(Digest.of(layer)) for layer in layers]}
    blobs = [maker.blob(layer, _LAYER_TYPE) for layer in layers]
    top = maker.manifest(blobs, maker.config(rootfs=diffs))
    return pack(maker, ImageTag(name, "1.0.0"), top, archive, mtime=MTIME), archive


def _layer(content: bytes) -> bytes:
    layer = tar.header("hello", size=len(content), mtime=MTIME)
    return layer + content + tar.padding(len(content)) + tar.END
