"""The release spec: what goes into a release, and where each part comes from."""

from __future__ import annotations

import re
import time
from calendar import timegm
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from bundler.document import Document, Table, utc_time
from bundler.image_reference import NamedImage
from bundler.jsontext import MAX_INTEGER
from bundler.manifest import MAX_ARCHIVES, MODEL_TYPES, Model, Release, require_unique
from bundler.reference import ImageTag, file_name, relative_path
from bundler.source import FetchOptions, Source, local_path, parse_source, read_fetch_options
from bundler.spec_charts import ThirdPartyChart, read_third_party_chart

SPEC_FORMAT = 1
_MAX_CHECKPOINTS = MAX_ARCHIVES - 1
_NUMBERS = re.compile(r"v?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?((?:[-+][0-9A-Za-z.+-]+)?)")
# Source: Semantic Versioning 2.0.0, the expression of its FAQ.
_SEMVER = re.compile(
    r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)"
    r"(?:-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """One image.

    Attributes:
        tag: Name and tag in the bundle.
        source: Where it comes from.
        fetch: How it is taken from there.
        named: Where charts of others name it, each place with the chart's source; nowhere, of an
            image that the spec lists.
    """

    tag: ImageTag
    source: Source
    fetch: FetchOptions = field(default_factory=FetchOptions)
    named: tuple[tuple[str, NamedImage], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartSpec:
    """The chart: its directory, relative to the spec, and the SemVer that its copy gets."""

    path: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """A file that the rules would refuse, and why this release may carry it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One file of a checkpoint: its path there, and where it lies, relative to the spec."""

    path: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSpec:
    """One checkpoint, which comes from a directory, from listed files, or in an archive of ours.

    Attributes:
        name: The archive's file name without ``.tar``.
        root: The archive's one top-level directory.
        source: Directory of its files, relative to the spec.
        files: Its files one by one.
        archive: A checkpoint archive that is taken over as it is, relative to the spec.
        allow: Files that would be refused otherwise.
    """

    name: str
    root: str
    source: str | None = None
    files: tuple[ListedFile, ...] = ()
    archive: str | None = None
    allow: tuple[Allowance, ...] = ()

    def __post_init__(self) -> None:
        if sum(map(bool, (self.source, self.files, self.archive))) != 1:
            raise ValueError("expected one of source, files and archive, to say where it is")
        require_unique("path", (file.path for file in self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What goes into one release. Paths are relative to the directory of the spec."""

    release: Release
    images: tuple[ImageSpec, ...]
    chart: ChartSpec
    scripts: tuple[str, ...]
    checkpoints: tuple[CheckpointSpec, ...]
    models: tuple[Model, ...]
    charts: tuple[ThirdPartyChart, ...] = ()

    def __post_init__(self) -> None:
        require_unique("image", (str(image.tag) for image in self.images))
        require_unique("chart", (chart.source for chart in self.charts))
        require_unique("checkpoint", (checkpoint.name for checkpoint in self.checkpoints))
        require_unique("script", (PurePosixPath(script).name for script in self.scripts))

    @property
    def mtime(self) -> int:
        """The release's time in seconds since 1970, which every file in its archives carries."""
        return timegm(time.strptime(self.release.created, "%Y-%m-%dT%H:%M:%SZ"))


def read_spec(document: Document) -> Spec:
    """Read a release spec.

    Raises:
        MalformedError: It breaks a rule; with the line and column.
    """
    table = document.table()
    if table.integer("formatVersion", 1, MAX_INTEGER) != SPEC_FORMAT:
        table.refuse("formatVersion", f"this version reads {SPEC_FORMAT} only")
    fields = {key: table.table(key) for key in ("release", "chart")}
    lists = {key: table.tables(key) for key in ("images", "charts", "checkpoints")}
    scripts = table.parse_all("scripts", _script)
    model_tables = table.named_tables("models", str)
    # Before anything is read: a mistyped field is told as such, not as what it leaves missing.
    table.close()
    release = _read_release(fields["release"])
    images = tuple(map(_read_image, lists["images"]))
    # The chart asks for them by name.
    table.explain(lambda: require_unique("image", (image.tag.name for image in images)))
    charts = tuple(map(read_third_party_chart, lists["charts"]))
    chart = _read_chart(fields["chart"], release)
    if len(lists["checkpoints"]) > _MAX_CHECKPOINTS:
        table.refuse(
            "checkpoints",
            f"expected at most {_MAX_CHECKPOINTS}, got {len(lists['checkpoints'])}: no release of "
            f"more than {MAX_ARCHIVES} archives, the bundle among them, can be signed",
        )
    checkpoints = tuple(map(_read_checkpoint, lists["checkpoints"]))
    names = {checkpoint.name for checkpoint in checkpoints}
    models = tuple(_read_model(key, model, names) for key, model in model_tables)
    return table.explain(
        lambda: Spec(
            release=release,
            images=images,
            chart=chart,
            scripts=scripts,
            checkpoints=checkpoints,
            models=models,
            charts=charts,
        )
    )


def semver(text: str) -> str:
    """Make a release's version a SemVer, which Helm demands of charts.

    ``2026.11`` becomes ``2026.11.0``, ``2026.01.0`` becomes ``2026.1.0``, a leading ``v`` goes.

    Raises:
        ValueError: No SemVer can be made of it.
    """
    found = _NUMBERS.fullmatch(text)
    if found:
        major, minor, patch = (int(number or 0) for number in found.groups()[:3])
        text = f"{major}.{minor}.{patch}{found[4]}"
    if _SEMVER.fullmatch(text) is None:
        raise ValueError(f"not a SemVer, such as 1.2.3: {text[:80]!r}")
    return text


def _read_release(table: Table) -> Release:
    release = table.explain(
        lambda: Release(
            name=table.text("name"),
            version=table.text("version"),
            sequence=table.integer("sequence", 1, MAX_INTEGER),
            created=table.parse("created", _calendar_time),
            expires=table.parse_optional("expires", _calendar_time),
        )
    )
    table.close()
    return release


def _calendar_time(text: str) -> str:
    try:
        time.strptime(utc_time(text), "%Y-%m-%dT%H:%M:%SZ")
    except ValueError as error:
        raise ValueError(f"not a time: {text[:40]!r}; expected YYYY-MM-DDThh:mm:ssZ") from error
    return text


def _read_image(table: Table) -> ImageSpec:
    source = table.parse("source", parse_source)
    if "tag" not in table and not source.tag:
        table.refuse("source", f"{source} has no tag; write one, or give the image a tag")
    image = ImageSpec(
        tag=table.explain(lambda: ImageTag(table.text("name"), table.text("tag", source.tag))),
        source=source,
        fetch=read_fetch_options(table),
    )
    table.close()
    return image


def _read_chart(table: Table, release: Release) -> ChartSpec:
    path = table.parse("path", local_path)
    if "version" in table:
        version = table.parse("version", _exact_semver)
    else:
        version = table.explain(lambda: _version_of(release), "version")
    table.close()
    return ChartSpec(path=path, version=version)


def _version_of(release: Release) -> str:
    try:
        return semver(release.version)
    except ValueError as error:
        raise ValueError(f"missing, and release.version makes none: {error}") from error


def _exact_semver(text: str) -> str:
    if semver(text) != text:
        raise ValueError(f"not a SemVer: {text[:80]!r}; did you mean {semver(text)!r}?")
    return text


def _script(text: str) -> str:
    file_name(PurePosixPath(local_path(text)).name)
    return text


def _read_checkpoint(table: Table) -> CheckpointSpec:
    name = table.parse("name", file_name)
    root = table.parse("root", file_name, name)
    source = table.parse_optional("source", local_path)
    files = tuple(map(_read_listed, table.tables("files")))
    archive = table.parse_optional("archive", local_path)
    allow = tuple(map(_read_allowance, table.tables("allow")))
    table.close()
    return table.explain(
        lambda: CheckpointSpec(
            name=name, root=root, source=source, files=files, archive=archive, allow=allow
        )
    )


def _read_listed(table: Table) -> ListedFile:
    source = table.parse("source", local_path)
    file = ListedFile(
        path=table.parse("path", relative_path, PurePosixPath(source).name), source=source
    )
    table.close()
    return file


def _read_allowance(table: Table) -> Allowance:
    allowance = Allowance(path=table.parse("path", relative_path), reason=table.text("reason"))
    table.close()
    return allowance


def _read_model(key: str, table: Table, checkpoints: set[str]) -> Model:
    checkpoint = table.text("checkpoint")
    if checkpoint not in checkpoints:
        known = ", ".join(sorted(checkpoints)) or "none"
        table.refuse("checkpoint", f"there is no checkpoint {checkpoint!r}; there are: {known}")
    model = table.explain(
        lambda: Model(
            key=key,
            checkpoint=checkpoint,
            model_name=table.text("modelName"),
            model_type=table.choice("modelType", MODEL_TYPES),
            gpus=table.integer("gpus", 1, 8),
        )
    )
    table.close()
    return model
