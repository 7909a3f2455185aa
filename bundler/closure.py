"""Whether a release has every image that rendered objects name. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bundler.digest import Digest
from bundler.errors import CheckError, printable
from bundler.image_reference import NamedImage, covers, parse_reference
from bundler.source import RegistrySource

_SCHEME = "docker://"


class Sourced(Protocol):
    """An image that knows where it came from: one of a manifest, or of a lock."""

    @property
    def source(self) -> str:
        """Where it came from, as the spec names it."""

    @property
    def source_digest(self) -> Digest:
        """Its digest there."""


T = TypeVar("T")
S = TypeVar("S", bound=Sourced)


@dataclass(frozen=True, slots=True)
class Link(Generic[T]):
    """One place that names an image, and the image of the release that it means, if there is."""

    place: NamedImage
    image: T | None


def link(named: Iterable[NamedImage], find: Callable[[str], T | None]) -> tuple[Link[T], ...]:
    """Look up every image that is named.

    Args:
        named: The places.
        find: Gives what a reference means in this release, or None.
    """
    return tuple(Link(place, find(place.image)) for place in named)


def missing(links: Iterable[Link[T]]) -> list[NamedImage]:
    """Give the places whose image is not there."""
    return [item.place for item in links if item.image is None]


def listed(places: Iterable[NamedImage]) -> str:
    """Name places in one line, for an error."""
    return printable("; ".join(dict.fromkeys(map(str, places))))


def require_linked(
    named: Iterable[NamedImage],
    find: Callable[[str], T | None],
    *,
    problem: str,
    hint: str | None = None,
) -> tuple[Link[T], ...]:
    """Look up every image that is named, as ``link`` does, and refuse if one is not there.

    Raises:
        CheckError: The message is ``problem`` with all such places.
    """
    links = link(named, find)
    if absent := missing(links):
        raise CheckError(f"{problem}: {listed(absent)}", hint=hint)
    return links


def by_source(images: Iterable[S]) -> Callable[[str], S | None]:
    """Find images by references to where they came from.

    A reference with a digest finds the image that had it at its source, whatever the tag; one
    without finds the image of that tag.
    """
    known = [(_pinned(image), image) for image in images]

    def find(reference: str) -> S | None:
        try:
            wanted = parse_reference(reference)
        except ValueError:
            return None
        exact = (image for source, image in known if source and covers(source, wanted))
        same = (image for source, image in known if source and _same(source, wanted))
        return next(exact, None) or next(same, None)

    return find


def _pinned(image: Sourced) -> RegistrySource | None:
    if not image.source.startswith(_SCHEME):
        return None
    return parse_reference(image.source.removeprefix(_SCHEME)).at(image.source_digest)


def _same(source: RegistrySource, wanted: RegistrySource) -> bool:
    return (
        wanted.digest is not None
        and source.repository == wanted.repository
        and source.digest == wanted.digest
    )
