"""Walks through the objects that a chart renders to: their texts, and what their pods run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bundler.errors import MalformedError

Object = Mapping[str, object]

DEFINITION = "CustomResourceDefinition"
CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
# Anchors in YAML can make a small text into a large tree.
_MAX_VALUES = 2_000_000


@dataclass(frozen=True, slots=True)
class Text:
    """One text of an object.

    Attributes:
        kind: Of the object.
        owner: The object, as ``name_of`` gives it.
        path: Keys, and for items of lists ``[NAME]`` or ``[NUMBER]``, from the object down.
        text: What stands there.
        parent: The mapping that it is in, through lists.
        before: The text in front of it in a list.
    """

    kind: str
    owner: str
    path: tuple[str, ...]
    text: str
    parent: Object
    before: str = ""

    @property
    def key(self) -> str:
        """The key that it stands at; of a default in a schema, the key that it is of."""
        named = [part for part in self.path if not part.startswith("[")] or [""]
        if self.kind == DEFINITION and named[-1] == "default":
            return named[-2] if len(named) > 1 else ""
        return named[-1]

    @property
    def in_list(self) -> bool:
        """Whether it is an item of a list."""
        return bool(self.path) and self.path[-1].startswith("[")

    @property
    def place(self) -> str:
        """Where it stands, as ``spec.containers[main].args[0]``."""
        return "".join(p if p.startswith("[") else f".{p}" for p in self.path).lstrip(".")

    def setting(self) -> tuple[str, str]:
        """Give what it sets, and to what: by its key, a variable's name, or the flag before it."""
        text = self.text.strip()
        if self.in_list:
            flag, equals, value = text.partition("=")
            return (flag, value.strip()) if equals else (self.before or self.key, text)
        name = self.parent.get("name")
        return (name if self.key == "value" and isinstance(name, str) else self.key), text


@dataclass(frozen=True, slots=True)
class PodImage:
    """Where an object says what a pod runs: a container, or a volume made from an image.

    Attributes:
        owner: The object, as ``name_of`` gives it.
        name: Of the container or the volume.
        image: As written; empty where there is none, or something that is no text.
        volume: Whether it is a volume.
    """

    owner: str
    name: str
    image: str
    volume: bool = False


def pod_images(objects: Iterable[Object]) -> Iterator[PodImage]:
    """Give what pods run, wherever a pod's specification stands.

    Lists of containers count anywhere in an object, whatever its kind: hooks, jobs, cron jobs,
    lists and custom resources that hold a pod's specification like any Deployment.
    """
    for item in objects:
        yield from _pod_images(item, name_of(item))


def texts(objects: Iterable[Object]) -> Iterator[Text]:
    """Give every text of objects."""
    for item in objects:
        yield from _texts(item, Text("?", name_of(item), (), "", item))


def each_object(objects: Iterable[object]) -> Iterator[Object]:
    """Give each object, and each in a list of them."""
    for item in objects:
        if isinstance(item, Mapping):
            yield item
            items = item.get("items")
            if isinstance(items, list):
                yield from each_object(items)


def texts_at(value: object, path: tuple[str, ...]) -> Iterator[str]:
    """Give the texts that keys lead to; lists on the way are gone through."""
    if isinstance(value, list):
        for item in value:
            yield from texts_at(item, path)
    elif path and isinstance(value, Mapping):
        yield from texts_at(value.get(path[0]), path[1:])
    elif not path and isinstance(value, str) and value.strip():
        yield value.strip()


def name_of(item: Object) -> str:
    """Name an object by its kind and name, such as ``Deployment/inference-point``."""
    metadata = item.get("metadata")
    name = _text(metadata.get("name")) if isinstance(metadata, Mapping) else ""
    return f"{_text(item.get('kind')) or '?'}/{name or '?'}"


def require_bounded(objects: Sequence[Object]) -> None:
    """Refuse what would never be walked to its end.

    Raises:
        MalformedError: There is more of it than any chart has.
    """
    waiting: list[object] = [objects]
    count = 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > _MAX_VALUES:
            raise MalformedError(
                f"rendered objects: expected at most {_MAX_VALUES} values, got more"
            )
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _pod_images(value: object, owner: str) -> Iterator[PodImage]:
    if isinstance(value, Mapping):
        owner = name_of(value) if _is_object(value) else owner
        for key, child in value.items():
            if isinstance(child, list) and key in CONTAINER_LISTS:
                yield from (_container(item, owner) for item in child)
            elif isinstance(child, list) and key == "volumes":
                yield from _volumes(child, owner)
            yield from _pod_images(child, owner)
    elif isinstance(value, list):
        for child in value:
            yield from _pod_images(child, owner)


def _container(container: object, owner: str) -> PodImage:
    if not isinstance(container, Mapping):
        return PodImage(owner, "?", "")
    return PodImage(owner, _text(container.get("name")) or "?", _text(container.get("image")))


def _volumes(volumes: list[object], owner: str) -> Iterator[PodImage]:
    for volume in volumes:
        image = volume.get("image") if isinstance(volume, Mapping) else None
        if isinstance(volume, Mapping) and isinstance(image, Mapping):
            name = _text(volume.get("name")) or "?"
            yield PodImage(owner, name, _text(image.get("reference")), volume=True)


def _texts(value: object, at: Text) -> Iterator[Text]:
    """Give the texts of ``value``, which stands at ``at``."""
    if isinstance(value, str):
        yield Text(at.kind, at.owner, at.path, value, at.parent, at.before)
    elif isinstance(value, Mapping):
        kind, owner, path = at.kind, at.owner, at.path
        if _is_object(value):
            kind, owner, path = _text(value["kind"]), name_of(value), ()
        for key, child in value.items():
            yield from _texts(child, Text(kind, owner, (*path, str(key)), "", value))
    elif isinstance(value, list):
        before = ""
        for number, child in enumerate(value):
            name = child.get("name") if isinstance(child, Mapping) else None
            label = f"[{name if isinstance(name, str) and name else number}]"
            path = (*at.path, label)
            yield from _texts(child, Text(at.kind, at.owner, path, "", at.parent, before))
            before = _flag(child)


def _flag(item: object) -> str:
    """Give a flag whose value is the next item, or nothing."""
    return item if isinstance(item, str) and item.startswith("-") and "=" not in item else ""


def _is_object(value: Mapping[object, object]) -> bool:
    return isinstance(value.get("kind"), str) and isinstance(value.get("metadata"), Mapping)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
