"""A Kubernetes cluster as ``bundler.publish`` uses one: kubectl and helm together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ToolFailedError
from bundler.process import Run, run
from bundler.target import KubernetesTarget
from bundler.tools.helm import Helm
from bundler.tools.helm_release import HelmRelease, Installed
from bundler.tools.kubectl import Kubectl, Object
from bundler.tools.kubernetes_errors import explained
from bundler.yamltext import read_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesCluster:
    """One namespace of a cluster, and one Helm release in it.

    The methods are those of ``bundler.publish.cluster.Cluster``, which says what each promises.
    """

    kubectl: Kubectl
    helm: Helm
    release: HelmRelease

    def get(self, kind: str, name: str) -> Object | None:
        """Read one object."""
        return self.kubectl.get(kind, name)

    def find(self, kinds: str, selector: str) -> Sequence[Object]:
        """Read the objects that a label selector finds."""
        return self.kubectl.find(kinds, selector)

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> None:
        """Make or change one object."""
        self.kubectl.apply(item, force=force, dry_run=dry_run)

    def last_log_lines(self, pod: str, container: str, *, previous: bool = False) -> Sequence[str]:
        """Give the last few lines that a container wrote."""
        return self.kubectl.last_log_lines(pod, container, previous=previous)

    def installed(self) -> Installed | None:
        """Say what is installed."""
        return self.release.installed()

    def render(self, chart: Path, values: Path) -> Sequence[Object]:
        """Render a chart, hooks and tests included."""
        try:
            text = self.helm.template(chart, self.release.name, self.release.namespace, [values])
        except ToolFailedError as error:
            raise explained(error) from error
        return read_objects(text, name=f"chart {chart.name}")

    def upgrade(self, chart: Path, values: Path) -> None:
        """Bring the Helm release to a chart and its values."""
        self.release.upgrade(chart, values)

    def manifest(self) -> Sequence[Object]:
        """Give the objects that Helm installed last, hooks and tests included."""
        return read_objects(self.release.manifest(), name=f"Helm release {self.release.name}")


def open_cluster(target: KubernetesTarget, *, run: Run = run) -> KubernetesCluster:
    """Make the cluster that a target names; asks it nothing yet."""
    kubeconfig, context, namespace = target.kubeconfig, target.context, target.namespace
    return KubernetesCluster(
        kubectl=Kubectl(namespace=namespace, kubeconfig=kubeconfig, context=context, run=run),
        helm=Helm(),
        release=HelmRelease(
            name=target.release,
            namespace=namespace,
            kubeconfig=kubeconfig,
            context=context,
            run=run,
        ),
    )
