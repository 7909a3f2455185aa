"""What a destination remembers, with a real bucket and a real API server, and people who meddle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundler import process
from bundler.digest import Digest
from bundler.errors import DeniedError, MalformedError, StaleError
from bundler.events import Event, Noted
from bundler.manifest_codec import encode_manifest
from bundler.publish.carry_out import publish
from bundler.publish.cluster_memory import ClusterMemory
from bundler.publish.destination import Destination
from bundler.publish.layout import lay_out
from bundler.publish.memory import open_memory
from bundler.publish.plan import Kind, Plan
from bundler.publish.planning import make_plan
from bundler.publish.secrets import namespace_object
from bundler.receipt import Receipt
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease
from bundler.stores.base import ObjectStore
from bundler.stores.login import GivenLogin
from bundler.stores.opening import open_bucket, open_registry
from bundler.target import KubernetesTarget, RegistryTarget, S3Target, Target
from bundler.tools.kubectl import Kubectl, Object
from tests.fake_cluster import RELEASE, FakeCluster
from tests.integration.fetching import CHECKPOINT, FILES, held, log_in, manifest_of, upload
from tests.publishable import SMALL, make_publishable
from tests.rehearsal import programs
from tests.rehearsal.registry import Registry
from tests.rehearsal.s3 import S3
from tests.rehearsal.site import Site

NOW = "2026-11-20T12:00:00Z"
POINTER = "llm/releases/current.json"
NAME = f"bundle-current-{RELEASE}"
_REAL = {"configmap", "namespace"}


@pytest.fixture(autouse=True)
def programs_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    return make_publishable(tmp_path_factory.mktemp("release") / "older")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> TrustedRelease:
    return make_publishable(
        tmp_path_factory.mktemp("release") / "newer", replace(SMALL, sequence=2)
    )


@dataclass
class Half(FakeCluster):
    """A cluster whose namespace and ConfigMap a real API server keeps; its pods are ready."""

    kubectl: Kubectl = field(default_factory=lambda: Kubectl(namespace="none"))

    def get(self, kind: str, name: str) -> Object | None:
        return self.kubectl.get(kind, name) if kind in _REAL else super().get(kind, name)

    def apply(self, item: Object, *, force: bool = False, dry_run: bool = False) -> None:
        if str(item["kind"]).lower() in _REAL:
            self.kubectl.apply(item, force=force, dry_run=dry_run)
        else:
            super().apply(item, force=force, dry_run=dry_run)


@dataclass
class Place:
    """A destination: a bucket, a registry, and a namespace of the rehearsal."""

    site: Site
    target: Target
    store: ObjectStore
    registry: Any
    directory: Path
    cluster: Half
    events: list[Event] = field(default_factory=list)

    @property
    def destination(self) -> Destination:
        return Destination(store=self.store, registry=self.registry, cluster=self.cluster)

    @property
    def namespace(self) -> str:
        return self.target.kubernetes.namespace

    def plan(self, release: TrustedRelease) -> Plan:
        self.events.clear()
        return make_plan(
            release, self.target, self.destination, secrets=(), now=NOW, emit=self.events.append
        )

    def publish(self, release: TrustedRelease) -> Receipt | None:
        return publish(
            self.plan(release),
            release,
            self.target,
            self.destination,
            secrets=(),
            values_path=self.directory / "values.yaml",
            receipts=self.directory,
            now=NOW,
            scratch_parent=self.directory,
        )

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.site.kubectl("--namespace", self.namespace, *arguments, text=text)

    def memories(self) -> tuple[object, object]:
        """Give what the bucket and the cluster hold, as it stands there."""
        keys = {item.key for item in self.store.list("llm/releases/current")}
        bucket = self.store.get(POINTER, limit=4096).decode() if POINTER in keys else None
        found = self.kubectl("get", "configmap", NAME, "--ignore-not-found", "--output=json")
        return bucket, json.loads(found)["data"] if found else None

    def patch_config_map(self, text: str) -> None:
        patch = json.dumps({"data": {"current.json": text}})
        self.kubectl("patch", "configmap", NAME, "--type=merge", "--patch", patch)


def inside(site: Site) -> process.Run:
    """Start programs inside a rehearsal."""

    def run(
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = process.MAX_OUTPUT_BYTES,
    ) -> str:
        command = [str(site.enter), *argv]
        return process.run(command, stdin=stdin, env=env, timeout=timeout, limit=limit)

    return run


@pytest.fixture
def place(
    site: Site,
    s3: S3,
    s3_bucket: str,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    need: Callable[[str], str],
) -> Iterator[Place]:
    need("helm")
    log_in(s3, monkeypatch)
    host, namespace = f"{registry.address}/{s3_bucket}", f"rollback-{uuid.uuid4().hex[:8]}"
    kubectl = Kubectl(namespace=namespace, kubeconfig=site.kubeconfig, run=inside(site))
    yield Place(
        site=site,
        target=Target(
            registry=RegistryTarget(host=host, plain_http=True),
            s3=S3Target(place=S3Prefix(s3_bucket, "llm"), region=s3.region, endpoint=s3.url),
            kubernetes=KubernetesTarget(namespace=namespace, timeout_seconds=5),
        ),
        store=open_bucket(s3_bucket, endpoint=s3.url, region=s3.region),
        registry=open_registry(host, logins=GivenLogin(), plain_http=True),
        directory=tmp_path,
        cluster=Half(kubectl=kubectl),
    )
    site.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


@pytest.mark.rehearsal
def test_bucket_and_cluster_remember_the_same(place: Place, older: TrustedRelease) -> None:
    place.publish(older)
    bucket, cluster = place.memories()
    assert cluster == {"current.json": bucket}
    assert json.loads(str(bucket)) == {
        "formatVersion": 1,
        "highest": 1,
        "manifestSha256": Digest.of(older.manifest_bytes).hex,
        "release": "demo-2026.11.1",
        "sequence": 1,
    }
    arguments = ("get", "configmap", NAME, "--output=json", "--show-managed-fields")
    metadata = json.loads(place.kubectl(*arguments))["metadata"]
    assert metadata["labels"] == {"app.kubernetes.io/managed-by": "bundle"}
    assert [item["manager"] for item in metadata["managedFields"]] == ["bundle"]
    assert not place.plan(older).pending


def delete_in_bucket(place: Place, _: tuple[Any, Any]) -> None:
    place.store.delete(POINTER)


def restore_in_bucket(place: Place, before: tuple[Any, Any]) -> None:
    place.store.replace(POINTER, before[0].encode())


def delete_in_cluster(place: Place, _: tuple[Any, Any]) -> None:
    place.kubectl("delete", "configmap", NAME)


def restore_in_cluster(place: Place, before: tuple[Any, Any]) -> None:
    place.patch_config_map(before[1]["current.json"])


@pytest.mark.rehearsal
@pytest.mark.parametrize(
    "meddle", [delete_in_bucket, restore_in_bucket, delete_in_cluster, restore_in_cluster]
)
def test_to_change_one_memory_helps_nobody_and_publish_mends_it(
    place: Place,
    older: TrustedRelease,
    newer: TrustedRelease,
    meddle: Callable[[Place, tuple[Any, Any]], None],
) -> None:
    place.publish(older)
    before = place.memories()
    place.publish(newer)
    after = place.memories()
    meddle(place, before)
    with pytest.raises(StaleError, match="sequence 1, expected 2 or higher") as caught:
        place.plan(older)
    assert caught.value.exit_status == 6
    assert isinstance(place.events[0], Noted)
    [step] = place.plan(newer).pending
    assert step.kind is Kind.POINTER
    noted = str(place.events[0])
    assert "the higher counts; publish makes both the same" in noted
    assert "highest 2" in noted
    assert place.publish(newer) is not None
    assert place.memories() == after
    assert not place.plan(newer).pending


@pytest.mark.rehearsal
@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"formatVersion":1,"highest":1,"more":1}', '{"highest":1}', " " * 100_000],
)
def test_a_config_map_that_we_did_not_write_is_never_taken_for_nothing(
    place: Place, older: TrustedRelease, text: str
) -> None:
    place.publish(older)
    place.patch_config_map(text)
    with pytest.raises(MalformedError, match=f"configmap {place.namespace}/{NAME}") as caught:
        place.plan(older)
    assert caught.value.exit_status == 3


def restricted(place: Place, directory: Path, verbs: Sequence[str]) -> Kubectl:
    """Give kubectl of a user who has some rights on ConfigMaps, and may see the namespace."""
    site, namespace = place.site, place.namespace
    place.cluster.kubectl.apply(namespace_object(namespace))
    place.kubectl("create", "serviceaccount", "publisher")
    account = f"--serviceaccount={namespace}:publisher"
    if verbs:
        place.kubectl(
            "create", "role", "some", "--resource=configmaps", f"--verb={','.join(verbs)}"
        )
        place.kubectl("create", "rolebinding", "some", "--role=some", account)
    names = ("--resource=namespaces", f"--resource-name={namespace}")
    site.kubectl("create", "clusterrole", namespace, "--verb=get", *names)
    site.kubectl("create", "clusterrolebinding", namespace, f"--clusterrole={namespace}", account)
    config = yaml.safe_load(site.kubectl("config", "view", "--raw", "--minify"))
    [user] = config["users"]
    user["user"] = {"token": place.kubectl("create", "token", "publisher").strip()}
    kubeconfig = directory / "restricted.yaml"
    kubeconfig.write_text(yaml.safe_dump(config))
    return Kubectl(namespace=namespace, kubeconfig=kubeconfig, run=inside(site))


@pytest.mark.rehearsal
@pytest.mark.parametrize(
    ("verbs", "missing"), [((), "get"), (("get",), "patch"), (("get", "patch"), "create")]
)
def test_without_the_right_to_remember_nothing_is_sent(
    place: Place, older: TrustedRelease, tmp_path: Path, verbs: Sequence[str], missing: str
) -> None:
    place.cluster.kubectl = restricted(place, tmp_path, verbs)
    with pytest.raises(DeniedError) as caught:
        place.publish(older)
    assert caught.value.exit_status == 9
    told = str(caught.value)
    assert f'cannot {missing} resource "configmaps"' in told
    assert f"configmap {place.namespace}/{NAME}" in told
    assert f'in the namespace "{place.namespace}"' in told
    assert "\n" not in told
    assert "get, create and patch configmaps in" in str(caught.value.hint)
    assert not list(place.store.list(""))
    assert place.cluster.upgrades == 0


@pytest.mark.rehearsal
def test_the_rights_that_the_hint_names_are_enough(
    place: Place, older: TrustedRelease, newer: TrustedRelease, tmp_path: Path
) -> None:
    place.cluster.kubectl = restricted(place, tmp_path, ("get", "create", "patch"))
    memory = open_memory(place.destination, place.target, lay_out(older.manifest, place.target))
    memory.require_writable()
    assert place.memories() == (None, None)
    for release in (older, newer):
        assert place.publish(release) is not None
        assert not place.plan(release).pending


# The installed command, with nothing but real servers.


@dataclass(frozen=True)
class Operator:
    """Somebody who published the newer release, whose images are no programs: no pod gets ready."""

    site: Site
    directory: Path
    namespace: str

    def bundle(self, command: str, release: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run the command with a home and a directory for temporary files that are new."""
        credentials, here = self.site.s3_credentials, self.directory / "here"
        shutil.rmtree(here, ignore_errors=True)
        for name in ("home", "tmp", "work"):
            (here / name).mkdir(parents=True)
        return self.site.run(
            [
                *(sys.executable, "-m", "bundler", command, str(self.directory / release)),
                *("--target", str(self.directory / "target.yaml")),
                *("--key", str(self.directory / f"{release}.pub"), *more),
            ],
            env={
                "AWS_ACCESS_KEY_ID": credentials.access_key,
                "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
                "HOME": str(here / "home"),
                "TMPDIR": str(here / "tmp"),
            },
            cwd=here / "work",
            check=False,
            timeout=300,
        )

    def forget_in_bucket(self) -> None:
        site, prefix = self.site, f"s3://{self.site.bucket}/{self.namespace}"
        site.run(
            [
                *(sys.executable, "-m", "awscli", "s3", "rm"),
                *(f"{prefix}/releases/current.json", "--endpoint-url", site.s3_endpoint),
            ],
            env={
                "AWS_ACCESS_KEY_ID": site.s3_credentials.access_key,
                "AWS_SECRET_ACCESS_KEY": site.s3_credentials.secret_key,
                "AWS_CA_BUNDLE": str(site.ca_file),
            },
        )


@pytest.fixture
def operator(
    site: Site, older: TrustedRelease, newer: TrustedRelease, tmp_path: Path
) -> Iterator[Operator]:
    name = f"rollback-{uuid.uuid4().hex[:8]}"
    for release, trusted in (("older", older), ("newer", newer)):
        (tmp_path / release).symlink_to(trusted.directory)
        (tmp_path / f"{release}.pub").write_bytes(trusted.signers[0].pem)
    target = {
        "formatVersion": 1,
        "registry": {
            "host": f"{site.registry}/{name}",
            "ca": str(site.ca_file),
            "authFile": str(site.authfile),
        },
        "s3": {
            "bucket": site.bucket,
            "prefix": name,
            "region": "us-east-1",
            "endpoint": site.s3_endpoint,
            "ca": str(site.ca_file),
        },
        "kubernetes": {
            "kubeconfig": str(site.kubeconfig),
            "namespace": name,
            "timeoutSeconds": 1,
        },
    }
    (tmp_path / "target.yaml").write_text(yaml.safe_dump(target))
    yield Operator(site, tmp_path, name)
    site.kubectl("delete", "deployments", "--all", "-n", name, "--cascade=background")
    site.kubectl("delete", "pods", "--all", "-n", name, "--force", "--wait=false")
    site.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


@pytest.mark.rehearsal
def test_the_judgement_needs_nothing_of_the_machine_it_is_made_on(operator: Operator) -> None:
    done = operator.bundle("publish", "newer", "--yes")
    assert done.returncode == 8, done.stderr  # the chart is installed, and no pod gets ready
    refused = operator.bundle("plan", "older")
    assert refused.returncode == 6, refused.stderr
    assert "sequence 1, expected 2 or higher" in refused.stderr
    assert operator.bundle("plan", "older", "--allow-rollback", "2").returncode == 6
    allowed = operator.bundle("plan", "older", "--allow-rollback", "1")
    assert allowed.returncode == 0, allowed.stderr
    status = operator.bundle("status", "newer", "--json")
    places = [
        item["name"]
        for item in json.loads(status.stdout)["findings"]
        if item["subject"] == "current release"
    ]
    assert places == [
        f"{operator.namespace}/releases/current.json",
        f"configmap {operator.namespace}/{NAME}",
    ]
    helm = [programs.find_in_environment("helm"), "uninstall", RELEASE]
    where = [f"--namespace={operator.namespace}", f"--kubeconfig={operator.site.kubeconfig}"]
    operator.site.run([*helm, *where])
    operator.forget_in_bucket()
    refused = operator.bundle("plan", "older")
    assert refused.returncode == 6, refused.stderr
    assert "the bucket remembers nothing, the cluster no release (highest 2)" in refused.stderr


# Whoever runs in a pod.


@pytest.mark.parametrize(
    ("created", "expires"),
    [
        ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"),
        ("2099-01-01T00:00:00Z", None),
    ],
)
def test_a_pod_starts_on_its_release_whatever_the_time(
    s3: S3,
    s3_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    created: str,
    expires: str | None,
) -> None:
    log_in(s3, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    monkeypatch.setenv("AWS_REGION", s3.region)
    source = S3Prefix(s3_bucket, "checkpoints/tiny/0123456789abcdef")
    store = open_bucket(s3_bucket, endpoint=s3.url, region=s3.region)
    upload(store, source)
    manifest = manifest_of(CHECKPOINT)
    facts = replace(manifest.release, created=created, expires=expires)
    content = encode_manifest(replace(manifest, release=facts))
    store.put("releases/demo-1/MANIFEST.json", content)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bundler", "fetch", str(source), str(tmp_path / "model")),
            *("--manifest", f"s3://{s3_bucket}/releases/demo-1/MANIFEST.json"),
            *("--manifest-sha256", Digest.of(content).hex, "--checkpoint", CHECKPOINT.name),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert held(tmp_path / "model") == FILES


def test_the_config_map_is_named_after_the_helm_release() -> None:
    memory = ClusterMemory(KubernetesTarget(namespace="n", release="other"))
    assert str(memory) == "configmap n/bundle-current-other"
