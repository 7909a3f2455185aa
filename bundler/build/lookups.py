"""Looking at all charts and images of a release: what is wrong with any is told at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from bundler.errors import (
    BundleError,
    CheckError,
    ContentError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
    printable,
)
from bundler.source import RegistrySource
from bundler.spec import ImageSpec

_MAX_PLACES = 3
# A look-up that failed after so long was waiting for somebody who says nothing.
_PATIENCE_SECONDS = 20.0
# What is collected; the kinds below these are made in other ways.
_KINDS = (MalformedError, ContentError, CheckError, NotFoundError, DeniedError, WorldError)
_NO_IMAGE = "if it is no image, name it in the chart's `notImages`, with a reason"
_NOT_RUN = "if it is not to run, switch it off in the chart's `values:`"
# Between hints of one error.
_HINT_END = "; "

A = TypeVar("A")
T = TypeVar("T")


def try_all(items: Sequence[A], look: Callable[[A], T], *, problem: str) -> tuple[T, ...]:
    """Look at every item, whatever becomes of one.

    Args:
        items: What to look at, in order.
        look: Looks at one.
        problem: What to say behind the number of items that failed, if it is more than one.

    Raises:
        BundleError: Some failed: a line for each. The kind, and with it the exit status, is that
            of the lowest exit status among them: what somebody has to change goes before what may
            mend by itself.
    """
    found: list[T] = []
    failed: list[BundleError] = []
    for item in items:
        try:
            found.append(look(item))
        except _KINDS as error:
            failed.append(error)
    if failed:
        raise _one_of(failed, problem) from failed[0]
    return tuple(found)


def look_up_all(images: Sequence[ImageSpec], look_up: Callable[[ImageSpec], T]) -> tuple[T, ...]:
    """Look up every image; one that cannot be taken is told by what names it.

    A registry that kept us waiting in vain is not asked again.

    Raises:
        BundleError: As ``try_all`` raises it.
    """
    silent: set[str] = set()

    def look(image: ImageSpec) -> T:
        host, begun = _host(image), time.monotonic()
        try:
            if host in silent:
                raise WorldError(f"{image.source}: not asked: {host} gave no answer before")
            return look_up(image)
        except _KINDS as error:
            if host and time.monotonic() - begun > _PATIENCE_SECONDS:
                silent.add(host)
            hint = _HINT_END.join(_hints(image, error))
            raise _kind(error)(_line(image, error), hint=hint) from error

    return try_all(images, look, problem="images cannot be taken")


def _kind(error: BundleError) -> type[BundleError]:
    return next(kind for kind in _KINDS if isinstance(error, kind))


def _one_of(failed: Sequence[BundleError], problem: str) -> BundleError:
    worst = min(failed, key=lambda error: error.exit_status)
    lines = [str(error) for error in failed]
    if len(lines) > 1:
        lines.insert(0, f"{len(lines)} {problem}")
    hints = (hint for error in failed for hint in (error.hint or "").split(_HINT_END))
    told = _HINT_END.join(filter(None, dict.fromkeys(hints)))
    return _kind(worst)("\n".join(lines), hint=told or None)


def _host(image: ImageSpec) -> str:
    source = image.source
    return source.repository.partition("/")[0] if isinstance(source, RegistrySource) else ""


def _line(image: ImageSpec, error: BundleError) -> str:
    said = str(error)
    if not image.named:
        return said if said.startswith("image ") else f"image {image.tag}: {said}"
    places: dict[tuple[str, str], list[str]] = {}
    for chart, place in image.named[:_MAX_PLACES]:
        where = f"{place.object}, {place.container} ({place.how})"
        places.setdefault((chart, place.image), []).append(where)
    told = [
        f"chart {chart}: {'; '.join(there)} names {reference}"
        for (chart, reference), there in places.items()
    ]
    more = len(image.named) - _MAX_PLACES
    told += [f"and {more} more places"] * (more > 0)
    return f"{printable('; '.join(told))}: {said}"


def _hints(image: ImageSpec, error: BundleError) -> Iterator[str]:
    places = [place for _, place in image.named if place.how != "declared"]
    if places:
        yield _NOT_RUN if any(place.in_pod for place in places) else _NO_IMAGE
    if error.hint:
        yield error.hint
