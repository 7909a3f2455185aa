"""Images to measure with: layers that nothing can compress, in each form that a tool starts from.

A layer is what it says: gzip (of stored blocks) of a tar of one file. Tools that read layers, or
would compress plain ones on the way, find nothing to complain of and nothing to gain.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive import tar
from bundler.archive.bundle import Entry, write_bundle
from bundler.manifest import MANIFEST_NAME, Image, Manifest, Release
from bundler.manifest_codec import encode_manifest
from bundler.reference import ImageTag
from tests import own_chart
from tests.layouts import LayoutMaker, pack

MEGA = 1_000_000
_TAG = "1.0.0"
_MTIME = 1793491200
_PIECE = 1 << 20
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_RELEASE = Release(name="bench", version="1.0.0", sequence=1, created="2026-11-01T00:00:00Z")


@dataclass(frozen=True, slots=True)
class Workload:
    """Images by their names; each has layers, and a layer is its size: equal ones are one layer.

    Attributes:
        title: For the report.
        images: Bytes of each layer, and a number that tells layers of one size apart.
    """

    title: str
    images: Mapping[str, Sequence[tuple[int, int]]]

    def scaled(self, factor: float) -> Workload:
        """Give the same with smaller layers, which stay different from one another."""
        return Workload(
            self.title,
            {
                name: [(max(1, int(size * factor)), seed) for size, seed in layers]
                for name, layers in self.images.items()
            },
        )


_SHARED = [(300 * MEGA, 1), (200 * MEGA, 2), (100 * MEGA, 3)]
WORKLOADS = {
    "six": Workload(
        "one image, six layers, 1.2 GB",
        {"six": [(size * MEGA, size) for size in (300, 250, 200, 200 + 1, 149, 100)]},
    ),
    "shared": Workload(
        "three images, 0.6 GB of layers shared, 0.9 GB in all",
        {f"shared-{n}": [*_SHARED, (100 * MEGA, 10 + n)] for n in range(3)},
    ),
    "small": Workload(
        "one image, 200 layers of 50 kB", {"small": [(50_000, n) for n in range(200)]}
    ),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The same images in the forms that tools start from.

    Attributes:
        release: Directory with MANIFEST.json and the deployment bundle's ``.tar.gz``.
        tags: Of the images, in order.
        digests: What each tag is to name.
        archives: OCI archive of each image.
        layouts: Unpacked OCI image layout of each.
        sync: Directory tree for ``skopeo sync --src dir``.
        nominal_bytes: Of all layers of all images.
        distinct_bytes: The same, with layers that images share counted once.
    """

    release: Path
    tags: tuple[ImageTag, ...]
    digests: tuple[str, ...]
    archives: tuple[Path, ...]
    layouts: tuple[Path, ...]
    sync: Path
    nominal_bytes: int
    distinct_bytes: int

    @property
    def bundle(self) -> Path:
        """The deployment bundle."""
        return self.release / f"{_RELEASE.directory}.tar.gz"


def prepare(directory: Path, workload: Workload, *, skopeo: str | None = None) -> Prepared:
    """Write a workload's images into a new directory.

    Args:
        directory: Where; it gets up to four times the images' size.
        workload: What.
        skopeo: Makes what ``skopeo sync`` starts from; without it, ``sync`` stays empty.
    """
    (directory / "layers").mkdir(parents=True)
    wanted = {layer for layers in workload.images.values() for layer in layers}
    written = {layer: _layer(directory / "layers", *layer) for layer in sorted(wanted)}
    made = [
        _image(directory, name, [written[layer] for layer in layers])
        for name, layers in workload.images.items()
    ]
    images = [image for image, _ in made]
    archives = tuple(archive for _, archive in made)
    release = directory / "release"
    release.mkdir()
    _write_release(release, made)
    sync = directory / "sync"
    sync.mkdir()
    if skopeo:
        for image, archive in made:
            target = sync / f"{image.tag.name}:{image.tag.tag}"
            argv = [skopeo, "copy", "--quiet", f"oci-archive:{archive}", f"dir:{target}"]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    sizes = [{blob.digest: blob.size for blob in image.blobs} for image in images]
    every = {digest: size for each in sizes for digest, size in each.items()}
    return Prepared(
        release=release,
        tags=tuple(image.tag for image in images),
        digests=tuple(str(image.digest) for image in images),
        archives=archives,
        layouts=tuple(directory / "layouts" / image.tag.name for image in images),
        sync=sync,
        nominal_bytes=sum(sum(each.values()) for each in sizes),
        distinct_bytes=sum(every.values()),
    )


def _write_release(directory: Path, made: Sequence[tuple[Image, Path]]) -> None:
    """Write what the driver reads: a manifest that nobody signed, and the bundle."""
    entries = [Entry(image.tag.archive_path, archive) for image, archive in made]
    entries.append(Entry(own_chart.FILE.path, own_chart.CONTENT))
    bundle = write_bundle(
        directory / f"{_RELEASE.directory}.tar.gz",
        root=_RELEASE.directory,
        entries=entries,
        mtime=_MTIME,
    )
    images = tuple(image for image, _ in made)
    manifest = Manifest(
        release=_RELEASE,
        bundle=bundle,
        images=images,
        charts=(own_chart.CHART,),
        checkpoints=(),
        models=(),
    )
    (directory / MANIFEST_NAME).write_bytes(encode_manifest(manifest))


def _image(directory: Path, name: str, layers: Sequence[_Layer]) -> tuple[Image, Path]:
    maker, archive = LayoutMaker(directory / "layouts" / name), directory / f"{name}__{_TAG}.tar"
    for layer in layers:
        maker.path(layer.path.name).hardlink_to(layer.path)
    diffs = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    config = maker.config(rootfs=diffs, config={"Labels": {"name": name}})
    top = maker.manifest([layer.descriptor() for layer in layers], config)
    return pack(maker, ImageTag(name, _TAG), top, archive, mtime=_MTIME), archive


@dataclass(frozen=True, slots=True)
class _Layer:
    path: Path
    diff_id: str

    def descriptor(self) -> dict[str, object]:
        size = self.path.stat().st_size
        return {"mediaType": _LAYER_TYPE, "digest": f"sha256:{self.path.name}", "size": size}


def _layer(directory: Path, size: int, seed: int) -> _Layer:
    """Write a layer under its digest."""
    temporary = directory / "new"
    packed, plain = hashlib.sha256(), hashlib.sha256()
    gzip = zlib.compressobj(0, zlib.DEFLATED, 31)
    with temporary.open("wb") as file:
        for piece in _tar(size, seed):
            plain.update(piece)
            part = gzip.compress(piece)
            packed.update(part)
            file.write(part)
        part = gzip.flush()
        packed.update(part)
        file.write(part)
    return _Layer(temporary.rename(directory / packed.hexdigest()), f"sha256:{plain.hexdigest()}")


def _tar(size: int, seed: int) -> Iterator[bytes]:
    """Give a tar of one file of noise."""
    noise = random.Random(f"{size} {seed}")
    yield tar.header("noise", size=size, mtime=_MTIME)
    for begin in range(0, size, _PIECE):
        yield noise.randbytes(min(_PIECE, size - begin))
    yield tar.padding(size) + tar.END
