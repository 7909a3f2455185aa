"""The database of apk: ``lib/apk/db/installed``."""

from __future__ import annotations

from bundler.inventory.package import Package, few_enough


def read_apk(content: bytes) -> tuple[Package, ...]:
    """Give the packages of a database of apk's version 2.

    Source:
        Alpine wiki, "Apk spec", "Installed Database V2": a letter, a colon and a value a line; an
        empty line ends a package.

    Raises:
        ValueError: It is something else.
    """
    found, fields = [], dict[str, str]()
    for line in [*content.decode("utf-8", "replace").split("\n"), ""]:
        if line:
            key, colon, value = line.partition(":")
            if not colon or len(key) != 1:
                raise ValueError(f"expected a letter and a colon, got {line[:80]!r}")
            fields.setdefault(key, value)
        elif fields:
            found.append(_package(fields))
            fields = {}
    return few_enough(found)


def _package(fields: dict[str, str]) -> Package:
    name, origin = fields.get("P", ""), fields.get("o", "")
    return Package(
        kind="apk",
        name=name,
        version=fields.get("V", ""),
        architecture=fields.get("A", ""),
        source="" if origin == name else origin,
        licence=fields.get("L", ""),
    )
