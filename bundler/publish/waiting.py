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
# How long trouble that may mend itself must last before we give up.
_PATIENCE_SECONDS = 60.0
# The API server may be away for this long, for instance while it is updated.
_AWAY_SECONDS = 120.0


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
        emit: Told at each look how everything stands.
        clock: Time.

    Raises:
        CheckError: Time is up, or something keeps a pod from ever getting ready; with the last line
            of the log of the container that fails.
        WorldError: The cluster cannot be reached for longer than two minutes.
    """
    began = seen = clock.now()
    first_seen: dict[tuple[str, str], float] = {}
    while True:
        try:
            rollout = look(cluster, names, release)
            seen = clock.now()
        except WorldError:
            if clock.now() - seen > _AWAY_SECONDS:
                raise
            clock.sleep(_POLL_SECONDS)
            continue
        emit(Waiting(() if rollout.ready else (*rollout.lines, *_download_lines(cluster, rollout))))
        if rollout.ready:
            return
        first_seen = {t.where: first_seen.get(t.where, seen) for t in rollout.troubles}
        final = [t for t in rollout.troubles if _is_final(t, seen - first_seen[t.where])]
        if final:
            raise CheckError(
                "; ".join(_explained(cluster, trouble) for trouble in final),
                hint="the Helm release is left as it is; mend the cause and run publish again",
            )
        if seen - began > timeout_seconds:
            raise CheckError(
                f"not ready within {timeout_seconds:g} s: {'; '.join(rollout.lines)}",
                hint="run publish again to go on waiting; kubernetes.timeoutSeconds sets how long",
            )
        clock.sleep(_POLL_SECONDS)


def _is_final(trouble: Trouble, lasted: float) -> bool:
    return trouble.certain or lasted > _PATIENCE_SECONDS


def _explained(cluster: Cluster, trouble: Trouble) -> str:
    if not trouble.container:
        return trouble.text
    line = cluster.last_log_line(trouble.pod, trouble.container)
    if not line:
        line = cluster.last_log_line(trouble.pod, trouble.container, previous=True)
    return f"{trouble.text}; its log ends: {line}" if line else trouble.text


def _download_lines(cluster: Cluster, rollout: Rollout) -> list[str]:
    pairs = [(pod, cluster.last_log_line(pod, init)) for pod, init in rollout.downloading]
    return [f"{pod}: {line}" for pod, line in pairs if line]
