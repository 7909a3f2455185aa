"""Small OCI image layouts, made byte by byte so that a test can bend any of it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundler.archive.oci import read_layout, write_oci_archive
from bundler.digest import Digest
from bundler.manifest import Image
from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from bundler.reference import ImageTag

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
Json = dict[str, object]


class LayoutMaker:
    """Puts blobs into a layout and gives the descriptors that name them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs" / "sha256").mkdir(parents=True)
        self.write("oci-layout", {"imageLayoutVersion": "1.0.0"})

    def write(self, path: str, document: object) -> None:
        """Write a JSON file of the layout."""
        (self.directory / path).write_text(json.dumps(document))

    def path(self, digest: object) -> Path:
        """Say where a blob lies."""
        return self.directory / "blobs" / "sha256" / str(digest).removeprefix("sha256:")

    def blob(self, content: bytes, media_type: str, **more: object) -> Json:
        """Store a blob."""
        digest = Digest.of(content)
        self.path(digest).write_bytes(content)
        return {"mediaType": media_type, "digest": str(digest), "size": len(content), **more}

    def document(self, value: object, media_type: str, **more: object) -> Json:
        """Store a blob of JSON."""
        return self.blob(json.dumps(value).encode(), media_type, **more)

    def config(self, layers: int = 1, **more: object) -> Json:
        """Store an image's config."""
        diffs = [f"sha256:{n:064x}" for n in range(layers)]
        value = {"os": "linux", "architecture": "amd64"}
        return self.document(
            {**value, "rootfs": {"type": "layers", "diff_ids": diffs}, **more}, OCI_CONFIG
        )

    def manifest(
        self, layers: Sequence[Json] = (), config: Json | None = None, /, **more: object
    ) -> Json:
        """Store an image manifest."""
        value = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config or self.config(len(layers)),
            "layers": list(layers),
            **more,
        }
        return self.document(value, OCI_MANIFEST)

    def index(self, manifests: Sequence[Json], /, **more: object) -> Json:
        """Store an image index."""
        value = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests), **more}
        return self.document(value, OCI_INDEX)

    def layer(self, files: Mapping[str, bytes]) -> Json:
        """Store a real layer."""
        return self.blob(gzip.compress(plain_layer(files), mtime=0), LAYER)

    def name(self, *descriptors: Json, tag: str = "1.0") -> None:
        """Write index.json."""
        named = [
            {**one, "annotations": {"org.opencontainers.image.ref.name": tag}}
            for one in descriptors
        ]
        self.write("index.json", {"schemaVersion": 2, "manifests": named})


def pack(
    maker: LayoutMaker,
    tag: ImageTag,
    top: Json,
    archive: Path,
    *,
    mtime: int,
    subject: Digest | None = None,
) -> Image:
    """Name a layout's image, write its OCI archive, and say what a manifest would of it."""
    maker.name(top, tag=tag.tag)
    layout = read_layout(maker.directory, artifact=subject is not None)
    write_oci_archive(maker.directory, layout, tag, archive, mtime=mtime)
    return Image(
        tag=tag,
        digest=layout.digest,
        source=f"docker://vendor.example.com/{tag}",
        source_digest=layout.digest,
        platforms=layout.platforms,
        blobs=layout.blobs,
        subject=subject,
    )


def plain_layer(files: Mapping[str, bytes]) -> bytes:
    """Give the tar of a layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def make_layout(directory: Path, files: Mapping[str, bytes] | None = None) -> str:
    """Write a real image of one layer, and give the digest of its manifest."""
    maker = LayoutMaker(directory)
    chosen = files or {"etc/motd": b"hello\n"}
    layer = maker.layer(chosen)
    diffs = [str(Digest.of(plain_layer(chosen)))]
    config = maker.config(rootfs={"type": "layers", "diff_ids": diffs})
    manifest = maker.manifest([layer], config)
    maker.name(manifest)
    return str(manifest["digest"])
