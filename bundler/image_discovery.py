"""Which images rendered objects name, in pods and in settings: the one answer. Pure.

Builds, proofs and installations all ask here, for the release's own chart and for those of others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bundler.errors import MalformedError
from bundler.image_reference import ImageField, NamedImage, is_complete, is_reference, is_tagged
from bundler.rendered_objects import (
    DEFINITION,
    Object,
    Text,
    each_object,
    name_of,
    pod_images,
    require_bounded,
    texts,
    texts_at,
)

# On a definition of custom resources: paths of the fields of its kind that hold images.
FIELDS_ANNOTATION = "bundle/image-fields"
# YAML lists with the images of a chart. Source: Artifact Hub, "Helm annotations"; Helm, HIP-15; and
# the short form that some publishers use.
LIST_ANNOTATIONS = ("artifacthub.io/images", "helm.sh/images", "images")
_RELATED = "RELATED_IMAGE_"
_TRANSPORT = "docker://"
_WORDS = re.compile(r"[\s\"'`,;=()\[\]{}<>|\\]+")
# A setting inside a longer text, such as a script or a file: `image: x/y:1`, `--image=x/y:1`.
_LINE = re.compile(
    r"""(?<![\w./-])[\w./-]*image["']?[ \t]*[:=][ \t]*["']?([\w./:@-]+)(?=["'\s,;)\]}\\]|$)""",
    re.IGNORECASE,
)
_COMMENT = ("#", "//")
_SETTINGS = {"env": "environment", "args": "argument", "command": "argument"}


def discover(objects: Sequence[Object], fields: Iterable[ImageField] = ()) -> list[NamedImage]:
    """Find every image that objects name, wherever a person or a program would.

    Taken are: what containers and volumes run, of any kind of object, also where that is nothing
    or no reference; texts at ``fields``; a field ``image`` of any object; ``repository``, ``image``
    and ``version``, or ``tag``, beside each other; variables ``RELATED_IMAGE_*``; settings, flags
    and variables with ``image`` in their name, also inside longer texts, that have a tag or a
    digest; and any other text, or the value of a flag, that is a whole reference with host and
    tag or digest and nothing else.

    Raises:
        MalformedError: There is more of it than any chart has, or a definition names its fields in
            a way that is none.
    """
    require_bounded(objects)
    found = {
        _of_pod(item.owner, item.name, item.image, item.volume) for item in pod_images(objects)
    }
    in_pods = {(item.object, item.image) for item in found}
    for value in texts(objects):
        for image, how in (*_settings(value), *_lines(value)):
            if (value.owner, image) not in in_pods:
                found.add(NamedImage(value.owner, value.place, image, how))
    wanted = {*fields, *_annotated_fields(objects)}
    for item in each_object(objects):
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
    return [f for f in fields if not any(any(_declared(o, {f})) for o in each_object(objects))]


def mentioned(objects: Sequence[Object], found: Iterable[NamedImage]) -> list[NamedImage]:
    """Give what may be an image and was not taken for one.

    A whole reference inside a longer text, such as a script, and a lone word in a field ``image``.
    Definitions of custom resources are left out: their texts are prose.
    """
    known = {item.image for item in found}
    mentions = set()
    for value in texts(objects):
        if value.kind == DEFINITION:
            continue
        words = {w.removeprefix(_TRANSPORT).rstrip(".:") for w in _WORDS.split(value.text)}
        images = {word for word in words - known if is_complete(word)}
        if value.key == "image" and not _has_repository(value) and is_reference(value.text.strip()):
            images.add(value.text.strip())
        for image in images - known:
            mentions.add(NamedImage(value.owner, value.place, image, "mention"))
    return sorted(mentions)


def _of_pod(owner: str, name: str, image: str, volume: bool) -> NamedImage:
    if volume:
        return NamedImage(owner, f"volume {name}", image, "volume")
    return NamedImage(owner, name, image)


def _settings(value: Text) -> Iterator[tuple[str, str]]:
    """Give the images that one text names, and what makes each an image."""
    name, text = value.setting()
    text = text.removeprefix(_TRANSPORT)
    how = next((_SETTINGS[part] for part in reversed(value.path) if part in _SETTINGS), "setting")
    if "annotations" in value.path:
        how = "annotation"
    if value.key == "image" and how == "setting":
        how = "image field"
    related = name.startswith(_RELATED) and is_reference(text)
    if value.key == "repository" and (whole := _composed(value)):
        yield whole, "image in pieces"
    elif related or is_complete(text) or (_is_image(name) and is_tagged(text)):
        yield text, how
    elif value.key == "image" and not _has_repository(value) and _is_path(text):
        yield text, "image field"


def _is_image(name: str) -> bool:
    return "image" in name.lower()


def _is_path(text: str) -> bool:
    """Tell whether a text is an image that may leave out host and tag, but is no lone word."""
    return ("/" in text or is_tagged(text)) and is_reference(text)


def _has_repository(value: Text) -> bool:
    """Tell whether it is a piece of an image whose repository stands beside it."""
    return isinstance(value.parent.get("repository"), str)


def _lines(value: Text) -> Iterator[tuple[str, str]]:
    """Give the images that a longer text sets, but for comments and the prose of definitions."""
    if value.kind == DEFINITION or not re.search(r"\s", value.text.strip()):
        return
    for line in value.text.splitlines():
        if not line.lstrip().startswith(_COMMENT):
            for found in _LINE.finditer(line):
                if is_complete(found[1]) or is_tagged(found[1]):
                    yield found[1], "line of a text"


def _composed(repository: Text) -> str:
    """Put together what operators are given in pieces; empty where that is no whole image."""

    def part(key: str) -> str:
        value = repository.parent.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)  # of a tag such as 1.25, which nobody quoted
        return value.strip("/") if isinstance(value, str) else ""

    name = "/".join(part(key) for key in ("registry", "repository", "image") if part(key))
    digest = next((p for p in (part("digest"), part("version")) if p.startswith("sha256:")), "")
    tag = part("tag") or (part("version") if part("image") and not digest else "")
    whole = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    # A repository without a host may be one of sources.
    fits = is_tagged if _is_image(repository.place) or part("image") else is_complete
    return whole if (tag or digest) and fits(whole) else ""


def _declared(item: Object, fields: Iterable[ImageField]) -> Iterator[NamedImage]:
    for field in fields:
        if item.get("kind") == field.kind:
            for text in texts_at(item, field.path):
                if is_reference(text):
                    yield NamedImage(name_of(item), ".".join(field.path), text, "declared field")


def _annotated_fields(objects: Sequence[Object]) -> Iterator[ImageField]:
    for item in each_object(objects):
        if item.get("kind") != DEFINITION:
            continue
        for text in texts_at(item.get("metadata"), ("annotations", FIELDS_ANNOTATION)):
            for kind in texts_at(item, ("spec", "names", "kind")):
                for path in text.replace(",", " ").split():
                    yield _field(f"{kind}:{path}", name_of(item))


def _field(text: str, owner: str) -> ImageField:
    try:
        return ImageField.parse(text)
    except ValueError as error:
        raise MalformedError(f"{owner}: annotation {FIELDS_ANNOTATION}: {error}") from error
