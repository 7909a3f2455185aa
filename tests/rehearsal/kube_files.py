"""The files that Kubernetes' programs read: certificates, kubeconfigs, configurations.

Configurations are written as JSON, which is YAML as well.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal import addresses, programs
from tests.rehearsal.certificates import Authority, KeyPair, write_token_keys

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "rehearsal.invalid/pause:1"
PLUGIN_DIRECTORY = "/var/lib/kubelet/volumeplugins"
ISSUER = "https://oidc.rehearsal.test"
PROXY_HEALTH = "127.0.0.1:10256"

# Taint and number of GPUs of the node, as the customer's GPU node groups have them.
GPU_RESOURCE = "nvidia.com/gpu"
GPU_TAINT = {"key": GPU_RESOURCE, "value": "true", "effect": "NoSchedule"}
GPUS = 8

_API_NAMES = (
    "127.0.0.1",
    addresses.NODE,
    addresses.SERVICE_API,
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{addresses.CLUSTER_DOMAIN}",
)
_MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class KubeFiles:
    """Where the files of one cluster are.

    Attributes:
        state: Directory of the rehearsal.
        node: Name of its one node, and of its control group.
    """

    state: Path
    node: str

    @property
    def pki(self) -> Path:
        """Give the directory of certificates and keys."""
        return self.state / "pki"

    @property
    def conf(self) -> Path:
        """Give the directory of configurations."""
        return self.state / "conf"

    @property
    def kubeconfig(self) -> Path:
        """Give the administrator's kubeconfig."""
        return self.state / "kubeconfig"

    def write(self, registry_ca: Path, registry_login: tuple[str, str]) -> None:
        """Write all of them.

        Args:
            registry_ca: Authority of the registry's certificate.
            registry_login: User and password with which the node pulls. They play the right to
                pull from ECR that the role of an EKS node has: pods name no pull secret.
        """
        self.pki.mkdir(mode=0o700, exist_ok=True)
        self.conf.mkdir(mode=0o700, exist_ok=True)
        self._write_certificates()
        (self.conf / "resolv.conf").write_text(f"nameserver {addresses.NODE}\n")
        self._write_json("kubelet.json", self._kubelet())
        self._write_json("proxy.json", self._proxy())
        self._write_json("cni/10-bridge.conflist", _cni())
        self._write_containerd(registry_ca, registry_login)

    def _write_certificates(self) -> None:
        authority = Authority(self.pki, "kubernetes-ca")
        node = f"system:node:{self.node}"
        authority.issue("apiserver", subject="kube-apiserver", names=_API_NAMES)
        names = (addresses.NODE, "127.0.0.1", self.node)
        authority.issue("kubelet-serving", subject=node, group="system:nodes", names=names)
        authority.issue("apiserver-kubelet-client", subject="kube-apiserver", group=_MASTERS)
        write_token_keys(self.pki)
        admin = authority.issue("admin", subject="rehearsal-admin", group=_MASTERS)
        self._write_kubeconfig(self.kubeconfig, authority, admin)
        for program, user, group in (
            ("kubelet", node, "system:nodes"),
            ("kube-controller-manager", "system:kube-controller-manager", ""),
            ("kube-scheduler", "system:kube-scheduler", ""),
            ("kube-proxy", "system:kube-proxy", ""),
        ):
            pair = authority.issue(program, subject=user, group=group)
            self._write_kubeconfig(self.conf / f"{program}.kubeconfig", authority, pair)

    def _write_kubeconfig(self, path: Path, authority: Authority, pair: KeyPair) -> None:
        cluster = {
            "server": f"https://127.0.0.1:{addresses.API_PORT}",
            "certificate-authority-data": _base64(authority.file),
        }
        user = {
            "client-certificate-data": _base64(pair.certificate),
            "client-key-data": _base64(pair.key),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "rehearsal", "cluster": cluster}],
            "users": [{"name": "rehearsal", "user": user}],
            "contexts": [
                {"name": "rehearsal", "context": {"cluster": "rehearsal", "user": "rehearsal"}}
            ],
            "current-context": "rehearsal",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=1))

    def _write_json(self, name: str, document: object) -> None:
        path = self.conf / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=1))

    def _kubelet(self) -> dict[str, object]:
        off = "0%"
        pressure = dict.fromkeys(
            (f"{place}.{what}" for place in ("nodefs", "imagefs") for what in _DISK_SIGNALS), off
        )
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": addresses.NODE,
            "authentication": {
                "x509": {"clientCAFile": str(self.pki / "kubernetes-ca.crt")},
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(self.pki / "kubelet-serving.crt"),
            "tlsPrivateKeyFile": str(self.pki / "kubelet-serving.key"),
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "registerWithTaints": [GPU_TAINT],
            "clusterDNS": [addresses.NODE],
            "clusterDomain": addresses.CLUSTER_DOMAIN,
            "resolvConf": str(self.conf / "resolv.conf"),
            "volumePluginDir": PLUGIN_DIRECTORY,
            "evictionHard": {"memory.available": "100Mi", **pressure},
            "imageGCHighThresholdPercent": 100,  # off: this machine's disk is not the node's own
            **self._kubelet_groups(),
            **_KUBELET_PACE,
        }

    def _kubelet_groups(self) -> dict[str, object]:
        return {
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.node}",
            "failCgroupV1": False,
            "failSwapOn": False,
            # A root without CAP_SYS_RESOURCE, as in many sandboxes, may not set the defaults.
            "maxOpenFiles": 20000,
            "oomScoreAdj": 0,
        }

    def _proxy(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(self.conf / "kube-proxy.kubeconfig")},
            "mode": "nftables",
            "clusterCIDR": addresses.POD_NETWORK,
            "hostnameOverride": self.node,
            "bindAddress": addresses.NODE,
            "healthzBindAddress": PROXY_HEALTH,
            # These would be settings of the whole machine.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }

    def _write_containerd(self, registry_ca: Path, login: tuple[str, str]) -> None:
        hosts = self.conf / "certs.d" / addresses.REGISTRY
        hosts.mkdir(parents=True, exist_ok=True)
        server = json.dumps(f"https://{addresses.REGISTRY}")
        (hosts / "hosts.toml").write_text(
            f"server = {server}\n"
            f"[host.{server}]\n"
            'capabilities = ["pull", "resolve"]\n'
            f"ca = {json.dumps(str(registry_ca))}\n"
        )
        values = {
            "registry": addresses.REGISTRY,
            "user": login[0],
            "password": login[1],
            "opt": self.state / "opt",
            "socket": CONTAINERD_SOCKET,
            "pause": PAUSE_IMAGE,
            "plugins": programs.CNI_PLUGINS,
            "conf_cni": self.conf / "cni",
            "conf_certificates": self.conf / "certs.d",
        }
        quoted = {name: json.dumps(str(value)) for name, value in values.items()}
        path = self.conf / "containerd.toml"
        path.touch(mode=0o600)
        path.write_text(_CONTAINERD.format(**quoted))


_DISK_SIGNALS = ("available", "inodesFree")
_KUBELET_PACE = {
    "serializeImagePulls": False,
    "registryPullQPS": 0,
    "eventRecordQPS": 0,
    "nodeStatusUpdateFrequency": "5s",
    "nodeStatusReportFrequency": "1m",
}

# restrict_oom_score_adj: without CAP_SYS_RESOURCE runc cannot start any container otherwise.
_CONTAINERD = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = {socket}

[plugins."io.containerd.internal.v1.opt"]
path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {pause}
restrict_oom_score_adj = true
disable_apparmor = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {plugins}
conf_dir = {conf_cni}

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {conf_certificates}

# Plays the right to pull from ECR that the role of an EKS node has.
[plugins."io.containerd.grpc.v1.cri".registry.configs.{registry}.auth]
username = {user}
password = {password}
"""


def _cni() -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "isDefaultGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": addresses.POD_NETWORK}]],
            "dataDir": "/run/cni-ipam",
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "rehearsal", "plugins": [bridge, portmap]}


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
