"""Where everything of a release goes at its destination. Pure: names only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bundler.errors import MalformedError
from bundler.jsontext import write_json
from bundler.manifest import MANIFEST_NAME, Checkpoint, Image, Manifest, Model
from bundler.reference import S3Prefix
from bundler.target import ModelTarget, Target

CHECKPOINTS, RELEASES, MARKERS, RECEIPTS = "checkpoints", "releases", "complete/", "receipts/"


@dataclass(frozen=True, slots=True)
class Served:
    """A model as it is to be deployed: what the release says, with what the target says over it."""

    model: Model
    ingress_host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Names at the destination.

    Attributes:
        served: The models to deploy, in the target's order.
        checkpoints: Where each checkpoint goes that one of them uses, by the checkpoint's name.
        release: Where the release's own files go.
        pointer: Key of the object that says which release is deployed.
    """

    served: tuple[Served, ...]
    checkpoints: Mapping[str, S3Prefix]
    release: S3Prefix
    pointer: str

    @property
    def manifest_url(self) -> str:
        """The s3:// address of the manifest, as pods are given it."""
        return str(self.release / MANIFEST_NAME)

    def marker(self, checkpoint: Checkpoint) -> str:
        """Give the key of the object that says: this checkpoint is there whole."""
        return self.release.key(marker_path(checkpoint))


def lay_out(manifest: Manifest, target: Target) -> Layout:
    """Say where a release goes at a target.

    A checkpoint that several models share goes up once, below the first of their keys.

    Raises:
        MalformedError: The target names a model or a checkpoint that the release has not.
    """
    served = _served(manifest, target)
    prefixes: dict[str, S3Prefix] = {}
    for item in sorted(served, key=lambda item: item.model.key):
        checkpoint = manifest.checkpoint(item.model.checkpoint)
        place = target.s3.place / CHECKPOINTS / item.model.key / checkpoint.identity.id16
        prefixes.setdefault(checkpoint.name, place)
    return Layout(
        served=served,
        checkpoints=prefixes,
        release=target.s3.place / RELEASES / manifest.release.directory,
        pointer=pointer_key(target.s3.place),
    )


def pointer_key(place: S3Prefix) -> str:
    """Give the key of the object that says which release is deployed at a target's place."""
    return place.key(RELEASES, "current.json")


def marker_path(checkpoint: Checkpoint) -> str:
    """Name the marker that a checkpoint is there whole, below its release's prefix."""
    return f"{MARKERS}{checkpoint.name}.json"


def marker_content(checkpoint: Checkpoint, place: S3Prefix) -> bytes:
    """Give the content of a completion marker; the same bytes at any time."""
    return write_json(
        {
            "formatVersion": 1,
            "checkpoint": checkpoint.name,
            "identity": checkpoint.identity.hex,
            "place": str(place),
            "files": len(checkpoint.files),
            "bytes": checkpoint.content_bytes,
        }
    )


def pinned_image(host: str, image: Image) -> str:
    """Write an image as pods name it: at the target's registry, by its signed digest."""
    return f"{host}/{image.tag.name}@{image.digest}"


def _served(manifest: Manifest, target: Target) -> tuple[Served, ...]:
    if target.models is None:
        return tuple(Served(model) for model in manifest.models)
    known = {model.key: model for model in manifest.models}
    return tuple(
        Served(_merged(item, known.get(item.key), manifest), item.ingress_host)
        for item in target.models
    )


def _merged(item: ModelTarget, base: Model | None, manifest: Manifest) -> Model:
    checkpoint = item.checkpoint or (base.checkpoint if base else None)
    model_name = item.model_name or (base.model_name if base else None)
    model_type = item.model_type or (base.model_type if base else None)
    gpus = item.gpus or (base.gpus if base else None)
    if checkpoint is None or model_name is None or model_type is None or gpus is None:
        raise MalformedError(
            f"target: models.{item.key}: expected checkpoint, modelName, modelType and gpus, since "
            "the release has no model of that key",
            hint=f"its models: {', '.join(model.key for model in manifest.models) or 'none'}",
        )
    names = [checkpoint.name for checkpoint in manifest.checkpoints]
    if checkpoint not in names:
        raise MalformedError(
            f"target: models.{item.key}.checkpoint: the release has no {checkpoint!r}",
            hint=f"its checkpoints: {', '.join(names) or 'none'}",
        )
    return Model(
        key=item.key,
        checkpoint=checkpoint,
        model_name=model_name,
        model_type=model_type,
        gpus=gpus,
    )
