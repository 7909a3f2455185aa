"""The installed command against a real registry, S3 server and Kubernetes, with no way out."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import BUNDLE, Built, clear
from tests.rehearsal.site import Site

pytestmark = pytest.mark.rehearsal

NAMESPACE = "published"
PREFIX = "published"
API_KEY = "canary-api-key-7f3a"
HOST = "published.models.rehearsal.test"
TINY = "tiny_sharded_2026.10"


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody with a target file, on the far side."""

    site: Site
    release: Built
    directory: Path

    @property
    def target(self) -> Path:
        return self.directory / "target.yaml"

    @property
    def values(self) -> Path:
        return self.directory / "target.values.yaml"

    def bundle(
        self, *arguments: str | Path, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        credentials = self.site.s3_credentials
        return self.site.run(
            [BUNDLE, *arguments],
            env={
                "AWS_ACCESS_KEY_ID": credentials.access_key,
                "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
                "TMPDIR": str(self.directory / "tmp"),
                "HOME": str(self.directory / "home"),
            },
            check=check,
            timeout=300,
        )

    def publish(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.bundle(
            "publish", self.release.directory, "--target", self.target,
            "--key", self.release.key, "--yes", "--json", check=check,
        )  # fmt: skip

    def curl(self, path: str, *options: str) -> str:
        command = [
            "curl",
            "-s",
            "--cacert",
            str(self.site.ca_file),
            *options,
            f"https://{HOST}{path}",
        ]
        return self.site.run(command).stdout

    def revision(self) -> int:
        listed = self.site.run(
            ["helm", "list", "-n", NAMESPACE, "-o", "json", "--kubeconfig", self.site.kubeconfig]
        )
        return int(json.loads(listed.stdout)[0]["revision"])


class Sampler:
    """Reads all command lines of the machine, again and again, for words that must not be there."""

    def __init__(self, *words: str) -> None:
        self._words = [word.encode() for word in words]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.found: set[bytes] = set()
        self.samples = 0

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:  # it ended meanwhile
                    continue
                if any(word in line for word in self._words):
                    self.found.add(line)
            self.samples += 1
            time.sleep(0.02)


@pytest.fixture(scope="module")
def operator(
    site: Site, release: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("operator")
    for name in ("tmp", "home"):
        (directory / name).mkdir()
    (directory / "api-key").write_text(API_KEY)
    credentials = site.s3_credentials
    (directory / "pods").write_text(
        f"AWS_ACCESS_KEY_ID={credentials.access_key}\n"
        f"AWS_SECRET_ACCESS_KEY={credentials.secret_key}\n"
    )
    target = {
        "formatVersion": 1,
        "registry": {
            "host": site.registry,
            "ca": str(site.ca_file),
            "authFile": str(site.authfile),
        },
        "s3": {
            "bucket": site.bucket,
            "prefix": PREFIX,
            "region": "us-east-1",
            "endpoint": site.s3_endpoint,
            "ca": str(site.ca_file),
            "credentials": {"secretName": "aws-credentials", "fromFile": "pods"},
        },
        "kubernetes": {
            "kubeconfig": str(site.kubeconfig),
            "namespace": NAMESPACE,
            "timeoutSeconds": 120,
        },
        "apiKey": {"secretName": "vllm-auth", "fromFile": "api-key"},
        "ingress": {"className": "alb"},
        "models": {"tiny-sharded": {"ingressHost": HOST}},
    }
    (directory / "target.yaml").write_text(yaml.safe_dump(target))
    yield Operator(site, release, directory)
    clear(site, NAMESPACE)


@pytest.fixture(scope="module")
def published(operator: Operator) -> Operator:
    """Publish, with an eye on every command line; what it leaves and says is held to the rules."""
    secret_key = operator.site.s3_credentials.secret_key
    before = set(operator.directory.rglob("*"))
    with Sampler(API_KEY, secret_key) as sampler:
        done = operator.publish()
    assert sampler.samples > 10
    assert sampler.found == set()
    left = set(operator.directory.rglob("*")) - before
    told = [done.stdout, done.stderr, *(path.read_text() for path in left)]
    assert not [text for text in told if API_KEY in text or secret_key in text]
    receipts = {path for path in left if path.name.endswith(".receipt.json")}
    assert len(receipts) == 1
    assert left == receipts | {operator.values}
    return operator


def test_the_model_answers_with_the_key_alone(published: Operator) -> None:
    published.curl("/v1/models", "--retry", "20")
    assert published.curl("/v1/models", "-o", "/dev/null", "-w", "%{http_code}") == "401"
    answer = published.curl("/v1/models", "-H", f"Authorization: Bearer {API_KEY}")
    assert [model["id"] for model in json.loads(answer)["data"]] == ["Tiny"]


def test_publishing_again_changes_nothing(published: Operator) -> None:
    before, revision = sorted(published.directory.rglob("*")), published.revision()
    done = json.loads(published.publish().stdout)
    assert done["receipt"] is None
    assert done["plan"]["pending"] == 0
    assert published.revision() == revision
    assert sorted(published.directory.rglob("*")) == before


def test_plan_says_by_its_status_whether_anything_is_pending(published: Operator) -> None:
    pending = published.bundle(
        "plan", published.release.directory, "--target", fresh_target(published),
        "--key", published.release.key, "--detailed-exitcode", check=False,
    )  # fmt: skip
    assert pending.returncode == 10
    done = published.bundle(
        "plan", published.release.directory, "--target", published.target,
        "--key", published.release.key, "--detailed-exitcode",
    )  # fmt: skip
    assert done.returncode == 0


def fresh_target(operator: Operator) -> Path:
    """Give the same target with a prefix where nothing is yet."""
    path = operator.target.with_name("fresh.yaml")
    path.write_text(operator.target.read_text().replace(f"prefix: {PREFIX}", "prefix: fresh"))
    return path


def test_the_values_work_with_plain_helm(published: Operator, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xzf", published.release.bundle, "-C", tmp_path], check=True)
    chart = tmp_path / published.release.directory.name / "charts" / "inference"
    published.site.run(
        ["helm", "upgrade", "inference", chart, "-n", NAMESPACE, "-f", published.values,
         "--kubeconfig", published.site.kubeconfig, "--wait", "--timeout=60s"]
    )  # fmt: skip
    done = json.loads(published.publish().stdout)
    assert done["plan"]["pending"] == 0


def test_pods_run_the_signed_digests(published: Operator) -> None:
    manifest = json.loads((published.release.directory / "MANIFEST.json").read_text())
    signed = {image["digest"] for image in manifest["images"]}
    pods = json.loads(published.site.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))
    status = pods["items"][0]["status"]
    running = [*status["containerStatuses"], *status["initContainerStatuses"]]
    assert {item["imageID"].partition("@")[2] for item in running} <= signed


def test_a_pod_refuses_weights_that_somebody_replaced(published: Operator) -> None:
    """Whoever can write to the bucket can stop a pod, and cannot change what it serves."""
    site, bucket = published.site, published.site.bucket
    aws = ["aws", "s3", "--endpoint-url", site.s3_endpoint]
    environment = site.environment()
    listed = site.run(
        [*aws, "ls", "--recursive", f"s3://{bucket}/{PREFIX}/checkpoints/"], env=environment
    )
    [key] = [
        line.split()[-1] for line in listed.stdout.splitlines() if "00003.safetensors" in line
    ][-1:]
    weights = published.directory / "weights"
    site.run([*aws, "cp", f"s3://{bucket}/{key}", str(weights)], env=environment)
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    site.run([*aws, "cp", str(weights), f"s3://{bucket}/{key}"], env=environment)
    try:
        site.kubectl("delete", "pod", "-n", NAMESPACE, "-l", "model=tiny-sharded")
        log = eventually(lambda: downloader_log(site), lambda text: "error:" in text)
        assert "model-00003-of-00003.safetensors" in log
        assert "expected sha256:" in log
        assert published.curl("/v1/models", "-o", "/dev/null", "-w", "%{http_code}") == "503"
        conflict = published.publish(check=False)
        assert conflict.returncode == 7
        assert json.loads(conflict.stdout.splitlines()[-1])["exitStatus"] == 7
    finally:
        weights.write_bytes(good)
        site.run([*aws, "cp", str(weights), f"s3://{bucket}/{key}"], env=environment)
        weights.unlink()


def downloader_log(site: Site) -> str:
    return site.kubectl(
        "logs", "-n", NAMESPACE, "-l", "model=tiny-sharded", "-c", "model-downloader",
        "--tail=20", check=False,
    )  # fmt: skip


def eventually(ask: Callable[[], str], good: Callable[[str], bool], seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if good(answer) or time.monotonic() > end:
            return answer
        time.sleep(0.3)


def test_a_killed_publish_is_finished_by_the_next(
    operator: Operator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = yaml.safe_load(operator.target.read_text())
    target["s3"]["prefix"] = "killed"
    target["kubernetes"]["namespace"] = "killed"
    del target["ingress"], target["models"]
    directory = tmp_path_factory.mktemp("killed")
    for name in ("api-key", "pods"):
        (directory / name).write_bytes((operator.directory / name).read_bytes())
    (directory / "tmp").mkdir()
    (directory / "target.yaml").write_text(yaml.safe_dump(target))
    second = Operator(operator.site, operator.release, directory)
    for seconds in (0.8, 1.5, 2.5, 4.0):
        kill_after(second, seconds)
    done = json.loads(second.publish().stdout)
    assert done["plan"]["conflicts"] == 0
    assert json.loads(second.publish().stdout)["plan"]["pending"] == 0
    clear(operator.site, "killed")


def kill_after(operator: Operator, seconds: float) -> None:
    """Publish, and kill -9 all of it after some time."""
    credentials = operator.site.s3_credentials
    process = subprocess.Popen(
        [operator.site.enter, BUNDLE, "publish", operator.release.directory, "--target",
         operator.target, "--key", operator.release.key, "--yes"],
        env={**os.environ, "AWS_ACCESS_KEY_ID": credentials.access_key,
             "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
             "TMPDIR": str(operator.directory / "tmp")},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    time.sleep(seconds)
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait()
