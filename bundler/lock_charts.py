"""Charts of others in a lock: each pinned to its digest, with every image that was found in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bundler.digest import Digest
from bundler.document import Table
from bundler.image_reference import parse_reference
from bundler.manifest import require_unique
from bundler.manifest_charts import ChartRules, from_rules, to_rules
from bundler.reference import ImageTag, file_name, plain_text
from bundler.spec_charts import ThirdPartyChart


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedChartImage:
    """An image that a chart names.

    Attributes:
        reference: As the chart writes it.
        tag: What the image is called in the bundle.
        digest: Its digest there.
        found_in: Each place that names it, sorted: object, field, and what makes it an image.
    """

    reference: str
    tag: ImageTag
    digest: Digest
    found_in: tuple[str, ...]

    def __post_init__(self) -> None:
        parse_reference(self.reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedValues:
    """A file of values: its path as the spec writes it, and its digest."""

    path: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedThirdPartyChart:
    """A chart of others.

    Attributes:
        source: Its archive, as the spec writes it.
        name: What it is called in the bundle.
        version: Its own.
        digest: Of the archive.
        values: Its file of values, if it has one.
        rules: How it was rendered.
        images: Every image that it names, sorted by reference.
    """

    source: str
    name: str
    version: str
    digest: Digest
    values: LockedValues | None = None
    rules: ChartRules = field(default_factory=ChartRules)
    images: tuple[LockedChartImage, ...] = ()

    def __post_init__(self) -> None:
        references = [image.reference for image in self.images]
        if len(set(references)) != len(references):
            raise ValueError(f"chart {self.name}: an image stands there twice")

    @property
    def references(self) -> tuple[str, ...]:
        """The images that it names, as it writes them."""
        return tuple(image.reference for image in self.images)

    @property
    def described(self) -> str:
        """What of it the spec says too, in one line."""
        return _described(self.values.path if self.values else None, self.rules)


def describe_chart(chart: ThirdPartyChart) -> str:
    """Give what a spec says of a chart as ``described`` gives what a lock says of it."""
    return _described(chart.values, chart.rules)


def _described(values: str | None, rules: ChartRules) -> str:
    said = {"values": values, **from_rules(rules)}
    return ", ".join(f"{name} {value}" for name, value in said.items() if value) or "its own values"


def require_unique_charts(charts: tuple[LockedThirdPartyChart, ...]) -> None:
    """Refuse charts of which two have one name or one archive.

    Raises:
        ValueError: There are two.
    """
    require_unique("chart", (chart.name for chart in charts))


def from_locked_chart(chart: LockedThirdPartyChart) -> dict[str, object]:
    """Give what stands in a lock."""
    values = chart.values
    return {
        "name": chart.name,
        "source": chart.source,
        "version": chart.version,
        "sha256": chart.digest.hex,
        "values": {"path": values.path, "sha256": values.digest.hex} if values else None,
        **from_rules(chart.rules),
        "images": [
            {
                "image": image.reference,
                "name": image.tag.name,
                "tag": image.tag.tag,
                "digest": str(image.digest),
                "foundIn": list(image.found_in),
            }
            for image in chart.images
        ],
    }


def to_locked_chart(table: Table) -> LockedThirdPartyChart:
    """Read what stands in a lock.

    Raises:
        MalformedError: It breaks its grammar.
    """
    chart = table.explain(
        lambda: LockedThirdPartyChart(
            source=table.text("source"),
            name=table.parse("name", file_name),
            version=table.parse("version", plain_text),
            digest=table.parse("sha256", Digest),
            values=_to_values(table.table("values")) if "values" in table else None,
            rules=to_rules(table),
            images=tuple(map(_to_image, table.tables("images"))),
        )
    )
    table.close()
    return chart


def _to_values(table: Table) -> LockedValues:
    values = LockedValues(path=table.text("path"), digest=table.parse("sha256", Digest))
    table.close()
    return values


def _to_image(table: Table) -> LockedChartImage:
    image = table.explain(
        lambda: LockedChartImage(
            reference=table.parse("image", plain_text),
            tag=ImageTag(table.text("name"), table.text("tag")),
            digest=table.parse("digest", Digest.parse),
            found_in=table.parse_all("foundIn", plain_text),
        )
    )
    table.close()
    return image
