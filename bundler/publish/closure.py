"""Whether the chart, as it would be installed, names signed images only. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bundler.errors import CheckError
from bundler.images_named import images_named
from bundler.manifest import Image, Manifest
from bundler.publish.layout import pinned_image
from bundler.tools.kubectl import Object


def check_closure(objects: Iterable[Object], manifest: Manifest, host: str) -> tuple[Image, ...]:
    """Hold every image that rendered objects name to the images that were signed.

    Hooks, tests and init containers count. Each image must be named at the target's registry and
    by the digest that was signed: a tag could be moved later.

    Returns:
        The images that are named, once each, in the manifest's order.

    Raises:
        CheckError: An object names another image; the message has all such places.
    """
    signed = {pinned_image(host, image): image for image in manifest.images}
    named = images_named(objects)
    strangers = [item for item in named if item.image not in signed]
    if strangers:
        raise CheckError(
            "the chart names images that are not the signed ones at "
            f"{host}: {'; '.join(map(str, strangers))}",
            hint="nothing was installed; values of the target must not name other images",
        )
    used = {item.image for item in named}
    return tuple(image for reference, image in signed.items() if reference in used)
