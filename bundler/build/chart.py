"""The Helm chart of a release: read, preset to its images, proven to name no others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from bundler.archive.files import read_limited
from bundler.build.presets import KeyPath, preset, scalar
from bundler.build.source_tree import files_below
from bundler.charts.archive import check_schemas
from bundler.charts.own import IMAGE_VALUES, REGISTRY, own_images
from bundler.charts.rendering import ChartRenderer
from bundler.closure import require_linked
from bundler.digest import Digest, tree_digest
from bundler.errors import CheckError, MalformedError, printable
from bundler.events import Emit
from bundler.reference import ImageTag, file_name
from bundler.yamltext import read_yaml

ChartFiles = Mapping[str, bytes]

# Source: helm, pkg/chart/loader: the most bytes that it takes in one file.
_MAX_FILE_BYTES = 5 << 20
_MAX_FILES = 1000
_ABOUT, _VALUES, _IGNORE = "Chart.yaml", "values.yaml", ".helmignore"


def read_chart(directory: Path, emit: Emit) -> dict[str, bytes]:
    """Read the files of a chart, by their paths below its directory.

    Raises:
        MalformedError: There is no such directory; or it holds a link, a hidden file, something
            too large for a chart, or a schema that names another document.
    """
    found = files_below(directory, emit)
    name = printable(str(directory))
    if len(found) > _MAX_FILES:
        raise MalformedError(f"{name}: expected at most {_MAX_FILES} files, got {len(found)}")
    for file in found:
        hidden = any(part.startswith(".") for part in file.path.split("/"))
        if hidden and file.path != _IGNORE:
            raise MalformedError(f"{name}: hidden file in a chart: {file.path}")
    files = {file.path: read_limited(file.real, limit=_MAX_FILE_BYTES) for file in found}
    for needed in (_ABOUT, _VALUES):
        if needed not in files:
            raise MalformedError(f"{name}: not a chart: there is no {needed}")
    check_schemas(files, name=name)
    return files


def chart_digest(files: ChartFiles) -> Digest:
    """Give the identity of a chart's files."""
    return tree_digest((path, len(data), Digest.of(data)) for path, data in files.items())


def chart_name(files: ChartFiles, *, name: str) -> str:
    """Read what a chart calls itself.

    Raises:
        MalformedError: It has no name, or one that cannot be a directory.
    """
    about = read_yaml(files[_ABOUT], name=f"{name}/{_ABOUT}")
    return about.table().parse("name", file_name)


def preset_chart(
    files: ChartFiles,
    *,
    version: str,
    app_version: str,
    images: Collection[ImageTag],
    name: str,
) -> dict[str, bytes]:
    """Write a release's version and image tags into a chart.

    The chart's own values say by name which image it wants in each place.

    Args:
        files: The chart as it lies in the source tree.
        version: SemVer of this release's chart.
        app_version: The release's version as people write it.
        images: All images of the release.
        name: What to call the chart in an error.

    Raises:
        MalformedError: It wants an image that is not there, or has no plain line to set.
    """
    values = f"{name}/{_VALUES}"
    document = read_yaml(files[_VALUES], name=values)
    by_name = {image.name: image for image in images}
    texts: dict[KeyPath, str] = {}
    for path in IMAGE_VALUES:
        wanted = scalar(document, (*path, "name"))
        if wanted not in by_name:
            document.refuse(
                (*path, "name"),
                f"the release has no image {wanted!r}",
                hint=f"it has: {', '.join(sorted(by_name)) or 'none'}; add it to the spec's images",
            )
        texts |= {(*path, "name"): wanted, (*path, "tag"): by_name[wanted].tag}
    about: dict[KeyPath, str] = {("version",): version, ("appVersion",): app_version}
    return {
        **files,
        _ABOUT: preset(files[_ABOUT], about, name=f"{name}/{_ABOUT}"),
        _VALUES: preset(files[_VALUES], texts, name=values),
    }


def check_closure(
    files: ChartFiles,
    *,
    images: Collection[ImageTag],
    charts: ChartRenderer,
    scratch: Path,
    name: str,
) -> None:
    """Render a chart with everything switched on and hold each image that it names to the release.

    Args:
        files: The chart as it goes into the bundle.
        images: All images of the release.
        charts: What renders it.
        scratch: A directory to write the chart to.
        name: What to call the chart.

    Raises:
        CheckError: It does not render, or would come to something else in a cluster, or names an
            image that is not in the release.
    """
    named = own_images(files, charts=charts, scratch=scratch, name=name)
    expected = {f"{REGISTRY}/{image}": image for image in images}
    problem = f"chart {name}: expected images of this release only, got"
    hint = "take every image from the values image, downloader.image and docs.image"
    if not require_linked(named, expected.get, problem=problem, hint=hint):
        raise CheckError(f"{problem} none", hint=hint)
