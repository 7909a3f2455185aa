"""The Helm chart of a release: read, preset to its images, proven to name no others."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from bundler.archive.files import atomic_write_bytes, read_limited
from bundler.build.presets import KeyPath, preset, scalar
from bundler.build.protocols import ChartRenderer
from bundler.build.source_tree import files_below
from bundler.digest import Digest, tree_digest
from bundler.errors import CheckError, MalformedError, ToolFailedError, printable
from bundler.events import Emit
from bundler.images_named import images_named
from bundler.manifest import MODEL_TYPES
from bundler.reference import ImageTag, file_name
from bundler.yamltext import read_objects, read_yaml

ChartFiles = Mapping[str, bytes]

# Source: helm, pkg/chart/loader: the most bytes that it takes in one file.
_MAX_FILE_BYTES = 5 << 20
_MAX_FILES = 1000
_ABOUT, _VALUES, _IGNORE = "Chart.yaml", "values.yaml", ".helmignore"
# Where the values name an image of the release.
_IMAGES: tuple[KeyPath, ...] = (("image",), ("downloader", "image"), ("docs", "image"))
_REGISTRY = "registry.invalid"
# What makes templates come to other objects in a cluster, or the next time, than here; anywhere in
# a file, so that no way of quoting hides it. Source: Helm, "Template Function List"; Sprig.
_VARYING = re.compile(
    r"""\blookup(?=\s*["`$.(]) | \b(?:IsUpgrade|IsInstall)\b | \.Release\.Revision\b
    | \.Capabilities\b
    | \b(?:getHostByName|uuidv4|shuffle|encryptAES|htpasswd|bcrypt)\b
    | \brand(?:Alpha|Ascii|Numeric|Bytes|Int)\w*
    | \bgen(?:CA|PrivateKey|SelfSignedCert|SignedCert)\w*
    | (?<=[{(|=-])\s*now\b | \bnow(?=\s*[|)}])""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"\{\{-?\s*/\*.*?\*/", re.DOTALL)


def read_chart(directory: Path, emit: Emit) -> dict[str, bytes]:
    """Read the files of a chart, by their paths below its directory.

    Raises:
        NotFoundError: There is no such directory.
        MalformedError: It holds a link, a hidden file, or something too large for a chart.
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
    for path in _IMAGES:
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
    _require_same_everywhere(files, name)
    chart_dir = scratch / name
    for path, content in files.items():
        (chart_dir / path).parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(chart_dir / path, content)
    values = scratch / f"{name}.values.json"
    atomic_write_bytes(values, json.dumps(_everything_on()).encode())
    try:
        text = charts.template(chart_dir, "inference", "models", [values])
    except ToolFailedError as error:
        raise CheckError(f"chart {name}: does not render: {_problem(error)}") from error
    objects = read_objects(text, name=f"chart {name}, rendered")
    _check_images(objects, {f"{_REGISTRY}/{image}" for image in images}, name)


def _require_same_everywhere(files: ChartFiles, name: str) -> None:
    """Refuse templates that come to something else in a cluster than here, where we look."""
    for path, content in sorted(files.items()):
        if "templates" not in path.split("/"):
            continue
        text = _COMMENT.sub(_only_lines, content.decode(errors="replace"))
        if found := _VARYING.search(text):
            line = text.count("\n", 0, found.start()) + 1
            place = f"{printable(path)}:{line}"
            raise CheckError(
                f"chart {name}: {place}: {found[0].strip()!r} would render differently in a "
                "cluster, so its images could not be known now",
                hint="take what differs from a value",
            )


def _only_lines(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def _problem(error: ToolFailedError) -> str:
    lines = [line.strip() for line in error.stderr.splitlines()]
    said = [line for line in lines if line and not line.startswith("Use --debug")]
    return printable("; ".join(said).removeprefix("Error: ")[:1000])


def _check_images(
    objects: Sequence[Mapping[str, object]], expected: Collection[str], name: str
) -> None:
    named = images_named(objects)
    foreign = [str(image) for image in named if image.image not in expected]
    if foreign or not named:
        shown = "; ".join(sorted({printable(text) for text in foreign})) or "no image at all"
        raise CheckError(
            f"chart {name}: expected images of this release only, got {shown}",
            hint="take every image from the values image, downloader.image and docs.image",
        )


def _everything_on() -> dict[str, object]:
    """Give values with every switch of the chart on, so that no image hides behind one."""
    models = {
        f"m{number}": {
            "model": "s3://bucket/model",
            "checkpoint": "checkpoint",
            "modelName": "Model",
            "modelType": kind,
            "gpus": 1,
            "ingressHost": f"m{number}.invalid",
        }
        for number, kind in enumerate(MODEL_TYPES)
    }
    return {
        "image": {"registry": _REGISTRY},
        "docs": {"enabled": True, "ingressHost": "docs.invalid"},
        "ingress": {"enabled": True},
        "authentication": {"secretName": "api-key"},
        "s3": {"secretName": "credentials"},
        "caBundle": {"pem": "-----BEGIN CERTIFICATE-----"},
        "networkPolicy": {"enabled": True},
        "release": {
            "name": "release",
            "manifest": "s3://bucket/MANIFEST.json",
            "manifestSha256": "0" * 64,
        },
        "models": models,
    }
