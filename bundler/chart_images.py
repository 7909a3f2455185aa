"""The images that charts of others name, as images of a release: what each is called there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bundler.errors import MalformedError
from bundler.image_reference import covers, parse_reference
from bundler.reference import ImageTag
from bundler.source import RegistrySource
from bundler.spec import ImageSpec, Spec
from bundler.spec_charts import ThirdPartyChart

_HINT = "give one of them another name in the chart's `names:`, as REFERENCE: NAME or NAME:TAG"


def with_chart_images(spec: Spec, found: Mapping[str, Sequence[str]]) -> Spec:
    """Give the spec in which every image that its charts name is an image of the release.

    An image that the spec lists with the same source, or that another chart names too, is that
    one. Of a tag that is named with and without a digest, the one with the digest is both.

    Args:
        spec: What was written.
        found: References that each chart names, by the chart's source.

    Raises:
        MalformedError: An image cannot be called what it would be, two would be called the same,
            or two charts want one in different ways.
    """
    wanted = [
        _Wanted(chart, reference, parse_reference(reference))
        for chart in spec.charts
        for reference in found.get(chart.source, ())
    ]
    for chart in spec.charts:
        _require_used(chart, [item.source for item in wanted if item.chart is chart])
    sources = dict.fromkeys(item.source for item in wanted)
    listed = [image.source for image in spec.images]
    images = [
        _image(source, [item for item in wanted if covers(source, item.source)])
        for source in sources
        if not _is_covered(source, listed)
        and not _is_covered(source, (other for other in sources if other != source))
    ]
    _require_distinct([*spec.images, *images])
    try:
        return replace(spec, images=(*spec.images, *sorted(images, key=lambda image: image.tag)))
    except ValueError as error:
        raise MalformedError(f"images of charts: {error}", hint=_HINT) from error


@dataclass(frozen=True, slots=True)
class _Wanted:
    chart: ThirdPartyChart
    reference: str
    source: RegistrySource


def _is_covered(source: RegistrySource, others: Iterable[object]) -> bool:
    return any(isinstance(other, RegistrySource) and covers(other, source) for other in others)


def _image(source: RegistrySource, wanted: Sequence[_Wanted]) -> ImageSpec:
    charts = [item.chart for item in wanted]
    names = dict(name for item in wanted for name in _names(item))
    if len(set(names.values())) > 1:
        raise MalformedError(f"image {source}: `names:` give it two: {', '.join(names.values())}")
    if len({chart.fetch for chart in charts}) > 1:
        raise MalformedError(
            f"image {source}: {' and '.join(chart.source for chart in charts)} name it and do not "
            "say alike how to take it",
            hint="give them the same platform, attached and plainHttp, or list it in `images:`",
        )
    return ImageSpec(
        tag=_tag(source, next(iter(names.values()), ""), charts[0]),
        source=source,
        fetch=charts[0].fetch,
    )


def _names(item: _Wanted) -> Iterator[tuple[str, str]]:
    for reference, name in item.chart.names.items():
        if parse_reference(reference) == item.source:
            yield f"{item.chart.source} {reference}", name


def _tag(source: RegistrySource, given: str, chart: ThirdPartyChart) -> ImageTag:
    name, _, tag = given.partition(":")
    digest = f"sha256-{source.digest.id16}" if source.digest else ""
    path = source.repository.partition("/")[2]
    try:
        return ImageTag(name or path.replace("/", "-"), tag or source.tag or digest)
    except ValueError as error:
        raise MalformedError(
            f"chart {chart.source}: image {source}: {error}", hint=_HINT
        ) from error


def _require_used(chart: ThirdPartyChart, sources: Sequence[RegistrySource]) -> None:
    for reference in chart.names:
        if parse_reference(reference) not in sources:
            raise MalformedError(
                f"chart {chart.source}: names: {reference}: the chart names no such image",
                hint="it names: " + (", ".join(str(source) for source in sources) or "none"),
            )


def _require_distinct(images: Sequence[ImageSpec]) -> None:
    """Refuse two repositories under one name: a person would take one for the other."""
    repositories: dict[str, ImageSpec] = {}
    tags: dict[ImageTag, ImageSpec] = {}
    for image in images:
        other = repositories.setdefault(image.tag.name, image)
        if _repository(other) != _repository(image) or tags.setdefault(image.tag, image) != image:
            raise MalformedError(
                f"images {other.source} and {image.source} would both be called {image.tag.name}",
                hint=_HINT,
            )


def _repository(image: ImageSpec) -> str:
    source = image.source
    return source.repository if isinstance(source, RegistrySource) else str(source)
