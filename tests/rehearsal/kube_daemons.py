"""Kubernetes' programs and containerd: their flags and the order that they start in."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal import addresses, images, kube_files, programs
from tests.rehearsal.daemon import Daemon
from tests.rehearsal.kube_files import KubeFiles

_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The programs of one cluster.

    Attributes:
        kube: The program that is all of Kubernetes.
        files: What they read.
    """

    kube: Path
    files: KubeFiles

    def daemons(self) -> list[Daemon]:
        """List them all; when they are ready, so is the cluster's node."""
        return [
            self._etcd(),
            self._containerd(),
            self._pause(),
            self._apiserver(),
            self._task("api-ready", after=["kube-apiserver"]),
            self._kubelet(),
            self._controller_manager(),
            self._scheduler(),
            self._proxy(),
            self._task("node-ready", after=["api-ready", "kubelet", "kube-controller-manager"]),
        ]

    def _etcd(self) -> Daemon:
        return self._daemon(
            "etcd",
            "--name=rehearsal",
            f"--data-dir={self.files.state}/etcd",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            f"--listen-peer-urls={_ETCD_PEER}",
            f"--initial-advertise-peer-urls={_ETCD_PEER}",
            f"--initial-cluster=rehearsal={_ETCD_PEER}",
            "--unsafe-no-fsync",  # nothing here outlives the machine
            "--logger=zap",
            ready="tcp://127.0.0.1:2379",
        )

    def _containerd(self) -> Daemon:
        return Daemon(
            name="containerd",
            argv=[
                programs.find("containerd"),
                "--config",
                f"{self.files.conf}/containerd.toml",
            ],
            ready=f"unix:{kube_files.CONTAINERD_SOCKET}",
        )

    def _pause(self) -> Daemon:
        """Import the image of every pod's sandbox; a registry of the customer's has none."""
        layout = self.files.state / "pause"
        command = ["/bin/sleep", "infinity"]
        images.write_busybox(layout, command=command, name=kube_files.PAUSE_IMAGE)
        archive = layout.with_suffix(".tar")
        images.write_archive(layout, archive)
        ctr = [programs.find("ctr"), "--address", kube_files.CONTAINERD_SOCKET]
        return Daemon(
            name="pause-image",
            argv=[*ctr, "--namespace", "k8s.io", "images", "import", str(archive)],
            after=["containerd"],
            once=True,
        )

    def _apiserver(self) -> Daemon:
        pki = self.files.pki
        return self._daemon(
            "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            "--bind-address=0.0.0.0",
            f"--secure-port={addresses.API_PORT}",
            f"--advertise-address={addresses.NODE}",
            f"--service-cluster-ip-range={addresses.SERVICE_NETWORK}",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/kubernetes-ca.crt",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
            f"--kubelet-certificate-authority={pki}/kubernetes-ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-issuer={kube_files.ISSUER}",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            f"--api-audiences=https://kubernetes.default.svc,{kube_files.ISSUER}",
            "--profiling=false",
            after=["etcd"],
            ready=f"tcp://127.0.0.1:{addresses.API_PORT}",
        )

    def _kubelet(self) -> Daemon:
        return self._daemon(
            "kubelet",
            f"--config={self.files.conf}/kubelet.json",
            self._kubeconfig("kubelet"),
            f"--node-ip={addresses.NODE}",
            f"--hostname-override={self.files.node}",
            after=["kube-apiserver", "pause-image"],
        )

    def _controller_manager(self) -> Daemon:
        """Start it only when the API server is ready; before, it ends itself."""
        pki = self.files.pki
        return self._daemon(
            "kube-controller-manager",
            self._kubeconfig("kube-controller-manager"),
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={pki}/sa.key",
            f"--root-ca-file={pki}/kubernetes-ca.crt",
            f"--flex-volume-plugin-dir={kube_files.PLUGIN_DIRECTORY}",
            # At the default of 20 requests a second, the first service account takes 4 s.
            "--kube-api-qps=300",
            "--kube-api-burst=600",
            "--profiling=false",
            after=["api-ready"],
        )

    def _scheduler(self) -> Daemon:
        return self._daemon(
            "kube-scheduler",
            self._kubeconfig("kube-scheduler"),
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--profiling=false",
            after=["api-ready"],
        )

    def _proxy(self) -> Daemon:
        return self._daemon(
            "kube-proxy",
            f"--config={self.files.conf}/proxy.json",
            after=["api-ready"],
            ready=f"http://{kube_files.PROXY_HEALTH}/healthz",
        )

    def _task(self, name: str, *, after: list[str]) -> Daemon:
        argv = [sys.executable, "-m", "tests.rehearsal.cluster", name]
        argv += [str(self.files.pki), self.files.node]
        return Daemon(name=name, argv=argv, after=after, once=True)

    def _daemon(
        self, name: str, *flags: str, after: list[str] | None = None, ready: str = ""
    ) -> Daemon:
        argv = [str(self.kube), name, *flags]
        return Daemon(name=name, argv=argv, after=after or [], ready=ready)

    def _kubeconfig(self, program: str) -> str:
        return f"--kubeconfig={self.files.conf}/{program}.kubeconfig"
