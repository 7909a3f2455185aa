"""How a Helm release's Deployments and pods stand, judged from what the cluster says. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bundler.errors import printable
from bundler.tools.kubectl import Object

# What is read: one call to the cluster gives all three.
KINDS = "deployments,replicasets,pods"
_REVISION = "deployment.kubernetes.io/revision"
# So many times a container may fail before nobody waits for it any more.
_MAX_RESTARTS = 3
_CRASHED = "CrashLoopBackOff"

# The kubelet tries these again for ever, and some mend themselves within a minute.
_STUCK = frozenset(
    (
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    )
)
# How long trouble that may mend itself must last before nobody waits for it any more.
_PATIENCE_SECONDS = 60.0
_NEVER = math.inf
_MAX_MESSAGE = 300
_SCHEDULE_HINT = (
    "free or add a node with as many GPUs (nvidia.com/gpu) as the model asks for, or ask for fewer "
    "by models.KEY.gpus; a node's taint needs values.tolerations in the target; then run publish "
    "again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A reason why a Deployment does not become ready by itself.

    Attributes:
        text: What is wrong, with the pod and container.
        pod, container: Where a log may tell more; empty where no container is to blame.
        hint: What to do about it; empty where the text or the log tells.
        patience: How many seconds it may last before it ends the waiting: 0 where waiting cannot
            help, infinity where only the end of all time ends it.
    """

    text: str
    pod: str = ""
    container: str = ""
    hint: str = ""
    patience: float = 0.0

    @property
    def where(self) -> tuple[str, str, float]:
        """What is in which kind of trouble, whatever the text says of it at the moment."""
        return (self.pod or self.text, self.container, self.patience)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How everything stands at one moment.

    Attributes:
        ready: Whether every Deployment is as it should be, with every pod ready.
        lines: One line a Deployment or pod that is not ready; one a Deployment that is.
        troubles: What keeps it from getting there.
        downloading: Pods whose init container runs, with its name.
    """

    ready: bool
    lines: tuple[str, ...]
    troubles: tuple[Trouble, ...] = ()
    downloading: tuple[tuple[str, str], ...] = ()


def judge(names: Sequence[str], objects: Sequence[Object]) -> Rollout:
    """Judge Deployments by name from the objects of a Helm release.

    A Deployment is ready when the cluster has seen its newest form, every replica of it runs that
    form and is available, and no pod of an older form is left.

    Args:
        names: The Deployments that there should be.
        objects: Deployments, ReplicaSets and pods, as the cluster has them now.
    """
    by_name = {_name(item): item for item in objects if item.get("kind") == "Deployment"}
    judged = [_judge_one(name, by_name.get(name), objects) for name in names]
    return Rollout(
        ready=all(one.ready for one in judged),
        lines=tuple(line for one in judged for line in one.lines),
        troubles=tuple(trouble for one in judged for trouble in one.troubles),
        downloading=tuple(pair for one in judged for pair in one.downloading),
    )


def _judge_one(name: str, deployment: Object | None, objects: Sequence[Object]) -> Rollout:
    if deployment is None:
        return Rollout(ready=False, lines=(f"{name}: not there yet",))
    status = _table(deployment, "status")
    wanted = _number(_table(deployment, "spec"), "replicas", 1)
    available = _number(status, "availableReplicas")
    seen = _number(status, "observedGeneration")
    ready = seen >= _number(_table(deployment, "metadata"), "generation") and {
        _number(status, "updatedReplicas"),
        _number(status, "replicas"),
        available,
    } == {wanted}
    head = f"{name}: {available} of {wanted} ready"
    if ready:
        return Rollout(ready=True, lines=(head,))
    pods = _current_pods(deployment, objects)
    return Rollout(
        ready=False,
        lines=(head, *(f"{_name(pod)}: {_describe(pod)}" for pod in pods)),
        troubles=(*_of_deployment(name, status), *(t for pod in pods for t in _of_pod(pod))),
        downloading=tuple((_name(pod), init) for pod in pods for init in _running_init(pod)),
    )


def _current_pods(deployment: Object, objects: Sequence[Object]) -> list[Object]:
    """Give the pods of a Deployment's newest form: older ones may well be failing."""
    revision = _table(deployment, "metadata", "annotations").get(_REVISION)
    sets = [
        item
        for item in objects
        if item.get("kind") == "ReplicaSet"
        and _name(deployment) in _owners(item)
        and _table(item, "metadata", "annotations").get(_REVISION) == revision
    ]
    names = {_name(item) for item in sets}
    return [i for i in objects if i.get("kind") == "Pod" and names.intersection(_owners(i))]


def _of_deployment(name: str, status: Mapping[str, object]) -> Iterator[Trouble]:
    for condition in _tables(status.get("conditions")):
        failed = condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
        late = condition.get("reason") == "ProgressDeadlineExceeded"
        if failed or late:
            patience = 0.0 if late else _PATIENCE_SECONDS
            yield Trouble(text=f"{name}: {_message(condition)}", patience=patience)


def _of_pod(pod: Object) -> Iterator[Trouble]:
    unscheduled = _unscheduled(pod)
    if unscheduled:
        text = f"{_name(pod)}: {unscheduled}"
        yield Trouble(text=text, pod=_name(pod), hint=_SCHEDULE_HINT, patience=_NEVER)
    for status in _containers(pod):
        waiting = _table(status, "state", "waiting")
        container = str(status.get("name"))
        where = f"{_name(pod)}: {container}"
        if waiting.get("reason") in _STUCK:
            text, patience = f"{where}: {_message(waiting)}", _PATIENCE_SECONDS
        elif (ended := _failure(status)) is not None:
            restarts = _number(status, "restartCount")
            # What was started once more may yet do better.
            over = waiting.get("reason") == _CRASHED or bool(_table(status, "state", "terminated"))
            times = restarts + over
            text = f"{where}: failed {times} time{'s' * (times != 1)}, {_ending(ended)}"
            patience = 0.0 if over and restarts >= _MAX_RESTARTS else _NEVER
        else:
            continue
        yield Trouble(text=text, pod=_name(pod), container=container, patience=patience)


def _failure(status: Mapping[str, object]) -> Mapping[str, object] | None:
    """Give how a container that is not ready ended last; None where it never failed.

    After a failure a kubelet shows it as ended for a while, then as waiting, then as running.
    """
    ended = _table(status, "state", "terminated") or _table(status, "lastState", "terminated")
    crashed = _table(status, "state", "waiting").get("reason") == _CRASHED
    failed = crashed or ended.get("exitCode") not in {None, 0}
    return ended if failed and not _is_done(status) else None


def _unscheduled(pod: Object) -> str:
    for condition in _tables(_table(pod, "status").get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"not scheduled: {_message(condition)}"
    return ""


def _describe(pod: Object) -> str:
    if unscheduled := _unscheduled(pod):
        return unscheduled
    if not _containers(pod):
        return str(_table(pod, "status").get("phase", "not started"))
    unready = [status for status in _containers(pod) if not _is_done(status)]
    return f"{unready[0].get('name')} {_state(unready[0])}" if unready else "ready"


def _is_done(status: Mapping[str, object]) -> bool:
    """Tell whether a container is ready, or an init container that ended well."""
    ended = _table(status, "state", "terminated")
    return ended.get("exitCode") == 0 or status.get("ready") is True


def _state(status: Mapping[str, object]) -> str:
    waiting, ended = _table(status, "state", "waiting"), _table(status, "state", "terminated")
    last = _table(status, "lastState", "terminated")
    if waiting.get("reason") == _CRASHED and last:
        return f"{_CRASHED}, {_ending(last)}"
    if waiting:
        return _message(waiting)
    if ended:
        return _ending(ended)
    return "running, not ready yet"


def _ending(ended: Mapping[str, object]) -> str:
    return f"last with exit status {ended.get('exitCode', '?')} ({_message(ended)})"


def _message(item: Mapping[str, object]) -> str:
    parts = (item.get("reason"), item.get("message"))
    return printable(": ".join(str(part) for part in parts if part))[:_MAX_MESSAGE]


def _running_init(pod: Object) -> Iterator[str]:
    for status in _tables(_table(pod, "status").get("initContainerStatuses")):
        if _table(status, "state", "running"):
            yield str(status.get("name"))


def _containers(pod: Object) -> list[Mapping[str, object]]:
    status = _table(pod, "status")
    init, main = status.get("initContainerStatuses"), status.get("containerStatuses")
    return [*_tables(init), *_tables(main)]


def _owners(item: Object) -> set[str]:
    owners = _table(item, "metadata").get("ownerReferences")
    return {str(owner.get("name")) for owner in _tables(owners)}


def _name(item: Object) -> str:
    return str(_table(item, "metadata").get("name"))


def _table(item: Mapping[str, object], *path: str) -> Mapping[str, object]:
    """Follow a path of keys; empty where something else stands there."""
    for key in path:
        value = item.get(key)
        if not isinstance(value, Mapping):
            return {}
        item = value
    return item


def _tables(value: object) -> list[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _number(item: Mapping[str, object], key: str, default: int = 0) -> int:
    value = item.get(key, default)
    return value if isinstance(value, int) else default
