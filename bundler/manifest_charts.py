"""The charts of a release, as MANIFEST.json has them: our own, and archives of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bundler.digest import Digest, tree_digest
from bundler.document import Table
from bundler.image_reference import ImageField, parse_reference
from bundler.reference import file_name, plain_text, relative_path

ARCHIVE_SUFFIX, VALUES_SUFFIX = ".tgz", ".values.yaml"
_KUBE_VERSION = re.compile(
    r"v?[0-9]{1,4}\.[0-9]{1,4}(?:\.[0-9]{1,6})?(?:[-+][0-9A-Za-z.+-]{1,64})?"
)
_API_VERSION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9./-]{0,250}[A-Za-z0-9])?")

Files = Mapping[str, tuple[int, Digest]]


@dataclass(frozen=True, slots=True, order=True)
class NotImage:
    """A text of a chart that reads like an image and is none, and why not."""

    image: str
    reason: str

    def __post_init__(self) -> None:
        plain_text(self.image)
        plain_text(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartRules:
    """How a chart of others is rendered, and which images it comes to that rendering cannot tell.

    Attributes:
        kube_version: Version of Kubernetes that it is told; None for ours.
        api_versions: APIs that it is told the cluster has, beyond those of Kubernetes.
        image_fields: Fields that hold images, beyond those that are found by themselves.
        starts_later: References to images that what it installs starts later.
        not_images: Texts that read like images and are none.
    """

    kube_version: str | None = None
    api_versions: tuple[str, ...] = ()
    image_fields: tuple[ImageField, ...] = ()
    starts_later: tuple[str, ...] = ()
    not_images: tuple[NotImage, ...] = ()

    def __post_init__(self) -> None:
        if self.kube_version is not None and _KUBE_VERSION.fullmatch(self.kube_version) is None:
            raise ValueError(f"not a version of Kubernetes: {self.kube_version[:80]!r}")
        for text in self.api_versions:
            if _API_VERSION.fullmatch(text) is None:
                raise ValueError(f"not a version of an API: {text[:200]!r}; such as group/v1/Kind")
        for text in self.starts_later:
            parse_reference(text)
        if len({item.image for item in self.not_images}) != len(self.not_images):
            raise ValueError("notImages: an image stands there twice")
        for item in self.not_images:
            if item.image in self.starts_later:
                raise ValueError(f"{item.image}: in startsLater, and in notImages too")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One Helm chart of the bundle.

    Attributes:
        name: What it is called here; unique.
        version: Its own.
        path: Its directory, or for a chart of others its archive, which ends in ``.tgz``.
        digest: Of a directory the identity of its files, paths below it; else of the archive.
        values: The file of values that it is meant to be installed with; None where there is none.
        rules: How it is rendered; of a directory there are none.
    """

    name: str
    version: str
    path: str
    digest: Digest
    values: str | None = None
    rules: ChartRules = field(default_factory=ChartRules)

    def __post_init__(self) -> None:
        file_name(self.name)
        plain_text(self.version)
        relative_path(self.path)
        if self.values is not None:
            _beside(self.path, relative_path(self.values))
        if not self.is_archive and (self.values is not None or self.rules != ChartRules()):
            raise ValueError(f"chart {self.name}: only one that is an archive has values and rules")

    @property
    def is_archive(self) -> bool:
        """Whether it is the archive of a chart of others, carried byte for byte."""
        return self.path.endswith(ARCHIVE_SUFFIX)

    def check_files(self, files: Files) -> None:
        """Hold it to the files of its bundle.

        Args:
            files: Size and digest of each, by path.

        Raises:
            ValueError: It is not among them, or another one is.
        """
        if self.values is not None and self.values not in files:
            raise ValueError(f"chart {self.name}: no {self.values} in the bundle")
        if self.is_archive:
            if self.path not in files or files[self.path][1] != self.digest:
                raise ValueError(
                    f"chart {self.name}: no {self.path} of {self.digest} in the bundle"
                )
            return
        top = f"{self.path}/"
        below = {p.removeprefix(top): files[p] for p in files if p.startswith(top)}
        got = tree_digest((path, size, digest) for path, (size, digest) in below.items())
        if not below or got != self.digest:
            raise ValueError(
                f"chart {self.name}: expected files of {self.digest} below {self.path} "
                f"in the bundle, got {len(below)} of {got}"
            )


def _beside(archive: str, values: str) -> None:
    """Hold a file of values to a place that no other kind of file has."""
    directory = archive.rpartition("/")[0]
    if values.rpartition("/")[0] != directory or not values.endswith(VALUES_SUFFIX):
        raise ValueError(
            f"values: expected {directory}/*{VALUES_SUFFIX}, beside its archive, got {values}"
        )


def from_chart(chart: Chart) -> dict[str, object]:
    """Give what stands in a manifest."""
    common: dict[str, object] = {
        "name": chart.name,
        "version": chart.version,
        "path": chart.path,
        "sha256": chart.digest.hex,
    }
    if not chart.is_archive:
        return common
    return {**common, "values": chart.values, **from_rules(chart.rules)}


def to_chart(table: Table) -> Chart:
    """Read what stands in a manifest."""
    return table.explain(
        lambda: Chart(
            name=table.text("name"),
            version=table.parse("version", plain_text),
            path=table.parse("path", relative_path),
            digest=table.parse("sha256", Digest),
            values=table.parse_optional("values", relative_path),
            rules=to_rules(table),
        )
    )


def from_rules(rules: ChartRules) -> dict[str, object]:
    """Give the fields that stand in a manifest and in a lock."""
    return {
        "kubeVersion": rules.kube_version,
        "apiVersions": list(rules.api_versions),
        "imageFields": [str(item) for item in rules.image_fields],
        "startsLater": list(rules.starts_later),
        "notImages": [{"image": i.image, "reason": i.reason} for i in rules.not_images],
    }


def to_rules(table: Table) -> ChartRules:
    """Read the fields that ``from_rules`` gives; absent ones are empty."""
    return table.explain(
        lambda: ChartRules(
            kube_version=table.parse_optional("kubeVersion", str),
            api_versions=table.texts("apiVersions"),
            image_fields=table.parse_all("imageFields", ImageField.parse),
            starts_later=table.texts("startsLater"),
            not_images=read_not_images(table),
        )
    )


def read_not_images(table: Table) -> tuple[NotImage, ...]:
    """Read the field ``notImages``, which specs, locks and manifests write alike."""
    return tuple(map(_to_not_image, table.tables("notImages")))


def _to_not_image(table: Table) -> NotImage:
    item = table.explain(lambda: NotImage(table.text("image"), table.text("reason")))
    table.close()
    return item
