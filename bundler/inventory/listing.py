"""What an SBOM says of an image: every package once, and what was and was not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bundler.inventory.databases import LOOKED_FOR, NOT_LOOKED_AT, is_list
from bundler.inventory.image import ImageInventory, PlatformInventory
from bundler.inventory.package import Package, System
from bundler.sizes import count_text

_NO_SYSTEM = System("", "")
Note = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPackage:
    """A package of an image.

    Attributes:
        package: What databases say of it.
        system: The distribution that it is for.
        places: The paths of these databases, printable.
        platforms: Those whose images have it.
    """

    package: Package
    system: System
    places: tuple[str, ...]
    platforms: tuple[str, ...]


def list_packages(platforms: Sequence[PlatformInventory]) -> list[ListedPackage]:
    """Give every package of an image once, with all places where it was found, in order."""
    found: dict[tuple[System, Package], list[tuple[Package, str, str]]] = {}
    for one in platforms:
        for path, packages in one.packages.items():
            for package in packages:
                system = _NO_SYSTEM if package.kind == "pypi" else one.system
                key = system, replace(package, licence="")
                found.setdefault(key, []).append((package, path, one.platform))
    return [
        ListedPackage(
            package=max(package for package, _, _ in places),  # one with a licence, if any has one
            system=system,
            places=tuple(sorted({place for _, place, _ in places})),
            platforms=tuple(sorted({platform for _, _, platform in places})),
        )
        for (system, _), places in sorted(found.items())
    ]


def notes_of(inventory: ImageInventory) -> list[Note]:
    """Tell what was looked for, what was found and read, and what was not."""
    notes = [("looked-for", text) for text in LOOKED_FOR]
    notes += [("not-looked-at", text) for text in NOT_LOOKED_AT]
    notes += [("not-looked-at", f"{digest}: for no platform") for digest in inventory.others]
    for one in inventory.platforms:
        notes += [("unread", f"{one.platform}: {text}") for text in one.unread]
        notes += [
            ("read", f"{one.platform}: {path}: {count_text(len(packages), 'package')}")
            for path, packages in one.packages.items()
            if is_list(path)
        ]
    return notes
