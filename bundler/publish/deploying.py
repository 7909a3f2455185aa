"""The cluster's part of carrying a plan out: secrets, chart, and the wait for pods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle_files import BundleFiles
from bundler.archive.files import atomic_write_bytes
from bundler.events import Emit, telling
from bundler.publish.chart import RenderedChart, render_chart
from bundler.publish.closure import check_closure, check_installed
from bundler.publish.destination import Destination
from bundler.publish.images import require_images
from bundler.publish.layout import Layout
from bundler.publish.memory import open_memory
from bundler.publish.plan import Kind, Plan
from bundler.publish.secrets import WantedSecret, namespace_object, secret_object
from bundler.publish.waiting import Clock, wait_until_ready
from bundler.release import TrustedRelease
from bundler.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploying:
    """Does what a plan says is to do in the cluster.

    Attributes:
        plan: What to do.
        release: The one to install.
        target: Where.
        layout: Where its checkpoints are.
        destination: What the target names, opened.
        bundle: What has the chart.
        scratch: Directory for the chart.
        emit: Told of each step.
        clock: Time, for waiting.
    """

    plan: Plan
    release: TrustedRelease
    target: Target
    layout: Layout
    destination: Destination
    bundle: BundleFiles
    scratch: Path
    emit: Emit
    clock: Clock

    def carry_out(self, secrets: Sequence[WantedSecret], values_path: Path) -> RenderedChart:
        """Write secrets, install the chart where it is to do, and wait for the pods.

        Raises:
            CheckError: The chart names an image that is not there as signed, or a pod does not get
                ready.
            StaleError: A newer release was installed since the plan was made.
            WorldError: The cluster refuses or fails.
        """
        self._prepare(secrets)
        chart = render_chart(
            self.release,
            self.bundle,
            self.target,
            self.layout,
            cluster=self.destination.cluster,
            directory=self.scratch,
        )
        self._install(chart, values_path)
        if self.plan.is_pending(Kind.PODS, self.target.kubernetes.release):
            self._wait(chart)
        return chart

    def _prepare(self, secrets: Sequence[WantedSecret]) -> None:
        namespace = self.target.kubernetes.namespace
        if self.plan.is_pending(Kind.NAMESPACE, namespace):
            with telling(self.emit, "make", f"namespace {namespace}"):
                self.destination.cluster.apply(namespace_object(namespace))
        for wanted in secrets:
            if self.plan.is_pending(Kind.CREDENTIAL, wanted.name):
                with telling(self.emit, "write", f"secret {wanted.name}"):
                    self.destination.cluster.apply(secret_object(wanted, namespace))

    def _install(self, chart: RenderedChart, values_path: Path) -> None:
        manifest, host = self.release.manifest, self.target.registry.host
        named = check_closure(chart.objects, manifest, host)
        if self.plan.is_pending(Kind.CHART, self.target.kubernetes.release):
            require_images(self.destination.registry, named, host)
            memory = open_memory(self.destination, self.target, self.layout)
            memory.begin(self.release, judged=self.plan.highest)
            atomic_write_bytes(values_path, chart.values_file)
            with telling(self.emit, "install", f"chart {chart.chart.name}-{chart.chart.version}"):
                # Not the operator's copy: others may write there, and what was judged counts.
                self.destination.cluster.upgrade(chart.path, chart.values_path)
        check_installed(self.destination.cluster.manifest(), manifest, host)

    def _wait(self, chart: RenderedChart) -> None:
        kubernetes = self.target.kubernetes
        with telling(self.emit, "wait for", f"pods of {kubernetes.release}"):
            wait_until_ready(
                self.destination.cluster,
                chart.deployments,
                kubernetes.release,
                timeout_seconds=kubernetes.timeout_seconds,
                emit=self.emit,
                clock=self.clock,
            )
