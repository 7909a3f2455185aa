"""Where the images of other people's charts hide, and what is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bundler import image_discovery
from bundler.errors import MalformedError
from bundler.image_discovery import annotated_images, discover, mentioned, unused_fields
from bundler.image_reference import ImageField

IMAGE = "quay.io/org/app:1.0"
PINNED = "quay.io/org/app@sha256:" + "c" * 64


def thing(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x"}, **fields}


def pod(container: dict[str, Any]) -> dict[str, Any]:
    return thing("Pod", spec={"containers": [{"name": "main", "image": "own", **container}]})


def found(objects: Sequence[dict[str, Any]], *fields: str) -> list[tuple[str, str, str]]:
    places = discover(objects, map(ImageField.parse, fields))
    return [(p.image, p.container, p.how) for p in places if p.image != "own"]


@pytest.mark.parametrize(
    ("item", "place", "how"),
    [
        (
            pod({"env": [{"name": "ANY", "value": IMAGE}]}),
            "spec.containers[main].env[ANY].value",
            "environment",
        ),
        (pod({"args": [f"--image={IMAGE}"]}), "spec.containers[main].args[0]", "argument"),
        (
            pod({"command": ["run", "--image", IMAGE]}),
            "spec.containers[main].command[2]",
            "argument",
        ),
        (thing("ConfigMap", data={"image": f"{IMAGE}\n"}), "data.image", "image field"),
        (thing("ConfigMap", data={"proxy": IMAGE}), "data.proxy", "setting"),
        (thing("Cluster", spec={"imageName": IMAGE}), "spec.imageName", "setting"),
        (thing("Prometheus", spec={"image": IMAGE}), "spec.image", "image field"),
        (
            thing(
                "Policy",
                spec={"d": {"repository": "quay.io/org", "image": "app", "version": "1.0"}},
            ),
            "spec.d.repository",
            "image in pieces",
        ),
        (
            thing(
                "Thing",
                spec={"image": {"registry": "quay.io", "repository": "org/app", "tag": "1.0"}},
            ),
            "spec.image.repository",
            "image in pieces",
        ),
        (
            thing("Pod", metadata={"name": "x", "annotations": {"inject": IMAGE}}),
            "metadata.annotations.inject",
            "annotation",
        ),
        (
            thing(
                "CustomResourceDefinition",
                spec={"schema": {"properties": {"image": {"type": "string", "default": IMAGE}}}},
            ),
            "spec.schema.properties.image.default",
            "image field",
        ),
    ],
)
def test_an_image_is_found_where_it_hides(item: dict[str, Any], place: str, how: str) -> None:
    assert found([item]) == [(IMAGE, place, how)]
    assert found([thing("List", items=[item])]) == [(IMAGE, place, how)]


def test_a_reference_by_digest_is_found_too() -> None:
    assert found([pod({"args": [f"--x={PINNED}"]})])[0][0] == PINNED


@pytest.mark.parametrize(
    ("item", "image"),
    [
        (pod({"env": [{"name": "RELATED_IMAGE_X", "value": "org/app"}]}), "org/app"),
        (thing("Prometheus", spec={"image": "prom/prometheus"}), "prom/prometheus"),
        (thing("Thing", spec={"image": "busybox:1"}), "busybox:1"),
    ],
)
def test_a_place_for_images_may_leave_the_host_out(item: dict[str, Any], image: str) -> None:
    assert [f[0] for f in found([item])] == [image]


@pytest.mark.parametrize(
    "item",
    [
        pod({"env": [{"name": "A", "value": "org/app:1"}, {"name": "B", "value": "v1"}]}),
        pod({"args": ["--listen=0.0.0.0:80", "--path=/a/b:ro", "--url=http://quay.io/a:1"]}),
        pod({"args": ["echo quay.io/org/app:1.0 is an image"]}),
        thing("RoleBinding", roleRef={"apiGroup": "rbac.authorization.k8s.io", "name": "a"}),
        thing("Machine", spec={"image": "ubuntu-22"}),
        thing("Chart", spec={"repository": "quay.io/charts", "version": "1.0"}),
        thing("Prometheus", spec={"containers": [{"name": "patched"}]}),
        thing(
            "CustomResourceDefinition",
            spec={"schema": {"properties": {"image": {"description": f"such as {IMAGE}"}}}},
        ),
    ],
)
def test_other_settings_are_no_images(item: dict[str, Any]) -> None:
    assert found([item]) == []


def test_an_image_of_a_container_is_found_once() -> None:
    item = pod({"image": IMAGE, "env": [{"name": "SELF", "value": IMAGE}]})
    assert found([item]) == [(IMAGE, "main", "container")]


def test_declared_fields_hold_images_however_short() -> None:
    item = thing("Backup", spec={"jobs": [{"tool": "rclone"}, {"tool": "quay.io/x/y:1"}]})
    assert ("rclone", "spec.jobs.tool", "declared field") in found([item], "Backup:spec.jobs.tool")
    assert found([item], "Other:spec.jobs.tool") == found([item])


def test_a_definition_can_name_the_fields_of_its_kind() -> None:
    definition = {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "d", "annotations": {"bundle/image-fields": "spec.tool, spec.a.b"}},
        "spec": {"names": {"kind": "Backup"}},
    }
    assert found([definition, thing("Backup", spec={"tool": "rclone"})]) == [
        ("rclone", "spec.tool", "declared field")
    ]


def test_fields_that_no_object_has_are_told() -> None:
    fields = [ImageField.parse("A:spec.x"), ImageField.parse("A:spec.y")]
    assert unused_fields([thing("A", spec={"x": "i"})], fields) == fields[1:]


def test_what_looks_like_an_image_in_a_longer_text_is_mentioned() -> None:
    item = thing("ConfigMap", data={"run.sh": f'docker run "{IMAGE}" {PINNED}.\nimage: {IMAGE}'})
    assert [m.image for m in mentioned([item], [])] == sorted([IMAGE, PINNED])
    assert mentioned([item], discover([thing("X", a=IMAGE, b=PINNED)])) == []


def test_annotations_that_list_images_are_read() -> None:
    assert annotated_images([{"name": "a", "image": "x/y:1"}, {"image": "b"}]) == ["x/y:1", "b"]


@pytest.mark.parametrize("value", [{}, "a", [{"name": "a"}], [{"image": "{{ x }}"}], ["a"]])
def test_annotations_that_list_something_else_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        annotated_images(value)


def test_a_tree_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_discovery, "_MAX_VALUES", 1000)
    tree: Any = ["a"]
    for _ in range(40):  # as anchors make it: 2^40 texts in forty lines
        tree = [tree, tree]
    with pytest.raises(MalformedError, match="at most 1000 values"):
        discover([thing("X", data=tree)])
