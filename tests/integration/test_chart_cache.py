"""A directory of the node where the pods of the inference chart share checkpoints."""

from __future__ import annotations

import kubernetes_validate

from tests.integration.chart import (
    EVERYTHING,
    GUIDE,
    ONE_MODEL,
    Object,
    downloader,
    pod,
    render,
    server,
)

CACHE: Object = {"checkpointVolume": {"nodeCache": "/mnt/checkpoints"}}
MOUNT: Object = {"name": "node-cache", "mountPath": "/cache"}


def test_it_is_off_by_default() -> None:
    for values in (ONE_MODEL, GUIDE, EVERYTHING):
        assert "hostPath" not in str(render(values))
        assert "--cache" not in str(render(values))


def test_each_downloader_gets_the_directory_and_nobody_else() -> None:
    objects = render(EVERYTHING, CACHE)
    for name in ("llm-big", "llm-1"):
        container = downloader(objects, name)
        assert container["args"][-2:] == ["--cache", "/cache"]
        assert MOUNT in container["volumeMounts"]
        assert "node-cache" not in str(server(objects, name))
    assert "node-cache" not in str(pod(objects, "llm-docs"))


def test_the_directory_must_be_there_already() -> None:
    volumes = {v["name"]: v for v in pod(render(EVERYTHING, CACHE), "llm-big")["volumes"]}
    assert volumes["node-cache"]["hostPath"] == {"path": "/mnt/checkpoints", "type": "Directory"}
    assert volumes["checkpoint"]["emptyDir"] == {"sizeLimit": "500Gi"}


def test_the_server_reads_from_its_own_volume_as_without() -> None:
    without, with_cache = (server(render(EVERYTHING, v), "llm-big") for v in ({}, CACHE))
    assert with_cache == without


def test_kubernetes_accepts_it() -> None:
    for found in render(EVERYTHING, CACHE):
        assert kubernetes_validate.validate(found, "1.29", strict=True) == "1.29"
