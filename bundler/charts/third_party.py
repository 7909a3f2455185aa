"""Charts of others: rendered with the values they are carried with, and searched for images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import atomic_write_bytes
from bundler.charts.archive import ChartArchive, read_chart_archive
from bundler.charts.rendering import ChartRenderer, problem, varying
from bundler.closure import listed
from bundler.errors import CheckError, MalformedError, ToolFailedError, printable
from bundler.image_discovery import (
    LIST_ANNOTATIONS,
    annotated_images,
    discover,
    mentioned,
    unused_fields,
)
from bundler.image_reference import NamedImage, is_reference
from bundler.manifest_charts import ChartRules
from bundler.rendered_objects import Object
from bundler.yamltext import read_list, read_objects

_MAX_TOLD = 5
_MAX_RELEASE_NAME = 53
# Rendered a second time with these, so that nothing hides behind the usual ones; nobody has them.
_NAMESPACE, _OTHER_NAMESPACE, _OTHER = "default", "elsewhere-58f6d1", "-58f6d1"
_MAX_OTHER = _MAX_RELEASE_NAME - len(_OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImages:
    """What was found in one chart.

    Attributes:
        images: Every place that names an image, sorted by image.
        not_images: The places with what the rules say is none, each with the reason.
        notes: What a person should look at, a line each: what rendering here may not show.
    """

    images: tuple[NamedImage, ...]
    not_images: tuple[tuple[NamedImage, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedChart:
    """A chart of others as a bundle carries it.

    Attributes:
        name: What it is called there.
        content: The archive's bytes.
        values: The bytes of its values; None for the chart's own alone.
        rules: How it is rendered.
    """

    name: str
    content: bytes
    values: bytes | None
    rules: ChartRules

    @property
    def release_name(self) -> str:
        """A name that Helm takes for a release of it."""
        name = re.sub(r"[^a-z0-9]+", "-", self.name.lower())
        return name[:_MAX_RELEASE_NAME].strip("-")


def find_images(chart: CarriedChart, *, charts: ChartRenderer, scratch: Path) -> FoundImages:
    """Render a chart, as for a first installation and as for an upgrade, and find its images.

    Both are done under a second name and in a second namespace too.

    Args:
        chart: Which one.
        charts: What renders it.
        scratch: A directory to write it to.

    Raises:
        CheckError: It does not render, a pod would run what is no image, or its rules name a field
            or a text that is in no object.
        MalformedError: It is no chart, or comes to something that is no Kubernetes object.
    """
    archive = read_chart_archive(chart.content, name=f"chart {chart.name}")
    usual, otherwise = _render(chart, charts, scratch)
    objects = [*usual, *otherwise]
    if unused := unused_fields(objects, chart.rules.image_fields):
        raise CheckError(
            f"chart {chart.name}: imageFields: no object has {', '.join(map(str, unused))}",
            hint="lists on the way are gone through by themselves: Kind:path.to.field",
        )
    try:
        found = discover(usual, chart.rules.image_fields)
        more = discover(otherwise, chart.rules.image_fields)
    except MalformedError as error:
        raise MalformedError(f"chart {chart.name}: {error}") from error
    annotated, notes = _annotated(archive)
    declared = [
        NamedImage(f"Chart/{archive.name}", "startsLater", image, "declared")
        for image in chart.rules.starts_later
    ]
    known = {(item.image, item.in_pod) for item in found}
    found += [item for item in more if (item.image, item.in_pod) not in known]
    images = sorted([*found, *annotated, *declared], key=lambda item: (item.image, item))
    mentions = mentioned(objects, images)
    reasons = _reasons(chart, images, mentions)
    _require_references(chart, [item for item in images if item.image not in reasons])
    told = [*notes, *_doubts(archive, images, [m for m in mentions if m.image not in reasons])]
    return FoundImages(
        images=tuple(item for item in images if item.image and item.image not in reasons),
        not_images=tuple(
            (item, reasons[item.image]) for item in (*images, *mentions) if item.image in reasons
        ),
        notes=tuple(f"chart {chart.name}: {note}" for note in told),
    )


def _reasons(
    chart: CarriedChart, images: Sequence[NamedImage], mentions: Sequence[NamedImage]
) -> dict[str, str]:
    """Give why each text that the rules say is no image is none, if they may say so."""
    reasons = {item.image: item.reason for item in chart.rules.not_images}
    run = [i for i in images if i.in_pod and i.image in reasons and is_reference(i.image)]
    if run:
        raise CheckError(
            f"chart {chart.name}: notImages: a pod runs {listed(run)}",
            hint="what a container names is an image; switch it off in the chart's `values:`",
        )
    if unused := reasons.keys() - {item.image for item in (*images, *mentions)}:
        raise CheckError(
            f"chart {chart.name}: notImages: nothing names {', '.join(sorted(unused))}",
            hint="write it as the chart does, or take it out",
        )
    return reasons


def _require_references(chart: CarriedChart, images: Sequence[NamedImage]) -> None:
    """Refuse what a pod would run that no runtime can read."""
    for item in images:
        if item.in_pod and item.image and not is_reference(item.image):
            raise CheckError(
                f"chart {chart.name}: {item.object}, {item.container}: expected a reference to "
                f"an image, got {printable(item.image)!r}",
                hint="give what it is made of in the chart's `values:`; if nothing runs it as it "
                "stands there, name it in notImages, and what is run in startsLater",
            )


def _render(
    chart: CarriedChart, charts: ChartRenderer, scratch: Path
) -> tuple[list[Object], list[Object]]:
    """Give what a chart comes to, and what else it comes to under other names, if it does."""
    path = scratch / f"{chart.name}.tgz"
    atomic_write_bytes(path, chart.content)
    values = []
    if chart.values is not None:
        values = [scratch / f"{chart.name}.values.yaml"]
        atomic_write_bytes(values[0], chart.values)
    name = f"chart {chart.name}, rendered"
    seen: set[str] = set()
    rendered: list[list[Object]] = []
    other = f"{chart.release_name[:_MAX_OTHER]}{_OTHER}"
    for release, namespace in ((chart.release_name, _NAMESPACE), (other, _OTHER_NAMESPACE)):
        rendered.append([])
        for upgrade in (False, True):
            text = _template(chart, charts, path, release, namespace, values, upgrade=upgrade)
            # Most charts come to the same each time, but for the names.
            usual = text.replace(namespace, _NAMESPACE).replace(release, chart.release_name)
            if usual not in seen:
                seen.add(usual)
                rendered[-1] += read_objects(usual, name=name)
    return rendered[0], rendered[1]


def _template(
    chart: CarriedChart,
    charts: ChartRenderer,
    path: Path,
    release: str,
    namespace: str,
    values: Sequence[Path],
    *,
    upgrade: bool,
) -> str:
    rules = chart.rules
    try:
        return charts.template(
            path,
            release,
            namespace,
            values,
            kube_version=rules.kube_version,
            api_versions=rules.api_versions,
            upgrade=upgrade,
        )
    except ToolFailedError as error:
        raise CheckError(
            f"chart {chart.name}: does not render: {problem(error)}",
            hint="give what it asks for in its `values:`, `kubeVersion:` or `apiVersions:`",
        ) from error


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
    archive: ChartArchive, images: Sequence[NamedImage], mentions: Sequence[NamedImage]
) -> Iterator[str]:
    places = [f"{place} ({what})" for place, what in varying(archive.templates)]
    if places:
        yield (
            f"renders by more than its values: {_some(places)}; images that only a cluster would "
            "show belong into startsLater"
        )
    for item in images:
        if not item.image:
            yield (
                f"{item.object}, {item.container} has no image, or one that is no text; name in "
                "startsLater what it gets elsewhere"
            )
    for item in mentions:
        yield (
            f"{item.object}, {item.container} mentions {item.image}, which is not taken for "
            "an image; if it is one, name it in startsLater"
        )


def _some(places: Sequence[str]) -> str:
    more = len(places) - _MAX_TOLD
    return ", ".join(places[:_MAX_TOLD]) + (f" and {more} more" if more > 0 else "")
