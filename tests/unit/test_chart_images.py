"""What the images of other people's charts are called in a release, and which are one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from bundler.chart_images import with_chart_images
from bundler.closure import by_source, link, missing
from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.image_reference import NamedImage
from bundler.lock_images import LockedImage
from bundler.manifest import Release
from bundler.reference import ImageTag
from bundler.source import FetchOptions, parse_source
from bundler.spec import ChartSpec, ImageSpec, Spec
from bundler.spec_charts import ThirdPartyChart

HEX = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def spec(*images: tuple[str, str], **names: Mapping[str, str]) -> Spec:
    charts = names or {"a": {}}
    return Spec(
        release=Release(name="demo", version="1.0.0", sequence=1, created="2026-11-01T00:00:00Z"),
        images=tuple(
            ImageSpec(tag=ImageTag(*tag.split(":")), source=parse_source(source))
            for tag, source in images
        ),
        chart=ChartSpec(path="chart", version="1.0.0"),
        scripts=(),
        checkpoints=(),
        models=(),
        charts=tuple(
            ThirdPartyChart(source=f"{key}.tgz", names=names[key] if names else {})
            for key in charts
        ),
    )


def images(before: Spec, **found: tuple[str, ...]) -> dict[str, str]:
    after = with_chart_images(before, {f"{key}.tgz": value for key, value in found.items()})
    return {str(image.tag): str(image.source).removeprefix("docker://") for image in after.images}


@pytest.mark.parametrize(
    ("reference", "tag", "source"),
    [
        ("quay.io/org/app:1.0", "org-app:1.0", "quay.io/org/app:1.0"),
        ("busybox", "library-busybox:latest", "docker.io/library/busybox:latest"),
        (f"quay.io/app@{HEX}", "app:sha256-aaaaaaaaaaaaaaaa", f"quay.io/app@{HEX}"),
        (f"quay.io/app:1@{HEX}", "app:1", f"quay.io/app:1@{HEX}"),
    ],
)
def test_an_image_is_called_after_its_repository(reference: str, tag: str, source: str) -> None:
    assert images(spec(), a=(reference,)) == {tag: source}


def test_spellings_of_one_image_are_one() -> None:
    found = ("busybox:1", "docker.io/library/busybox:1", "index.docker.io/busybox:1")
    assert len(images(spec(), a=found)) == 1


def test_two_charts_share_an_image() -> None:
    assert len(images(spec(a={}, b={}), a=("q.io/a/x:1",), b=("q.io/a/x:1", "q.io/a/y:1"))) == 2


def test_the_digest_counts_where_a_tag_is_named_with_and_without() -> None:
    found = ("q.io/org/x:1", f"q.io/org/x:1@{HEX}", f"q.io/org/x@{HEX}")
    assert images(spec(), a=found) == {"org-x:1": f"q.io/org/x:1@{HEX}"}


def test_an_image_that_the_spec_lists_is_that_one() -> None:
    listed = spec(("mine:2", "docker://q.io/org/x:1"))
    assert images(listed, a=("q.io/org/x:1",)) == {"mine:2": "q.io/org/x:1"}


def test_names_are_given_by_hand() -> None:
    named = spec(a={"q.io/org/x:1": "app", "q.io/org/y:1": "other:v2"})
    assert list(images(named, a=("q.io/org/x:1", "q.io/org/y:1"))) == ["app:1", "other:v2"]


@pytest.mark.parametrize(
    "found",
    [
        ("q.io/org/x:1", "r.io/org/x:2"),
        (f"q.io/org/x:1@{HEX}", f"q.io/org/x:1@{OTHER}"),
        ("q.io/a/b-c:1", "q.io/a-b/c:1"),
        ("q.io/a__b:1",),
        ("q.io/org/x:a__b",),
    ],
)
def test_what_cannot_be_called_so_wants_a_name_by_hand(found: tuple[str, ...]) -> None:
    with pytest.raises(MalformedError) as caught:
        images(spec(), a=found)
    assert "`names:`" in str(caught.value.hint)


def test_a_found_image_never_takes_the_name_of_a_listed_one() -> None:
    with pytest.raises(MalformedError, match="both be called atlas"):
        images(spec(("atlas:1", "oci:images/atlas:1")), a=("q.io/atlas:2",))


def test_a_name_for_an_image_that_no_chart_names_is_refused() -> None:
    with pytest.raises(MalformedError, match="names no such image"):
        images(spec(a={"q.io/typo:1": "app"}), a=("q.io/org/x:1",))


def test_two_names_for_one_image_are_refused() -> None:
    both = spec(a={"q.io/x/x:1": "one"}, b={"q.io/x/x:1": "two"})
    with pytest.raises(MalformedError, match="one, two"):
        images(both, a=("q.io/x/x:1",), b=("q.io/x/x:1",))


@pytest.mark.parametrize(
    "fetch",
    [FetchOptions(platform=None), FetchOptions(attached=False), FetchOptions(plain_http=True)],
)
def test_charts_that_want_one_image_in_two_ways_are_refused(fetch: FetchOptions) -> None:
    before = spec(a={}, b={})
    differ = replace(before, charts=(before.charts[0], replace(before.charts[1], fetch=fetch)))
    with pytest.raises(MalformedError, match=r"a\.tgz and b\.tgz name it") as caught:
        images(differ, a=("q.io/x:1",), b=("q.io/x:1",))
    assert "attached and plainHttp" in str(caught.value.hint)
    same = replace(before, charts=tuple(replace(c, fetch=fetch) for c in before.charts))
    [image] = with_chart_images(same, {"a.tgz": ["q.io/xx:1"], "b.tgz": ["q.io/xx:1"]}).images
    assert image.fetch == fetch


LOCKED = [
    LockedImage(
        tag=ImageTag(name, "1"),
        source=f"docker://q.io/{name}:1",
        platform="linux/amd64",
        source_digest=Digest.parse(digest),
        digest=Digest.of(name.encode()),
    )
    for name, digest in (("one", HEX), ("two", OTHER))
]


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("q.io/one:1", "one"),
        (f"q.io/one@{HEX}", "one"),
        (f"q.io/one:1@{HEX}", "one"),
        (f"q.io/one:other@{HEX}", "one"),
        ("q.io/two:1", "two"),
        (f"q.io/one@{OTHER}", None),
        ("q.io/one:2", None),
        ("q.io/three:1", None),
        ("not a reference", None),
        ("docker://q.io/one:1", None),
    ],
)
def test_an_image_is_known_by_where_it_came_from(reference: str, name: str | None) -> None:
    image = by_source(LOCKED)(reference)
    assert (image and image.tag.name) == name


def test_places_without_an_image_are_missing() -> None:
    places = [NamedImage("Pod/x", "main", "q.io/one:1"), NamedImage("Pod/x", "side", "q.io/no:1")]
    links = link(places, by_source(LOCKED))
    assert missing(links) == places[1:]
    assert links[0].image == LOCKED[0]
