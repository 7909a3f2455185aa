from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bundler import process
from bundler.errors import BundleError, ConflictError, ToolFailedError, WorldError
from bundler.publish.secrets import WantedSecret, namespace_object, secret_object
from bundler.tools.helm_release import HelmRelease
from bundler.tools.kubectl import Kubectl
from bundler.yamltext import read_objects, write_yaml
from tests.rehearsal.site import Site

HUSH = "hush-hush-hush"


@pytest.fixture(autouse=True)
def programs_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{beside}{os.pathsep}{os.environ['PATH']}")


class Inside:
    """Starts programs inside a rehearsal."""

    def __init__(self, site: Site) -> None:
        self.enter = str(site.enter)

    def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = 0,
    ) -> str:
        return process.run([self.enter, *argv], stdin=stdin, env=env, timeout=timeout)


@pytest.fixture
def kubectl(site: Site) -> Kubectl:
    """Give kubectl for a namespace that is not there yet."""
    name = f"kubectl-{uuid.uuid4().hex[:8]}"
    return Kubectl(namespace=name, kubeconfig=site.kubeconfig, run=Inside(site))


@pytest.fixture
def helm(site: Site, kubectl: Kubectl) -> HelmRelease:
    kubectl.apply(namespace_object(kubectl.namespace))
    return HelmRelease(
        name="inference",
        namespace=kubectl.namespace,
        kubeconfig=site.kubeconfig,
        run=Inside(site),
    )


def secret(kubectl: Kubectl, value: str) -> Any:
    wanted = WantedSecret(name="key", fields=("A",), content={"A": value})
    return secret_object(wanted, kubectl.namespace)


@pytest.mark.rehearsal
def test_what_is_absent_reads_as_none(kubectl: Kubectl) -> None:
    assert kubectl.get("namespace", kubectl.namespace) is None
    assert kubectl.get("secret", "key") is None
    assert kubectl.find("deployments,pods", "a=b") == []
    assert kubectl.last_log_lines("pod", "container") == []


@pytest.mark.rehearsal
def test_an_object_is_made_and_changed_and_no_annotation_repeats_it(kubectl: Kubectl) -> None:
    kubectl.apply(namespace_object(kubectl.namespace))
    for value in ("one", "two"):
        wanted = secret(kubectl, value)
        kubectl.apply(wanted)
        found: Any = kubectl.get("secret", "key")
        assert found["data"] == wanted["data"]
        assert "annotations" not in found["metadata"]


@pytest.mark.rehearsal
def test_what_another_manager_set_is_not_overwritten(kubectl: Kubectl) -> None:
    kubectl.apply(namespace_object(kubectl.namespace))
    kubectl.apply(secret(kubectl, "ours"))
    patch = ["patch", "secret", "key", "--patch", '{"stringData": {"A": "theirs"}}']
    where = [f"--namespace={kubectl.namespace}", f"--kubeconfig={kubectl.kubeconfig}"]
    kubectl.run(["kubectl", *patch, *where])
    with pytest.raises(ConflictError, match=r"data\.A$"):
        kubectl.apply(secret(kubectl, "ours again"))


@pytest.mark.rehearsal
def test_the_servers_refusal_is_one_line_without_the_secret(kubectl: Kubectl) -> None:
    kubectl.apply(namespace_object(kubectl.namespace))
    bad = secret(kubectl, HUSH) | {"type": "kubernetes.io/tls"}
    with pytest.raises(BundleError, match=r"tls\.crt") as caught:
        kubectl.apply(bad)
    assert "\n" not in str(caught.value)
    assert HUSH not in str(caught.value)


def test_a_secret_that_the_server_repeats_is_cut_out() -> None:
    def refuse(argv: Sequence[str], **_: object) -> str:
        raise ToolFailedError(argv, 1, f"bad value {HUSH} in data")

    kubectl = Kubectl(namespace="n", run=refuse)
    with pytest.raises(BundleError) as caught:
        kubectl.apply(secret(kubectl, HUSH))
    assert str(caught.value) == "kubectl: bad value *** in data"
    assert caught.value.__cause__ is None


def test_no_secret_is_an_argument() -> None:
    calls: list[tuple[list[str], bytes]] = []

    def record(argv: Sequence[str], *, stdin: bytes = b"", **_: object) -> str:
        calls.append((list(argv), stdin))
        return ""

    kubectl = Kubectl(namespace="n", run=record)
    wanted = secret(kubectl, HUSH)
    kubectl.apply(wanted)
    [(argv, stdin)] = calls
    assert wanted["data"]["A"] in stdin.decode()
    assert not [word for word in argv if HUSH in word or wanted["data"]["A"] in word]


CLOSED = """\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
"""


@pytest.mark.parametrize("context", [None, "nowhere"])
def test_a_cluster_that_cannot_be_reached_is_one_line(tmp_path: Path, context: str | None) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(CLOSED)
    for kubeconfig in (config, tmp_path / "absent"):
        kubectl = Kubectl(namespace="n", kubeconfig=kubeconfig, context=context)
        helm = HelmRelease(name="r", namespace="n", kubeconfig=kubeconfig, context=context)
        for call in (lambda k=kubectl: k.get("secret", "x"), helm.installed):
            with pytest.raises(WorldError) as caught:
                call()
            assert "\n" not in str(caught.value)
            assert caught.value.hint is not None
            assert "kubernetes.kubeconfig" in caught.value.hint


def chart(directory: Path, name: str) -> Path:
    made = directory / "inference"
    (made / "templates").mkdir(parents=True, exist_ok=True)
    (made / "Chart.yaml").write_text("apiVersion: v2\nname: inference\nversion: 2026.11.0\n")
    (made / "templates/map.yaml").write_text(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n"
    )
    return made


@pytest.mark.rehearsal
def test_a_helm_release_goes_from_nothing_to_deployed_and_through_failure(
    helm: HelmRelease, tmp_path: Path
) -> None:
    values = tmp_path / "values.yaml"
    values.write_bytes(write_yaml({"a": 1}))
    assert helm.installed() is None
    with pytest.raises(BundleError, match=r'"Not-a-name" is invalid'):
        helm.upgrade(chart(tmp_path, "Not-a-name"), values)
    failed = helm.installed()
    assert failed is not None
    assert (failed.status, failed.revision, failed.last_good) == ("failed", 1, None)
    helm.upgrade(chart(tmp_path, "fine"), values)
    good = helm.installed()
    assert good is not None
    assert (good.status, good.revision, good.last_good) == ("deployed", 2, 2)
    assert good.chart == "inference-2026.11.0"


@pytest.mark.rehearsal
def test_what_helm_installed_is_read_back_hooks_included(helm: HelmRelease, tmp_path: Path) -> None:
    where = chart(tmp_path, "fine")
    hook = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "hook", "annotations": {"helm.sh/hook": "test"}},
    }
    (where / "templates" / "hook.yaml").write_bytes(write_yaml(hook))
    (tmp_path / "values.yaml").write_text("{}")
    helm.upgrade(where, tmp_path / "values.yaml")
    objects: Any = read_objects(helm.manifest(), name="installed")
    assert {item["metadata"]["name"] for item in objects} == {"fine", "hook"}


def test_helm_keeps_the_values_exactly_as_we_wrote_them(helm: HelmRelease, tmp_path: Path) -> None:
    """Otherwise every publish would make a revision."""
    wanted: dict[str, object] = {
        "models": {"n": {"y": "no"}, "1e3": {"text": "1e3", "zero": "007", "time": "12:30"}},
        "storageBytes": 450_000_000_000,
        "securityContext": {"runAsUser": None, "empty": {}, "none": []},
        "pem": "-----BEGIN-----\nabc\n-----END-----\n",
        "date": "2026-11-01",
        "hex": "0x10",
        "flag": False,
    }
    values = tmp_path / "values.yaml"
    values.write_bytes(write_yaml(wanted))
    helm.upgrade(chart(tmp_path, "fine"), values)
    found = helm.installed()
    assert found is not None
    assert found.values == wanted


@pytest.mark.rehearsal
def test_every_revision_that_helm_keeps_is_read_with_its_own_values(
    helm: HelmRelease, tmp_path: Path
) -> None:
    assert list(helm.revisions()) == []
    values = tmp_path / "values.yaml"
    for number, name in ((1, "fine"), (2, "fine"), (3, "Not-a-name")):
        values.write_bytes(write_yaml({"number": number}))
        with contextlib.suppress(BundleError):
            helm.upgrade(chart(tmp_path, name), values)
    found = [(item.revision, item.status, item.values) for item in helm.revisions()]
    assert found == [
        (3, "failed", {"number": 3}),
        (2, "deployed", {"number": 2}),
        (1, "superseded", {"number": 1}),
    ]
