from __future__ import annotations

from typing import Any

import pytest

from bundler.images_named import NamedImage, images_named

POD = {
    "initContainers": [{"name": "init", "image": "i"}],
    "containers": [{"name": "main", "image": "m"}],
    "ephemeralContainers": [{"name": "debug", "image": "e"}],
    "volumes": [{"name": "data", "image": {"reference": "v"}}, {"name": "tmp", "emptyDir": {}}],
}


def thing(kind: str, spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x"}, "spec": spec}


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
    found = images_named([thing(kind, spec)])
    assert sorted(found) == [
        NamedImage(f"{kind}/x", "debug", "e"),
        NamedImage(f"{kind}/x", "init", "i"),
        NamedImage(f"{kind}/x", "main", "m"),
        NamedImage(f"{kind}/x", "volume data", "v", "volume"),
    ]


def test_an_object_in_a_list_is_named_itself() -> None:
    objects = {"kind": "List", "metadata": {}, "items": [thing("Pod", {"containers": [{}]})]}
    assert images_named([objects]) == [NamedImage("Pod/x", "?", "")]


def test_a_schema_that_describes_containers_names_no_image() -> None:
    schema = {"properties": {"containers": {"type": "array", "items": {"type": "object"}}}}
    assert images_named([thing("CustomResourceDefinition", schema)]) == []
