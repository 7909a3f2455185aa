"""Where the images of other people's charts hide, and what is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bundler import rendered_objects
from bundler.errors import MalformedError
from bundler.image_discovery import annotated_images, discover, mentioned, unused_fields
from bundler.image_reference import ImageField, NamedImage

IMAGE = "quay.io/org/app:1.0"
PINNED = "quay.io/org/app@sha256:" + "c" * 64


def thing(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x"}, **fields}


def pod(container: dict[str, Any]) -> dict[str, Any]:
    return thing("Pod", spec={"containers": [{"name": "main", "image": "own", **container}]})


def found(objects: Sequence[dict[str, Any]], *fields: str) -> list[tuple[str, str, str]]:
    places = discover(objects, map(ImageField.parse, fields))
    return [(p.image, p.container, p.how) for p in places if p.image not in {"own", ""}]


POD = {
    "initContainers": [{"name": "init", "image": "i"}],
    "containers": [{"name": "main", "image": "m"}],
    "ephemeralContainers": [{"name": "debug", "image": "e"}],
    "volumes": [{"name": "data", "image": {"reference": "v"}}, {"name": "tmp", "emptyDir": {}}],
}


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Pod", POD),
        ("Deployment", {"template": {"spec": POD}}),
        ("CronJob", {"jobTemplate": {"spec": {"template": {"spec": POD}}}}),
        ("SomethingNew", {"groups": [{"template": {"spec": POD}}]}),
    ],
)
def test_images_are_found_wherever_a_pod_stands(kind: str, spec: Any) -> None:
    assert discover([thing(kind, spec=spec)]) == [
        NamedImage(f"{kind}/x", "debug", "e"),
        NamedImage(f"{kind}/x", "init", "i"),
        NamedImage(f"{kind}/x", "main", "m"),
        NamedImage(f"{kind}/x", "volume data", "v", "volume"),
    ]


@pytest.mark.parametrize("container", [{}, {"image": None}, {"image": 1.25}, {"image": ""}, "main"])
def test_a_container_without_an_image_is_told(container: Any) -> None:
    objects = {"kind": "List", "metadata": {}, "items": [thing("Pod", containers=[container])]}
    assert discover([objects]) == [NamedImage("Pod/x", "?", "")]


@pytest.mark.parametrize("image", ["Foo/BAR:1", " quay.io/a:1", "${IMAGE}", "docker://quay.io/a:1"])
def test_what_a_pod_would_run_is_found_as_it_stands(image: str) -> None:
    assert discover([pod({"image": image})])[0] == NamedImage("Pod/x", "main", image)


def test_a_schema_that_describes_containers_names_no_image() -> None:
    schema = {"properties": {"containers": {"type": "array", "items": {"type": "object"}}}}
    assert discover([thing("CustomResourceDefinition", spec=schema)]) == []


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


@pytest.mark.parametrize(
    ("item", "how"),
    [
        (pod({"args": ["--reloader-image=busybox:1.36"]}), "argument"),
        (pod({"args": ["--reloader-image", "busybox:1.36"]}), "argument"),
        (pod({"env": [{"name": "SIDECAR_IMAGE", "value": "busybox:1.36"}]}), "environment"),
        (thing("Mesh", spec={"proxyImage": "busybox:1.36"}), "setting"),
        (thing("Puller", spec={"images": ["busybox:1.36"]}), "setting"),
        (
            thing("Mesh", metadata={"name": "x", "annotations": {"a/proxyImage": "busybox:1.36"}}),
            "annotation",
        ),
        (thing("Mesh", spec={"image": {"repository": "busybox", "tag": 1.36}}), "image in pieces"),
        (
            thing("Mesh", spec={"initContainers": {"first": {"image": "busybox:1.36"}}}),
            "image field",
        ),
        (
            thing("ConfigMap", data={"a.yaml": "a: b\npod:\n  - image: busybox:1.36 # now\n"}),
            "line of a text",
        ),
        (
            thing("ConfigMap", data={"a.toml": '[run]\nhelper_image = "busybox:1.36"\n'}),
            "line of a text",
        ),
        (
            thing("ConfigMap", data={"a.json": '{"a": 1, "image": "busybox:1.36", "b": 2}'}),
            "line of a text",
        ),
        (
            pod({"command": ["sh", "-c", "kubectl run x --image=busybox:1.36; true"]}),
            "line of a text",
        ),
    ],
)
def test_what_is_called_an_image_may_leave_the_host_out(item: dict[str, Any], how: str) -> None:
    assert [(f[0], f[2]) for f in found([item])] == [("busybox:1.36", how)]


def test_a_tag_that_is_a_number_is_read_as_its_text() -> None:
    for tag in (1, 1.25):
        item = thing("Thing", spec={"repository": "quay.io/org/app", "tag": tag})
        assert [f[0] for f in found([item])] == [f"quay.io/org/app:{tag}"]


def test_a_transport_is_taken_off_a_setting() -> None:
    assert found([pod({"args": [f"docker://{IMAGE}"]})])[0][0] == IMAGE


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
        pod({"args": ["--image-registry=registry:5000", "--image-pull-policy=Always"]}),
        pod({"args": ["--model", "s3://bucket/image:1", "--limit-mm-per-prompt=image=1,video=2"]}),
        thing(
            "Thing", spec={"imageDigest": "sha256:" + "c" * 64, "imageRegistry": "localhost:5000"}
        ),
        thing("Source", spec={"repository": "org/code", "tag": "v1"}),
        thing("NetworkPolicy", spec={"cidr": "10.0.0.0/8:1"}),
        thing(
            "ConfigMap", data={"a.yaml": "# image: busybox:1.36\nimage: {{ x }}\nimage: busybox"}
        ),
        thing("ConfigMap", data={"run": "image: $REGISTRY/busybox:1.36\nimage: a/b:1-${TAG}\n"}),
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


def test_a_lone_word_called_an_image_is_mentioned() -> None:
    item = thing("Machine", spec={"image": "ubuntu-22", "b": {"image": "x", "repository": "y"}})
    assert [(m.image, m.container) for m in mentioned([item], [])] == [("ubuntu-22", "spec.image")]


def test_a_definition_that_names_no_field_is_refused() -> None:
    annotations = {"bundle/image-fields": "spec..tool"}
    definition = thing(
        "CustomResourceDefinition",
        metadata={"name": "d", "annotations": annotations},
        spec={"names": {"kind": "Backup"}},
    )
    with pytest.raises(MalformedError, match="CustomResourceDefinition/d: annotation"):
        discover([definition])


def test_annotations_that_list_images_are_read() -> None:
    assert annotated_images([{"name": "a", "image": "x/y:1"}, {"image": "b"}]) == ["x/y:1", "b"]


@pytest.mark.parametrize("value", [{}, "a", [{"name": "a"}], [{"image": "{{ x }}"}], ["a"]])
def test_annotations_that_list_something_else_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        annotated_images(value)


def test_a_tree_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered_objects, "_MAX_VALUES", 1000)
    tree: Any = ["a"]
    for _ in range(40):  # as anchors make it: 2^40 texts in forty lines
        tree = [tree, tree]
    with pytest.raises(MalformedError, match="at most 1000 values"):
        discover([thing("X", data=tree)])
