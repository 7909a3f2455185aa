"""A cluster that remembers what it was told: for tests of publishing, not of Kubernetes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from bundler.errors import ToolFailedError
from bundler.tools.helm import Helm
from bundler.tools.helm_release import Installed
from bundler.tools.kubectl import Object
from bundler.tools.kubernetes_errors import explained
from bundler.yamltext import read_objects

RELEASE, NAMESPACE = "inference", "poolside-models"


@dataclass
class FakeCluster:
    """A ``Cluster`` with pods that get ready at once, unless ``watch`` says otherwise.

    Attributes:
        things: Objects by kind and name.
        applied: Every object that was applied, in order.
        newest: What Helm has.
        upgrades: How often Helm was called to change something.
        looks: How often pods were asked for.
        before_upgrade: Called when Helm is about to change something.
        watch: Gives the objects at each look, from the ready ones and the number of the look.
        logs: Last lines of each container; under ``NAME before`` of the one before a restart.
    """

    things: dict[tuple[str, str], Object] = field(default_factory=dict)
    applied: list[Object] = field(default_factory=list)
    newest: Installed | None = None
    upgrades: int = 0
    looks: int = 0
    before_upgrade: Callable[[], None] = lambda: None
    watch: Callable[[list[Object], int], list[Object]] = lambda ready, _look: ready
    logs: dict[str, str] = field(default_factory=dict)
    _ready: list[Object] = field(default_factory=list)
    _installed: Sequence[Object] = ()

    def get(self, kind: str, name: str) -> Object | None:
        return self.things.get((kind, name))

    def find(self, kinds: str, selector: str) -> Sequence[Object]:
        assert selector == f"app.kubernetes.io/instance={RELEASE}"
        self.looks += 1
        return self.watch(self._ready, self.looks)

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> None:
        if dry_run:
            return
        metadata: Any = item["metadata"]
        self.applied.append(item)
        self.things[str(item["kind"]).lower(), metadata["name"]] = item

    def last_log_lines(self, pod: str, container: str, *, previous: bool = False) -> Sequence[str]:
        return self.logs.get(f"{container} before" if previous else container, "").splitlines()

    def installed(self) -> Installed | None:
        return self.newest

    def render(self, chart: Path, values: Path) -> Sequence[Object]:
        try:
            text = Helm().template(chart, RELEASE, NAMESPACE, [values])
        except ToolFailedError as error:
            raise explained(error) from error
        return read_objects(text, name="chart")

    def upgrade(self, chart: Path, values: Path) -> None:
        self.before_upgrade()
        self.upgrades += 1
        about = yaml.safe_load((chart / "Chart.yaml").read_text())
        revision = (self.newest.revision if self.newest else 0) + 1
        self.newest = Installed(
            revision=revision,
            status="deployed",
            chart=f"{about['name']}-{about['version']}",
            values=yaml.safe_load(values.read_text()),
            last_good=revision,
        )
        self._installed = self.render(chart, values)
        self._ready = [
            thing
            for item in self._installed
            if item["kind"] == "Deployment"
            for thing in ready_deployment(item)
        ]

    def manifest(self) -> Sequence[Object]:
        return self._installed

    def set_status(self, status: str) -> None:
        assert self.newest is not None
        self.newest = replace(self.newest, status=status)

    def secret(self, name: str) -> Mapping[str, str]:
        data: Any = self.things["secret", name]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def add_secret(self, name: str, content: Mapping[str, str], *, label: str = "") -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
        labels = {"app.kubernetes.io/managed-by": label} if label else {}
        metadata = {"name": name, "labels": labels}
        self.things["secret", name] = {"kind": "Secret", "metadata": metadata, "data": data}


def ready_deployment(item: Object) -> list[Object]:
    """Give a Deployment, its ReplicaSet and its pod as they are when all is well."""
    metadata: Any = item["metadata"]
    name = metadata["name"]
    revision = {"deployment.kubernetes.io/revision": "1"}
    return [
        {
            "kind": "Deployment",
            "metadata": {"name": name, "generation": 1, "annotations": revision},
            "spec": {"replicas": 1},
            "status": {
                "observedGeneration": 1,
                "replicas": 1,
                "updatedReplicas": 1,
                "availableReplicas": 1,
            },
        },
        {
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{name}-1",
                "annotations": revision,
                "ownerReferences": [{"name": name}],
            },
        },
        {
            "kind": "Pod",
            "metadata": {"name": f"{name}-1-a", "ownerReferences": [{"name": f"{name}-1"}]},
            "status": {
                "phase": "Running",
                "initContainerStatuses": [
                    {"name": "model-downloader", "state": {"terminated": {"exitCode": 0}}}
                ],
                "containerStatuses": [
                    {"name": "model-server", "ready": True, "state": {"running": {}}}
                ],
            },
        },
    ]
