"""MANIFEST.json: between its bytes and the types of ``bundler.manifest``."""

from __future__ import annotations

from collections.abc import Mapping

from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import MalformedError
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MODEL_TYPES,
    Blob,
    Bundle,
    BundleFile,
    Checkpoint,
    CheckpointFile,
    Image,
    Manifest,
    Model,
    Release,
)
from bundler.manifest_charts import from_chart, to_chart
from bundler.reference import ImageTag, plain_text
from bundler.source import platform_text

_KNOWN = ("formatVersion", "critical", "release", "bundle", "images", "charts", "checkpoints")
_KNOWN_FIELDS = frozenset((*_KNOWN, "models"))


def encode_manifest(manifest: Manifest) -> bytes:
    """Give the one byte string that stands for a manifest: what SHA256SUMS names."""
    return write_json(
        {
            "formatVersion": FORMAT_VERSION,
            "critical": [],
            "release": _from_release(manifest.release),
            "bundle": _from_bundle(manifest.bundle),
            "images": [_from_image(image) for image in manifest.images],
            "charts": [from_chart(chart) for chart in manifest.charts],
            "checkpoints": [from_checkpoint(item) for item in manifest.checkpoints],
            "models": [_from_model(model) for model in manifest.models],
        }
    )


def decode_manifest(content: bytes, *, name: str = MANIFEST_NAME) -> Manifest:
    """Read a manifest whose bytes are proven already.

    Fields that this version does not know are ignored, unless ``critical`` names them.

    Raises:
        MalformedError: It breaks a rule of FORMAT.md, or is of a format that we do not read.
    """
    table = read_json(content, name=name, limit=MAX_MANIFEST_BYTES).table()
    version = table.integer("formatVersion", 1, MAX_INTEGER)
    if version != FORMAT_VERSION:
        raise MalformedError(
            f"{name}: formatVersion {version}, expected {FORMAT_VERSION}",
            hint="this release is of a newer format; use the bundle command that came with it",
        )
    for field in table.texts("critical"):
        if field not in _KNOWN_FIELDS:
            table.refuse("critical", f"names {field!r}, which this version does not know")
    return table.explain(
        lambda: Manifest(
            release=_to_release(table.table("release")),
            bundle=_to_bundle(table.table("bundle")),
            images=tuple(map(_to_image, table.tables("images"))),
            charts=tuple(map(to_chart, table.tables("charts"))),
            checkpoints=tuple(map(to_checkpoint, table.tables("checkpoints"))),
            models=tuple(map(_to_model, table.tables("models"))),
        )
    )


def _from_release(release: Release) -> dict[str, object]:
    return {
        "name": release.name,
        "version": release.version,
        "sequence": release.sequence,
        "created": release.created,
        "expires": release.expires,
    }


def _to_release(table: Table) -> Release:
    return table.explain(
        lambda: Release(
            name=table.text("name"),
            version=table.text("version"),
            sequence=table.integer("sequence", 1, MAX_INTEGER),
            created=table.text("created"),
            expires=table.parse_optional("expires", str),
        )
    )


def _from_bundle(bundle: Bundle) -> dict[str, object]:
    return {
        "archive": bundle.archive,
        "root": bundle.root,
        "size": bundle.size,
        "sha256": bundle.digest.hex,
        "blockBytes": bundle.block_bytes,
        "sliceSha256": [digest.hex for digest in bundle.slices],
        "files": [
            {
                "path": file.path,
                "offset": file.offset,
                "size": file.size,
                "sha256": file.digest.hex,
                "executable": file.executable,
            }
            for file in bundle.files
        ],
    }


def _to_bundle(table: Table) -> Bundle:
    return table.explain(
        lambda: Bundle(
            archive=table.text("archive"),
            root=table.text("root"),
            size=_size(table, "size"),
            digest=table.parse("sha256", Digest),
            block_bytes=table.integer("blockBytes", 1, 0xFFFF),
            slices=table.parse_all("sliceSha256", Digest),
            files=tuple(map(_to_bundle_file, table.tables("files"))),
        )
    )


def _to_bundle_file(table: Table) -> BundleFile:
    return table.explain(
        lambda: BundleFile(
            path=table.text("path"),
            offset=_size(table, "offset"),
            size=_size(table, "size"),
            digest=table.parse("sha256", Digest),
            executable=table.flag("executable"),
        )
    )


def _from_image(image: Image) -> dict[str, object]:
    written: dict[str, object] = {
        "name": image.tag.name,
        "tag": image.tag.tag,
        "digest": str(image.digest),
        "source": image.source,
        "sourceDigest": str(image.source_digest),
        "platforms": list(image.platforms),
        "blobs": [{"digest": str(blob.digest), "size": blob.size} for blob in image.blobs],
    }
    return written | ({"subject": str(image.subject)} if image.subject else {})


def _to_image(table: Table) -> Image:
    return table.explain(
        lambda: Image(
            tag=ImageTag(table.text("name"), table.text("tag")),
            digest=table.parse("digest", Digest.parse),
            source=table.parse("source", plain_text),
            source_digest=table.parse("sourceDigest", Digest.parse),
            platforms=table.parse_all("platforms", platform_text),
            blobs=tuple(map(_to_blob, table.tables("blobs"))),
            subject=table.parse_optional("subject", Digest.parse),
        )
    )


def _to_blob(table: Table) -> Blob:
    return Blob(digest=table.parse("digest", Digest.parse), size=_size(table, "size"))


def from_checkpoint(checkpoint: Checkpoint) -> dict[str, object]:
    """Give a checkpoint as a manifest writes it."""
    return {
        "name": checkpoint.name,
        "archive": checkpoint.archive,
        "root": checkpoint.root,
        "size": checkpoint.size,
        "sha256": checkpoint.digest.hex,
        "frameSha256": checkpoint.frame_digest.hex,
        "identity": checkpoint.identity.hex,
        "files": [_from_checkpoint_file(file) for file in checkpoint.files],
    }


def _from_checkpoint_file(file: CheckpointFile) -> Mapping[str, object]:
    return {
        "path": file.path,
        "offset": file.offset,
        "size": file.size,
        "sha256": file.digest.hex,
        "partBytes": file.part_bytes,
        "partSha256": [part.hex for part in file.parts],
    }


def to_checkpoint(table: Table) -> Checkpoint:
    """Read a checkpoint as a manifest writes it; MalformedError where it breaks a rule."""
    checkpoint = table.explain(
        lambda: Checkpoint(
            name=table.text("name"),
            root=table.text("root"),
            size=_size(table, "size"),
            digest=table.parse("sha256", Digest),
            frame_digest=table.parse("frameSha256", Digest),
            files=tuple(map(_to_checkpoint_file, table.tables("files"))),
        )
    )
    if table.text("archive") != checkpoint.archive:
        table.refuse("archive", f"expected {checkpoint.archive!r}")
    if table.parse("identity", Digest) != checkpoint.identity:
        table.refuse("identity", f"expected {checkpoint.identity.hex}, from the files listed")
    return checkpoint


def _to_checkpoint_file(table: Table) -> CheckpointFile:
    file = table.explain(
        lambda: CheckpointFile(
            path=table.text("path"),
            offset=_size(table, "offset"),
            size=_size(table, "size"),
            digest=table.parse("sha256", Digest),
            parts=table.parse_all("partSha256", Digest),
        )
    )
    if table.integer("partBytes", 1, MAX_INTEGER) != file.part_bytes:
        table.refuse("partBytes", f"expected {file.part_bytes} for {file.size} bytes")
    return file


def _from_model(model: Model) -> dict[str, object]:
    return {
        "key": model.key,
        "checkpoint": model.checkpoint,
        "modelName": model.model_name,
        "modelType": model.model_type,
        "gpus": model.gpus,
    }


def _to_model(table: Table) -> Model:
    return table.explain(
        lambda: Model(
            key=table.text("key"),
            checkpoint=table.text("checkpoint"),
            model_name=table.parse("modelName", plain_text),
            model_type=table.choice("modelType", MODEL_TYPES),
            gpus=table.integer("gpus", 1, 8),
        )
    )


def _size(table: Table, key: str) -> int:
    return table.integer(key, 0, MAX_INTEGER)
