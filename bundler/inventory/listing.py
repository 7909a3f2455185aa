"""What an SBOM says of an image: every package once, and what was and was not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bundler.inventory.databases import LOOKED_FOR, NOT_LOOKED_AT, kind_of_files
from bundler.inventory.image import ImageInventory, PlatformInventory
from bundler.inventory.package import Package, System
from bundler.sizes import count_text

TOOL = "airgap-llm-bundle"
Note = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPackage:
    """A package of an image.

    Attributes:
        url: Its package URL.
        package: What databases say of it.
        places: The paths of these databases, printable.
        platforms: Those whose images have it.
    """

    url: str
    package: Package
    places: tuple[str, ...]
    platforms: tuple[str, ...]


def list_packages(
    platforms: Sequence[PlatformInventory], url_of: Callable[[Package, System], str]
) -> list[ListedPackage]:
    """Give every package of an image once, with all places where it was found, in order.

    Args:
        platforms: Of the image.
        url_of: Gives a package's URL; what has the same one is the same package.
    """
    found: dict[str, list[tuple[Package, str, str]]] = {}
    for one in platforms:
        for path, packages in one.packages.items():
            for package in packages:
                url = url_of(package, one.system)
                found.setdefault(url, []).append((package, path, one.platform))
    return [
        ListedPackage(
            url=url,
            package=max((package for package, _, _ in places), key=_has_licence_first),
            places=tuple(sorted({place for _, place, _ in places})),
            platforms=tuple(sorted({platform for _, _, platform in places})),
        )
        for url, places in sorted(found.items())
    ]


def component_of(
    listed: ListedPackage, licences: Sequence[object], *, several: bool
) -> dict[str, object]:
    """Give the fields of a package's component; an object for each would take far more memory.

    Args:
        listed: The package.
        licences: Fields of its licences.
        several: Whether the image has several platforms, so that it is told which.
    """
    platforms = listed.platforms if several else ()
    fields = {
        "licenses": list(licences),
        "properties": [{"name": f"{TOOL}:platform", "value": one} for one in platforms],
    }
    return {
        "type": "library",
        "name": listed.package.name,
        "version": f"{listed.package.epoch}:{listed.package.version}".removeprefix(":"),
        "bom-ref": listed.url,
        "purl": listed.url,
        "evidence": {"occurrences": [{"location": place} for place in listed.places]},
        **{key: items for key, items in fields.items() if items},
    }


def _has_licence_first(package: Package) -> tuple[bool, Package]:
    return bool(package.licence), package


def notes_of(inventory: ImageInventory) -> list[Note]:
    """Tell what was looked for, what was found and read, and what was not."""
    notes = [("looked-for", text) for text in LOOKED_FOR]
    notes += [("not-looked-at", text) for text in NOT_LOOKED_AT]
    notes += [("not-looked-at", f"{digest}: for no platform") for digest in inventory.others]
    if inventory.untouched:
        notes.append(("not-looked-at", inventory.untouched))
    for one in inventory.platforms:
        notes += [("unread", f"{one.platform}: {text}") for text in one.unread]
        notes += [
            ("read", f"{one.platform}: {where}: {count_text(count, 'package')}")
            for where, count in _counts(one).items()
        ]
    return notes


def _counts(one: PlatformInventory) -> Counter[str]:
    """Count packages by database; files that are about one package alone, by their kind."""
    counts: Counter[str] = Counter()
    for path, packages in one.packages.items():
        counts[kind_of_files(path) or path] += len(packages)
    return counts
