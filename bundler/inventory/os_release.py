"""``os-release``: which distribution an image was made of."""

from __future__ import annotations

import re

from bundler.inventory.package import System

# Source: os-release(5): an identifier of lower-case letters, digits, ".", "_" and "-".
_ID = re.compile(r"[a-z0-9._-]{1,64}")
_VERSION = re.compile(r"[A-Za-z0-9._+~-]{1,64}")


def read_os_release(content: bytes) -> System:
    """Read ID and VERSION_ID; one that is missing, or is no identifier, is left empty."""
    known = {}
    for line in content.decode("utf-8", "replace").split("\n"):
        key, _, value = line.strip().partition("=")
        known[key] = value.strip("\"'")
    name, version = known.get("ID", ""), known.get("VERSION_ID", "")
    return System(
        name=name if _ID.fullmatch(name) else "",
        version=version if _VERSION.fullmatch(version) else "",
    )
