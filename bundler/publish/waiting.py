"""Waiting, with a live view, until every Deployment of a Helm release is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bundler.errors import CheckError, WorldError
from bundler.events import Emit, Waiting
from bundler.publish.cluster import Cluster
from bundler.publish.rollout import KINDS, Rollout, Trouble, judge

_POLL_SECONDS = 2.0
# The API server may be away for this long, for instance while it is updated.
_AWAY_SECONDS = 120.0
# How the last lines of every command of ours begin, where it fails.
_ERROR = "error: "
_MAX_LOG = 2000


@dataclass(frozen=True, slots=True)
class Clock:
    """Time that passes; tests pass another."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


REAL_CLOCK = Clock()


def look(cluster: Cluster, names: Sequence[str], release: str) -> Rollout:
    """Ask the cluster once how the Deployments of a Helm release stand."""
    return judge(names, cluster.find(KINDS, f"app.kubernetes.io/instance={release}"))


def wait_until_ready(
    cluster: Cluster,
    names: Sequence[str],
    release: str,
    *,
    timeout_seconds: float,
    emit: Emit,
    clock: Clock,
) -> None:
    """Wait until every Deployment is ready.

    Args:
        cluster: Where they are.
        names: The Deployments.
        release: The Helm release that they belong to.
        timeout_seconds: How long it may take.
        emit: Told how everything stands, whenever that changed.
        clock: Time.

    Raises:
        CheckError: Time is up, or something keeps a pod from ever getting ready; with the end of
            the log of each container that fails.
        WorldError: The cluster cannot be reached for longer than two minutes.
    """
    began = seen = clock.now()
    first_seen: dict[tuple[str, str, float], float] = {}
    told: Waiting | None = None
    while True:
        try:
            rollout = look(cluster, names, release)
            seen = clock.now()
        except WorldError:
            if clock.now() - seen > _AWAY_SECONDS:
                raise
            clock.sleep(_POLL_SECONDS)
            continue
        now = Waiting(() if rollout.ready else (*rollout.lines, *_download_lines(cluster, rollout)))
        if now != told:
            emit(now)
            told = now
        if rollout.ready:
            return
        first_seen = {t.where: first_seen.get(t.where, seen) for t in rollout.troubles}
        final = [t for t in rollout.troubles if seen - first_seen[t.where] >= t.patience]
        if final:
            raise _given_up(cluster, final)
        if seen - began > timeout_seconds:
            raise _too_late(cluster, rollout, timeout_seconds)
        clock.sleep(_POLL_SECONDS)


def _given_up(cluster: Cluster, troubles: Sequence[Trouble]) -> CheckError:
    text = "; ".join(_explained(cluster, trouble) for trouble in troubles)
    hint = "mend the cause and run publish again; the Helm release is left as it is"
    return CheckError(text, hint=_hint(troubles) or hint)


def _too_late(cluster: Cluster, rollout: Rollout, timeout_seconds: float) -> CheckError:
    """Say what is missing, and what is known of the reasons."""
    blamed = {trouble.pod for trouble in rollout.troubles if trouble.pod}
    others = [line for line in rollout.lines if line.partition(":")[0] not in blamed]
    told = [*others, *(_explained(cluster, trouble) for trouble in rollout.troubles)]
    if rollout.troubles:
        hint = _hint(rollout.troubles) or "mend the cause and run publish again"
    else:
        hint = "run publish again to go on waiting; kubernetes.timeoutSeconds sets how long"
    return CheckError(f"not ready within {timeout_seconds:g} s: {'; '.join(told)}", hint=hint)


def _hint(troubles: Sequence[Trouble]) -> str:
    return "; ".join(dict.fromkeys(trouble.hint for trouble in troubles if trouble.hint))


def _explained(cluster: Cluster, trouble: Trouble) -> str:
    told = _log_ending(cluster, trouble) if trouble.container else ""
    return f"{trouble.text}; its log ends: {told}" if told else trouble.text


def _log_ending(cluster: Cluster, trouble: Trouble) -> str:
    """Give the error and hint that a container of ours ended with, or any other's last line.

    One that was started again may have written nothing yet: then the log before tells.
    """
    last = ""
    for previous in (False, True):
        lines = cluster.last_log_lines(trouble.pod, trouble.container, previous=previous)
        errors = [number for number, line in enumerate(lines) if line.startswith(_ERROR)]
        if errors:
            return "; ".join(lines[errors[-1] :])[:_MAX_LOG]
        last = last or "".join(lines[-1:])
    return last[:_MAX_LOG]


def _download_lines(cluster: Cluster, rollout: Rollout) -> list[str]:
    pairs = [(pod, cluster.last_log_lines(pod, init)[-1:]) for pod, init in rollout.downloading]
    return [f"{pod}: {line}" for pod, last in pairs for line in last]
