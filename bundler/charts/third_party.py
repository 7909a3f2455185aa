"""Charts of others: rendered with the values they are carried with, and searched for images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import atomic_write_bytes
from bundler.charts.archive import ChartArchive, read_chart_archive
from bundler.charts.rendering import ChartRenderer, problem, varying
from bundler.errors import CheckError, MalformedError, ToolFailedError
from bundler.image_discovery import (
    LIST_ANNOTATIONS,
    Object,
    annotated_images,
    discover,
    mentioned,
    unused_fields,
)
from bundler.images_named import NamedImage
from bundler.manifest_charts import ChartRules
from bundler.yamltext import read_list, read_objects

_MAX_TOLD = 5
_MAX_RELEASE_NAME = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImages:
    """What was found in one chart.

    Attributes:
        images: Every place that names an image, sorted by image.
        notes: What a person should look at, a line each: what rendering here may not show.
    """

    images: tuple[NamedImage, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedChart:
    """A chart of others as a bundle carries it.

    Attributes:
        name: What it is called there; its objects are rendered for a Helm release of that name.
        content: The archive's bytes.
        values: The bytes of its values; None for the chart's own alone.
        rules: How it is rendered.
    """

    name: str
    content: bytes
    values: bytes | None
    rules: ChartRules


def find_images(chart: CarriedChart, *, charts: ChartRenderer, scratch: Path) -> FoundImages:
    """Render a chart, as for a first installation and as for an upgrade, and find its images.

    Args:
        chart: Which one.
        charts: What renders it.
        scratch: A directory to write it to.

    Raises:
        CheckError: It does not render, or a field that should hold images is in no object.
        MalformedError: It is no chart, or comes to something that is no Kubernetes object.
    """
    archive = read_chart_archive(chart.content, name=f"chart {chart.name}")
    objects = _render(chart, charts, scratch)
    if unused := unused_fields(objects, chart.rules.image_fields):
        raise CheckError(
            f"chart {chart.name}: imageFields: no object has {', '.join(map(str, unused))}",
            hint="lists on the way are gone through by themselves: Kind:path.to.field",
        )
    try:
        found = discover(objects, chart.rules.image_fields)
    except ValueError as error:
        raise MalformedError(f"chart {chart.name}: {error}") from error
    annotated, notes = _annotated(archive)
    declared = [
        NamedImage(f"Chart/{archive.name}", "startsLater", image, "declared")
        for image in chart.rules.starts_later
    ]
    images = [*found, *annotated, *declared]
    kept = [item for item in images if item.image not in chart.rules.not_images]
    return FoundImages(
        images=tuple(sorted(kept, key=lambda item: (item.image, item))),
        notes=tuple(
            f"chart {chart.name}: {note}"
            for note in (*notes, *_doubts(archive, objects, images, chart.rules))
        ),
    )


def _render(chart: CarriedChart, charts: ChartRenderer, scratch: Path) -> list[Object]:
    path = scratch / f"{chart.name}.tgz"
    atomic_write_bytes(path, chart.content)
    values = []
    if chart.values is not None:
        values = [scratch / f"{chart.name}.values.yaml"]
        atomic_write_bytes(values[0], chart.values)
    texts: dict[str, None] = {}
    for upgrade in (False, True):
        try:
            text = charts.template(
                path,
                _release_name(chart.name),
                "default",
                values,
                kube_version=chart.rules.kube_version,
                api_versions=chart.rules.api_versions,
                upgrade=upgrade,
            )
        except ToolFailedError as error:
            raise CheckError(
                f"chart {chart.name}: does not render: {problem(error)}",
                hint="give what it asks for in its `values:`, `kubeVersion:` or `apiVersions:`",
            ) from error
        texts[text] = None  # most charts render the same both times
    name = f"chart {chart.name}, rendered"
    return [item for text in texts for item in read_objects(text, name=name)]


def _release_name(name: str) -> str:
    """Make a name that Helm takes for a release."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_MAX_RELEASE_NAME].strip("-")


def _annotated(archive: ChartArchive) -> tuple[list[NamedImage], list[str]]:
    """Read the images that Chart.yaml lists; what cannot be read there is told."""
    images, notes = [], []
    for key in LIST_ANNOTATIONS:
        if key not in archive.annotations:
            continue
        try:
            listed = annotated_images(read_list(archive.annotations[key], name=key))
        except (ValueError, MalformedError) as error:
            notes.append(f"annotation {key} is not read: {error}")
            continue
        images += [
            NamedImage(f"Chart/{archive.name}", f"annotation {key}", image, "annotation")
            for image in listed
        ]
    return images, notes


def _doubts(
    archive: ChartArchive,
    objects: Sequence[Object],
    found: Sequence[NamedImage],
    rules: ChartRules,
) -> Iterator[str]:
    places = [f"{place} ({what})" for place, what in varying(archive.templates)]
    if places:
        yield (
            f"renders by more than its values: {_some(places)}; images that only a cluster would "
            "show belong into startsLater"
        )
    for item in mentioned(objects, found):
        if item.image not in rules.not_images:
            yield (
                f"{item.object}, {item.container} mentions {item.image}, which is not taken for "
                "an image; if it is one, name it in startsLater"
            )


def _some(places: Sequence[str]) -> str:
    more = len(places) - _MAX_TOLD
    return ", ".join(places[:_MAX_TOLD]) + (f" and {more} more" if more > 0 else "")
