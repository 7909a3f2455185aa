from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest

from bundler.errors import CheckError, WorldError
from bundler.events import Event, Waiting
from bundler.publish.rollout import judge
from bundler.publish.waiting import Clock, wait_until_ready
from tests.fake_cluster import RELEASE, FakeCluster, ready_deployment

NAME = "inference-m"
READY: list[Any] = list(ready_deployment({"metadata": {"name": NAME}}))
POD = f"{NAME}-1-a"


def changed(**status: object) -> list[Any]:
    """Give the objects with other fields in the status of the Deployment."""
    objects = copy.deepcopy(READY)
    objects[0]["status"] |= status
    return objects


def starting(server: dict[str, Any] | None = None, **pod_status: Any) -> list[Any]:
    """Give the objects with a pod that is not ready yet."""
    objects = changed(availableReplicas=0)
    objects[2]["status"] |= pod_status
    if server is not None:
        objects[2]["status"]["containerStatuses"] = [{"name": "model-server", **server}]
    return objects


def waiting_for(reason: str, message: str = "", restarts: int = 0) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}, "restartCount": restarts}


def test_what_is_as_it_should_be_is_ready() -> None:
    rollout = judge([NAME], READY)
    assert rollout.ready
    assert rollout.lines == (f"{NAME}: 1 of 1 ready",)


@pytest.mark.parametrize(
    "objects",
    [
        [],
        changed(observedGeneration=0),
        changed(updatedReplicas=0),
        changed(replicas=2),
        changed(availableReplicas=0),
    ],
    ids=["absent", "not seen yet", "old form runs", "old pod is left", "not available"],
)
def test_less_than_that_is_not_ready(objects: list[Any]) -> None:
    assert not judge([NAME], objects).ready


def test_a_deployment_scaled_to_nothing_is_ready() -> None:
    objects = copy.deepcopy(READY[:1])
    objects[0]["spec"]["replicas"] = 0
    objects[0]["status"] = {"observedGeneration": 1}
    assert judge([NAME], objects).ready


@pytest.mark.parametrize(
    ("objects", "line"),
    [
        (starting({"state": {"running": {}}}), "model-server running, not ready yet"),
        (
            starting(waiting_for("ContainerCreating")),
            "model-server ContainerCreating",
        ),
        (
            starting(
                containerStatuses=[],
                initContainerStatuses=[],
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes: 1 Insufficient nvidia.com/gpu",
                    }
                ],
            ),
            "not scheduled: Unschedulable: 0/1 nodes: 1 Insufficient nvidia.com/gpu",
        ),
    ],
)
def test_what_a_pod_waits_for_is_told(objects: list[Any], line: str) -> None:
    assert judge([NAME], objects).lines[1] == f"{POD}: {line}"


def test_a_pod_of_an_older_form_is_not_judged() -> None:
    objects = changed(availableReplicas=0)
    objects[0]["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "2"}
    objects[2]["status"]["containerStatuses"] = [
        {"name": "model-server", **waiting_for("CrashLoopBackOff", restarts=9)}
    ]
    rollout = judge([NAME], objects)
    assert rollout.lines == (f"{NAME}: 0 of 1 ready",)
    assert not rollout.troubles


def wait(cluster: FakeCluster, timeout_seconds: float = 3600) -> list[Event]:
    """Wait by a clock that only sleeping moves."""
    seconds = [0.0]
    events: list[Event] = []
    wait_until_ready(
        cluster,
        [NAME],
        RELEASE,
        timeout_seconds=timeout_seconds,
        emit=events.append,
        clock=Clock(now=lambda: sum(seconds), sleep=seconds.append),
    )
    return events


def showing(*scenes: Sequence[Any]) -> FakeCluster:
    """Give a cluster that shows these scenes, one a look, and the last one for ever."""
    return FakeCluster(watch=lambda _, look: list(scenes[min(look, len(scenes)) - 1]))


def test_waiting_ends_when_all_is_ready_and_tells_how_things_stand() -> None:
    events = wait(showing([], starting(), READY))
    assert events == [
        Waiting((f"{NAME}: not there yet",)),
        Waiting((f"{NAME}: 0 of 1 ready", f"{POD}: ready")),
        Waiting(()),
    ]


def test_the_download_is_told_of() -> None:
    running = [{"name": "model-downloader", "state": {"running": {"startedAt": "now"}}}]
    cluster = showing(starting(initContainerStatuses=running), READY)
    cluster.logs["model-downloader"] = "40 % of 90 MB"
    events = wait(cluster)
    assert f"{POD}: 40 % of 90 MB" in str(events[0])


def test_a_pod_that_crashes_again_and_again_ends_the_waiting() -> None:
    init = {"name": "model-downloader", **waiting_for("CrashLoopBackOff", restarts=3)}
    init["lastState"] = {"terminated": {"exitCode": 9, "reason": "Error"}}
    cluster = showing(starting(initContainerStatuses=[init]))
    cluster.logs["model-downloader"] = "s3://b/k: access denied"
    expected = f"{POD}: model-downloader: failed 3 times, last with exit status 9 .*access denied"
    with pytest.raises(CheckError, match=expected) as caught:
        wait(cluster)
    assert caught.value.exit_status == 8


def test_a_few_crashes_are_waited_out() -> None:
    wait(showing(*[starting(waiting_for("CrashLoopBackOff", restarts=2))] * 99, READY))


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_an_image_that_cannot_be_pulled_is_waited_for_a_minute(reason: str) -> None:
    stuck = starting(waiting_for(reason, "denied by the registry"))
    wait(showing(*[stuck] * 25, READY))
    other = starting(waiting_for("ErrImagePull", "denied by the registry"))
    with pytest.raises(CheckError, match="denied by the registry"):
        wait(showing(*[stuck, other] * 17, READY))


def test_pods_that_the_cluster_refuses_to_make_end_the_waiting() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    with pytest.raises(CheckError, match="exceeded quota"):
        wait(showing(changed(availableReplicas=0, conditions=[condition])))


def test_time_that_is_up_names_what_is_missing() -> None:
    with pytest.raises(CheckError, match=rf"not ready within 10 s: .*{POD}"):
        wait(showing(starting()), timeout_seconds=10)


def test_a_cluster_that_is_away_for_a_while_is_waited_for() -> None:
    def away(ready: Any, look: int) -> Any:
        if 2 <= look <= 30:
            raise WorldError("unreachable")
        return READY if look > 31 else []

    wait(FakeCluster(watch=away))

    def gone(ready: Any, look: int) -> Any:
        raise WorldError("unreachable")

    with pytest.raises(WorldError):
        wait(FakeCluster(watch=gone))
