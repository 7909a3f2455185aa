"""Charts of others in a release spec: archives that are carried with every image that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bundler.digest import Digest
from bundler.document import Table
from bundler.image_reference import ImageField, parse_reference
from bundler.manifest_charts import ARCHIVE_SUFFIX, ChartRules, read_not_images
from bundler.reference import file_name, image_name, image_tag
from bundler.source import FetchOptions, local_path, read_fetch_options

_DISCOVER = ("discover",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThirdPartyChart:
    """A chart of others.

    Attributes:
        source: Its archive, relative to the spec.
        name: What it is called here; None for its own name.
        digest: What the archive must be; None to take what is there.
        values: A file of values, relative to the spec; None for the chart's own alone.
        rules: How it is rendered.
        names: Names of image archives, with a tag behind ``:`` or without, by the reference.
        fetch: How its images are taken.
    """

    source: str
    name: str | None = None
    digest: Digest | None = None
    values: str | None = None
    rules: ChartRules = field(default_factory=ChartRules)
    names: Mapping[str, str] = field(default_factory=dict)
    fetch: FetchOptions = field(default_factory=FetchOptions)


def read_third_party_chart(table: Table) -> ThirdPartyChart:
    """Read one entry of ``charts``.

    Raises:
        MalformedError: It breaks a rule.
    """
    table.choice("images", _DISCOVER)
    if "startsLater" not in table:
        table.refuse(
            "startsLater",
            "missing",
            "list the images that what this chart installs starts later; [] if there are none",
        )
    chart = ThirdPartyChart(
        source=table.parse("source", _archive),
        name=table.parse_optional("name", file_name),
        digest=table.parse_optional("sha256", Digest),
        values=table.parse_optional("values", local_path),
        rules=_rules(table),
        names=_read_names(table.table("names")),
        fetch=read_fetch_options(table),
    )
    table.close()
    return chart


def _rules(table: Table) -> ChartRules:
    return table.explain(
        lambda: ChartRules(
            kube_version=table.parse_optional("kubeVersion", str),
            api_versions=table.texts("apiVersions"),
            image_fields=table.parse_all("imageFields", ImageField.parse),
            starts_later=table.parse_all("startsLater", _reference),
            not_images=read_not_images(table),
        )
    )


def _archive(text: str) -> str:
    if not text.endswith(ARCHIVE_SUFFIX):
        raise ValueError(
            f"expected the archive of a chart, *{ARCHIVE_SUFFIX}, got {text[:200]!r}; "
            "`helm package` makes one of a directory, `helm pull` gets one"
        )
    return local_path(text)


def _reference(text: str) -> str:
    reference = text.removeprefix("docker://")
    parse_reference(reference)
    return reference


def _read_names(table: Table) -> dict[str, str]:
    return {
        table.check_name(reference, _reference): table.parse(reference, _name_and_tag)
        for reference in table.names()
    }


def _name_and_tag(text: str) -> str:
    name, colon, tag = text.partition(":")
    image_name(name)
    if colon:
        image_tag(tag)
    return text
