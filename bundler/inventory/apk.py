"""The database of apk: ``lib/apk/db/installed``."""

from __future__ import annotations

from collections.abc import Iterator

from bundler.inventory.fields import lines, text_of
from bundler.inventory.package import Package, few_enough

_WANTED = b"PVAoL"


def read_apk(content: bytes) -> tuple[Package, ...]:
    """Give the packages of a database of apk's version 2.

    Source:
        Alpine wiki, "Apk spec", "Installed Database V2": a letter, a colon and a value a line; an
        empty line ends a package.

    Raises:
        ValueError: It is something else.
    """
    return few_enough(map(_package, _paragraphs(content)))


def _paragraphs(content: bytes) -> Iterator[dict[str, str]]:
    fields, begun = dict[str, str](), False
    for line in lines(content):
        if line:
            if line[1:2] != b":":
                raise ValueError(f"expected a letter and a colon, got {text_of(line)[:80]!r}")
            begun = True
            if line[0] in _WANTED:
                fields.setdefault(chr(line[0]), text_of(line[2:]))
        elif begun:
            yield fields
            fields, begun = {}, False
    if begun:
        yield fields


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
