"""Which images Kubernetes objects name, wherever a pod specification stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")


@dataclass(frozen=True, slots=True, order=True)
class NamedImage:
    """One place where an object names an image.

    Attributes:
        object: Kind and name, such as ``Deployment/inference-point``.
        container: The container's name, or ``volume NAME`` for a volume made from an image.
        image: The reference as written; empty where the container has none.
        how: What makes it an image; where pods name theirs, ``container`` or ``volume``.
    """

    object: str
    container: str
    image: str
    how: str = "container"

    def __str__(self) -> str:
        return f"{self.object}, {self.container}: {self.image or '(no image)'}"


def images_named(objects: Iterable[Mapping[str, object]]) -> list[NamedImage]:
    """Find every image that rendered objects name, in the order in which they stand there.

    Looks for lists of containers anywhere in an object, whatever its kind: hooks, jobs, cron jobs,
    lists and custom resources that hold a pod specification count like any Deployment.
    """
    found: list[NamedImage] = []
    for item in objects:
        found.extend(_walk(item, name_of(item)))
    return found


def _walk(value: object, owner: str) -> Iterator[NamedImage]:
    if isinstance(value, Mapping):
        if isinstance(value.get("kind"), str) and isinstance(value.get("metadata"), Mapping):
            owner = name_of(value)
        for key, child in value.items():
            if isinstance(child, list) and key in CONTAINER_LISTS:
                yield from (_of_container(item, owner) for item in child)
            elif isinstance(child, list) and key == "volumes":
                yield from _of_volumes(child, owner)
            yield from _walk(child, owner)
    elif isinstance(value, list):
        for child in value:
            yield from _walk(child, owner)


def _of_container(container: object, owner: str) -> NamedImage:
    if not isinstance(container, Mapping):
        return NamedImage(owner, "?", "")
    return NamedImage(owner, _text(container.get("name")) or "?", _text(container.get("image")))


def _of_volumes(volumes: list[object], owner: str) -> Iterator[NamedImage]:
    for volume in volumes:
        image = volume.get("image") if isinstance(volume, Mapping) else None
        if isinstance(volume, Mapping) and isinstance(image, Mapping):
            name = _text(volume.get("name")) or "?"
            yield NamedImage(owner, f"volume {name}", _text(image.get("reference")), "volume")


def name_of(item: Mapping[str, object]) -> str:
    """Name an object by its kind and name, such as ``Deployment/inference-point``."""
    metadata = item.get("metadata")
    name = _text(metadata.get("name")) if isinstance(metadata, Mapping) else ""
    return f"{_text(item.get('kind')) or '?'}/{name or '?'}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
