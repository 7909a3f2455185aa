"""The proof that a release has every image that its charts name: offline, for people and for CI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle_files import BundleFiles, ExtractedBundle, open_bundle_files
from bundler.archive.bundle_reader import BundleReader
from bundler.archive.scratch import scratch_directory
from bundler.charts.archive import MAX_ARCHIVE_BYTES
from bundler.charts.own import REGISTRY, STAND_INS, own_images
from bundler.charts.rendering import ChartRenderer
from bundler.charts.third_party import CarriedChart, find_images
from bundler.closure import Link, by_source, link, missing
from bundler.errors import CheckError, ContentError, MalformedError, printable
from bundler.image_reference import NamedImage
from bundler.manifest import Bundle, Chart, Image, Manifest
from bundler.release import TrustedRelease, find_release, open_release
from bundler.release_files import shown
from bundler.trust import Trust
from bundler.verify.path import (
    BUNDLE,
    EXTRACTED_BUNDLE,
    RELEASE,
    judge_expiry,
    kind_of_path,
)
from bundler.yamltext import MAX_YAML_BYTES

# Source: helm, pkg/chart/loader: the most bytes that it takes in one file.
_MAX_FILE_BYTES = 5 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartClosure:
    """Every place of one chart that names an image, and the image of the release that it means.

    ``not_images`` are the places whose text is none, as the chart's rules say, with the reason.
    """

    name: str
    version: str
    links: tuple[Link[Image], ...]
    not_images: tuple[tuple[NamedImage, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosureReport:
    """Whether a release has every image that its charts name. Truthy when it has.

    Attributes:
        path: What was looked at, as it was given.
        release: Name and version of the release.
        signatures: The ``key8`` of each key that vouches for it.
        charts: Our own chart first.
        damaged: Why the archive of an image cannot be used, by image; it counts as missing.
        notes: What a person should know: staleness, and what rendering may not show.
    """

    path: str
    release: str
    signatures: tuple[str, ...]
    charts: tuple[ChartClosure, ...]
    damaged: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.damaged and not any(missing(chart.links) for chart in self.charts)

    def to_dict(self) -> dict[str, object]:
        """Give it for machines."""
        return {
            "path": self.path,
            "ok": bool(self),
            "release": self.release,
            "signatures": list(self.signatures),
            "charts": [
                {
                    "name": chart.name,
                    "version": chart.version,
                    "images": [_link_to_dict(item) for item in chart.links],
                    "notImages": [
                        {**_place_to_dict(place), "reason": reason}
                        for place, reason in chart.not_images
                    ],
                }
                for chart in self.charts
            ],
            "damaged": [{"image": image, "problem": why} for image, why in self.damaged],
            "notes": list(self.notes),
        }

    def raise_for_missing(self) -> None:
        """Raise where an image is not there.

        Raises:
            CheckError: The message has a line for each place.
        """
        lines = [
            printable(f"chart {chart.name}: {place}: not in the release")
            for chart in self.charts
            for place in missing(chart.links)
        ]
        lines += [f"image {image}: {why}" for image, why in self.damaged]
        if lines:
            head = [f"{self.path}: {len(lines)} images are missing"] if len(lines) > 1 else []
            raise CheckError("\n".join(head + lines), hint="this release would not run complete")


def verify_closure(
    path: Path,
    trust: Trust,
    *,
    charts: ChartRenderer,
    now: str,
    release_dir: Path | None = None,
    allow_expired: bool = False,
) -> ClosureReport:
    """Render every chart of a release and look up each image that it names, asking nobody outside.

    Our own chart is rendered with everything switched on, those of others with the values that
    they are carried with. An image is there if its archive is, and is as signed but for the bytes
    of layers: ``verify_path`` reads those.

    Args:
        path: A release directory, a bundle, or a directory that one was extracted to.
        trust: Whom to trust.
        charts: What renders charts.
        now: UTC seconds, to judge the release's expiry by.
        release_dir: As for ``verify_path``.
        allow_expired: Go on with an expired release, and say so in the report.

    Raises:
        UntrustedError: No key was given, or none of them signed this release.
        StaleError: The release is expired.
        ContentError: A chart differs from what was signed.
        CheckError: A chart does not render.
        MalformedError: ``path`` is a checkpoint, or nothing that we know.
        WorldError: Something cannot be read, or helm is missing.
    """
    charts.require()
    release = open_release(find_release(path, release_dir), trust)
    expired = judge_expiry(release.manifest, now, allow_expired=allow_expired)
    with _open(path, release) as files, scratch_directory() as scratch:
        looking = _Looking(release.manifest, files, charts, scratch)
        own_first = sorted(release.manifest.charts, key=lambda chart: chart.is_archive)
        closures = tuple(looking.close(chart) for chart in own_first)
        return ClosureReport(
            path=shown(path),
            release=release.manifest.release.directory,
            signatures=release.signatures,
            charts=closures,
            damaged=tuple(looking.damaged(closures)),
            notes=(*filter(None, (expired, release.trust.news)), *looking.notes),
        )


def _open(path: Path, release: TrustedRelease) -> BundleFiles:
    kind, bundle = kind_of_path(path, release.manifest), release.manifest.bundle
    opening: dict[str, Callable[[Path, Bundle], BundleFiles]] = {
        RELEASE: open_bundle_files,
        BUNDLE: BundleReader,
        EXTRACTED_BUNDLE: ExtractedBundle,
    }
    if kind not in opening:
        raise MalformedError(
            f"{shown(path)}: expected a release or its bundle, got a {kind}",
            hint="charts and images are in the bundle",
        )
    return opening[kind](path, bundle)


class _Looking:
    def __init__(
        self, manifest: Manifest, files: BundleFiles, charts: ChartRenderer, scratch: Path
    ) -> None:
        self._manifest = manifest
        self._files = files
        self._charts = charts
        self._scratch = scratch
        self.notes: list[str] = []

    def close(self, chart: Chart) -> ChartClosure:
        return self._third_party(chart) if chart.is_archive else self._own(chart)

    def damaged(self, closures: Sequence[ChartClosure]) -> list[tuple[str, str]]:
        used = {item.image.tag for chart in closures for item in chart.links if item.image}
        found = []
        for image in self._manifest.images:
            if image.tag in used:
                try:
                    self._files.image_tree(image)
                except ContentError as error:
                    found.append((str(image.tag), str(error)))
        return found

    def _own(self, chart: Chart) -> ChartClosure:
        top = f"{chart.path}/"
        files = {
            file.path.removeprefix(top): self._files.read(file, limit=_MAX_FILE_BYTES)
            for file in self._manifest.bundle.files
            if file.path.startswith(top)
        }
        self.notes.append(f"chart {chart.name}: {STAND_INS}")
        named = own_images(files, charts=self._charts, scratch=self._scratch, name=chart.name)
        known = {f"{REGISTRY}/{image.tag}": image for image in self._manifest.running}
        links = link(named, known.get)
        return ChartClosure(name=chart.name, version=chart.version, links=links)

    def _third_party(self, chart: Chart) -> ChartClosure:
        carried = CarriedChart(
            name=chart.name,
            content=self._read(chart.path, MAX_ARCHIVE_BYTES),
            values=self._read(chart.values, MAX_YAML_BYTES) if chart.values else None,
            rules=chart.rules,
        )
        found = find_images(carried, charts=self._charts, scratch=self._scratch)
        self.notes += map(printable, found.notes)
        return ChartClosure(
            name=chart.name,
            version=chart.version,
            links=link(found.images, by_source(self._manifest.running)),
            not_images=found.not_images,
        )

    def _read(self, path: str, limit: int) -> bytes:
        return self._files.read(self._manifest.bundle.file(path), limit=limit)


def _link_to_dict(item: Link[Image]) -> dict[str, object]:
    image = item.image
    return {
        **_place_to_dict(item.place),
        "archive": image.tag.archive_path if image else None,
        "digest": str(image.digest) if image else None,
    }


def _place_to_dict(place: NamedImage) -> dict[str, object]:
    return {
        "object": place.object,
        "container": place.container,
        "image": place.image,
        "how": place.how,
    }
