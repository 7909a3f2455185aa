"""Asking a registry what it has of some images. Changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from bundler.digest import Digest
from bundler.publish.schedule import Cargo, Place, Survey
from bundler.publish.together import for_each
from bundler.reference import ImageTag
from bundler.stores.base import Registry


def survey(
    registry: Registry, cargo: Sequence[Cargo], *, threads: int, stop: threading.Event
) -> Survey:
    """Look up the tag, every manifest and every blob of some images, several at once.

    Raises:
        ContentError: The registry serves a manifest with other bytes than its digest says.
        DeniedError, WorldError: It does not let us, or cannot be reached.
        StoppedError: ``stop`` was set meanwhile.
    """
    tags: dict[ImageTag, Digest] = {}
    manifests: set[Place] = set()
    sizes: dict[Place, int] = {}

    def look_for_image(item: Cargo) -> None:
        named = registry.manifest(item.repository, item.image.tag.tag)
        if named is not None:
            tags[item.image.tag] = named.digest
            manifests.add(Place(item.repository, named.digest))
        for place in item.manifest_places:
            if place not in manifests and registry.manifest(item.repository, str(place.digest)):
                manifests.add(place)

    def look_for_blob(place: Place) -> None:
        size = registry.blob_size(place.repository, place.digest)
        if size is not None:
            sizes[place] = size

    blobs = dict.fromkeys(place for item in cargo for place, _ in item.blob_places)
    work: list[Callable[[], None]] = [partial(look_for_image, item) for item in cargo]
    work += [partial(look_for_blob, place) for place in blobs]
    for_each(lambda look: look(), work, threads=threads, stop=stop)
    return Survey(tags=tags, manifests=frozenset(manifests), sizes=sizes)
