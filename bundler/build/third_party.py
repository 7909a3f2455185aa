"""Charts of others: read, searched for images, held to their lock, put into a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.archive.files import read_limited
from bundler.build.lookups import try_all
from bundler.chart_images import with_chart_images
from bundler.charts.archive import MAX_ARCHIVE_BYTES, read_chart_archive
from bundler.charts.rendering import ChartRenderer
from bundler.charts.third_party import CarriedChart, find_images
from bundler.closure import by_source, require_linked
from bundler.digest import Digest
from bundler.errors import CheckError, ContentError, MalformedError, printable
from bundler.events import Emit, Finished, Noted, Started
from bundler.image_reference import NamedImage, covers, parse_reference
from bundler.lock_charts import LockedChartImage, LockedThirdPartyChart, LockedValues
from bundler.lock_images import LOCK_HINT, LockedImage
from bundler.lockfile import Lock
from bundler.manifest import Chart, Image, require_unique
from bundler.manifest_images import running
from bundler.source import RegistrySource
from bundler.spec import ImageSpec, Spec
from bundler.spec_charts import ThirdPartyChart
from bundler.yamltext import MAX_YAML_BYTES

_HINT = "it changed since; run `bundle lock` if that is meant"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundChart:
    """A chart of others, and every image that it names.

    Attributes:
        spec: What the spec says of it.
        version: What the chart says of itself.
        carried: As the bundle carries it.
        images: Every place that names an image, sorted by image.
    """

    spec: ThirdPartyChart
    version: str
    carried: CarriedChart
    images: tuple[NamedImage, ...]

    @property
    def references(self) -> tuple[str, ...]:
        """The images, as the chart writes them, once each."""
        return tuple(dict.fromkeys(item.image for item in self.images))

    @property
    def chart(self) -> Chart:
        """What a manifest says of it."""
        carried = self.carried
        return Chart(
            name=carried.name,
            version=self.version,
            path=f"charts/{carried.name}-{self.version}.tgz",
            digest=Digest.of(carried.content),
            values=None if carried.values is None else f"charts/{carried.name}.values.yaml",
            rules=carried.rules,
        )

    @property
    def files(self) -> dict[str, bytes]:
        """What of it lies in a bundle, by path."""
        chart = self.chart
        files = {chart.path: self.carried.content}
        if chart.values is not None and self.carried.values is not None:
            files[chart.values] = self.carried.values
        return files


def find_charts(
    spec: Spec,
    base: Path,
    lock: Lock | None,
    *,
    own_name: str,
    charts: ChartRenderer,
    scratch: Path,
    emit: Emit,
) -> tuple[FoundChart, ...]:
    """Read every chart of others and find the images that it names.

    What is wrong with any of them is told in one error, as ``try_all`` tells it.

    Args:
        spec: What goes into the release.
        base: The directory of the spec.
        lock: What the charts must be, and name; None to take what is there.
        own_name: Of the release's own chart.
        charts: What renders them.
        scratch: A directory to write them to.
        emit: Told of each, and of what rendering may not show.

    Raises:
        MalformedError: An archive is none, two charts have one name or one path in the bundle, or
            the lock calls a chart otherwise.
        ContentError: An archive or a file of values is not the locked one, or names other images.
        CheckError: A chart does not render.
        WorldError: A file or a program is missing or fails.
    """
    locked = {chart.source: chart for chart in lock.charts} if lock else {}

    def look(item: ThirdPartyChart) -> FoundChart:
        emit(Started("render", item.source))
        one = _find(item, base, locked.get(item.source), charts, scratch, emit)
        emit(Finished(item.source))
        return one

    found = try_all(spec.charts, look, problem="charts cannot be taken")
    try:
        require_unique("chart", (own_name, *(chart.carried.name for chart in found)))
        paths = (path for chart in found for path in chart.files)
        require_unique("path", (f"charts/{own_name}", *paths))
    except ValueError as error:
        raise MalformedError(
            str(error), hint="call a chart otherwise with its `name:` in the spec"
        ) from error
    return found


def with_found_images(spec: Spec, found: Sequence[FoundChart]) -> Spec:
    """Give the spec in which the images of charts are images of the release.

    Each of them knows which places name it.

    Raises:
        MalformedError: One cannot be called what it would be.
    """
    full = with_chart_images(spec, {chart.spec.source: chart.references for chart in found})
    added = full.images[len(spec.images) :]
    named = (replace(image, named=tuple(_places(image, found))) for image in added)
    return replace(full, images=(*spec.images, *named))


def _places(image: ImageSpec, found: Sequence[FoundChart]) -> Iterator[tuple[str, NamedImage]]:
    for chart in found:
        for place in chart.images:
            source = image.source
            if isinstance(source, RegistrySource) and covers(source, parse_reference(place.image)):
                yield chart.spec.source, place


def locked_charts(
    found: Sequence[FoundChart], images: Sequence[LockedImage]
) -> tuple[LockedThirdPartyChart, ...]:
    """Give what a lock says of charts whose images are locked."""
    return tuple(_locked(chart, images) for chart in found)


def check_closures(found: Sequence[FoundChart], images: Sequence[Image]) -> None:
    """Hold every image that charts name to the images that were put into the release.

    Raises:
        CheckError: One is not there; the message has all such places.
    """
    find = by_source(running(images))
    for chart in found:
        problem = f"chart {chart.carried.name}: names images that are not in the release"
        require_linked(chart.images, find, problem=problem)


def _find(
    spec: ThirdPartyChart,
    base: Path,
    locked: LockedThirdPartyChart | None,
    charts: ChartRenderer,
    scratch: Path,
    emit: Emit,
) -> FoundChart:
    content = _read(spec, base)
    archive = read_chart_archive(content, name=printable(str(base / spec.source)))
    values = None
    if spec.values is not None:
        values = read_limited(base / spec.values, limit=MAX_YAML_BYTES)
    if locked is not None:
        _require(f"chart {spec.source}", locked.digest, content)
        if locked.values is not None and values is not None:
            _require(f"values {spec.values}", locked.values.digest, values)
    name = spec.name or archive.name
    if locked is not None and locked.name != name:
        raise MalformedError(
            f"chart {spec.source}: spec calls it {name}, lock calls it {locked.name}",
            hint=LOCK_HINT,
        )
    carried = CarriedChart(name=name, content=content, values=values, rules=spec.rules)
    images = find_images(carried, charts=charts, scratch=scratch)
    for note in images.notes:
        emit(Noted(printable(note)))
    found = FoundChart(spec=spec, version=archive.version, carried=carried, images=images.images)
    if locked is not None:
        _require_same_images(found, locked)
    return found


def _read(spec: ThirdPartyChart, base: Path) -> bytes:
    path = base / spec.source
    if path.is_dir():
        raise MalformedError(
            f"{printable(str(path))}: expected the archive of a chart, got a directory",
            hint="`helm package DIRECTORY` makes one",
        )
    content = read_limited(path.resolve(), limit=MAX_ARCHIVE_BYTES)
    if spec.digest is not None:
        _require(f"chart {spec.source}", spec.digest, content, "sha256 in the spec is another")
    return content


def _require(what: str, expected: Digest, content: bytes, hint: str = _HINT) -> None:
    got = Digest.of(content)
    if got != expected:
        raise ContentError(f"{what}: expected {expected}, got {got}", hint=hint)


def _require_same_images(found: FoundChart, locked: LockedThirdPartyChart) -> None:
    got, expected = set(found.references), set(locked.references)
    if got != expected:
        told = [f"{image} is not locked" for image in sorted(got - expected)]
        told += [f"{image} is not named any more" for image in sorted(expected - got)]
        raise ContentError(
            f"chart {found.carried.name}: {printable('; '.join(told))}",
            hint="another helm may render otherwise; run `bundle lock` and look at what changed",
        )


def _locked(found: FoundChart, images: Sequence[LockedImage]) -> LockedThirdPartyChart:
    values = found.carried.values
    pinned = None
    if found.spec.values is not None and values is not None:
        pinned = LockedValues(path=found.spec.values, digest=Digest.of(values))
    return LockedThirdPartyChart(
        source=found.spec.source,
        name=found.carried.name,
        version=found.version,
        digest=Digest.of(found.carried.content),
        values=pinned,
        rules=found.spec.rules,
        images=tuple(_locked_images(found, images)),
    )


def _locked_images(found: FoundChart, images: Sequence[LockedImage]) -> Iterator[LockedChartImage]:
    find = by_source(images)
    for reference in found.references:
        image = find(reference)
        if image is None:
            raise CheckError(f"chart {found.carried.name}: {reference} is not in the release")
        places = {
            printable(f"{item.object} {item.container} ({item.how})")
            for item in found.images
            if item.image == reference
        }
        yield LockedChartImage(
            reference=reference,
            tag=image.tag,
            digest=image.digest,
            found_in=tuple(sorted(places)),
        )
