"""Images that cannot be taken are all told, each by what names it and with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundler.build import lookups
from bundler.build.lookups import look_up_all, try_all
from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    CheckError,
    ContentError,
    DeniedError,
    MalformedError,
    NotFoundError,
    ToolError,
    WorldError,
)
from bundler.image_reference import NamedImage, parse_reference
from bundler.reference import ImageTag
from bundler.source import LayoutSource
from bundler.spec import ImageSpec

SETTING = NamedImage("ConfigMap/x", "data.address", "gateway.example.com/push:9091", "setting")
RUN = NamedImage("Deployment/x", "main", "q.example.com/run:1")
LATER = NamedImage("Chart/x", "startsLater", "q.example.com/later:1", "declared")


def image(place: NamedImage | None = None, *more: NamedImage, name: str = "atlas") -> ImageSpec:
    """Give an image that charts name, or that the spec lists."""
    source = parse_reference(place.image if place else f"a.example.com/{name}:1")
    named = tuple(("x.tgz", one) for one in (place, *more) if one)
    return ImageSpec(tag=ImageTag(name, "1"), source=source, named=named)


def fails(*pairs: tuple[ImageSpec, BundleError]) -> BundleError:
    """Give what is told of images whose look-ups fail so."""

    def look_up(asked: ImageSpec) -> None:
        raise next(error for one, error in pairs if one is asked)

    with pytest.raises(BundleError) as caught:
        look_up_all([one for one, _ in pairs], look_up)
    return caught.value


def test_every_image_is_looked_up_in_order() -> None:
    images = [image(name="one"), image(name="two")]
    assert look_up_all(images, lambda one: one.tag.name) == ("one", "two")


def test_one_that_fails_is_one_line_and_names_its_place() -> None:
    error = fails((image(SETTING), NotFoundError("docker://x: none", hint="push it")))
    assert type(error) is NotFoundError
    assert str(error) == (
        "chart x.tgz: ConfigMap/x, data.address (setting) names gateway.example.com/push:9091: "
        "docker://x: none"
    )
    assert error.hint == (
        "if it is no image, name it in the chart's `notImages`, with a reason; push it"
    )


def test_all_that_fail_are_told_a_line_each() -> None:
    error = fails(
        (image(), DeniedError("no", hint="log in")),
        (image(SETTING), WorldError("down", hint="look at the network")),
        (image(RUN, name="run"), NotFoundError("none", hint="push it")),
        (image(LATER, name="later"), NotFoundError("none", hint="push it")),
    )
    lines = str(error).splitlines()
    assert lines[:2] == ["4 images cannot be taken", "image atlas:1: no"]
    assert [line.partition(" names ")[0] for line in lines[2:]] == [
        "chart x.tgz: ConfigMap/x, data.address (setting)",
        "chart x.tgz: Deployment/x, main (container)",
        "chart x.tgz: Chart/x, startsLater (declared)",
    ]
    assert error.hint is not None
    assert error.hint.split("; ") == [
        "log in",
        "if it is no image, name it in the chart's `notImages`, with a reason",
        "look at the network",
        "if it is not to run, switch it off in the chart's `values:`",
        "push it",
    ]


def test_what_a_pod_runs_is_never_said_to_be_no_image() -> None:
    assert "notImages" not in (fails((image(SETTING, RUN), NotFoundError("none"))).hint or "")


def test_many_places_are_counted() -> None:
    other = replace(SETTING, object="ConfigMap/y")
    error = fails((image(SETTING, other, RUN, RUN, RUN), NotFoundError("none")))
    assert str(error) == (
        "chart x.tgz: ConfigMap/x, data.address (setting); ConfigMap/y, data.address (setting) "
        "names gateway.example.com/push:9091; chart x.tgz: Deployment/x, main (container) names "
        "q.example.com/run:1; and 2 more places: none"
    )


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((NotFoundError("a"), MalformedError("b"), ContentError("c")), MalformedError),
        ((DeniedError("a"), ContentError("b")), ContentError),
        ((DeniedError("a"), NotFoundError("b")), DeniedError),
        ((ToolError("a"), DeniedError("b")), WorldError),
    ],
)
def test_what_has_to_be_changed_goes_before_what_may_mend(
    errors: tuple[BundleError, ...], kind: type[BundleError]
) -> None:
    told = fails(*((image(name=f"n{n}"), error) for n, error in enumerate(errors)))
    assert type(told) is kind


def test_whatever_fails_of_several_is_told() -> None:
    def look(name: str) -> None:
        if name == "good":
            return
        raise CheckError(f"chart {name}: does not render", hint="give values")

    with pytest.raises(CheckError) as caught:
        try_all(["one", "good", "two"], look, problem="charts cannot be taken")
    assert str(caught.value).splitlines() == [
        "2 charts cannot be taken",
        "chart one: does not render",
        "chart two: does not render",
    ]
    assert caught.value.hint == "give values"


def test_a_registry_that_keeps_us_waiting_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lookups._PATIENCE_SECONDS == 20
    monkeypatch.setattr(lookups, "_PATIENCE_SECONDS", -1.0)
    digest = Digest.of(b"")
    asked = []

    def look_up(one: ImageSpec) -> Digest:
        asked.append(one.tag.name)
        if one.tag.name == "good":
            return digest
        raise WorldError("no answer")

    here = [
        ImageSpec(tag=ImageTag(name, "1"), source=LayoutSource(name)) for name in ("here", "there")
    ]
    images = [image(name="one"), image(name="two"), image(SETTING, name="good"), *here]
    with pytest.raises(WorldError, match=r"two:1: not asked: a\.example\.com gave no answer"):
        look_up_all(images, look_up)
    assert asked == ["one", "good", "here", "there"]
