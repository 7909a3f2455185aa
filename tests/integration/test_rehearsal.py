"""The rehearsal itself: what it claims to be, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rehearsal import addresses, images, namespaces, programs, rehearsal
from tests.rehearsal.rehearsal import Rehearsal
from tests.rehearsal.site import Site

pytestmark = pytest.mark.rehearsal

_NAMESPACE = "rehearsal-tests"
_HOST = f"web.{addresses.MODELS_DOMAIN}"
_PATH = "/cgi-bin/echo"
_SCRIPT = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "$HTTP_HOST $HTTP_X_FORWARDED_PROTO"
cat
[ "$QUERY_STRING" != slow ] || { sleep 2; echo later; }
"""
_SERVE = """\
mkdir -p /www/cgi-bin && printf %s "$SCRIPT" > /www/cgi-bin/echo && chmod +x /www/cgi-bin/echo
exec httpd -f -p 8000 -h /www
"""


@dataclass(frozen=True)
class Web:
    """A small web server in the cluster, behind a Service and an Ingress."""

    site: Site
    digest: str

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask from inside, trusting the site's authority only."""
        return self.site.run(["curl", "-sS", "--cacert", self.site.ca_file, *arguments])

    def status(self, path: str, host: str = _HOST) -> str:
        """Give the HTTP status of a path."""
        asked = self.curl("-o", "/dev/null", "-w", "%{http_code}", f"https://{host}{path}")
        return asked.stdout


def push_busybox(site: Site, directory: Path) -> str:
    """Push an image by the site's own names and logins; gives its digest."""
    layout = directory / "busybox"
    reference = f"{site.registry}/tools/busybox:1"
    digest = images.write_busybox(layout, command=["sleep", "infinity"], name=reference)
    copy = ["skopeo", "copy", "--quiet", "--preserve-digests"]
    site.run([*copy, f"oci:{layout}:1", f"docker://{reference}"], env=site.environment())
    return digest


def web_objects(image: str) -> str:
    """Give what ``kubectl apply`` takes."""
    metadata = {"name": "web", "namespace": _NAMESPACE}
    container = {
        "name": "web",
        "image": image,
        "command": ["sh", "-c", _SERVE],
        "env": [{"name": "SCRIPT", "value": _SCRIPT}],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    pod = {
        "containers": [container],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
    }
    ports = [{"name": "http", "port": 80, "targetPort": 8000}]
    backend = {"service": {"name": "web", "port": {"name": "http"}}}
    paths = [{"path": "/cgi-bin", "pathType": "Prefix", "backend": backend}]
    rule = {"host": _HOST, "http": {"paths": paths}}
    items = [
        {"apiVersion": "v1", "kind": "Pod", "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "spec": {"selector": _LABELS, "ports": ports}},
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "spec": {"ingressClassName": "alb", "rules": [rule]},
        },
    ]
    for item in items:
        item["metadata"] = {**metadata, "labels": _LABELS}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


_LABELS = {"app": "web"}


@pytest.fixture(scope="module")
def web(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    digest = push_busybox(site, tmp_path_factory.mktemp("images"))
    site.kubectl("create", "namespace", _NAMESPACE)
    wait_for(lambda: "default" in site.kubectl("-n", _NAMESPACE, "get", "serviceaccounts"))
    image = f"{site.registry}/tools/busybox@{digest}"
    site.kubectl("apply", "-f", "-", text=web_objects(image))
    site.kubectl("-n", _NAMESPACE, "wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    yield Web(site, digest)
    site.kubectl("delete", "namespace", _NAMESPACE, "--wait=false")


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_the_node_is_ready_and_has_eight_tainted_gpus(site: Site) -> None:
    [node] = json.loads(site.kubectl("get", "nodes", "-o", "json"))["items"]
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert node["spec"]["taints"] == [
        {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}
    ]


def test_a_pod_runs_from_the_registry_by_digest(web: Web) -> None:
    text = web.site.kubectl("-n", _NAMESPACE, "get", "pod", "web", "-o", "json")
    [status] = json.loads(text)["status"]["containerStatuses"]
    assert status["ready"]
    assert status["imageID"].endswith(web.digest)


def test_the_registry_wants_a_login(site: Site) -> None:
    url = f"https://{site.registry}/v2/"
    curl: list[str | Path] = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--cacert",
        site.ca_file,
    ]
    assert site.run([*curl, url]).stdout == "401"


def test_the_bucket_is_there_and_another_is_not_made_by_itself(site: Site, tmp_path: Path) -> None:
    aws = [programs.find_in_environment("aws"), "s3", "cp", "/etc/hostname"]
    site.run([*aws, f"s3://{site.bucket}/tests/hostname"], env=site.environment())
    absent = site.run([*aws, "s3://absent/hostname"], env=site.environment(), check=False)
    assert "NoSuchBucket" in absent.stderr


def test_nothing_leads_out(site: Site) -> None:
    connect = "import socket; socket.create_connection(('192.0.2.1', 443), 5)"
    tried = site.run([sys.executable, "-c", connect], check=False)
    assert "Network is unreachable" in tried.stderr
    unknown = site.run(["getent", "hosts", "example.com"], check=False)
    assert unknown.returncode != 0


def test_a_pod_finds_services_and_servers_by_name_and_no_way_out(web: Web) -> None:
    script = (
        f"nslookup registry.rehearsal.test && wget -qO- http://web.{_NAMESPACE}{_PATH} &&"
        "! timeout 5 nc 192.0.2.1 443 </dev/null"
    )
    said = web.site.kubectl("-n", _NAMESPACE, "exec", "web", "--", "sh", "-c", script)
    assert addresses.NODE in said
    assert f"web.{_NAMESPACE} \n" in said


def test_an_ingress_answers_by_its_host_and_passes_bodies(web: Web) -> None:
    body = "x" * 300_000
    url = f"https://{_HOST}{_PATH}"
    command: list[str | Path] = [
        "curl",
        "-sS",
        "--cacert",
        web.site.ca_file,
        "--data-binary",
        "@-",
        url,
    ]
    assert web.site.run(command, text=body).stdout == f"{_HOST} https\n{body}"


def test_an_ingress_streams(web: Web) -> None:
    command: list[str | Path] = [
        "curl",
        "-sSN",
        "--cacert",
        web.site.ca_file,
        f"https://{_HOST}{_PATH}?slow",
    ]
    begun = time.monotonic()
    with subprocess.Popen([web.site.enter, *command], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        assert curl.stdout.readline() == f"{_HOST} https\n"
        assert time.monotonic() - begun < 1.5
        assert curl.stdout.readline() == "later\n"


def test_the_load_balancer_refuses_what_no_rule_or_no_pod_is_for(web: Web) -> None:
    assert web.status("/cgi-bin-not") == "404"
    assert web.status("/") == "404"
    assert web.status(_PATH, host=f"other.{addresses.MODELS_DOMAIN}") == "404"
    text = web.site.kubectl("-n", _NAMESPACE, "get", "ingress", "web", "-o", "json")
    assert json.loads(text)["status"]["loadBalancer"]["ingress"] == [{"ip": addresses.NODE}]
    web.site.kubectl("-n", _NAMESPACE, "label", "pod", "web", "app-")
    wait_for(lambda: web.status(_PATH) == "503")
    web.site.kubectl("-n", _NAMESPACE, "label", "pod", "web", "app=web")
    wait_for(lambda: web.status(_PATH) == "200")


def leftovers(name: str) -> list[str]:
    """Give what is still there of a rehearsal."""
    node = f"rehearsal-{name}"
    found = [str(path) for path in Path("/sys/fs/cgroup").rglob(node)]
    paths = (namespaces.NAMED / node, Path("/run/bundle-rehearsal", f"{name}.json"))
    found += [
        str(path) for path in (*paths, Path("/var/tmp/bundle-rehearsal", name)) if path.exists()
    ]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_text().replace("\0", " ")
            mounts = (process / "mounts").read_text()
        except OSError:
            continue
        if f"/bundle-rehearsal/{name}" in arguments + mounts or f" {node}" in arguments:
            found.append(f"{process.name} {arguments[:80]}")
    return found


def test_two_at_once_do_not_meet_and_one_dies_with_its_killed_owner(site: Site) -> None:
    name = f"second-{os.getpid()}"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.rehearsal", "up", name],
        cwd=programs.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert "is up" in owner.stdout.readline()
        second = rehearsal.find(name)
        assert second.kubectl("get", "nodes", "-o", "name").strip() == f"node/{second.node}"
        assert site.kubectl("get", "nodes", "-o", "name").strip() == f"node/{site.node}"
        assert second.s3_credentials != site.s3_credentials
        owner.kill()
    wait_for(lambda: not leftovers(name))
    assert site.kubectl("get", "nodes", "-o", "name").strip() == f"node/{site.node}"


def test_it_comes_up_again_after_kill_9_of_everything(site: Site) -> None:
    name = f"killed-{os.getpid()}"
    first = Rehearsal(name=name).up(detach=True)
    record = json.loads(Path("/run/bundle-rehearsal", f"{name}.json").read_text())
    for pid in {record["keeper"]} | namespaces.processes(first.node):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert leftovers(name)
    with Rehearsal(name=name) as again:
        assert again.node in again.kubectl("get", "nodes", "-o", "name")
    assert leftovers(name) == []
