"""Whether the chart, as it would be installed, names signed images only. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bundler.closure import link, listed, missing
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
    signed = _signed(manifest, host)
    links = link(images_named(objects), signed.get)
    if strangers := missing(links):
        raise CheckError(
            f"the chart names images that are not the signed ones at {host}: {listed(strangers)}",
            hint="nothing was installed; values of the target must not name other images",
        )
    used = {item.place.image for item in links}
    return tuple(image for reference, image in signed.items() if reference in used)


def check_installed(objects: Iterable[Object], manifest: Manifest, host: str) -> None:
    """Hold what Helm installed to the images that were signed, as ``check_closure`` does.

    A chart may come to other objects in a cluster than where no cluster is asked.

    Raises:
        CheckError: An object names another image; the message has all such places.
    """
    signed = _signed(manifest, host)
    if strangers := missing(link(images_named(objects), signed.get)):
        raise CheckError(
            "what Helm installed names images that are not the signed ones at "
            f"{host}: {listed(strangers)}",
            hint="the Helm release is left as it is, to be looked at: tell the vendor of the chart",
        )


def _signed(manifest: Manifest, host: str) -> dict[str, Image]:
    return {pinned_image(host, image): image for image in manifest.images}
