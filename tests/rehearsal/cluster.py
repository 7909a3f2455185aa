"""What has to be asked of a new cluster, or waited for, before anybody may use it.

Run by the supervisor as ``python -m tests.rehearsal.cluster api-ready|node-ready PKI NODE``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.rehearsal.kube_api import ApiError, KubeApi, Object
from tests.rehearsal.kube_files import GPU_RESOURCE, GPUS

_POLL = 0.1
_RBAC = "rbac.authorization.k8s.io"
_PROXY_BINDING: Object = {
    "metadata": {"name": "rehearsal-kube-proxy"},
    "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "system:node-proxier"},
    "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": "system:kube-proxy"}],
}
# The name by which charts ask the AWS Load Balancer Controller for a load balancer.
_ALB_CLASS: Object = {
    "metadata": {"name": "alb"},
    "spec": {"controller": "ingress.k8s.aws/alb"},
}


def api_ready(api: KubeApi) -> None:
    """Wait for the API server, then give kube-proxy its rights and make the ingress class."""
    _wait(api.is_ready)
    api.create(f"/apis/{_RBAC}/v1/clusterrolebindings", _PROXY_BINDING)
    api.create("/apis/networking.k8s.io/v1/ingressclasses", _ALB_CLASS)


def node_ready(api: KubeApi, node: str) -> None:
    """Wait until the node takes pods, and let it advertise GPUs.

    They need no device: the kubelet admits pods with resources that no device plugin owns, and
    the chart's server here is one that uses none.
    """
    path = f"/api/v1/nodes/{node}"
    _wait(lambda: _exists(api, path))
    count = {GPU_RESOURCE: str(GPUS)}
    api.patch(f"{path}/status", {"status": {"capacity": count, "allocatable": count}})
    _wait(lambda: _takes_pods(api.get(path)))
    _wait(lambda: _exists(api, "/api/v1/namespaces/default/serviceaccounts/default"))


def _wait(condition: Callable[[], bool]) -> None:
    """Poll; the supervisor is the one who gives up."""
    while not condition():
        time.sleep(_POLL)


def _exists(api: KubeApi, path: str) -> bool:
    try:
        api.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def _takes_pods(node: Object) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    taints = node["spec"].get("taints", [])
    unready = any(taint["key"].startswith("node.kubernetes.io/") for taint in taints)
    return conditions.get("Ready") == "True" and not unready


def main() -> None:
    """Carry out the one task that the command line names."""
    task, pki, node = sys.argv[1:]
    api = KubeApi(Path(pki))
    if task == "api-ready":
        api_ready(api)
    else:
        node_ready(api, node)


if __name__ == "__main__":
    main()
