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
    cluster.logs["model-downloader"] = "get a\n40 % of 90 MB"
    events = wait(cluster)
    assert f"{POD}: 40 % of 90 MB" in str(events[0])


def test_a_pod_that_crashes_again_and_again_ends_the_waiting() -> None:
    init = {"name": "model-downloader", **waiting_for("CrashLoopBackOff", restarts=3)}
    init["lastState"] = {"terminated": {"exitCode": 9, "reason": "Error"}}
    cluster = showing(starting(initContainerStatuses=[init]))
    cluster.logs["model-downloader"] = "get a\nerror: s3://b/k: access denied\nhint: allow it"
    with pytest.raises(CheckError) as caught:
        wait(cluster)
    assert str(caught.value) == (
        f"{POD}: model-downloader: failed 4 times, last with exit status 9 (Error); "
        "its log ends: error: s3://b/k: access denied; hint: allow it"
    )
    assert caught.value.exit_status == 8


# What a kubelet of Kubernetes 1.34 gave, in this order, for an init container that ends with 9.
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed"}}
ENDED = {"terminated": {"exitCode": 9, "reason": "Error", "finishedAt": "2026-11-21T10:52:38Z"}}
RUNNING = {"running": {"startedAt": "2026-11-21T10:52:37Z"}}
KUBELET: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({"waiting": {"reason": "PodInitializing"}}, {}, 0),
    (RUNNING, {}, 0),
    (ENDED, {}, 0),
    (RUNNING, ENDED, 1),
    (ENDED, ENDED, 1),
    (RUNNING, ENDED, 2),
    (ENDED, ENDED, 2),
    (BACK_OFF, ENDED, 2),
    (RUNNING, ENDED, 3),
    (ENDED, ENDED, 3),
    (BACK_OFF, ENDED, 3),
    (RUNNING, ENDED, 4),
]


def failing(state: dict[str, Any], last: dict[str, Any], restarts: int) -> list[Any]:
    init = {"name": "model-downloader", "state": state, "lastState": last, "restartCount": restarts}
    return starting(
        initContainerStatuses=[init], containerStatuses=[waiting_for("PodInitializing")]
    )


def test_a_container_that_failed_after_three_restarts_is_waited_for_no_longer() -> None:
    scenes = [failing(*item) for item in KUBELET]
    finals = [any(t.patience == 0 for t in judge([NAME], scene).troubles) for scene in scenes]
    assert finals == [False] * 9 + [True] * 2 + [False]


def test_before_that_it_is_waited_for_until_time_is_up_and_then_its_log_is_told() -> None:
    scenes = [failing(*item) for item in KUBELET[:8]]
    wait(showing(*scenes, *scenes, READY))
    cluster = showing(*scenes)
    cluster.logs["model-downloader"] = "error: s3://b/k: access denied\nhint: allow it"
    expected = rf"not ready within 60 s: .*{POD}: .* failed 3 times.*access denied; hint: allow it"
    with pytest.raises(CheckError, match=expected) as caught:
        wait(cluster, timeout_seconds=60)
    assert caught.value.hint == "mend the cause and run publish again"


def test_of_a_container_that_was_just_started_again_the_log_before_tells() -> None:
    cluster = showing(failing(RUNNING, ENDED, 1))
    cluster.logs |= {"model-downloader": "get a", "model-downloader before": "error: refused"}
    with pytest.raises(CheckError, match="its log ends: error: refused"):
        wait(cluster, timeout_seconds=10)


def test_the_last_line_of_a_program_that_tells_no_error_is_told() -> None:
    cluster = showing(failing(BACK_OFF, ENDED, 3))
    cluster.logs["model-downloader"] = "Traceback\nValueError: no"
    with pytest.raises(CheckError, match=r"its log ends: ValueError: no$"):
        wait(cluster)


def test_a_pod_that_fits_no_node_is_waited_for_and_then_told_what_to_do() -> None:
    reason = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    nowhere = starting(
        containerStatuses=[],
        initContainerStatuses=[],
        conditions=[reason | {"message": "0/1 nodes: 1 Insufficient nvidia.com/gpu"}],
    )
    wait(showing(*[nowhere] * 99, READY))
    with pytest.raises(CheckError, match=r"1 Insufficient nvidia\.com/gpu") as caught:
        wait(showing(nowhere), timeout_seconds=10)
    hint = str(caught.value.hint)
    assert "models.KEY.gpus" in hint
    assert "values.tolerations" in hint
    assert "go on waiting" not in hint


def test_what_stays_as_it_is_is_told_once() -> None:
    events = wait(showing([], [], starting(), starting(), READY))
    assert len(events) == len(set(events)) == 3


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
