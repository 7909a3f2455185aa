"""Whether the chart, as it would be installed, names signed images only. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bundler.closure import require_linked
from bundler.image_discovery import discover
from bundler.manifest import Image, Manifest
from bundler.publish.layout import pinned_image
from bundler.tools.kubectl import Object


def check_closure(objects: Sequence[Object], manifest: Manifest, host: str) -> tuple[Image, ...]:
    """Hold every image that rendered objects name to the images that were signed.

    Hooks, tests and init containers count, and so do settings that ``discover`` takes for images.
    Each must be named at the target's registry and by the digest that was signed: a tag could be
    moved later.

    Returns:
        The images that are named, once each, in the manifest's order.

    Raises:
        CheckError: An object names another image; the message has all such places.
    """
    signed = _signed(manifest, host)
    links = require_linked(
        discover(objects),
        signed.get,
        problem=f"the chart names images that are not the signed ones at {host}",
        hint="nothing was installed; values of the target must not name other images",
    )
    used = {item.place.image for item in links}
    return tuple(image for reference, image in signed.items() if reference in used)


def check_installed(objects: Sequence[Object], manifest: Manifest, host: str) -> None:
    """Hold what Helm installed to the images that were signed, as ``check_closure`` does.

    A chart may come to other objects in a cluster than where no cluster is asked.

    Raises:
        CheckError: An object names another image; the message has all such places.
    """
    require_linked(
        discover(objects),
        _signed(manifest, host).get,
        problem=f"what Helm installed names images that are not the signed ones at {host}",
        hint="the Helm release is left as it is, to be looked at: tell the vendor of the chart",
    )


def _signed(manifest: Manifest, host: str) -> dict[str, Image]:
    return {pinned_image(host, image): image for image in manifest.running}
