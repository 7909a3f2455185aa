"""An inventory as a file: what was found in an image need not be looked for again."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from bundler.digest import Digest, tree_digest
from bundler.document import Table
from bundler.inventory.image import ImageInventory, PlatformInventory
from bundler.inventory.package import Package, System
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.manifest import Image

_FIELDS = ("kind", "name", "version", "architecture", "epoch", "source", "licence")


def inventory_key(image: Image) -> str:
    """Name what this very code finds in an image: another version may find something else."""
    return Digest.of(f"{_own_digest()} {image.digest}".encode()).hex


@cache
def _own_digest() -> Digest:
    code = [*files("bundler.inventory").iterdir(), files("bundler") / "tar_header.py"]
    contents = {file.name: file.read_bytes() for file in code if file.name.endswith(".py")}
    return tree_digest((name, len(data), Digest.of(data)) for name, data in contents.items())


def encode_inventory(inventory: ImageInventory) -> bytes:
    """Give the bytes of a record."""
    return write_json(
        {
            "platforms": [_from_platform(one) for one in inventory.platforms],
            "others": list(map(str, inventory.others)),
            "licence": inventory.licence,
            "spent": dict(inventory.spent),
        }
    )


def decode_inventory(content: bytes, image: Image, name: str) -> ImageInventory:
    """Read a record.

    Args:
        content: Its bytes.
        image: What it is about.
        name: What to call it in an error.

    Raises:
        MalformedError: It is none.
    """
    table = read_json(content, name=name, limit=len(content)).table()
    spent = table.table("spent")
    inventory = ImageInventory(
        image=image,
        platforms=tuple(map(_to_platform, table.tables("platforms"))),
        others=table.parse_all("others", Digest.parse),
        licence=table.text("licence", ""),
        spent={what: spent.integer(what, 0, MAX_INTEGER) for what in spent.names()},
    )
    table.close()
    return inventory


def _from_platform(one: PlatformInventory) -> dict[str, object]:
    return {
        "platform": one.platform,
        "system": one.system.name,
        "systemVersion": one.system.version,
        "unread": list(one.unread),
        "databases": [
            {"path": path, "packages": [_from_package(package) for package in packages]}
            for path, packages in one.packages.items()
        ],
    }


def _to_platform(table: Table) -> PlatformInventory:
    found = PlatformInventory(
        platform=table.text("platform"),
        system=System(table.text("system", ""), table.text("systemVersion", "")),
        unread=table.texts("unread"),
        packages={
            one.text("path"): tuple(map(_to_package, one.tables("packages")))
            for one in table.tables("databases")
        },
    )
    table.close()
    return found


def _from_package(package: Package) -> dict[str, str]:
    return {field: text for field in _FIELDS if (text := getattr(package, field))}


def _to_package(table: Table) -> Package:
    package = table.explain(lambda: Package(**{field: table.text(field, "") for field in _FIELDS}))
    table.close()
    return package
