"""Which images the objects of a chart that is not ours name, in pods and in settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bundler.errors import MalformedError
from bundler.image_reference import ImageField, is_complete, is_reference
from bundler.images_named import CONTAINER_LISTS, NamedImage, images_named, name_of

# On a definition of custom resources: paths of the fields of its kind that hold images.
FIELDS_ANNOTATION = "bundle/image-fields"
# YAML lists with the images of a chart. Source: Artifact Hub, "Helm annotations"; Helm, HIP-15; and
# the short form that some publishers use.
LIST_ANNOTATIONS = ("artifacthub.io/images", "helm.sh/images", "images")
# Anchors in YAML can make a small text into a large tree.
_MAX_VALUES = 2_000_000
_RELATED = "RELATED_IMAGE_"
_WORDS = re.compile(r"[\s\"'`,;=()\[\]{}<>|\\]+")
_SETTINGS = {"env": "environment", "args": "argument", "command": "argument"}
_DEFINITION = "CustomResourceDefinition"

Object = Mapping[str, object]


def discover(objects: Sequence[Object], fields: Iterable[ImageField] = ()) -> list[NamedImage]:
    """Find every image that objects name, wherever a person or a program would.

    Taken are: images of containers and volumes, of any kind of object; texts at ``fields``; a field
    ``image`` of any object; ``repository``, ``image`` and ``version``, or ``tag``, beside each
    other; variables ``RELATED_IMAGE_*``; and any other text, or the value in ``--flag=value``, that
    is a whole reference with host and tag or digest and nothing else.

    Raises:
        MalformedError: There is more of it than any chart has.
        ValueError: A definition names its fields in a way that is none.
    """
    found = {item for item in images_named(_bounded(objects)) if item.image}
    in_pods = {(item.object, item.image) for item in found}
    wanted = {*fields, *_annotated_fields(objects)}
    for value in _texts(objects):
        for image, how in _settings(value):
            if (value.owner, image) not in in_pods:
                found.add(NamedImage(value.owner, value.place, image, how))
    for item in _objects(objects):
        found |= set(_declared(item, wanted))
    return sorted(found, key=lambda item: (item.image, item))


def annotated_images(annotation: object) -> list[str]:
    """Read a parsed annotation that lists images as mappings with ``image``.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(annotation, list):
        raise ValueError("expected a list of images")
    images = []
    for entry in annotation:
        image = entry.get("image") if isinstance(entry, Mapping) else None
        if not isinstance(image, str) or not is_reference(image):
            raise ValueError(f"expected entries with an image, got {str(entry)[:80]!r}")
        images.append(image)
    return images


def unused_fields(objects: Sequence[Object], fields: Iterable[ImageField]) -> list[ImageField]:
    """Give the fields that no object has."""
    return [f for f in fields if not any(any(_declared(o, {f})) for o in _objects(objects))]


def mentioned(objects: Sequence[Object], found: Iterable[NamedImage]) -> list[NamedImage]:
    """Give what looks like images inside longer texts, such as scripts, and was not found.

    Definitions of custom resources are left out: their texts are prose.
    """
    known = {item.image for item in found}
    mentions = set()
    for value in _texts(objects):
        if value.kind == _DEFINITION:
            continue
        for word in set(_WORDS.split(value.text)) - known:
            if is_complete(word.rstrip(".:")):
                mentions.add(NamedImage(value.owner, value.place, word.rstrip(".:"), "mention"))
    return sorted(item for item in mentions if item.image not in known)


@dataclass(frozen=True, slots=True)
class _Text:
    """One text of an object; ``path`` has keys, and names or numbers of the items of lists."""

    kind: str
    owner: str
    path: tuple[str, ...]
    text: str
    parent: Object

    @property
    def key(self) -> str:
        """The key that it stands at; of a default in a schema, the key that it is of."""
        named = [part for part in self.path if not part.startswith("[")] or [""]
        if self.kind == _DEFINITION and named[-1] == "default":
            return named[-2] if len(named) > 1 else ""
        return named[-1]

    @property
    def place(self) -> str:
        """Where it stands, as ``spec.containers[main].args[0]``."""
        return "".join(p if p.startswith("[") else f".{p}" for p in self.path).lstrip(".")


def _settings(value: _Text) -> Iterator[tuple[str, str]]:
    """Give the images that one text names, and what makes each an image."""
    text = value.text.strip()
    how = next((_SETTINGS[part] for part in reversed(value.path) if part in _SETTINGS), "setting")
    if "annotations" in value.path:
        how = "annotation"
    _, equals, behind = text.partition("=")
    if is_complete(text):
        yield text, "image field" if value.key == "image" and how == "setting" else how
    elif equals and value.path[-1].startswith("[") and is_complete(behind):
        yield behind, how
    elif _is_related(value) and is_reference(text):
        yield text, how
    elif value.key == "image" and not _in_container(value.path):
        yield from _of_image_field(value, text)
    elif value.key == "repository":
        yield from _composed(value.parent)


def _is_related(value: _Text) -> bool:
    return value.key == "value" and str(value.parent.get("name", "")).startswith(_RELATED)


def _in_container(path: tuple[str, ...]) -> bool:
    return len(path) > 2 and path[-3] in CONTAINER_LISTS


def _of_image_field(value: _Text, text: str) -> Iterator[tuple[str, str]]:
    """Take an image that leaves out its host, but no lone word: it may be anything."""
    if isinstance(value.parent.get("repository"), str):
        return  # with its repository it is found as one
    name = text.rpartition("/")[2]
    if ("/" in text or ":" in name or "@" in name) and is_reference(text):
        yield text, "image field"


def _composed(parent: Object) -> Iterator[tuple[str, str]]:
    """Put together what operators are given in pieces."""

    def part(key: str) -> str:
        text = parent.get(key)
        return text.strip("/") if isinstance(text, str) else ""

    name = "/".join(part(key) for key in ("registry", "repository", "image") if part(key))
    digest = next((p for p in (part("digest"), part("version")) if p.startswith("sha256:")), "")
    tag = part("tag") or (part("version") if part("image") and not digest else "")
    whole = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    if (tag or digest) and is_complete(whole):
        yield whole, "image in pieces"


def _declared(item: Object, fields: Iterable[ImageField]) -> Iterator[NamedImage]:
    for field in fields:
        if item.get("kind") == field.kind:
            for text in _at(item, field.path):
                if is_reference(text):
                    yield NamedImage(name_of(item), ".".join(field.path), text, "declared field")


def _at(value: object, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif path and isinstance(value, Mapping):
        yield from _at(value.get(path[0]), path[1:])
    elif not path and isinstance(value, str) and value.strip():
        yield value.strip()


def _annotated_fields(objects: Sequence[Object]) -> Iterator[ImageField]:
    for item in _objects(objects):
        if item.get("kind") != _DEFINITION:
            continue
        metadata = item.get("metadata")
        for text in _at(metadata, ("annotations", FIELDS_ANNOTATION)):
            for kind in _at(item, ("spec", "names", "kind")):
                yield from (ImageField.parse(f"{kind}:{path}") for path in _paths(text))


def _paths(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _objects(objects: Iterable[object]) -> Iterator[Object]:
    """Give each object, and each in a list of them."""
    for item in objects:
        if isinstance(item, Mapping):
            yield item
            items = item.get("items")
            if isinstance(items, list):
                yield from _objects(items)


def _bounded(objects: Sequence[Object]) -> Sequence[Object]:
    """Refuse what would never be walked to its end."""
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
    return objects


def _texts(objects: Iterable[Object]) -> Iterator[_Text]:
    for item in objects:
        yield from _walk(item, ("?", name_of(item)), (), item)


def _walk(
    value: object, owner: tuple[str, str], path: tuple[str, ...], parent: Object
) -> Iterator[_Text]:
    if isinstance(value, str):
        yield _Text(*owner, path, value, parent)
    elif isinstance(value, Mapping):
        if isinstance(value.get("kind"), str) and isinstance(value.get("metadata"), Mapping):
            owner, path = (str(value["kind"]), name_of(value)), ()
        for key, child in value.items():
            yield from _walk(child, owner, (*path, str(key)), value)
    elif isinstance(value, list):
        for number, child in enumerate(value):
            name = child.get("name") if isinstance(child, Mapping) else None
            label = name if isinstance(name, str) and name else str(number)
            yield from _walk(child, owner, (*path, f"[{label}]"), parent)
